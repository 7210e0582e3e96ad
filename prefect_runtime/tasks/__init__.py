"""The tasks, one per verb of the seed, and `execute`, which strings them together. What users import.

Tasks take a block, or the name of a saved one, and plain values, and return plain values: a job id crosses a task
boundary, never a live client. They do not retry by themselves (``retries=0``): what is safe to repeat is repeated one
room below, and the rest must not be. Nothing is cached: a cached status is a wrong status.

    run         one request becomes one job
    wait        until a job is final; its result
    job         its log, its interim results, its status; cancelling it
    many        waiting for many jobs; in the order in which they end
    find        which backend is best; which jobs there are
    sessions    sessions and batches, for a flow's body
    together    execute: all of them; when a retry is safe
    usage       what a job will cost, before there is one
    note        what the tasks write on a job's card
"""

from prefect_runtime.tasks.find import choose_backend, find_jobs
from prefect_runtime.tasks.job import cancel_job, fetch_logs, iter_results, job_status, stream_results
from prefect_runtime.tasks.many import as_completed, wait_for_jobs
from prefect_runtime.tasks.run import run_estimator, run_program, run_sampler
from prefect_runtime.tasks.sessions import runtime_batch, runtime_session
from prefect_runtime.tasks.together import execute, retry_if_safe
from prefect_runtime.tasks.usage import estimate_usage
from prefect_runtime.tasks.wait import fetch_result, wait_for_final_state

__all__ = [
    "as_completed",
    "cancel_job",
    "choose_backend",
    "estimate_usage",
    "execute",
    "fetch_logs",
    "fetch_result",
    "find_jobs",
    "iter_results",
    "job_status",
    "retry_if_safe",
    "run_estimator",
    "run_program",
    "run_sampler",
    "runtime_batch",
    "runtime_session",
    "stream_results",
    "wait_for_final_state",
    "wait_for_jobs",
]
