"""What a job of a primitive will cost in seconds of a QPU, before it is sent, and whether the instance has them left.

The formula is IBM's baseline: ``overhead of a sub-job + (rep_delay + circuit length) * executions``, with a reset's
time added where qubits are initialised. It is an approximation, and a lower bound where error mitigation runs circuits
of its own. Qiskit is imported when PUBs are looked at, not before. Used by preparing.py and service.py.

Source: IBM Quantum documentation, "Workload usage" (https://quantum.cloud.ibm.com/docs/guides/estimate-job-run-time,
section "Estimate usage before submitting a job"), as of 2026.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import ConfigurationError, UsageLimitError

SUB_JOB_SECONDS = 2.0  # "approximately 2s per sub-job"
REP_DELAY_MICROSECONDS = 250.0  # "250 microseconds on most IBM Quantum backends"
CIRCUIT_SECONDS = 100e-6  # "likely between 50-100 microseconds"; with the delay, IBM's quick figure of 0.00035
ZNE_FACTORS = (1, 3, 5)  # ZneOptions.noise_factors, qiskit-ibm-runtime 0.51

_BASIS = {"Z": "Z", "0": "Z", "1": "Z", "X": "X", "+": "X", "-": "X", "Y": "Y", "r": "Y", "l": "Y"}


@dataclass(frozen=True, slots=True, kw_only=True)
class PubUsage:
    """What one PUB adds.

    Attributes:
        circuits: How many circuits it becomes: sets of parameter values, times bases to measure in.
        shots: How often each of them is run.
        circuit_seconds: Length of one.
        rep_delay_seconds: Pause after one.
        reset_seconds: Initialising the qubits for one.
        seconds: All of it.
    """

    circuits: int
    shots: int
    circuit_seconds: float
    rep_delay_seconds: float
    reset_seconds: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class UsageEstimate:
    """Seconds of a QPU that a job will take, and their parts.

    Attributes:
        backend: For which backend.
        seconds: All of it.
        overhead_seconds: Loading and setting up.
        pubs: What each PUB adds.
        lower_bound: True where something that the formula does not know adds to it.
        assumptions: What was taken for granted, in words.
    """

    backend: str
    seconds: float
    overhead_seconds: float
    pubs: tuple[PubUsage, ...]
    lower_bound: bool = False
    assumptions: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain data."""
        return asdict(self)


def estimate(pubs: Sequence[Any], options: Mapping[str, Any], backend: Backend) -> UsageEstimate:
    """Return what PUBs will take on a backend.

    Args:
        pubs: Qiskit's PUBs, their circuits in the backend's terms.
        options: The primitive's options, an estimator's resilience level among them.
        backend: Where they will run, with its documents.

    Raises:
        ConfigurationError: A precision of 0.
    """
    assumptions = ["one sub-job"]
    if backend.configuration is None or backend.configuration.get("simulator"):
        assumptions.append("as on a device: a simulator charges the time it takes")
    extra = _unknown_extra(options, estimator=any(hasattr(pub, "observables") for pub in pubs))
    delay, reset = _rep_delay(options, backend), _reset(options, backend)
    parts = []
    for number, pub in enumerate(pubs):
        length = _length(pub.circuit, backend)
        if length is None:
            length = CIRCUIT_SECONDS
            assumptions.append(
                f"pubs[{number}]: its circuit takes {CIRCUIT_SECONDS * 1e6:g} µs; durations are not known"
            )
        circuits, shots = _executions(pub, options, f"pubs[{number}]")
        circuits *= _noise_factors(options)
        seconds = (length + delay + reset) * circuits * shots
        parts.append(
            PubUsage(
                circuits=circuits,
                shots=shots,
                circuit_seconds=length,
                rep_delay_seconds=delay,
                reset_seconds=reset,
                seconds=seconds,
            )
        )
    return UsageEstimate(
        backend=backend.name,
        seconds=SUB_JOB_SECONDS + math.fsum(part.seconds for part in parts),
        overhead_seconds=SUB_JOB_SECONDS,
        pubs=tuple(parts),
        lower_bound=bool(extra),
        assumptions=(*assumptions, *extra),
    )


