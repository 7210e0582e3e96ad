"""A hybrid loop as an uploaded program: the ground energy of the hydrogen molecule.

python flows/vqe.py
"""

from __future__ import annotations

from typing import Any, Literal  # noqa: F401

from prefect import flow


@flow(name="VQE")
def vqe(
    credentials: str = "local",
    backend: str | None = None,
    sweeps: int = 4,
    precision: float = 0.004,
    bound: float = 0.01,
) -> Any:
    """A hybrid loop as an uploaded program: the ground energy of the hydrogen molecule."""
    raise NotImplementedError


if __name__ == "__main__":
    vqe()
