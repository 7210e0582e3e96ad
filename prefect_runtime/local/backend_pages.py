"""What the embedded runtime says of its backends."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from prefect_runtime.local import backends
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.store import Store


class BackendPages:
    """The backends' documents.

    Args:
        calibration: Seed of the noisy backends' calibration numbers.
        store: Where the queue is.
    """

    def __init__(self, *, calibration: int, store: Store) -> None:
        self._store = store
        self._documents = lru_cache(lambda name: backends.describe(name, calibration=calibration))

    def devices(self) -> list[dict[str, Any]]:
        """Return the list of backends as ``GET /backends`` gives it (shape: IBM's REST API 0.45.3)."""
        pending = self._store.count_pending()
        return [
            {
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
        self._check(name)
        return {
            "state": True,
            "status": "active",
            "message": "available",
            "length_queue": self._store.count_pending(),
            "backend_version": "1",
        }

    def page(self, name: str, kind: str) -> Any:
        """Return one backend's "configuration" or "properties" (None where it has none)."""
        self._check(name)
        return self._documents(name)[kind]

    def _check(self, name: str) -> None:
        if all(spec.name != name for spec in backends.CATALOGUE):
            raise Refusal(404, 404, f"There is no backend {name!r} here.")
