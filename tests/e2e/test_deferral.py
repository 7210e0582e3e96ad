"""Flow runs that wait without a process: suspended after submission, resumed when their job is final."""

from __future__ import annotations

import contextlib
import functools
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType

from prefect_runtime.cli import automation
from prefect_runtime.client import JobStatus, RuntimeService

from .postgres import prefect_on_postgres
from .support import eventually, jobs_of
from .ways import is_alive
from .workers import PATIENCE_SECONDS, deploy, in_state, running_worker

Upload = Callable[..., str]

FLOW = '''
import os
from pathlib import Path
from prefect import flow
from prefect.runtime import flow_run
from prefect_runtime.deferral import run_deferred

@flow
def waits_without_a_process(program: str, number: int, folder: str, timeout: float | None = None):
    """Run one job, suspended while it is not final, and write down its result."""
    with Path(folder, f"{flow_run.id}.pids").open("a") as pids:
        print(os.getpid(), file=pids)
    inputs = {"number": number, "gate": f"{folder}/{flow_run.id}.gate"}
    result = run_deferred("local", program, inputs, timeout=timeout, on_timeout="cancel", suspend_after=0.5)
    Path(folder, f"{flow_run.id}.result").write_text(str(result))
'''

WAITS_AT_A_GATE = '''
import time
from pathlib import Path

def main(backend, user_messenger, *, number, gate):
    """Be under way until there is a file; the job of number 1 fails then."""
    while not Path(gate).exists():
        time.sleep(0.05)
    if number == 1:
        raise ValueError("the program failed on purpose")
    return number * number
'''


@dataclass(frozen=True)
class Deployed:
    """The deployment that a worker serves one run at a time, and the folder in which its flow tells what it did."""

    id: UUID
    folder: Path
    program: str

    def start(self, number: int, *, timeout: float | None = None) -> UUID:
        """Have a flow run scheduled and return its id."""
        parameters = {"program": self.program, "number": number, "folder": str(self.folder), "timeout": timeout}
        with get_client(sync_client=True) as client:
            flow_run_id: UUID = client.create_flow_run_from_deployment(self.id, parameters=parameters).id
        return flow_run_id

    def open_gate(self, flow_run_id: UUID) -> None:
        """Let the flow run's job end."""
        (self.folder / f"{flow_run_id}.gate").touch()

    def pids(self, flow_run_id: UUID) -> list[int]:
        """Return the processes in which the flow's body has begun."""
        return [int(line) for line in (self.folder / f"{flow_run_id}.pids").read_text().split()]

    def result(self, flow_run_id: UUID) -> str:
        """Return what the flow got, as a text."""
        return (self.folder / f"{flow_run_id}.result").read_text()


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def deployed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, upload: Upload
) -> Iterator[Deployed]:
    """A deployment in a work pool that runs one flow run at a time, its worker, and who watches the jobs."""
    folder = tmp_path_factory.mktemp("deferred")
    program = upload(WAITS_AT_A_GATE, max_execution_time=1800)
    server = prefect_on_postgres(folder) if request.param == "postgresql" else contextlib.nullcontext()
    with server:
        deployment = deploy(FLOW, "waits_without_a_process", folder=folder, pool="deferred", at_most=1)
        automation.install()
        with running_worker("deferred", folder=folder), watched():
            yield Deployed(deployment, folder, program)
        automation.remove()


@contextlib.contextmanager
def watched() -> Iterator[None]:
    """Run the flow that looks after suspended flow runs, in a process of its own, as a schedule would."""
    watch = "from prefect_runtime.deferral import watch_jobs; watch_jobs('local', for_seconds=3600, every_seconds=1)"
    process = subprocess.Popen([sys.executable, "-c", watch], stdin=subprocess.DEVNULL)
    try:
        yield
        assert process.poll() is None, "it has ended"
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(3, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(400)]),
        pytest.param(20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1800)]),
    ],
)
def test_flow_runs_wait_for_their_jobs_without_a_process_and_go_on_when_those_are_final(
    count: int, deployed: Deployed, service: RuntimeService
) -> None:
    flow_runs = [deployed.start(number) for number in range(count)]
    for flow_run in flow_runs:
        in_state(flow_run, "Suspended", seconds=PATIENCE_SECONDS + 15 * count)
    last_suspended = time.monotonic()
    jobs = {flow_run: jobs_of(service, flow_run) for flow_run in flow_runs}
    assert all(len(of_one) == 1 for of_one in jobs.values())
    processes = [pid for flow_run in flow_runs for pid in deployed.pids(flow_run)]
    assert len(processes) == count
    eventually(lambda: not any(map(is_alive, processes)), seconds=30, what="the end of all processes")
    while time.monotonic() < last_suspended + 30.0:  # the last one waits for half a minute, the others for longer
        assert not any(map(is_alive, processes))
        assert service.job(jobs[flow_runs[0]][0]).status() is not JobStatus.DONE
        time.sleep(2.0)
    for flow_run in flow_runs:
        deployed.open_gate(flow_run)
    ends = [in_state(run, "Completed", "Failed", seconds=PATIENCE_SECONDS + 15 * count) for run in flow_runs]
    for number, end in enumerate(ends):
        assert end.state is not None
        assert jobs_of(service, end.id) == jobs[end.id], "one job each, whatever became of it"
        assert len(deployed.pids(end.id)) == 2, "one execution before the suspension, one after it"
        if number == 1:
            assert end.state.type is StateType.FAILED
            assert "the program failed on purpose" in (end.state.message or "")
        else:
            assert deployed.result(end.id) == str(number * number)


@pytest.mark.pr
@pytest.mark.timeout(300)
def test_a_suspended_wait_that_has_taken_too_long_ends_timed_out_and_a_cancelled_one_cancels_its_job(
    deployed: Deployed, service: RuntimeService
) -> None:
    late, unwanted = deployed.start(5, timeout=12.0), deployed.start(6)
    for flow_run in (late, unwanted):
        in_state(flow_run, "Suspended", "TimedOut")
    with get_client(sync_client=True) as client:
        client.request("POST", "/flow_runs/{id}/set_state", path_params={"id": unwanted}, json=CANCELLING)
    in_state(late, "TimedOut", seconds=2 * PATIENCE_SECONDS)
    for flow_run in (late, unwanted):
        (job_id,) = jobs_of(service, flow_run)
        is_cancelled = functools.partial(_has_status, service, job_id, JobStatus.CANCELLED)
        eventually(is_cancelled, seconds=30, what=f"the cancellation of {job_id}")
    in_state(unwanted, "Cancelled")


CANCELLING = {"state": {"type": "CANCELLING", "name": "Cancelling"}}


def _has_status(service: RuntimeService, job_id: str, status: JobStatus) -> bool:
    return service.job(job_id).status() is status
