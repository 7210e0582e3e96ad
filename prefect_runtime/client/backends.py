"""Which backends an account has, and which of them a request is sent to. Used by service.py."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from prefect_runtime.client.accounts import Account
from prefect_runtime.client.backend import Backend, BackendStatus
from prefect_runtime.wire.errors import BackendNotFoundError, ConfigurationError

_log = logging.getLogger(__name__)

BACKEND_SECONDS = 300.0  # how long a backend's documents are good for; calibrations change daily
LEAST_BUSY = "least_busy"


class Backends:
    """The backends of one account."""

    def __init__(self, account: Account) -> None:
        self._account = account
        self._client = account.client

    def all(self) -> list[Backend]:
        """Return the backends the server lists, with their status, without configuration and target."""
        return [_from_list(device) for device in self._client.backends()]

    def get(self, name: str) -> Backend:
        """Return one backend with its documents, at most five minutes old.

        Raises:
            BackendNotFoundError: The server has none of that name.
        """
        clock = self._client.clock
        asked_at, backend = self._account.backends.get(name, (0.0, None))
        if backend is None or clock.monotonic() - asked_at > BACKEND_SECONDS:
            backend = self._fetch(name)
            self._account.backends[name] = (clock.monotonic(), backend)
        return backend

    def _fetch(self, name: str) -> Backend:
        status = self._client.backend(name, "status")
        try:
            configuration: Mapping[str, Any] | None = self._client.backend(name, "configuration")
            properties = None if (configuration or {}).get("simulator") else self._client.backend(name, "properties")
        except BackendNotFoundError:
            configuration = properties = None
        return Backend(
            name,
            status=BackendStatus(
                operational=bool(status.get("state", True)),
                message=str(status.get("message") or status.get("status") or ""),
                pending_jobs=int(status.get("length_queue") or 0),
            ),
            configuration=configuration,
            properties=properties or None,
        )

    def least_busy(self) -> Backend:
        """Return the operational backend with the shortest queue; of equal ones, the first the server lists.

        Raises:
            BackendNotFoundError: None is operational.
        """
        usable = [backend for backend in self.all() if backend.status and backend.status.operational]
        if not usable:
            raise BackendNotFoundError("No backend of this account takes jobs now.", status_code=404)
        return self.get(min(usable, key=_queue).name)

    def choose(self, asked: str | tuple[str, ...] | None) -> Backend:
        """Return the backend to run on, with its documents."""
        if asked == LEAST_BUSY:
            return self.least_busy()
        if asked is None:
            return self.known(self._default_name() or "")
        names = (asked,) if isinstance(asked, str) else asked
        for name in names[:-1]:
            backend = self.known(name)
            if backend.status is None or backend.status.operational:
                return backend
            _log.info("backend %s takes no jobs now (%s); trying the next", name, backend.status.message)
        return self.known(names[-1])

    def known(self, name: str) -> Backend:
        """Return a backend with its documents; a classic server may have no pages on backends at all."""
        if not name:
            return Backend("unknown")
        try:
            return self.get(name)
        except BackendNotFoundError as error:
            if self._client.credentials.channel == "classic":
                return Backend(name)
            names = ", ".join(backend.name for backend in self.all())
            raise BackendNotFoundError(
                f"backend: there is no {name!r} for this account; there are {names}. Nothing was sent.",
                status_code=error.status_code,
            ) from None

    def name_for(self, asked: str | tuple[str, ...] | None) -> str | None:
        """Return the backend's name for a program that needs nothing else of it: asks only if there is a choice."""
        if asked is None:
            return self._default_name()
        if isinstance(asked, str) and asked != LEAST_BUSY and self._client.credentials.channel != "local":
            return asked
        return self.choose(asked).name

    def _default_name(self) -> str | None:
        if self._client.credentials.channel == "local":
            if self._account.default_backend is None:
                self._account.default_backend = self.all()[0].name
            return self._account.default_backend
        raise ConfigurationError("backend: name one in the call, in the service or in the block, or say 'least_busy'.")


def _queue(backend: Backend) -> int:
    return backend.status.pending_jobs if backend.status else 0


def _from_list(device: Mapping[str, Any]) -> Backend:
    """Read one entry of the list of backends (IBM's REST API 0.45.3)."""
    raw = device.get("status")
    status: Mapping[str, Any] = raw if isinstance(raw, Mapping) else {}
    qubits = device.get("qubits") or device.get("n_qubits")
    return Backend(
        str(device.get("name") or device.get("backend_name") or ""),
        num_qubits=qubits if isinstance(qubits, int) else None,
        status=BackendStatus(
            operational=status.get("name", "online") == "online",
            message=str(status.get("reason") or ""),
            pending_jobs=int(device.get("queue_length") or 0),
        ),
    )
