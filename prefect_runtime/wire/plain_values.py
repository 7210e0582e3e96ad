"""Results of the primitives where no Qiskit is installed: dicts, lists and NumPy arrays instead of Qiskit's containers.

A `PrimitiveResult` becomes ``{"pub_results": [...], "metadata": {...}}``, a PUB's result ``{"data": {...}, "metadata":
{...}}`` with the fields of its data by name, a `BitArray` ``{"array": ..., "num_bits": n}``: uint8, shape (..., shots,
bytes), the highest bits first. Imported by codec.py, and by people.
"""

from __future__ import annotations

import math
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
        place: Which set of parameter values, where there is more than one; all of them together if left out.
    """
    return count_rows(bits["array"][place], bits["num_bits"])


def count_rows(samples: Any, width: int) -> dict[str, int]:
    """Return how often each string of bits is among samples.

    Args:
        samples: A NumPy array of uint8, shape (..., shots, bytes), the highest bits first.
        width: The number of bits.
    """
    import numpy as np

    if not width:  # a register of no bits
        shots = math.prod(samples.shape[:-1])
        return {"0": shots} if shots else {}
    # Each row as one opaque value: ten times quicker than np.unique by rows, and than counting texts.
    rows = np.ascontiguousarray(samples).reshape(-1, samples.shape[-1])
    samples, times = np.unique(rows.view(np.dtype((np.void, rows.shape[1]))).ravel(), return_counts=True)
    texts = [format(int.from_bytes(sample.tobytes(), "big"), f"0{width}b") for sample in samples]
    return dict(zip(texts, times.tolist(), strict=True))
