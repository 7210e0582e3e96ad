"""The program ``sampler``: measured bits of circuits. Run by the embedded runtime in a process of its own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prefect_runtime.local.programs.empty import is_empty, no_samples
from prefect_runtime.local.programs.inputs import naming_pub, read_options, read_pubs, read_seed
from prefect_runtime.local.programs.registers import with_all_bits, with_own_bits
from prefect_runtime.wire.logs import get_logger

logger = get_logger(__name__)

DEFAULT_SHOTS = 4096
"""Shots of a PUB that says none. Source: `SamplerOptions.default_shots`, reference of qiskit-ibm-runtime 0.26."""

_OPTIONS = ("default_shots", "seed", "simulator.seed_simulator")


def main(backend: Any, user_messenger: Any, *, pubs: Any, options: Mapping[str, Any] | None = None, **_: Any) -> Any:
    """Return a `PrimitiveResult` with one `SamplerPubResult` per PUB.

    Publishes ``{"pub": number, "pubs": count, "seconds": float}`` as each PUB is done. A PUB's metadata says which of
    Aer's methods it was: ``metadata["simulator_metadata"]["method"]``.

    Args:
        backend: An `ExactSimulator`.
        user_messenger: Streams interim results with ``publish(value)``.
        pubs: PUBs ``[circuit, values or None, shots or None]``, possibly shorter; a circuit may be OpenQASM 3 text.
        options: ``default_shots``, ``seed`` (or ``simulator.seed_simulator``); others are ignored with a warning.

    Raises:
        ValueError: No PUBs, or one that is not a PUB.
        CannotSimulateError: One of them does not fit into the memory there is; nothing has run.
    """
    from qiskit.primitives.containers import PrimitiveResult
    from qiskit.primitives.containers.sampler_pub import SamplerPub

    chosen = read_options(options, _OPTIONS, logger)
    shots, seed = int(chosen.get("default_shots", DEFAULT_SHOTS)), read_seed(chosen)
    coerced = read_pubs(pubs, lambda parts: SamplerPub.coerce(parts, shots))
    for number, pub in enumerate(coerced):
        with naming_pub(number):  # all of them, before the first one takes its time
            backend.choose([pub.circuit], shots=pub.shots)
            backend.check_results([pub.circuit], shots=pub.shots * pub.parameter_values.size)
    results = []
    for number, pub in enumerate(coerced):
        began = time.perf_counter()
        with naming_pub(number):
            # Another seed for each PUB: equal PUBs must not get equal noise.
            seed_of_pub = None if seed is None else seed + number
            results.append(no_samples(pub) if is_empty(pub) else _run(_sampler(backend, seed_of_pub), pub))
        seconds = time.perf_counter() - began
        user_messenger.publish({"pub": number, "pubs": len(coerced), "seconds": seconds})
    return PrimitiveResult(results, metadata={"version": 2})


def _run(sampler: Any, pub: Any) -> Any:
    asked, every_bit = with_all_bits(pub)
    result = sampler.run([asked]).result()[0]
    return result if every_bit is None else with_own_bits(result, pub.circuit, every_bit)


@lru_cache(maxsize=8)
def _sampler(backend: Any, seed: int | None) -> Any:
    from qiskit_aer.primitives import SamplerV2

    return SamplerV2.from_backend(backend, seed=seed)
