"""A person cancels a flow run, at any instant and however it runs: its jobs are cancelled, and nothing is left."""

from __future__ import annotations

import contextvars
import random
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact, StateType
from prefect.runtime import flow_run as current_flow_run

from prefect_runtime import cancel_jobs, run_program, wait_for_final_state, wait_for_jobs
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.errors import RuntimeInvalidStateError

from .postgres import prefect_on_postgres
from .support import (
    card_fields,
    cards,
    eventually,
    execute_again,
    job_events,
    jobs_of,
    log_lines,
    nobody_watches,
    run_id,
    shown,
)
from .ways import SHAPES, SLEEPS, WAYS, Cancelled, Stage, cancel, seconds_after, staged

Upload = Callable[..., str]

WITHIN_SECONDS = 5.0
LATEST_INSTANT = 4.0  # seconds after the flow's beginning; its job is made in the first of them


def cancelled_beside(flow_run_id: Any) -> Future[float]:
    """Cancel a flow run from outside of it; gives when Prefect had it."""
    pool = ThreadPoolExecutor(1)
    accepted = pool.submit(contextvars.copy_context().run, cancel, flow_run_id)
    pool.shutdown(wait=False)
    return accepted


def test_a_cancelled_flow_runs_job_is_cancelled_and_the_wait_ends(upload: Upload, service: RuntimeService) -> None:
    program = upload(SLEEPS)
    asked = []

    @flow
    def waits() -> None:
        job_id = run_program("local", program, {})
        asked.append(cancelled_beside(current_flow_run.id))
        wait_for_final_state("local", job_id)

    state = waits(return_state=True)
    assert state.type in (StateType.FAILED, StateType.CANCELLING, StateType.CANCELLED)
    (job_id,) = jobs_of(service, run_id(state))
    job = service.client.job(job_id)
    assert job.status is JobStatus.CANCELLED
    assert seconds_after(asked[0].result(), job) < WITHIN_SECONDS
    assert log_lines(run_id(state), until=f"Job {job_id}: its flow run was cancelled, now ")
    (card,) = cards(run_id(state))
    assert shown(card)["Status"].endswith("CANCELLED")
    assert card_fields(run_id(state))["credentials"] == "local"
    eventually(nobody_watches, seconds=2.0)

    execute_again(no_wait(program), run_id(state))
    assert len(jobs_of(service, run_id(state))) == 2, "who runs it again wants another job"
    service.job(jobs_of(service, run_id(state))[1]).cancel()


def no_wait(program: str) -> Any:
    """Return the flow above without its wait."""

    @flow(name="waits")
    def waits() -> None:
        run_program("local", program, {})

    return waits


@pytest.mark.pr
def test_a_job_is_kept_if_the_wait_says_so_also_by_the_hook(upload: Upload, service: RuntimeService) -> None:
    program = upload(SLEEPS)

    @flow(on_cancellation=[cancel_jobs])
    def waits() -> None:
        job_id = run_program("local", program, {})
        cancelled_beside(current_flow_run.id)
        wait_for_final_state("local", job_id, on_cancel="keep")

    state = waits(return_state=True)
    (job_id,) = jobs_of(service, run_id(state))
    job = service.job(job_id)
    try:
        with get_client(sync_client=True) as client:
            cancel_jobs(waits, client.read_flow_run(run_id(state)), state)
        assert log_lines(run_id(state), until=f"Job {job_id}: goes on, as its wait was told")
        assert not job.status().is_final
        assert log_lines(run_id(state), until="no longer waited for")
    finally:
        job.cancel()


@pytest.mark.pr
def test_a_job_nobody_waits_for_yet_is_cancelled_and_no_other_is_made(upload: Upload, service: RuntimeService) -> None:
    program = upload(SLEEPS)

    @flow
    def thinks_first() -> None:
        job_id = run_program("local", program, {"number": 1})
        cancel(current_flow_run.id)
        eventually(lambda: service.job(job_id).status() is JobStatus.CANCELLED, seconds=WITHIN_SECONDS)
        with pytest.raises(RuntimeInvalidStateError, match="was not sent"):
            run_program("local", program, {"number": 2})
        refused.append(job_id)

    refused: list[str] = []
    state = thinks_first(return_state=True)
    assert jobs_of(service, run_id(state)) == refused


LEAVES = """
import sys, threading
from contextvars import copy_context
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State, StateType
from prefect.runtime import flow_run
from prefect_runtime import run_program, wait_for_final_state

def cancel(flow_run_id):
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING))

@flow
def leaves(program: str, waits: bool):
    print(flow_run.id)
    job_id = run_program("local", program, {})
    if not waits:
        return cancel(flow_run.id)
    threading.Thread(target=copy_context().run, args=(cancel, flow_run.id)).start()
    wait_for_final_state("local", job_id)

try:
    leaves(sys.argv[1], sys.argv[2] == "waits")
except Exception:
    pass
"""


@pytest.mark.parametrize("does", ["waits", "leaves"])
def test_a_process_that_ends_with_its_flow_run_cancelled_says_so_once_and_breaks_nothing(
    does: str, upload: Upload, service: RuntimeService
) -> None:
    ended = subprocess.run(
        [sys.executable, "-c", LEAVES, upload(SLEEPS), does], capture_output=True, text=True, timeout=90, check=True
    )
    flow_run_id = UUID(ended.stdout.split()[0])
    (job_id,) = jobs_of(service, flow_run_id)
    assert service.job(job_id).status() is JobStatus.CANCELLED
    assert ended.stderr.count(f"Job {job_id}: its flow run was cancelled, now ") == 1
    assert "Logging error" not in ended.stderr and "Error emitting event" not in ended.stderr
    eventually(lambda: "cancelled" in job_events(flow_run_id), seconds=30, what="the event of the job's end")