def _section(options: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = options.get(name)
    return section if isinstance(section, Mapping) else {}


def _rep_delay(options: Mapping[str, Any], backend: Backend) -> float:
    chosen = _section(options, "execution").get("rep_delay")
    if chosen is not None:
        return float(chosen)
    documented = (backend.configuration or {}).get("default_rep_delay")  # in microseconds
    return (REP_DELAY_MICROSECONDS if documented is None else float(documented)) * 1e-6


def _reset(options: Mapping[str, Any], backend: Backend) -> float:
    if _section(options, "execution").get("init_qubits") is False or backend.configuration is None:
        return 0.0
    known = dict(backend.target["reset"]) if "reset" in backend.target.operation_names else {}
    durations = [one.duration for one in known.values() if one is not None and one.duration is not None]
    return max(durations, default=0.0)


def _length(circuit: Any, backend: Backend) -> float | None:
    """Return how long a circuit takes in seconds; None if durations are missing, or decided while it runs."""
    from qiskit.exceptions import QiskitError

    if backend.configuration is None:
        return None
    try:
        return float(circuit.estimate_duration(backend.target))
    except (QiskitError, TypeError, ValueError, KeyError, AttributeError):
        return None


def _executions(pub: Any, options: Mapping[str, Any], place: str) -> tuple[int, int]:
    """Return how many circuits a PUB becomes, and how often each is run."""
    if not hasattr(pub, "observables"):
        return pub.parameter_values.size, pub.shots
    if pub.precision is None:
        return _measured_circuits(pub), options["default_shots"]
    if pub.precision == 0:
        raise ConfigurationError(f"{place}: a precision of 0 takes endless shots; give one that is more than 0.")
    return _measured_circuits(pub), math.ceil(1 / pub.precision**2)


def _measured_circuits(pub: Any) -> int:
    """Return how many circuits an estimator's PUB becomes: observables that share a basis are measured together."""
    import numpy as np

    observables = pub.observables.ravel()
    numbers = np.arange(observables.size).reshape(pub.observables.shape)
    sets = np.arange(pub.parameter_values.size).reshape(pub.parameter_values.shape)
    wanted: dict[int, set[int]] = {}
    for one, values in np.nditer(np.broadcast_arrays(numbers, sets), flags=["zerosize_ok"]):
        wanted.setdefault(int(values), set()).add(int(one))
    known: dict[frozenset[int], int] = {}
    total = 0
    for group in map(frozenset, wanted.values()):
        if group not in known:
            known[group] = _bases(label for number in sorted(group) for label in observables[number])
        total += known[group]
    return total


def _bases(labels: Iterable[str]) -> int:
    """Return in how many bases some Pauli labels can be measured, put together as they come (IBM's may need fewer)."""
    bases: list[dict[int, str]] = []
    for label in labels:
        wanted = {place: _BASIS[letter] for place, letter in enumerate(label) if letter != "I"}
        for basis in bases:
            if all(basis.get(place, letter) == letter for place, letter in wanted.items()):
                basis.update(wanted)
                break
        else:
            bases.append(wanted)
    return len(bases)


def _noise_factors(options: Mapping[str, Any]) -> int:
    resilience = _section(options, "resilience")
    if not resilience.get("zne_mitigation", options.get("resilience_level") == 2):
        return 1
    factors = _section(resilience, "zne").get("noise_factors")
    return len(ZNE_FACTORS if factors is None else factors)


def _unknown_extra(options: Mapping[str, Any], *, estimator: bool) -> list[str]:
    """Return what will add to the estimate, in words."""
    resilience = _section(options, "resilience")
    extra = []
    if resilience.get("pec_mitigation"):
        extra.append("not counted: learning the noise and sampling for probabilistic error cancellation")
    if resilience.get("layer_noise_learning") or _section(resilience, "zne").get("amplifier") == "pea":
        extra.append("not counted: learning the layers' noise")
    # IBM's default level is 1, which mitigates errors of the read-out.
    if estimator and resilience.get("measure_mitigation", options.get("resilience_level") != 0):
        extra.append("not counted: calibrating the read-out, which resilience levels 1 and 2 do")
    if _section(options, "dynamical_decoupling").get("enable"):
        extra.append("not counted: what dynamical decoupling inserts")
    return extra


def remaining_seconds(usage: Mapping[str, Any]) -> float | None:
    """Return what an instance has left of its seconds; None if it has no limit.

    Source: ``GET /instances/usage``, IBM's REST API 0.45.3.
    """
    if usage.get("usage_limit_reached") is True:
        return 0.0
    limit = usage.get("usage_limit_seconds") or usage.get("usage_allocation_seconds")
    if not isinstance(limit, int | float):
        return None
    consumed = usage.get("usage_consumed_seconds")
    return max(0.0, float(limit) - (float(consumed) if isinstance(consumed, int | float) else 0.0))


def check_left(usage: Mapping[str, Any], needed: float | None) -> None:
    """Refuse a job that would pass what its instance has left.

    Args:
        usage: Answer of ``GET /instances/usage``.
        needed: Seconds the job is estimated to take; None if nothing is known.

    Raises:
        UsageLimitError: It would; nothing was sent.
    """
    left = remaining_seconds(usage)
    if left is None or (left > 0 and (needed is None or needed <= left)):
        return
    wanted = "a job of unknown length" if needed is None else f"about {needed:.1f} s of QPU time"
    raise UsageLimitError(
        f"The instance has {left:.1f} s left and has used {usage.get('usage_consumed_seconds')} s; this request asks "
        f"for {wanted}. Nothing was sent. Ask for fewer shots, raise the instance's limit, or turn the guard off.",
        needed_seconds=needed,
        remaining_seconds=left,
    )
