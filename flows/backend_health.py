"""Queue, status, calibration and a mirror circuit of each backend, kept over runs; drift is flagged.

python flows/backend_health.py
"""

from __future__ import annotations

from typing import Any, Literal  # noqa: F401

from prefect import flow


@flow(name="Backend health")
def backend_health(
    credentials: str = "local",
    backends: list[str] | None = None,
    qubits: int = 4,
    depth: int = 8,
    shots: int = 2000,
    false_alarms: float = 0.01,
) -> Any:
    """Queue, status, calibration and a mirror circuit of each backend, kept over runs; drift is flagged."""
    raise NotImplementedError


if __name__ == "__main__":
    backend_health()
