"""What a circuit is made of, as far as it decides how to simulate it. Loads Qiskit."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp, ParameterExpression

# What Aer's stabilizer method takes; "rz" only by quarter turns. Source: BASIS_GATES in qiskit_aer 0.18, backend_utils.
_CLIFFORD = frozenset(
    {"cx", "cy", "cz", "ecr", "h", "id", "pauli", "s", "sdg", "swap", "sx", "sxdg", "x", "y", "z"}
)  # fmt: skip

NO_GATES = frozenset({"measure", "reset", "delay", "barrier", "store", "break_loop", "continue_loop"})
"""Operations that every method takes, and that entangle nothing."""

_SAVES = "save_"
"""How the names of Aer's own instructions begin that read a state and leave it as it is."""


@dataclass(frozen=True, slots=True)
class Gate:
    """One operation on some of a circuit's active qubits, which are counted from 0."""

    name: str
    qubits: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Anatomy:
    """What decides how a circuit is simulated.

    Attributes:
        qubits: How many qubits something is done to.
        gates: The gates, in their order; those inside of control flow are in `branches`.
        branches: Gates inside of loops and conditions, which happen never, once or many times.
        clifford: True when all of them are Clifford gates, whose states have a short description at any width.
        samples: True when one run of the gates serves every shot: nothing follows a measurement.
    """

    qubits: int
    gates: Sequence[Gate]
    branches: Sequence[Gate]
    clifford: bool
    samples: bool

    @property
    def names(self) -> frozenset[str]:
        """Names of all gates."""
        return frozenset(gate.name for gate in (*self.gates, *self.branches))


def active_qubits(circuits: Iterable[QuantumCircuit]) -> set[int]:
    """Return the numbers of the qubits that something is done to in any of some circuits."""
    active: set[int] = set()
    for circuit in circuits:
        number = {qubit: index for index, qubit in enumerate(circuit.qubits)}
        for instruction in circuit.data:
            if instruction.operation.name != "barrier":
                active.update(number[qubit] for qubit in instruction.qubits)
    return active


def is_random(circuit: QuantumCircuit) -> bool:
    """Return whether two runs of a circuit may end in different states: it measures, or resets a qubit in use."""
    used: set[Any] = set()
    for instruction in circuit.data:
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp):
            names = {inner.name for inner, _ in _flat(operation, tuple(range(operation.num_qubits)))}
            if not names.isdisjoint(("measure", "reset")):
                return True
        if operation.name == "measure" or (operation.name == "reset" and not used.isdisjoint(instruction.qubits)):
            return True
        if operation.name not in ("barrier", "delay", "reset"):
            used.update(instruction.qubits)
    return False


def anatomy(circuit: QuantumCircuit) -> Anatomy:
    """Take a circuit apart. Costs about 2 µs a gate."""
    place = {number: index for index, number in enumerate(sorted(active_qubits([circuit])))}
    number = {qubit: place.get(index, 0) for index, qubit in enumerate(circuit.qubits)}
    gates, branches = list[Gate](), list[Gate]()
    measured: set[int] = set()
    clifford = samples = True
    for instruction in circuit.data:
        operation, qubits = instruction.operation, tuple(number[qubit] for qubit in instruction.qubits)
        if operation.name == "barrier" or operation.name.startswith(_SAVES):
            continue
        if not measured.isdisjoint(qubits) or operation.name == "reset" or isinstance(operation, ControlFlowOp):
            samples = samples and operation.name in ("measure", "delay")
        if operation.name == "measure":
            measured.update(qubits)
        for inner, at in _flat(operation, qubits):
            if inner.name in NO_GATES:
                continue
            clifford = clifford and _is_clifford(inner)
            (gates if inner is operation else branches).append(Gate(inner.name, at))
    return Anatomy(qubits=len(place), gates=gates, branches=branches, clifford=clifford, samples=samples)


def _flat(operation: Any, qubits: tuple[int, ...]) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """Yield an operation, or those inside of it when it is control flow, with the qubits they act on."""
    if not isinstance(operation, ControlFlowOp):
        yield operation, qubits
        return
    for block in operation.blocks:
        number = dict(zip(block.qubits, qubits, strict=True))
        for instruction in block.data:
            yield from _flat(instruction.operation, tuple(number[qubit] for qubit in instruction.qubits))


def _is_clifford(operation: Any) -> bool:
    if operation.name in _CLIFFORD:
        return True
    if operation.name != "rz" or isinstance(operation.params[0], ParameterExpression):
        return False
    quarters = float(operation.params[0]) * 2 / math.pi
    return abs(quarters - round(quarters)) <= 2.3e-16 * max(1.0, abs(quarters))  # Aer's own tolerance
