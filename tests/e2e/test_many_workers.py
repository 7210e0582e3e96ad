"""Three workers on one Prefect server with PostgreSQL, and one of them dies: every flow run ends right, with one job.

What brings back what the dead worker held are the rules that `deployments/register.py` makes: register, heartbeats of
30 s and the tag are all that a deployment needs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterId
from prefect.client.schemas.objects import FlowRun, StateType
from prefect.flows import Flow

from prefect_runtime.client import RuntimeService

from .postgres import prefect_on_postgres
from .support import PROJECT, eventually, jobs_of
from .workers import PATIENCE_SECONDS, started_worker

Upload = Callable[..., str]

FLOW = '''
import os
from pathlib import Path
from prefect import flow
from prefect.runtime import flow_run
from prefect_runtime import fetch_result, run_program, wait_for_final_state

@flow
def one_of_many(program: str, number: int, folder: str):
    """Run one job, tell in which process, and write its result down."""
    told = Path(folder, f"{flow_run.id}.{flow_run.run_count}")
    told.with_suffix(f"{told.suffix}.tmp").write_text(str(os.getpid()))
    told.with_suffix(f"{told.suffix}.tmp").rename(told.with_suffix(f"{told.suffix}.began"))
    job_id = run_program("local", program, {"number": number})
    wait_for_final_state("local", job_id)
    Path(folder, f"{flow_run.id}.result").write_text(f"{job_id} {fetch_result('local', job_id)}")
'''

SQUARES = '''
import time

def main(backend, user_messenger, *, number):
    """Take a while, as a backend does. {part}"""
    time.sleep(4)
    return number * number
'''
"""As the embedded runtime runs two jobs at a time here, the workers do not decide alone how long it takes."""

TWO_AT_A_TIME = ("--limit", "2")
LATER_SECONDS = 30.0


@dataclass(frozen=True, kw_only=True)
class Lab:
    """A deployment in the work pool of `register.py`, and the folder in which its flow tells what it did."""

    deployment: UUID
    folder: Path

    def start(self, program: str, number: int) -> UUID:
        """Have a flow run scheduled and return its id."""
        parameters = {"program": program, "number": number, "folder": str(self.folder)}
        with get_client(sync_client=True) as client:
            started: UUID = client.create_flow_run_from_deployment(self.deployment, parameters=parameters).id
        return started

    def began_in(self, flow_run_id: UUID, execution: int = 1) -> int | None:
        """Return the process of an execution, None if it has not begun."""
        told = self.folder / f"{flow_run_id}.{execution}.began"
        return int(told.read_text()) if told.exists() else None

    def result(self, flow_run_id: UUID) -> tuple[str, str]:
        """Return the job's id and its result, as the flow had them."""
        job_id, result = (self.folder / f"{flow_run_id}.result").read_text().split()
        return job_id, result


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    """A Prefect server on PostgreSQL with what `register.py` makes, and a deployment."""
    folder = tmp_path_factory.mktemp("lab")
    (folder / "one_of_many.py").write_text(FLOW)
    with prefect_on_postgres(folder):
        subprocess.run([sys.executable, PROJECT / "deployments" / "register.py"], check=True, timeout=60)
        loaded: Any = Flow.from_source(str(folder), entrypoint="one_of_many.py:one_of_many")
        deployment = loaded.deploy(
            "lab",
            work_pool_name="process",
            tags=["run-again-if-lost"],
            job_variables={"env": {"PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30"}},
            print_next_steps=False,
            ignore_warnings=True,
        )
        yield Lab(deployment=deployment, folder=folder)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_worker_that_dies_costs_no_flow_run_and_no_second_job_and_little_time(
    lab: Lab, upload: Upload, service: RuntimeService, record_property: Callable[[str, object], None]
) -> None:
    count = 60
    with ExitStack() as held:
        _start_workers(held, lab, 2)
        two, _ = _run(lab, service, upload(SQUARES.format(part="With two.")), count)
    with ExitStack() as held:
        victim = _start_workers(held, lab, 3)[-1]
        killed = Killed(lab, victim, after=count // 4)
        three, runs = _run(lab, service, upload(SQUARES.format(part="With three.")), count, killed.look)
    assert killed.held, "the worker that died held flow runs"
    lost = [run for run in runs if run.id in killed.held]
    again = [_seconds_until(run, "AwaitingRetry", killed.at) for run in lost]
    record_property(
        "figures",
        f"{count} flow runs: {two:.0f} s with two workers, {three:.0f} s with three of which one died after "
        f"{killed.after_seconds:.0f} s; it held {len(lost)}, "
        f"scheduled again {min(again):.0f} to {max(again):.0f} s later",
    )
    assert [run.run_count for run in lost] == [2] * len(lost)
    assert sum(run.run_count for run in runs) == count + len(lost), "nothing else was executed twice"
    assert three <= two + LATER_SECONDS


class Killed:
    """A worker that is killed with all its processes, as by a machine that goes off, while it holds flow runs.

    Args:
        lab: Where it works.
        worker: Its process.
        after: How many flow runs have ended before.
    """

    def __init__(self, lab: Lab, worker: subprocess.Popen[bytes], *, after: int) -> None:
        self._lab, self._worker, self._after = lab, worker, after
        self._began = time.monotonic()
        self.held: list[UUID] = []
        self.at: datetime | None = None
        self.after_seconds = 0.0

    def look(self, runs: list[FlowRun]) -> None:
        """Kill it, if it is time to."""
        if self.held or sum(_is_final(run) for run in runs) < self._after:
            return
        process = psutil.Process(self._worker.pid)
        process.suspend()  # it starts no other now
        beneath = process.children(recursive=True)
        pids = {one.pid for one in beneath}
        held = [run.id for run in runs if not _is_final(run) and self._lab.began_in(run.id) in pids]
        if len(held) < 2:  # as many as it may hold
            process.resume()
            return
        self.held = held
        for one in [process, *beneath]:
            os.kill(one.pid, signal.SIGKILL)
        self.at = datetime.now().astimezone()
        self.after_seconds = time.monotonic() - self._began


def _start_workers(held: ExitStack, lab: Lab, count: int) -> list[subprocess.Popen[bytes]]:
    """Start workers, and wait until Prefect knows them."""
    names = [f"{count}-{number}" for number in range(count)]
    workers = [
        held.enter_context(
            started_worker("process", "--name", name, *TWO_AT_A_TIME, folder=lab.folder, log=f"worker-{name}.log")
        )
        for name in names
    ]

    def all_known() -> bool:
        with get_client(sync_client=True) as client:
            answer = client.request(
                "POST",
                "/work_pools/{work_pool_name}/workers/filter",
                path_params={"work_pool_name": "process"},
                json={},
            )
        return set(names) <= {one["name"] for one in answer.json()}

    eventually(all_known, seconds=PATIENCE_SECONDS, what=f"{count} workers")
    return workers


def _run(
    lab: Lab,
    service: RuntimeService,
    program: str,
    count: int,
    meanwhile: Callable[[list[FlowRun]], None] = lambda _: None,
) -> tuple[float, list[FlowRun]]:
    """Have that many flow runs executed; gives the seconds and the flow runs, each of which has its one job."""
    start = time.monotonic()
    ids = [lab.start(program, number) for number in range(count)]

    def ended() -> list[FlowRun]:
        runs = _read(ids)
        meanwhile(runs)
        time.sleep(0.5)
        return runs if all(map(_is_final, runs)) else []

    runs = eventually(ended, seconds=1500, what=f"the end of {count} flow runs")
    seconds = time.monotonic() - start
    assert {run.state.name for run in runs if run.state} == {"Completed"}
    for number, flow_run_id in enumerate(ids):
        job_id, result = lab.result(flow_run_id)
        assert result == str(number * number)
        assert jobs_of(service, flow_run_id) == [job_id]
    assert len(service.jobs(limit=None, program_id=program)) == count  # also none that no flow run's tag leads to
    return seconds, runs


def _read(ids: list[UUID]) -> list[FlowRun]:
    with get_client(sync_client=True) as client:
        runs: list[FlowRun] = client.read_flow_runs(flow_run_filter=FlowRunFilter(id=FlowRunFilterId(any_=ids)))
    return runs


def _is_final(run: FlowRun) -> bool:
    return run.state is not None and run.state.is_final() and run.state.type is not StateType.CRASHED


def _seconds_until(run: FlowRun, name: str, since: datetime | None) -> float:
    """Return after how long a flow run came to be in the state of that name."""
    assert since is not None
    with get_client(sync_client=True) as client:
        states = client.read_flow_run_states(run.id)
    return next((state.timestamp - since).total_seconds() for state in states if state.name == name)
