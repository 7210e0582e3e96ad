"""What Prefect adds to one job: the four tasks and the card, beside the same four calls without Prefect."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from e2e.support import running_server
from prefect import flow
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, PREFECT_LOGGING_LEVEL, temporary_settings
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, fetch_logs, fetch_result, run_sampler, wait_for_final_state
from prefect_runtime.client import Credentials, RuntimeService

ROUNDS = 20
MOST_SECONDS = 0.100


@pytest.fixture
def prefect_server(tmp_path: Path) -> Iterator[None]:
    """A real Prefect server on SQLite."""
    with (
        running_server(tmp_path) as url,
        temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: tmp_path, PREFECT_LOGGING_LEVEL: "INFO"}),
    ):
        yield


@pytest.mark.usefixtures("prefect_server")
def test_prefect_adds_less_than_100_ms_to_a_job(
    service: RuntimeService, report: Callable[[str], None], milliseconds: Callable[[Sequence[float]], str]
) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    known: Credentials = service.credentials
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
    def measured() -> list[tuple[float, float]]:
        plain(), tasks()
        return [(timed(plain), timed(tasks)) for _ in range(ROUNDS)]

    without, inside = zip(*measured(), strict=True)
    added = statistics.median(inside) - statistics.median(without)
    report(
        f"four calls: {milliseconds(without)}; four tasks and the card: {milliseconds(inside)}; "
        f"Prefect adds {1000 * added:.0f} ms (at most {1000 * MOST_SECONDS:.0f})"
    )
    assert added < MOST_SECONDS
