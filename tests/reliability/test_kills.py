"""One request, one job, for processes that die: killed at named places and at random instants, then run again."""

from __future__ import annotations

import multiprocessing
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from multiprocessing.process import BaseProcess
from typing import Any
from uuid import UUID

import pytest

from prefect_runtime.wire.errors import IdempotencyConflictError

from . import child
from .child import POINTS
from .ledger import Ledger, LedgerServer, digest

RUN_SECONDS = 60.0
LONGEST_RUN_SECONDS = 1.2  # of an undisturbed execution, for random instants

pytestmark = [pytest.mark.usefixtures("prefect_server"), pytest.mark.timeout(3600)]

_processes = multiprocessing.get_context("forkserver")
_processes.set_forkserver_preload(["prefect_runtime.tasks", "reliability.child"])


def start(target: Callable[..., None], *args: Any) -> tuple[BaseProcess, Any]:
    """Start a process and return it with the pipe to talk to it."""
    mine, theirs = _processes.Pipe()
    process = _processes.Process(target=target, args=(theirs, *args), daemon=True)
    process.start()
    theirs.close()
    return process, mine


def run(flow_run_id: UUID, parameters: dict[str, Any], point: str = "") -> Any:
    """Execute a flow run in a process of its own; None if that was killed."""
    process, pipe = start(child.execute, flow_run_id, parameters, point)
    try:
        outcome = pipe.recv() if pipe.poll(RUN_SECONDS) else AssertionError("hangs")
        process.kill()  # all is written down; at its end Prefect would wait two seconds for the last events
        return outcome
    except EOFError:
        process.join(10)
        assert process.exitcode == -signal.SIGKILL, f"ended by itself: {process.exitcode}"
        return None
    finally:
        pipe.close()
        process.join(10)


@pytest.fixture(scope="module")
def race(prefect_server: None) -> Iterator[Callable[[Sequence[dict[str, Any]]], list[Any]]]:
    """Executes a flow with each of eight parameters at the same moment, in a process each; gives what came of them."""
    runners = [start(child.race) for _ in range(8)]

    def race(parameters: Sequence[dict[str, Any]]) -> list[Any]:
        pipes = [pipe for _, pipe in runners]
        for pipe, given in zip(pipes, parameters, strict=True):
            pipe.send(given)
        assert [pipe.recv() for pipe in pipes] == ["ready"] * 8
        moment = time.time() + 0.02
        for pipe in pipes:
            pipe.send(moment)
        return [pipe.recv() for pipe in pipes]

    yield race
    for process, pipe in runners:
        pipe.send(None)
        process.join(10)
        pipe.close()


def assert_one_job(ledger: Ledger, number: int, outcome: Any) -> None:
    """Check the re-run's outcome against the ledger."""
    if isinstance(outcome, Exception):
        raise outcome
    jobs = [job for job in ledger.jobs.values() if job.params == f'{{"n": {number}}}']
    assert [job.id for job in jobs] == [outcome["job_id"]]
    assert outcome["result"] == {"sha256": digest(jobs[0].params)}


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(3, id="pr", marks=pytest.mark.pr),
        pytest.param(40, id="long", marks=pytest.mark.long),  # times 19 places, and 250 random instants: 1,000
    ],
)
@pytest.mark.parametrize("point", POINTS)
def test_a_process_killed_at_a_named_place_and_run_again_leaves_one_job(
    point: str, times: int, far_end: Callable[..., LedgerServer]
) -> None:
    ledger = Ledger(answer_delay=0.08, run_seconds=0.15)
    url = f"http://127.0.0.1:{far_end(ledger).port}"
    for number in range(times):
        flow_run_id = child.new_flow_run()
        parameters = {"url": url, "number": number}
        assert run(flow_run_id, parameters, point) is None, f"was not killed {point}"
        assert_one_job(ledger, number, run(flow_run_id, parameters))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(12, id="pr", marks=pytest.mark.pr),
        pytest.param(250, id="long", marks=pytest.mark.long),
    ],
)
def test_a_process_killed_at_a_random_instant_and_run_again_leaves_one_job(
    times: int, seed: int, far_end: Callable[..., LedgerServer]
) -> None:
    dice = random.Random(seed)
    ledger = Ledger(answer_delay=0.03, run_seconds=0.15)
    url = f"http://127.0.0.1:{far_end(ledger).port}"
    for number in range(times):
        flow_run_id = child.new_flow_run()
        parameters = {"url": url, "number": number}
        process, pipe = start(child.execute, flow_run_id, parameters, "")
        time.sleep(dice.uniform(0.05, LONGEST_RUN_SECONDS))
        process.kill()
        process.join(10)
        pipe.close()
        assert_one_job(ledger, number, run(flow_run_id, parameters))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(3, id="pr", marks=pytest.mark.pr),
        pytest.param(100, id="long", marks=pytest.mark.long),
    ],
)
@pytest.mark.parametrize("point", ["answer received", "request under way"])
def test_another_backend_being_least_busy_at_the_re_run_makes_no_second_job(
    point: str, times: int, far_end: Callable[..., LedgerServer]
) -> None:
    ledger = Ledger(answer_delay=0.08)
    url = f"http://127.0.0.1:{far_end(ledger).port}"
    for number in range(times):
        flow_run_id = child.new_flow_run()
        parameters = {"url": url, "number": number, "backend": "least_busy"}
        ledger.queues = {"one": 0, "two": 5}
        assert run(flow_run_id, parameters, point) is None
        ledger.queues = {"one": 5, "two": 0}
        assert_one_job(ledger, number, run(flow_run_id, parameters))


@pytest.mark.parametrize(
    "times",
    [
        pytest.param(10, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(600)]),
        # SQLite answers eight writers at once with 503, and who is told so comes again later: 10 s a round.
        pytest.param(500, id="long", marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_eight_processes_with_one_idempotency_key_get_one_job(
    times: int, far_end: Callable[..., LedgerServer], race: Callable[[Sequence[dict[str, Any]]], list[Any]]
) -> None:
    ledger = Ledger(answer_delay=0.05)
    url = f"http://127.0.0.1:{far_end(ledger).port}"
    for number in range(times):
        outcomes = race([{"url": url, "number": number, "key": f"race-{url}-{number}"}] * 8)
        assert not [outcome for outcome in outcomes if isinstance(outcome, Exception)]
        for outcome in outcomes:
            assert_one_job(ledger, number, outcome)


@pytest.mark.pr
def test_of_processes_with_one_key_and_other_requests_one_gets_a_job_and_the_others_a_conflict(
    far_end: Callable[..., LedgerServer], race: Callable[[Sequence[dict[str, Any]]], list[Any]]
) -> None:
    ledger = Ledger(answer_delay=0.05)
    url = f"http://127.0.0.1:{far_end(ledger).port}"
    outcomes = race([{"url": url, "number": number, "key": f"conflict-{url}"} for number in range(8)])
    assert len(ledger.jobs) == 1
    assert [type(outcome) for outcome in outcomes].count(IdempotencyConflictError) == 7
