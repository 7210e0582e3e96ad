"""Tasks that are submitted and mapped: many at once, in threads."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import flow
from prefect.task_runners import ThreadPoolTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import fetch_result, run_sampler, wait_for_final_state
from prefect_runtime.client import RuntimeService

from .support import cards, jobs_of, run_id


def counts_of(result: Any) -> dict[str, int]:
    return dict(result[0].data.meas.get_counts())


@pytest.mark.parametrize("size", [5, pytest.param(40, marks=pytest.mark.pr)])
def test_mapped_circuits_get_a_job_each_and_keep_their_results(size: int, service: RuntimeService) -> None:
    def circuit(ones: int) -> QuantumCircuit:
        made = QuantumCircuit(6)
        for qubit in range(6):
            if ones >> qubit & 1:
                made.x(qubit)
        made.measure_all()
        return made

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=5))
    def mapped() -> tuple[list[str], list[Any]]:
        ids = run_sampler.map("local", [[circuit(n)] for n in range(size)], shots=8)
        results = fetch_result.map("local", ids)
        return ids.result(), results.result()

    state = mapped(return_state=True)
    ids, results = state.result()
    assert sorted(jobs_of(service, run_id(state))) == sorted(ids)
    assert len(set(ids)) == size
    assert [counts_of(result) for result in results] == [{f"{n:06b}": 8} for n in range(size)]


@pytest.mark.pr  # the default size is in test_same_request_many_times.py
@pytest.mark.parametrize("size", [5, 20])
def test_the_same_circuit_asked_for_n_times_makes_n_jobs(
    size: int, bell: QuantumCircuit, service: RuntimeService
) -> None:
    @flow(task_runner=ThreadPoolTaskRunner(max_workers=5))
    def same() -> list[str]:
        return run_sampler.map("local", [[bell]] * size, shots=8).result()

    state = same(return_state=True)
    assert len(set(state.result())) == size
    assert sorted(jobs_of(service, run_id(state))) == sorted(state.result())
    occurrences = sorted(int((card.metadata_ or {})["occurrence"]) for card in cards(run_id(state)))
    assert occurrences == list(range(size))


def test_a_submitted_task_gives_a_future(bell: QuantumCircuit) -> None:
    @flow
    def submitted() -> Any:
        job_id = run_sampler.submit("local", [bell], shots=16)
        wait_for_final_state.submit("local", job_id).wait()
        return fetch_result.submit("local", job_id).result()

    assert sum(counts_of(submitted()).values()) == 16
