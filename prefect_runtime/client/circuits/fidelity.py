"""How well a backend would run circuits, judged by its calibration. Imported by choice.py only; needs Qiskit.

The estimate is the probability that no gate and no measurement errs: the product of ``1 - error`` over what is done, on
the very qubits it would be done on. Decay while qubits wait is left out, so it ranks backends; it predicts no result.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.circuits.isa import misfit
from prefect_runtime.client.circuits.target import pass_manager

LEVEL = 2  # of transpiling, as for a job whose caller does not say


def expected_fidelity(circuits: Sequence[Any], backend: Backend) -> float:
    """Return the probability that circuits all run without an error on a backend, as a job would run them: 0 to 1.

    Raises:
        ConfigurationError: The backend has no documents.
        Exception: Whatever Qiskit raises for a circuit that cannot be put into the backend's terms.
    """
    target = backend.target
    passes = pass_manager(backend.configuration or {}, backend.properties, LEVEL)
    fitted = [circuit if misfit(circuit, target) is None else passes.run(circuit) for circuit in circuits]
    return math.exp(sum(_log_fidelity(circuit, target) for circuit in fitted))


def _log_fidelity(circuit: Any, target: Any, physical: Sequence[int] | None = None) -> float:
    from qiskit.circuit import ControlFlowOp

    number = dict(zip(circuit.qubits, physical or range(circuit.num_qubits), strict=True))
    total = 0.0
    for instruction in circuit.data:
        qubits = tuple(number[qubit] for qubit in instruction.qubits)
        operation = instruction.operation
        if isinstance(operation, ControlFlowOp):  # the worst branch counts: nobody knows which is taken
            total += min((_log_fidelity(block, target, qubits) for block in operation.blocks), default=0.0)
            continue
        error = _error_of(operation.name, qubits, target)
        total += math.log1p(-error) if error < 1 else -math.inf
    return total


def _error_of(name: str, qubits: tuple[int, ...], target: Any) -> float:
    places = target.get(name)
    properties = places.get(qubits) if places else None
    return float(getattr(properties, "error", None) or 0.0)
