"""The tasks, one per verb (run, wait, result, log, status, cancel), and `execute`, which strings them together.

Tasks take a block, or the name of a saved one, and plain values, and return plain values: a job id crosses a task
boundary, never a live client. They do not retry by themselves (``retries=0``): what is safe to repeat is repeated one
room below, and the rest must not be. Nothing is cached: a cached status is a wrong status.

    run           one request becomes one job
    wait          until a job is final; its result
    job           its log, its interim results, its status; cancelling it
    many          waiting for many jobs; in the order in which they end
    find          which backend is best; which jobs there are
    sessions      sessions and batches, as context managers
    together      execute: all of them; when a retry is safe
    usage         what a job will cost, before there is one
    twins         the async twins of all these: the same name with an `a` before it
    around        what people put around them: a limit to open jobs, a job that goes with its transaction
    aside         how they keep the event loop free
    names         what their runs are called
    note          what the tasks write on a job's card
    relay         a job's log in the run's log
    progress      a progress artifact
    cancellation  how a cancelled flow run cancels its jobs
"""

from prefect_runtime.tasks.around import aopen_jobs, cancel_on_rollback, open_jobs
from prefect_runtime.tasks.find import choose_backend, find_jobs
from prefect_runtime.tasks.job import cancel_job, fetch_logs, iter_results, job_status, stream_results
from prefect_runtime.tasks.many import as_completed, wait_for_jobs
from prefect_runtime.tasks.run import run_estimator, run_program, run_sampler
from prefect_runtime.tasks.sessions import runtime_batch, runtime_session
from prefect_runtime.tasks.together import execute, retry_if_safe
from prefect_runtime.tasks.twins import (
    aas_completed,
    acancel_job,
    achoose_backend,
    aestimate_usage,
    aexecute,
    afetch_logs,
    afetch_result,
    afind_jobs,
    aiter_results,
    ajob_status,
    arun_estimator,
    arun_program,
    arun_sampler,
    aruntime_batch,
    aruntime_session,
    astream_results,
    await_for_final_state,
    await_for_jobs,
)
from prefect_runtime.tasks.usage import estimate_usage
from prefect_runtime.tasks.wait import fetch_result, wait_for_final_state

__all__ = [
    "aas_completed",
    "acancel_job",
    "achoose_backend",
    "aestimate_usage",
    "aexecute",
    "afetch_logs",
    "afetch_result",
    "afind_jobs",
    "aiter_results",
    "ajob_status",
    "aopen_jobs",
    "arun_estimator",
    "arun_program",
    "arun_sampler",
    "aruntime_batch",
    "aruntime_session",
    "as_completed",
    "astream_results",
    "await_for_final_state",
    "await_for_jobs",
    "cancel_job",
    "cancel_on_rollback",
    "choose_backend",
    "estimate_usage",
    "execute",
    "fetch_logs",
    "fetch_result",
    "find_jobs",
    "iter_results",
    "job_status",
    "open_jobs",
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
