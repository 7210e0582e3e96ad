"""A wait's timeout is exact wherever the task runs, and touches the job only if told to; it is one of three clocks."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import pytest
from prefect import flow
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner

from prefect_runtime import fetch_result, run_program, wait_for_final_state
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.tasks.wait import OnTimeout

from .support import eventually, jobs_of, run_id, task_runs

Upload = Callable[..., str]

TIMEOUT = 3.0
LATEST = 3.5

TWELVE_SECONDS = '''
import time

def main(backend, user_messenger, **kwargs):
    """Take longer than the wait."""
    time.sleep(12)
    return "done"
'''


def dask() -> TaskRunner[Any]:
    """Return a runner whose tasks run in Dask's workers."""
    from prefect_dask import DaskTaskRunner

    return DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2, "dashboard_address": None})


RUNNERS: dict[str, Callable[[], TaskRunner[Any]]] = {
    "threads": ThreadPoolTaskRunner,
    "processes": lambda: ProcessPoolTaskRunner(max_workers=1),
    "Dask": dask,
}


def wait_in_vain(runner: str, program: str, on_timeout: OnTimeout) -> Any:
    """Run a flow whose wait times out; gives the flow run's final state."""
    chosen = RUNNERS.get(runner, ThreadPoolTaskRunner)

    @flow(task_runner=chosen())
    def waits() -> None:
        job_id = run_program("local", program, {})
        wait_for_final_state.submit("local", job_id, timeout=TIMEOUT, on_timeout=on_timeout).result()

    @flow(name="waits")
    async def waits_async() -> None:
        job_id = run_program("local", program, {})
        wait_for_final_state.submit("local", job_id, timeout=TIMEOUT, on_timeout=on_timeout).result()

    if runner == "async":
        import asyncio

        return asyncio.run(waits_async(return_state=True))
    return waits(return_state=True)


@pytest.mark.parametrize(
    ("runner", "on_timeout"),
    [
        pytest.param("threads", "keep", marks=pytest.mark.pr),
        pytest.param("processes", "cancel", marks=pytest.mark.pr),
        pytest.param("async", "cancel", marks=pytest.mark.pr),
        pytest.param("Dask", "keep", marks=pytest.mark.pr),
    ],
)
def test_a_wait_ends_at_its_timeout_wherever_it_runs(
    runner: str, on_timeout: OnTimeout, upload: Upload, service: RuntimeService
) -> None:
    program = upload(TWELVE_SECONDS)
    state = wait_in_vain(runner, program, on_timeout)
    assert state.is_failed()
    waited = next(run for run in task_runs(run_id(state), count=2) if run.name.startswith("wait-"))
    assert waited.state is not None and waited.state.name == "TimedOut"
    took = (waited.state.timestamp - waited.start_time).total_seconds()  # type: ignore[operator]
    print(f"{runner}: {took:.2f} s")
    assert TIMEOUT <= took < LATEST
    (job_id,) = jobs_of(service, run_id(state))
    if on_timeout == "cancel":
        assert service.job(job_id).status() is JobStatus.CANCELLED
        return
    assert not service.job(job_id).status().is_final

    @flow
    def goes_on_waiting() -> Any:
        return fetch_result("local", job_id)

    assert goes_on_waiting() == "done"


def test_the_jobs_own_clock_and_the_requests_end_no_wait(upload: Upload, service: RuntimeService) -> None:
    """Deadlines of requests and the longest execution are other clocks: a wait outlives both."""
    from prefect_runtime import RuntimeCredentials

    program = upload(TWELVE_SECONDS)
    impatient = RuntimeCredentials(request_timeout_seconds=1.0)

    @flow
    def waits() -> tuple[str, float]:
        job_id = run_program(impatient, program, {}, max_execution_time=2)
        began = time.monotonic()
        status = wait_for_final_state(impatient, job_id, timeout=60, raise_on_failure=False)
        return status.name, time.monotonic() - began

    state = waits(return_state=True)
    name, took = state.result()
    assert name == "ERROR", "the job's own clock ended the job, and that ended the wait"
    assert 1.0 < took < 12
    (job_id,) = jobs_of(service, run_id(state))
    assert eventually(lambda: service.job(job_id).status() is JobStatus.ERROR)
