"""Prefect tasks and blocks for quantum runtime jobs: one request, one job; nothing lost, nothing billed twice.

Names are handed on lazily, so that `prefect_runtime.client` loads without Prefect, and a Prefect server that looks for
blocks does not load Qiskit. Where things are: README.md, "Where things are".
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_runtime.blocks import RuntimeCredentials, RuntimeProgram, RuntimeProgramRun
    from prefect_runtime.hooks import cancel_jobs
    from prefect_runtime.tasks import (
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
        aopen_jobs,
        arun_estimator,
        arun_program,
        arun_sampler,
        aruntime_batch,
        aruntime_session,
        as_completed,
        astream_results,
        await_for_final_state,
        await_for_jobs,
        cancel_job,
        cancel_on_rollback,
        choose_backend,
        estimate_usage,
        execute,
        fetch_logs,
        fetch_result,
        find_jobs,
        iter_results,
        job_status,
        open_jobs,
        retry_if_safe,
        run_estimator,
        run_program,
        run_sampler,
        runtime_batch,
        runtime_session,
        stream_results,
        wait_for_final_state,
        wait_for_jobs,
    )

_HOMES = {
    "RuntimeCredentials": "blocks",
    "RuntimeProgram": "blocks",
    "RuntimeProgramRun": "blocks",
    "aas_completed": "tasks",
    "acancel_job": "tasks",
    "achoose_backend": "tasks",
    "aestimate_usage": "tasks",
    "aexecute": "tasks",
    "afetch_logs": "tasks",
    "afetch_result": "tasks",
    "afind_jobs": "tasks",
    "aiter_results": "tasks",
    "ajob_status": "tasks",
    "aopen_jobs": "tasks",
    "arun_estimator": "tasks",
    "arun_program": "tasks",
    "arun_sampler": "tasks",
    "aruntime_batch": "tasks",
    "aruntime_session": "tasks",
    "as_completed": "tasks",
    "astream_results": "tasks",
    "await_for_final_state": "tasks",
    "await_for_jobs": "tasks",
    "cancel_job": "tasks",
    "cancel_jobs": "hooks",
    "cancel_on_rollback": "tasks",
    "choose_backend": "tasks",
    "estimate_usage": "tasks",
    "execute": "tasks",
    "fetch_logs": "tasks",
    "fetch_result": "tasks",
    "find_jobs": "tasks",
    "iter_results": "tasks",
    "job_status": "tasks",
    "open_jobs": "tasks",
    "retry_if_safe": "tasks",
    "run_estimator": "tasks",
    "run_program": "tasks",
    "run_sampler": "tasks",
    "runtime_batch": "tasks",
    "runtime_session": "tasks",
    "stream_results": "tasks",
    "wait_for_final_state": "tasks",
    "wait_for_jobs": "tasks",
}

__all__ = [
    "RuntimeCredentials",
    "RuntimeProgram",
    "RuntimeProgramRun",
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
    "cancel_jobs",
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


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
