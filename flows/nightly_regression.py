"""A set of circuits against stored expectations; fails on statistically significant drift.

python flows/nightly_regression.py
"""

from __future__ import annotations

from typing import Any, Literal  # noqa: F401

from prefect import flow


@flow(name="Nightly regression")
def nightly_regression(
    credentials: str = "local",
    backend: str | None = None,
    expectations: str | None = None,
    shots: int = 4000,
    false_alarms: float = 1e-6,
    record: bool = False,
) -> Any:
    """A set of circuits against stored expectations; fails on statistically significant drift."""
    raise NotImplementedError


if __name__ == "__main__":
    nightly_regression()
