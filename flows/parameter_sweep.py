"""A sweep of two angles: one job with a broadcast PUB, a batch, mapped over backends.

python flows/parameter_sweep.py
"""

from __future__ import annotations

from typing import Any, Literal  # noqa: F401

from prefect import flow


@flow(name="Parameter sweep")
def parameter_sweep(
    credentials: str = "local",
    backend: str | None = None,
    backends: list[str] | None = None,
    points: int = 9,
    precision: float = 0.02,
    task_runner: Literal["threads", "dask"] = "threads",
) -> Any:
    """A sweep of two angles: one job with a broadcast PUB, a batch, mapped over backends."""
    raise NotImplementedError


if __name__ == "__main__":
    parameter_sweep()
