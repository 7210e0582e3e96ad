"""Sampler tasks on a Dask cluster: `python dask_throughput.py ADDRESS COUNT MACHINES` prints the seconds they took."""

from __future__ import annotations

import sys
import time

from prefect import flow, task
from prefect_dask import DaskTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import execute

QUBITS, LAYERS = 20, 8
"""About a second on one core: what Prefect does for a task is a small part of that."""


@task
def simulate(number: int) -> int:
    """Sample a circuit of one's own on the machine that this runs on."""
    circuit = QuantumCircuit(QUBITS)
    for layer in range(LAYERS):
        for qubit in range(QUBITS):
            circuit.ry(0.1 + 0.01 * (number + layer + qubit), qubit)
        for qubit in range(layer % 2, QUBITS - 1, 2):
            circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    result = execute("local", "sampler", [circuit], shots=1000)
    return sum(result[0].data.meas.get_counts().values())


@flow(task_runner=DaskTaskRunner(address=sys.argv[1]))
def throughput(count: int, machines: int) -> float:
    """Return the seconds that so many tasks take, when all machines are warm."""
    simulate.map(range(4 * machines)).result()
    start = time.monotonic()
    assert simulate.map(range(100, 100 + count)).result() == [1000] * count
    return time.monotonic() - start


if __name__ == "__main__":
    print(throughput(*map(int, sys.argv[2:])))
