"""The program ``estimator``: expectation values of observables. Run by the embedded runtime in a process of its own."""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prefect_runtime.local.programs.inputs import read_options, read_pubs, read_seed

logger = logging.getLogger(__name__)

DEFAULT_PRECISION = 0.015625
"""Precision of a PUB that says none, 1/sqrt(4096). Source: `qiskit.primitives.BackendEstimatorV2`, Qiskit 2.6."""

_OPTIONS = ("default_precision", "default_shots", "seed", "simulator.seed_simulator")


def main(backend: Any, user_messenger: Any, *, pubs: Any, options: Mapping[str, Any] | None = None, **_: Any) -> Any:
    """Return a `PrimitiveResult` with one `PubResult` (``evs``, ``stds``) per PUB.

    Publishes ``{"pub": number, "pubs": count, "seconds": float}`` as each PUB is done. On an ideal backend the
    expectation values are computed, and scattered by the precision; on a noisy one they are measured.

    Args:
        backend: An `AerSimulator`.
        user_messenger: Streams interim results with ``publish(value)``.
        pubs: PUBs ``[circuit, observables, values or None, precision or None]``, possibly shorter; a circuit may be
            OpenQASM 3 text.
        options: ``default_precision`` (or ``default_shots``, of which it is one over the root), ``seed`` (or
            ``simulator.seed_simulator``); others are ignored with a warning.

    Raises:
        ValueError: No PUBs, or one that is not a PUB.
    """
    from qiskit.primitives.containers import PrimitiveResult
    from qiskit.primitives.containers.estimator_pub import EstimatorPub

    chosen = read_options(options, _OPTIONS, logger)
    precision, seed = _precision(chosen), read_seed(chosen)
    coerced = read_pubs(pubs, lambda parts: EstimatorPub.coerce(parts, precision))
    results = []
    for number, pub in enumerate(coerced):
        began = time.perf_counter()
        # Another seed for each PUB: equal PUBs must not get equal noise.
        estimator = _estimator(backend, None if seed is None else seed + number)
        results.append(estimator.run([pub]).result()[0])
        seconds = time.perf_counter() - began
        user_messenger.publish({"pub": number, "pubs": len(coerced), "seconds": seconds})
    return PrimitiveResult(results, metadata={"version": 2})


def _precision(options: Mapping[str, Any]) -> float:
    if "default_precision" not in options and "default_shots" in options:
        return 1 / math.sqrt(int(options["default_shots"]))
    return float(options.get("default_precision", DEFAULT_PRECISION))


@lru_cache(maxsize=8)
def _estimator(backend: Any, seed: int | None) -> Any:
    from qiskit.primitives import BackendEstimatorV2
    from qiskit_aer.primitives import EstimatorV2

    if backend.coupling_map is None:
        return EstimatorV2.from_backend(backend, options={"run_options": {"seed_simulator": seed}})
    # Aer's own EstimatorV2 would simulate every qubit an observable spans, idle or not: 127 on generic_127q.
    return BackendEstimatorV2(backend=backend, options={"seed_simulator": seed})
