"""Simulations that need more than one machine: tasks of one's own on Dask, each with its job on its own machine."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect import flow, task
from prefect_dask import DaskTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import execute

from .dask_cluster import running_cluster
from .support import cards, log_lines, run_id, shown


@pytest.mark.pr
@pytest.mark.timeout(300)
def test_simulations_on_two_machines_have_one_job_each_and_cards_and_logs_as_everywhere(tmp_path: Path) -> None:
    @task
    def simulate(ones: int) -> dict[str, int]:
        circuit = QuantumCircuit(4)
        for qubit in range(4):
            if ones >> qubit & 1:
                circuit.x(qubit)
        circuit.measure_all()
        result = execute("local", "sampler", [circuit], shots=50)
        return dict(result[0].data.meas.get_counts())

    with running_cluster(tmp_path, 2) as cluster:

        @flow(task_runner=DaskTaskRunner(address=cluster.address))
        def spread() -> list[dict[str, int]]:
            counts: list[dict[str, int]] = simulate.map(range(8)).result()
            return counts

        state = spread(return_state=True)
        assert state.result() == [{f"{ones:04b}": 50} for ones in range(8)]
        first, second = cluster.jobs()
    assert first
    assert second
    jobs = {*first, *second}
    assert len(first) + len(second) == len(jobs) == 8
    facts = {shown(card)["Job"]: shown(card) for card in cards(run_id(state))}
    assert facts.keys() == jobs
    assert all(fact["Status"].endswith("DONE") for fact in facts.values())
    log = log_lines(run_id(state), until="Finished in state")
    for job_id in jobs:
        of_the_job = [line for line in log if job_id in line]
        assert any("submitted" in line for line in of_the_job), log
        assert any("DONE" in line for line in of_the_job), log
