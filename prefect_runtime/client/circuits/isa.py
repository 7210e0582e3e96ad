"""Whether a backend can run a circuit as it stands, and if not, what is in the way. Imported within `client` only.

A job with a circuit that its backend cannot run fails after the queue, an hour later: so it is looked at before it is
sent. Qiskit is imported when a circuit is looked at, not before.

Source of the rules: `is_isa_circuit` and `is_valid_rzz_pub`, qiskit-ibm-runtime 0.51, utils.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

_EVERYWHERE = frozenset({"barrier", "store"})  # do nothing to a qubit, and no target lists them
_LOOP_JUMPS = frozenset({"break_loop", "continue_loop"})
_RZZ_SLACK = 1e-10  # rounding; a little more than pi/2 is only a little less accurate


def misfit(circuit: Any, target: Any) -> str | None:
    """Return the first thing in a circuit that the target cannot run, in words; None if it can run all of it.

    Each instruction has to be supported on its very qubits.
    """
    if target.num_qubits is not None and circuit.num_qubits > target.num_qubits:
        return f"it has {circuit.num_qubits} qubits, the backend has {target.num_qubits}"
    return _misfit(circuit, list(range(circuit.num_qubits)), target)


def _misfit(circuit: Any, physical: Sequence[int], target: Any) -> str | None:
    """Look at a circuit or a block of control flow, its qubits being these physical ones."""
    from qiskit.circuit import ControlFlowOp

    number = dict(zip(circuit.qubits, physical, strict=True))
    for instruction in circuit.data:
        operation = instruction.operation
        if operation.name in _EVERYWHERE:
            continue
        qubits = tuple(number[qubit] for qubit in instruction.qubits)
        if isinstance(operation, ControlFlowOp) or operation.name in _LOOP_JUMPS:
            if not target.instruction_supported(operation.name):
                return f"the backend has no {operation.name!r}"
            for block in getattr(operation, "blocks", ()):
                if found := _misfit(block, qubits, target):
                    return f"{found} (inside {operation.name!r})"
        elif not target.instruction_supported(operation.name, qubits, parameters=list(operation.params) or None):
            return _words(operation, qubits, target)
    return None


def _words(operation: Any, qubits: tuple[int, ...], target: Any) -> str:
    place = f"qubit {qubits[0]}" if len(qubits) == 1 else f"qubits {qubits}"
    if operation.name not in target.operation_names:
        return f"the backend has no gate {operation.name!r} (used on {place})"
    if target.instruction_supported(operation.name, qubits):
        return f"the backend has {operation.name!r} on {place}, but not with these parameters"
    return f"the backend has {operation.name!r}, but not on {place}"


def rzz_fault(circuit: Any, values: Any) -> str | None:
    """Return which ``rzz`` of a circuit turns by an angle that devices do not have, in words; None if none does.

    Args:
        circuit: The circuit.
        values: Parameter values, shape (…, number of parameters) in the order of ``circuit.parameters``.
    """
    for angle in _rzz_angles(circuit):
        for turned in _numbers(angle, circuit, values):
            if not 0 <= turned <= math.pi / 2 + _RZZ_SLACK:
                return f"'rzz' turns by {turned:.6g}, and devices have it from 0 to pi/2 only"
    return None


def _rzz_angles(circuit: Any) -> Iterator[Any]:
    from qiskit.circuit import ControlFlowOp

    for instruction in circuit.data:
        operation = instruction.operation
        if operation.name == "rzz":
            yield operation.params[0]
        elif isinstance(operation, ControlFlowOp):
            for block in operation.blocks:
                yield from _rzz_angles(block)


def _numbers(angle: Any, circuit: Any, values: Any) -> Iterator[float]:
    """Yield the numbers that an angle takes, once for each set of values; one that is known takes one."""
    wanted = getattr(angle, "parameters", ())
    if not wanted:
        yield float(angle)
        return
    columns = [index for index, parameter in enumerate(circuit.parameters) if parameter in wanted]
    names = [circuit.parameters[index] for index in columns]
    for row in values.reshape(-1, values.shape[-1])[:, columns]:
        bound: Mapping[Any, float] = dict(zip(names, row.tolist(), strict=True))
        yield float(angle.bind(bound, allow_unknown_parameters=True))


def is_dynamic(circuit: Any) -> bool:
    """Return True if a circuit has control flow: what happens may depend on a measurement in it."""
    from qiskit.circuit import ControlFlowOp

    return any(isinstance(instruction.operation, ControlFlowOp) for instruction in circuit.data)
