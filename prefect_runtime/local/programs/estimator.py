"""The program ``estimator``: expectation values of observables. Run by the embedded runtime in a process of its own."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prefect_runtime.local.programs.empty import is_empty, no_estimates
from prefect_runtime.local.programs.idle import without_idle_qubits
from prefect_runtime.local.programs.inputs import naming_pub, read_options, read_pubs, read_seed
from prefect_runtime.local.programs.memory import CannotSimulateError
from prefect_runtime.wire.logs import get_logger

logger = get_logger(__name__)

DEFAULT_PRECISION = 0.015625
"""Precision of a PUB that says none, 1/sqrt(4096). Source: `qiskit.primitives.BackendEstimatorV2`, Qiskit 2.6."""

_OPTIONS = ("default_precision", "default_shots", "seed", "simulator.seed_simulator")


def main(backend: Any, user_messenger: Any, *, pubs: Any, options: Mapping[str, Any] | None = None, **_: Any) -> Any:
    """Return a `PrimitiveResult` with one `PubResult` (``evs``, ``stds``) per PUB.

    Publishes ``{"pub": number, "pubs": count, "seconds": float}`` as each PUB is done. A PUB's metadata says which of
    Aer's methods it was: ``metadata["simulator_metadata"]["method"]``. On an ideal backend the
    expectation values are computed, and scattered by the precision; on a noisy one they are measured. Of a circuit that
    measures, or resets a qubit in use, they are averages over as many runs as the precision takes.

    Args:
        backend: An `ExactSimulator`.
        user_messenger: Streams interim results with ``publish(value)``.
        pubs: PUBs ``[circuit, observables, values or None, precision or None]``, possibly shorter; a circuit may be
            OpenQASM 3 text.
        options: ``default_precision`` (or ``default_shots``, of which it is one over the root), ``seed`` (or
            ``simulator.seed_simulator``); others are ignored with a warning.

    Raises:
        ValueError: No PUBs, or one that is not a PUB.
        CannotSimulateError: One of them does not fit into the memory there is; nothing has run.
    """
    from qiskit.primitives.containers import PrimitiveResult
    from qiskit.primitives.containers.estimator_pub import EstimatorPub

    chosen = read_options(options, _OPTIONS, logger)
    precision, seed = _precision(chosen), read_seed(chosen)
    coerced = read_pubs(pubs, lambda parts: EstimatorPub.coerce(parts, precision))
    if _is_ideal(backend):
        coerced = [without_idle_qubits(pub) for pub in coerced]
    for number, pub in enumerate(coerced):
        with naming_pub(number):  # all of them, before the first one takes its time
            backend.choose([pub.circuit], shots=_shots(backend, pub))
    results = []
    for number, pub in enumerate(coerced):
        began = time.perf_counter()
        with naming_pub(number):
            # Another seed for each PUB: equal PUBs must not get equal noise.
            seed_of_pub = None if seed is None else seed + number
            result = no_estimates(pub) if is_empty(pub) else _run(backend, seed_of_pub, pub)
        result.metadata.setdefault("simulator_metadata", {})["method"] = "" if is_empty(pub) else backend.method_used
        results.append(result)
        seconds = time.perf_counter() - began
        user_messenger.publish({"pub": number, "pubs": len(coerced), "seconds": seconds})
    return PrimitiveResult(results, metadata={"version": 2})


def _precision(options: Mapping[str, Any]) -> float:
    if options.get("default_shots"):  # wins, as with IBM's client 0.51
        return 1 / math.sqrt(int(options["default_shots"]))
    return float(options.get("default_precision", DEFAULT_PRECISION))


def _shots(backend: Any, pub: Any) -> int:
    precision: float = pub.precision
    if _is_ideal(backend) and not _is_random(pub):
        return 1
    if not 1e-100 < precision < math.inf:
        why = "a circuit that measures or resets is averaged" if _is_ideal(backend) else "a noisy backend measures"
        raise CannotSimulateError(f"{why}: a precision of {precision:g} takes no number of shots.")
    return math.ceil(1 / precision**2)


def _run(backend: Any, seed: int | None, pub: Any) -> Any:
    if not _is_ideal(backend):
        return _measuring(backend, seed).run([pub]).result()[0]
    computing = _computing(backend, seed, _shots(backend, pub))
    return _averaged(computing, pub) if _is_random(pub) else computing.run([pub]).result()[0]


def _averaged(computing: Any, pub: Any) -> Any:
    """Return the `PubResult` of a circuit whose runs differ; ``stds`` are the most that this can amount to."""
    import numpy as np
    from qiskit.primitives.containers import DataBin, PubResult
    from qiskit.primitives.containers.estimator_pub import EstimatorPub

    # Not scattered as well: the runs do that.
    result = computing.run([EstimatorPub(pub.circuit, pub.observables, pub.parameter_values, 0.0)]).result()[0]
    sizes = [
        sum(abs(weight) for label, weight in terms.items() if label.strip("I"))
        for terms in pub.observables.ravel().tolist()
    ]
    stds = np.broadcast_to(pub.precision * np.reshape(sizes, pub.observables.shape), pub.shape).copy()
    data = DataBin(evs=result.data.evs, stds=stds, shape=pub.shape)
    return PubResult(data, metadata={**result.metadata, "target_precision": pub.precision})


def _is_random(pub: Any) -> bool:
    from prefect_runtime.local.programs.anatomy import is_random

    return is_random(pub.circuit)


def _is_ideal(backend: Any) -> bool:
    return backend.coupling_map is None


@lru_cache(maxsize=8)
def _computing(backend: Any, seed: int | None, shots: int) -> Any:
    from qiskit_aer.primitives import EstimatorV2

    return EstimatorV2.from_backend(backend, options={"run_options": {"seed_simulator": seed, "shots": shots}})


@lru_cache(maxsize=8)
def _measuring(backend: Any, seed: int | None) -> Any:
    from qiskit.primitives import BackendEstimatorV2

    # Aer's own EstimatorV2 would simulate every qubit an observable spans, idle or not: 127 on generic_127q.
    return BackendEstimatorV2(backend=backend, options={"seed_simulator": seed})
