"""What the embedded runtime says of its backends."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

from prefect_runtime.local import backends
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.store import Store


class BackendPages:
    """The backends' documents.

    Args:
        calibration: Which calibration the noisy backends have.
        store: Where the queue is.
        delays: Seconds that jobs of a backend stay in the queue at least.
    """

    def __init__(self, *, calibration: Calibration, store: Store, delays: Mapping[str, float]) -> None:
        self._store = store
        self._calibration = calibration
        self._delays = delays
        self._documents = lru_cache(maxsize=16)(lambda name, number: backends.describe(name, calibration=number))

    def devices(self, *, with_wait: bool = False) -> list[dict[str, Any]]:
        """Return the list of backends as ``GET /backends`` gives it (shape: IBM's REST API 0.45.3)."""
        pending = self._store.count_pending()
        return [
            {
                **({"wait_time_seconds": self._wait(spec.name, pending)} if with_wait else {}),
                "name": spec.name,
                "status": {"name": "online", "reason": "available"},
                "is_simulator": not spec.noisy,  # a noisy one has properties, which clients ask no simulator for
                "qubits": spec.num_qubits,
                "queue_length": pending,
            }
            for spec in backends.CATALOGUE
        ]

    def status(self, name: str) -> dict[str, Any]:
        """Return one backend's status."""
        self.check(name)
        return {
            "state": True,
            "status": "active",
            "message": "available",
            "length_queue": self._store.count_pending(),
            "backend_version": "1",
        }

    def page(self, name: str, kind: str) -> Any:
        """Return one backend's "configuration" or "properties" (None where it has none)."""
        self.check(name)
        return self._documents(name, self._calibration.number)[kind]

    def _wait(self, name: str, pending: int) -> dict[str, float]:
        """Return how long a new job will wait, in seconds: what was set to be waited, and what is before it."""
        seconds = self._delays.get(name, 0.0) + pending * self._store.mean_seconds()
        return {"average": seconds, "p50": seconds, "p95": 2 * seconds}

    def check(self, name: str) -> None:
        """Raise a `Refusal` if there is no such backend."""
        if all(spec.name != name for spec in backends.CATALOGUE):
            raise Refusal(404, 404, f"There is no backend {name!r} here.")
