"""A flow run that ends with its process, or with what ran it, leaves its jobs to its next execution."""

from __future__ import annotations

import contextvars
import os
import random
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.states import Scheduled

from prefect_runtime.client import JobStatus, RuntimeService

from . import shapes
from .support import eventually, execute_again, jobs_of
from .ways import PATIENCE_SECONDS, SHAPES, SLEEPS, Stage, in_state, is_alive, staged

Upload = Callable[..., str]

LATEST_INSTANT = 3.0  # seconds after the flow's beginning

Case = tuple[str, str, signal.Signals | None]
"""A way to run, a shape, and the signal to the flow's process; with None, its worker is ended."""


@pytest.fixture(scope="module")
def stage(tmp_path_factory: pytest.TempPathFactory, service: RuntimeService, upload: Upload) -> Iterator[Stage]:
    """The flows, deployed for a worker."""
    folder = tmp_path_factory.mktemp("ended")
    with staged(folder, service, upload(SLEEPS, max_execution_time=300), ways=("worker",)) as stage:
        yield stage


def end_and_execute_again(
    stage: Stage, way: str, shape: str, number: signal.Signals | None, dice: random.Random
) -> None:
    """End what runs a flow run; then execute it again and look at its jobs."""
    flow_run_id, pid = stage.start(way, shape)
    jobs_before = eventually(lambda: jobs_of(stage.service, flow_run_id), seconds=PATIENCE_SECONDS, what="a job")
    time.sleep(dice.uniform(0, LATEST_INSTANT))  # not a wait: which instant it hits is to vary
    if number is None:
        stage.stop(way)
        eventually(lambda: not is_alive(pid), seconds=PATIENCE_SECONDS, what="the end of the flow's process")
        in_state(flow_run_id, "Running")  # nobody has told Prefect
        stage.serve(way)
    else:
        os.kill(pid, number)
        if shape not in ("direct", "asynchronous") and number is signal.SIGTERM:
            stage.open_gate(flow_run_id)  # Prefect lets submitted tasks end first
        in_state(flow_run_id, "Crashed", "Completed")
    assert all(stage.service.job(job_id).status() is not JobStatus.CANCELLED for job_id in jobs_before)
    if way == "script":
        stage.open_gate(flow_run_id)
        parameters = {"program": stage.program, "folder": str(stage.folder)}
        execute_again(getattr(shapes, shape), flow_run_id, parameters)
    else:
        _schedule_again(flow_run_id)
    assert stage.pid(flow_run_id, 2) != pid
    stage.open_gate(flow_run_id)
    in_state(flow_run_id, "Completed")
    jobs = jobs_of(stage.service, flow_run_id)
    assert set(jobs_before) <= set(jobs)
    assert len(jobs) == (3 if shape == "mapped" else 1)
    assert {stage.service.job(job_id).status() for job_id in jobs} == {JobStatus.DONE}


def _schedule_again(flow_run_id: UUID) -> None:
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Scheduled(name="AwaitingRetry"), force=True)


def run_all(stage: Stage, cases: Sequence[Case], seed: int, at_once: int) -> None:
    """Go through the cases; those in which the worker ends one by one, as that ends all that runs under it."""
    dice = random.Random(seed)
    alone = [case for case in cases if case[2] is None]
    together = [case for case in cases if case[2] is not None]
    contexts = [contextvars.copy_context() for _ in together]
    with ThreadPoolExecutor(at_once) as pool:
        futures = [
            pool.submit(context.run, end_and_execute_again, stage, *case, dice)
            for context, case in zip(contexts, together, strict=True)
        ]
        for future in futures:
            future.result()
    for case in alone:
        end_and_execute_again(stage, *case, dice)
    print(f"{len(cases)} flow runs ended and executed again: {len(alone)} with their worker")


SOME: list[Case] = [
    ("worker", "direct", signal.SIGTERM),
    ("worker", "mapped", signal.SIGKILL),
    ("worker", "asynchronous", signal.SIGTERM),
    ("script", "direct", signal.SIGTERM),
    ("worker", "direct", None),
]


@pytest.mark.pr
@pytest.mark.timeout(400)
def test_a_process_that_is_ended_leaves_its_job_and_the_next_execution_attaches(stage: Stage, seed: int) -> None:
    run_all(stage, SOME, seed, at_once=3)


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_no_process_that_is_ended_takes_its_job_along(stage: Stage, seed: int) -> None:
    one_process = [shape for shape in SHAPES if shape != "processes"]  # Prefect's other one may live on
    cases: list[Case] = [
        ("worker", shape, number) for shape in one_process for number in (signal.SIGTERM, signal.SIGKILL, None)
    ]
    cases.append(("script", "direct", signal.SIGTERM))
    run_all(stage, (cases * 4)[:50], seed, at_once=3)


@pytest.mark.pr
def test_the_hook_cancels_the_job_of_a_flow_that_wants_that_when_it_crashes(stage: Stage) -> None:
    flow_run_id, pid = stage.start("script", "crashing")
    (job_id,) = eventually(lambda: jobs_of(stage.service, flow_run_id), seconds=PATIENCE_SECONDS, what="a job")
    os.kill(pid, signal.SIGTERM)
    in_state(flow_run_id, "Crashed")
    eventually(lambda: stage.service.job(job_id).status() is JobStatus.CANCELLED, what="the end of the job")
