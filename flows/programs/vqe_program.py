"""The program of vqe.py: it finds the lowest energy of a Hamiltonian, next to the backend.

Uploaded and run by the runtime, so it imports only what is there: NumPy and Qiskit.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from qiskit import QuantumCircuit
from qiskit.circuit import ParameterVector
from qiskit.primitives import BackendEstimatorV2
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager


def trial_state(qubits: int) -> QuantumCircuit:
    """Return a circuit that the angles turn into any real state of two qubits, and into many of more."""
    angles = ParameterVector("θ", 2 * qubits)
    circuit = QuantumCircuit(qubits)
    for qubit in range(qubits):
        circuit.ry(angles[qubit], qubit)
    for qubit in range(qubits - 1):
        circuit.cx(qubit, qubit + 1)
    for qubit in range(qubits):
        circuit.ry(angles[qubits + qubit], qubit)
    return circuit


def main(
    backend: Any, user_messenger: Any, *, hamiltonian: dict[str, float], sweeps: int, precision: float, seed: int
) -> dict[str, Any]:
    """Minimise the energy, one angle after the other, and return the energy at the end.

    In one angle alone the energy is a sine, so three points of it give its minimum. Such a step needs no gradient and
    bears noise well. Source: Ostaszewski, Grant, Benedetti, Quantum 5, 391 (2021).

    Args:
        backend: What circuits run on.
        user_messenger: Streams ``{"iteration", "total", "energy", "error"}`` after each step.
        hamiltonian: Coefficients by Pauli string.
        sweeps: How often each angle is set.
        precision: Standard error of each energy; the last one is measured four times as well.
        seed: Of the angles to start from.
    """
    operator = SparsePauliOp.from_list(list(hamiltonian.items()))
    circuit = generate_preset_pass_manager(2, backend=backend).run(trial_state(operator.num_qubits))
    observable = operator.apply_layout(circuit.layout)
    estimator = BackendEstimatorV2(backend=backend)

    angles = np.random.default_rng(seed).uniform(-np.pi, np.pi, circuit.num_parameters)
    total = sweeps * len(angles)
    for iteration in range(total):
        turned = iteration % len(angles)
        points = np.tile(angles, (3, 1))
        points[1:, turned] += np.pi / 2, -np.pi / 2
        values = estimator.run([(circuit, observable, points)], precision=precision).result()[0].data
        here, ahead, behind = values.evs
        user_messenger.publish(
            {"iteration": iteration + 1, "total": total, "energy": float(here), "error": float(values.stds[0])}
        )
        angles[turned] -= np.pi / 2 + np.arctan2(2 * here - ahead - behind, ahead - behind)
        print(f"step {iteration + 1} of {total}: energy {here:+.5f} before it")

    last = estimator.run([(circuit, observable, angles)], precision=precision / 4).result()[0].data
    return {"energy": float(last.evs), "error": float(last.stds), "angles": angles.tolist()}
