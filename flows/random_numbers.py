"""A data pipeline: random bits, health tests, a Parquet file.

python flows/random_numbers.py
"""

from __future__ import annotations

from typing import Any, Literal  # noqa: F401

from prefect import flow


@flow(name="Random numbers")
def random_numbers(
    credentials: str = "local",
    backend: str | None = None,
    qubits: int = 8,
    shots: int = 8192,
    folder: str = "random-numbers",
    min_entropy: float = 0.9,
) -> Any:
    """A data pipeline: random bits, health tests, a Parquet file."""
    raise NotImplementedError


if __name__ == "__main__":
    random_numbers()
