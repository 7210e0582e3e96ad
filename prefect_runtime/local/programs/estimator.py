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
    expectation values are computed, and scattered by the precision; on a noisy one they are measured.

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
            backend.choose([pub.circuit], shots=_shots(backend, pub.precision))
    results = []
    for number, pub in enumerate(coerced):
        began = time.perf_counter()
        # Another seed for each PUB: equal PUBs must not get equal noise.
        estimator = _estimator(backend, None if seed is None else seed + number)
        with naming_pub(number):
            result = no_estimates(pub) if is_empty(pub) else estimator.run([pub]).result()[0]
        result.metadata.setdefault("simulator_metadata", {})["method"] = "" if is_empty(pub) else backend.method_used
        results.append(result)
        seconds = time.perf_counter() - began
        user_messenger.publish({"pub": number, "pubs": len(coerced), "seconds": seconds})
    return PrimitiveResult(results, metadata={"version": 2})


def _precision(options: Mapping[str, Any]) -> float:
    if options.get("default_shots"):  # wins, as with IBM's client 0.51
        return 1 / math.sqrt(int(options["default_shots"]))
    return float(options.get("default_precision", DEFAULT_PRECISION))


def _shots(backend: Any, precision: float) -> int:
    if _is_ideal(backend):
        return 1
    if not 1e-100 < precision < math.inf:
        raise CannotSimulateError(f"a noisy backend measures: a precision of {precision:g} takes no number of shots.")
    return math.ceil(1 / precision**2)


def _is_ideal(backend: Any) -> bool:
    return backend.coupling_map is None


@lru_cache(maxsize=8)
def _estimator(backend: Any, seed: int | None) -> Any:
    from qiskit.primitives import BackendEstimatorV2
    from qiskit_aer.primitives import EstimatorV2

    if _is_ideal(backend):
        return EstimatorV2.from_backend(backend, options={"run_options": {"seed_simulator": seed}})
    # Aer's own EstimatorV2 would simulate every qubit an observable spans, idle or not: 127 on generic_127q.
    return BackendEstimatorV2(backend=backend, options={"seed_simulator": seed})
