"""What would be sent, without sending it: for people and for checks before a night of jobs. Used by service.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_runtime.client.request import Prepared, Request
from prefect_runtime.client.usage import UsageEstimate


def preview(
    request: Request, prepared: Prepared, estimated: UsageEstimate | None, remaining: float | None
) -> dict[str, Any]:
    """Return a request in plain data: sizes and numbers, none of its circuits and values.

    Args:
        request: As asked for.
        prepared: As it would be sent.
        estimated: What it will take; None where that is not known (programs of one's own, workers without Qiskit).
        remaining: Seconds that the instance has left; None where there is no limit.
    """
    return {
        "program_id": request.program_id,
        "backend": prepared.backend,
        "options": dict(request.others),
        "tags": list(request.tags),
        "transpiled": prepared.notes.get("transpiled"),
        "params_bytes": len(prepared.params),
        "pubs": [_describe(pub) for pub in prepared.pubs],
        "usage": None if estimated is None else estimated.to_dict(),
        "remaining_seconds": remaining,
    }


def _describe(pub: Any) -> dict[str, Any]:
    circuit = pub.circuit
    described: dict[str, Any] = {
        "qubits": circuit.num_qubits,
        "depth": circuit.depth(),
        "gates": dict(_gates(circuit)),
        "parameters": circuit.num_parameters,
        "shape": list(pub.shape),
    }
    if hasattr(pub, "observables"):
        return {**described, "observables": pub.observables.size, "precision": pub.precision}
    return {**described, "shots": pub.shots}


def _gates(circuit: Any) -> Mapping[str, int]:
    counts: Mapping[str, int] = circuit.count_ops()
    return counts
