"""A flow run whose process is killed under a real worker, and that the same worker executes again, has one job."""

from __future__ import annotations

import functools
import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from prefect_runtime.client import RuntimeService

from .support import card_fields, cards, claims, eventually, jobs_of
from .workers import PATIENCE_SECONDS, deploy, in_state, running_worker

Upload = Callable[..., str]

FLOW = '''
import os
from pathlib import Path
from prefect import flow
from prefect.runtime import flow_run
from prefect_runtime import fetch_result, run_program, wait_for_final_state

@flow(name="one-job-under-a-worker", persist_result=True)
def one_job(program: str, number: int, folder: str):
    """Run one job, and tell in files how far this execution is."""
    told = Path(folder, f"{flow_run.id}.{flow_run.run_count}")
    told.with_suffix(f"{told.suffix}.began").write_text(str(os.getpid()))
    job_id = run_program("local", program, {"number": number, "gate": f"{folder}/{flow_run.id}.gate"})
    told.with_suffix(f"{told.suffix}.knows").touch()
    wait_for_final_state("local", job_id)
    return {"job_id": job_id, "result": fetch_result("local", job_id)}
'''

WAITS_AT_A_GATE = '''
import time
from pathlib import Path

def main(backend, user_messenger, *, number, gate):
    """Be under way until there is a file."""
    while not Path(gate).exists():
        time.sleep(0.02)
    return {"square": number * number}
'''


@dataclass(frozen=True)
class Deployed:
    """The deployment that a worker serves, and the folder in which its flow tells how far it is."""

    id: UUID
    folder: Path

    def pid(self, flow_run_id: UUID, execution: int) -> int:
        """Return the process of an execution, once it is in the flow's body."""
        file = self.folder / f"{flow_run_id}.{execution}.began"
        what = f"the beginning of execution {execution} of {flow_run_id}"
        return int(eventually(lambda: file.exists() and file.read_text(), seconds=PATIENCE_SECONDS, what=what))

    def knows_its_job(self, flow_run_id: UUID) -> bool:
        """True once the first execution waits for its job."""
        return (self.folder / f"{flow_run_id}.1.knows").exists()

    def open_gate(self, flow_run_id: UUID) -> None:
        """Let the flow run's job end."""
        (self.folder / f"{flow_run_id}.gate").touch()


@pytest.fixture(scope="module")
def deployed(tmp_path_factory: pytest.TempPathFactory, runtime_home: Path) -> Iterator[Deployed]:
    """A deployment and its worker, a process of its own."""
    folder = tmp_path_factory.mktemp("killed")
    deployment_id = deploy(FLOW, "one_job", folder=folder, pool="killed")
    with running_worker("killed", folder=folder):
        yield Deployed(deployment_id, folder)


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(5, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(600)]),
        pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_flow_run_killed_under_its_worker_and_executed_again_by_it_has_one_job(
    times: int, seed: int, deployed: Deployed, upload: Upload, service: RuntimeService
) -> None:
    dice = random.Random(seed)
    program = upload(WAITS_AT_A_GATE)
    before = _jobs_of_program(service, program)
    moments: dict[str, Callable[[UUID], Any]] = {
        "as the flow has begun": lambda flow_run_id: True,
        "as the runtime has the job": lambda flow_run_id: jobs_of(service, flow_run_id),
        "as the flow waits for it": deployed.knows_its_job,
    }
    order = dice.sample(sorted(moments), len(moments))  # in turns: each is met in few runs too
    jobs: list[str] = []
    killed: Counter[str] = Counter()
    for number in range(times):
        moment = order[number % len(order)]
        with get_client(sync_client=True) as client:
            parameters = {"program": program, "number": number, "folder": str(deployed.folder)}
            flow_run_id = client.create_flow_run_from_deployment(deployed.id, parameters=parameters).id
        pid = deployed.pid(flow_run_id, 1)
        has_come = functools.partial(moments[moment], flow_run_id)
        eventually(has_come, seconds=PATIENCE_SECONDS, what=f"the moment {moment}")
        time.sleep(dice.uniform(0, 0.3))  # not a wait: which instant it hits is to vary
        os.kill(pid, signal.SIGKILL)
        crashed = in_state(flow_run_id, "Crashed")
        assert crashed.run_count == 1
        killed[f"{moment}: {_left_behind(service, flow_run_id)}"] += 1

        final_when_looked_for = dice.random() < 0.5
        if final_when_looked_for:
            deployed.open_gate(flow_run_id)
        with get_client(sync_client=True) as client:
            client.set_flow_run_state(flow_run_id, Scheduled(name="AwaitingRetry"), force=True)
        assert deployed.pid(flow_run_id, 2) != pid
        if not final_when_looked_for:
            deployed.open_gate(flow_run_id)
        done = in_state(flow_run_id, "Completed")
        assert done.run_count == 2
        assert done.state is not None
        given = done.state.result()
        assert given["result"] == {"square": number * number}
        assert jobs_of(service, flow_run_id) == [given["job_id"]]
        on_card = eventually(
            functools.partial(_job_id_on_card, flow_run_id), seconds=PATIENCE_SECONDS, what="a job's id on the card"
        )
        assert on_card == given["job_id"]
        # Else the worker's end would end the last flow's process while that is still tidying up.
        eventually(functools.partial(_no_claims, flow_run_id), seconds=PATIENCE_SECONDS, what="an end without claims")
        jobs.append(given["job_id"])
    print(f"killed: {dict(killed)}")
    assert len(set(jobs)) == times
    assert _jobs_of_program(service, program) - before == set(jobs)  # also none that no flow run's tag leads to


def _jobs_of_program(service: RuntimeService, program: str) -> set[str]:
    return {job.job_id() for job in service.jobs(limit=None, program_id=program)}


def _left_behind(service: RuntimeService, flow_run_id: UUID) -> str:
    """Return in words what there is after a kill, so that a run shows which cases it had."""
    card = next((card.metadata_ or {} for card in cards(flow_run_id)), None)
    written = "no card" if card is None else "a card with the job's id" if "job_id" in card else "a card without job"
    return f"{written}, {'a job' if jobs_of(service, flow_run_id) else 'no job'}"


def _no_claims(flow_run_id: UUID) -> bool:
    return claims(flow_run_id) == []


def _job_id_on_card(flow_run_id: UUID) -> str:
    """Return the job's id, once it is there: the flow's process may write it after the final state."""
    return str(card_fields(flow_run_id).get("job_id", "")) if cards(flow_run_id) else ""
