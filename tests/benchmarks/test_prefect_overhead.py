"""What Prefect adds to one job: the four tasks and the card, beside the same four calls without Prefect.

Asserted is the ratio to what Prefect itself takes for four empty tasks with as many calls of its API as a card
needs, measured in turns in one flow. What a call costs is decided by the server: after each task it is busy
writing that down (on SQLite, on two cores, a call takes 30 ms then, and 10 ms when the server has nothing else to do).
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from e2e.support import running_server
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, VariableCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import SyncClientContext
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_LOGGING_LEVEL, temporary_settings
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, fetch_logs, fetch_result, run_sampler, wait_for_final_state
from prefect_runtime.client import RuntimeService

ROUNDS = 20
MOST_TIMES = 1.5


@pytest.fixture
def prefect_server(tmp_path: Path) -> Iterator[None]:
    """A real Prefect server on SQLite."""
    with (
        running_server(tmp_path) as url,
        temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path, PREFECT_LOGGING_LEVEL: "INFO"}),
    ):
        yield


@task(cache_policy=NO_CACHE)
def nothing() -> None:
    """Do nothing, as a task."""


def bare_prefect() -> None:
    """Make four empty tasks, and between them the calls that a card needs."""
    with SyncClientContext.get_or_create() as context:
        client = context.client
        name = f"bare-{time.time_ns()}"
        nothing()
        client.create_variable(VariableCreate(name=name, value={"claim": "mine"}))
        client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[name])))
        card = client.create_artifact(ArtifactCreate(key=name, type="markdown", data="x" * 800))
        client.update_artifact(card.id, ArtifactUpdate(data="y" * 800))
        for _ in range(2):
            nothing()
            client.update_artifact(card.id, ArtifactUpdate(data="z" * 800))
        nothing()


@pytest.mark.usefixtures("prefect_server")
def test_prefect_adds_hardly_more_than_bare_tasks_and_calls_take(
    service: RuntimeService, report: Callable[[str], None], milliseconds: Callable[[Sequence[float]], str]
) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    known = service.credentials
    block = RuntimeCredentials(url=known.url, token=known.token)

    def plain() -> None:
        job = service.run("sampler", {"pubs": [(circuit, None, 1000)]})
        job.wait_for_final_state()
        job.result()
        job.logs()

    def tasks() -> None:
        job_id = run_sampler(block, [circuit], shots=1000)
        wait_for_final_state(block, job_id)
        fetch_result(block, job_id)
        fetch_logs(block, job_id)

    def timed(call: Callable[[], None]) -> float:
        start = time.perf_counter()
        call()
        return time.perf_counter() - start

    @flow
    def measured() -> list[tuple[float, float, float]]:
        plain(), tasks(), bare_prefect()
        return [(timed(plain), timed(tasks), timed(bare_prefect)) for _ in range(ROUNDS)]

    without, inside, bare = zip(*measured(), strict=True)
    added = statistics.median(inside) - statistics.median(without)
    ratio = added / statistics.median(bare)
    report(
        f"four calls: {milliseconds(without)}; four tasks and the card: {milliseconds(inside)}; "
        f"Prefect adds {1000 * added:.0f} ms, {ratio:.2f} times what it takes bare ({milliseconds(bare)})"
    )
    assert ratio <= MOST_TIMES
