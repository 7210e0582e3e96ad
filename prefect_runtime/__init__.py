"""Prefect tasks and blocks for quantum runtime jobs: one request, one job; nothing lost, nothing billed twice.

Names are handed on lazily, so that `prefect_runtime.client` loads without Prefect, and a Prefect server that looks for
blocks does not load Qiskit. Where things are: README.md, "Where things are".
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from prefect_runtime.blocks import RuntimeCredentials
    from prefect_runtime.hooks import cancel_jobs
    from prefect_runtime.tasks import (
        as_completed,
        cancel_job,
        execute,
        fetch_logs,
        fetch_result,
        iter_results,
        job_status,
        retry_if_safe,
        run_estimator,
        run_program,
        run_sampler,
        stream_results,
        wait_for_final_state,
        wait_for_jobs,
    )

_HOMES = {
    "RuntimeCredentials": "blocks",
    "as_completed": "tasks",
    "cancel_job": "tasks",
    "cancel_jobs": "hooks",
    "execute": "tasks",
    "fetch_logs": "tasks",
    "fetch_result": "tasks",
    "iter_results": "tasks",
    "job_status": "tasks",
    "retry_if_safe": "tasks",
    "run_estimator": "tasks",
    "run_program": "tasks",
    "run_sampler": "tasks",
    "stream_results": "tasks",
    "wait_for_final_state": "tasks",
    "wait_for_jobs": "tasks",
}

__all__ = [
    "RuntimeCredentials",
    "as_completed",
    "cancel_job",
    "cancel_jobs",
    "execute",
    "fetch_logs",
    "fetch_result",
    "iter_results",
    "job_status",
    "retry_if_safe",
    "run_estimator",
    "run_program",
    "run_sampler",
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
