"""A wait's timeout is exact wherever the task runs, and touches the job only if told to; it is one of three clocks."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect import flow

from prefect_runtime import RuntimeCredentials, fetch_result, run_program, wait_for_final_state
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.tasks.wait import OnTimeout

from .support import jobs_of, run_id, task_runs
from .ways import SLEEPS

Upload = Callable[..., str]

TIMEOUT = 3.0
LATEST = 3.5

SCRIPT = """
import asyncio, json, sys
from prefect import flow
from prefect.runtime import flow_run
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect_runtime import arun_program, await_for_final_state, run_program, wait_for_final_state

where, on_timeout, program, gate = sys.argv[1:]

def runner():
    if where == "processes":
        return ProcessPoolTaskRunner(max_workers=1)
    if where == "Dask":
        from prefect_dask import DaskTaskRunner
        return DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2, "dashboard_address": ":0"})
    return ThreadPoolTaskRunner()

@flow(task_runner=runner())
def waits():
    print(json.dumps(str(flow_run.id)), flush=True)
    job_id = run_program("local", program, {"gate": gate})
    wait_for_final_state.submit("local", job_id, timeout=3.0, on_timeout=on_timeout).wait()

@flow
async def waits_async():
    print(json.dumps(str(flow_run.id)), flush=True)
    job_id = await arun_program("local", program, {"gate": gate})
    await await_for_final_state("local", job_id, timeout=3.0, on_timeout=on_timeout, return_state=True)

if __name__ == "__main__":
    asyncio.run(waits_async()) if where == "async" else waits()
"""
"""In a process of its own: what Prefect's pool of processes starts asks the environment where Prefect's API is."""


def waited(command: list[str]) -> tuple[UUID, float]:
    """Run the script; gives its flow run, and the seconds that its wait took by Prefect's clock, with all around it."""
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=110, check=False)
    flow_run_id = UUID(json.loads(next(line for line in done.stdout.splitlines() if line.startswith('"'))))
    wait = next(run for run in task_runs(flow_run_id, count=2) if run.name.startswith("Wait for job"))
    assert wait.state is not None and wait.state.is_failed()
    assert wait.state.name == "TimedOut"
    assert wait.start_time is not None
    took = (wait.state.timestamp - wait.start_time).total_seconds()
    print(f"{command[2]}: {took:.2f} s")
    assert took >= TIMEOUT
    return flow_run_id, took


@pytest.mark.pr
@pytest.mark.alone
@pytest.mark.parametrize(
    ("where", "on_timeout"), [("threads", "keep"), ("processes", "cancel"), ("async", "cancel"), ("Dask", "keep")]
)
def test_a_wait_ends_at_its_timeout_wherever_it_runs(
    where: str, on_timeout: OnTimeout, upload: Upload, service: RuntimeService, tmp_path: Path
) -> None:
    program, gate = upload(SLEEPS, max_execution_time=300), tmp_path / "gate"  # a job of two minutes, if it is let
    script = tmp_path / "waits.py"
    script.write_text(SCRIPT)
    command = [sys.executable, str(script), where, on_timeout, program, str(gate)]
    flow_run_id, took = waited(command)
    least = took if took < LATEST else min(took, waited(command)[1])  # a stall of the machine's does not come twice
    assert least < LATEST
    (job_id,) = jobs_of(service, flow_run_id)
    if on_timeout == "cancel":
        assert service.job(job_id).status() is JobStatus.CANCELLED
        return
    assert not service.job(job_id).status().is_final
    gate.touch()

    @flow
    def goes_on_waiting() -> Any:
        return fetch_result("local", job_id)

    assert goes_on_waiting() == {"number": 0}


def test_a_wait_outlives_the_clock_of_a_request_and_ends_with_the_jobs_own(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(SLEEPS, max_execution_time=300)
    block = RuntimeCredentials(request_timeout_seconds=1.5)

    @flow
    def waits() -> tuple[JobStatus, float]:
        job_id = run_program(block, program, {}, max_execution_time=3)
        began = time.monotonic()
        return wait_for_final_state(block, job_id, timeout=60, raise_on_failure=False), time.monotonic() - began

    state = waits(return_state=True)
    status, took = state.result()
    assert status is JobStatus.ERROR
    assert 1.5 < took < 60
    (job_id,) = jobs_of(service, run_id(state))
    assert "max_execution_time" in (service.job(job_id).error_message() or "")
