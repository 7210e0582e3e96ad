"""Results of PUBs whose parameter values or observables have no element: nothing runs. Only programs import this.

Qiskit's reference primitives return empty arrays. Aer's process crashes on some of these PUBs, and fails with others.
"""

from __future__ import annotations

from typing import Any


def is_empty(pub: Any) -> bool:
    """Return whether there is nothing to run."""
    return 0 in pub.shape


def no_samples(pub: Any) -> Any:
    """Return the `SamplerPubResult` of an empty `SamplerPub`."""
    import numpy as np
    from qiskit.primitives.containers import BitArray, DataBin, SamplerPubResult

    def none(bits: int) -> Any:
        return BitArray(np.zeros((*pub.shape, pub.shots, (bits + 7) // 8), dtype=np.uint8), bits)

    data = DataBin(**{register.name: none(register.size) for register in pub.circuit.cregs}, shape=pub.shape)
    return SamplerPubResult(data, metadata={"shots": pub.shots, "circuit_metadata": pub.circuit.metadata})


def no_estimates(pub: Any) -> Any:
    """Return the `PubResult` of an empty `EstimatorPub`."""
    import numpy as np
    from qiskit.primitives.containers import DataBin, PubResult

    data = DataBin(evs=np.zeros(pub.shape), stds=np.zeros(pub.shape), shape=pub.shape)
    return PubResult(data, metadata={"target_precision": pub.precision, "circuit_metadata": pub.circuit.metadata})
