"""Estimator PUBs without the qubits that nothing is done to. Only estimator.py imports this.

Aer leaves idle qubits out of a simulation by itself, but not those that an observable spans, and every observable
spans the whole circuit.
"""

from __future__ import annotations

from typing import Any

WIDE_QUBITS = 12
"""Narrower circuits are not worth the rewriting, which costs 0.1 ms."""


def without_idle_qubits(pub: Any) -> Any:
    """Return an `EstimatorPub` with the same expectation values on those qubits only that matter.

    A qubit matters if an operation touches it, or if some observable has more than an identity on it.
    """
    circuit = pub.circuit
    if circuit.num_qubits <= WIDE_QUBITS or circuit.num_vars:
        return pub
    from qiskit.primitives.containers.estimator_pub import EstimatorPub
    from qiskit.primitives.containers.observables_array import ObservablesArray

    from prefect_runtime.local.programs.anatomy import active_qubits

    terms = pub.observables.ravel().tolist()
    labels = {label for term in terms for label in term}
    # A label's last character is qubit 0.
    named = {index for label in labels for index, one in enumerate(reversed(label)) if one != "I"}
    kept = sorted(active_qubits([circuit]) | named)
    if not 0 < len(kept) < circuit.num_qubits:
        return pub

    def short(label: str) -> str:
        return "".join(label[-1 - index] for index in reversed(kept))

    cut = [{short(label): weight for label, weight in term.items()} for term in terms]
    observables = ObservablesArray(cut, num_qubits=len(kept)).reshape(pub.observables.shape)
    return EstimatorPub(_narrowed(circuit, kept), observables, pub.parameter_values, pub.precision)


def _narrowed(circuit: Any, kept: list[int]) -> Any:
    from qiskit import QuantumCircuit

    narrow = QuantumCircuit(len(kept), metadata=circuit.metadata, global_phase=circuit.global_phase)
    narrow.add_bits(circuit.clbits)
    for register in circuit.cregs:
        narrow.add_register(register)
    place = {circuit.qubits[index]: narrow.qubits[new] for new, index in enumerate(kept)}
    for instruction in circuit.data:
        if instruction.operation.name == "barrier":
            continue
        narrow.append(instruction.operation, [place[qubit] for qubit in instruction.qubits], instruction.clbits)
    return narrow
