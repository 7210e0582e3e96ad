"""Results of the primitives where no Qiskit is installed: dicts, lists and NumPy arrays instead of Qiskit's containers.

A `PrimitiveResult` becomes ``{"pub_results": [...], "metadata": {...}}``, a PUB's result ``{"data": {...}, "metadata":
{...}}`` with the fields of its data by name, a `BitArray` ``{"array": ..., "num_bits": n}``: uint8, shape (..., shots,
bytes), the highest bits first. Imported by codec.py, and by people.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

PLAIN_REVIVERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "DataBin": lambda obj: dict(obj["__value__"]["fields"]),
    **dict.fromkeys(
        ("PrimitiveResult", "PubResult", "SamplerPubResult", "EstimatorPubResult", "BitArray"),
        lambda obj: dict(obj["__value__"]),
    ),
}
"""Decoders by tag; the argument is the whole tagged object. Circuits and operators stay as they came."""


def get_counts(bits: Mapping[str, Any], place: tuple[int, ...] = ()) -> dict[str, int]:
    """Return how often each string of bits was measured, as `BitArray.get_counts` of Qiskit does.

    Args:
        bits: A plain `BitArray`.
        place: Which set of parameter values, where there is more than one.
    """
    import numpy as np

    samples, times = np.unique(bits["array"][place], axis=-2, return_counts=True)
    width = bits["num_bits"]
    texts = [format(int.from_bytes(sample.tobytes(), "big"), f"0{width}b") for sample in samples]
    return dict(zip(texts, times.tolist(), strict=True))