@pytest.mark.pr
def test_many_waits_end_together_and_what_is_done_stays_done(upload: Upload, service: RuntimeService) -> None:
    program = upload(SLEEPS)

    @flow
    def waits() -> None:
        ids = [run_program("local", program, {"number": 5, "gate": __file__})]  # open: it ends at once
        wait_for_final_state("local", ids[0])
        ids += run_program.map("local", program, [{"number": number} for number in range(5)]).result()
        cancelled_beside(current_flow_run.id)
        wait_for_jobs("local", ids)

    state = waits(return_state=True)
    done, *others = jobs_of(service, run_id(state))
    assert {service.job(job_id).status() for job_id in others} == {JobStatus.CANCELLED}
    assert len(others) == 5
    assert service.job(done).status() is JobStatus.DONE
    finished = {(card.metadata_ or {})["job_id"] for card in cards(run_id(state)) if _is_finished(card)}
    assert finished == set(others), "who runs it again wants others of these, and the result of the one that is done"
    eventually(nobody_watches, seconds=2.0)


def _is_finished(card: Artifact) -> bool:
    return "failure_delivered" in (card.metadata_ or {})


# At random instants


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def stage(
    request: pytest.FixtureRequest,
    tmp_path_factory: pytest.TempPathFactory,
    service: RuntimeService,
    upload: Upload,
) -> Iterator[Stage]:
    """The flows, deployed and served; on the server of all tests, and on one of its own on PostgreSQL."""
    folder = tmp_path_factory.mktemp(f"ways-{request.param}")
    program = upload(SLEEPS, max_execution_time=300)
    if request.param == "sqlite":
        with staged(folder, service, program) as stage:
            yield stage
        return
    with prefect_on_postgres(folder), staged(folder, service, program, ways=("worker",)) as stage:
        yield stage


def cancel_at_random_instants(stage: Stage, cases: Sequence[tuple[str, str]], seed: int, at_once: int) -> None:
    """Cancel flow runs of these ways and shapes, some at the same time, and check what became of their jobs."""
    dice = random.Random(seed)
    delays = [dice.uniform(0, LATEST_INSTANT) for _ in cases]
    contexts = [contextvars.copy_context() for _ in cases]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [
            pool.submit(context.run, stage.cancel, *case, delay)
            for context, case, delay in zip(contexts, cases, delays, strict=True)
        ]
        done = [future.result() for future in futures]
    _tell(done)
    assert [one for one in done if not all(job.is_final for job in one.jobs)] == []
    assert {one.name: one.left for one in done if one.left} == {}
    seconds = sorted(second for one in done for second in one.seconds)
    assert seconds, "no job was cancelled at all"
    late = [second for second in seconds if second > WITHIN_SECONDS]
    assert len(late) <= len(seconds) // 100, f"{len(late)} of {len(seconds)} took longer: {late}"


def _tell(done: Sequence[Cancelled]) -> None:
    """Print what was measured: how many jobs, how long it took, by way and shape."""
    by_name: dict[str, list[float]] = {}
    for one in done:
        by_name.setdefault(one.name, []).extend(one.seconds)
    seconds = sorted(second for one in done for second in one.seconds)
    none = sum(1 for one in done if not one.jobs)
    lines = [f"{len(done)} cancels, {len(seconds)} jobs cancelled, {none} cancels before there was a job"]
    lines += [f"{name}: {_figures(values)}" for name, values in [("all", seconds), *sorted(by_name.items())] if values]
    late = [one for one in done if max(one.seconds, default=0) > WITHIN_SECONDS]
    lines += [f"late: {one.name} at {one.delay:.2f} s: {one.seconds}" for one in late]
    print("\n".join(lines))


def _figures(seconds: list[float]) -> str:
    p99 = sorted(seconds)[max(0, -(-99 * len(seconds) // 100) - 1)]
    return f"n {len(seconds)}, p50 {statistics.median(seconds):.2f} s, p99 {p99:.2f} s, max {max(seconds):.2f} s"


HERE = [("script", "direct"), ("script", "submitted"), ("script", "asynchronous")]
HERE += [("served", "direct"), ("served", "mapped"), ("served", "processes"), ("worker", "asynchronous")]
ON_POSTGRES = [("worker", "direct"), ("worker", "submitted"), ("worker", "asynchronous")]


@pytest.mark.pr
@pytest.mark.timeout(400)
def test_a_cancel_at_a_random_instant_reaches_the_job(stage: Stage, seed: int) -> None:
    cases = HERE if any("served" in name for name in stage.deployments) else ON_POSTGRES
    cancel_at_random_instants(stage, cases, seed, at_once=2)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_cancel_at_a_random_instant_leaves_a_job(stage: Stage, seed: int) -> None:
    on_sqlite = any("served" in name for name in stage.deployments)
    cases = [(way, shape) for way in (WAYS if on_sqlite else ("worker",)) for shape in SHAPES]
    rounds = 14 if on_sqlite else 8  # 252 and 48
    cancel_at_random_instants(stage, cases * rounds, seed, at_once=3)
