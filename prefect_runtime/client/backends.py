"""Which backends an account has, and which of them a request is sent to. Used by service*.py and preparing.py."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from prefect_runtime.client.accounts import Account
from prefect_runtime.client.backend import Backend, BackendStatus
from prefect_runtime.wire.errors import BackendNotFoundError, ConfigurationError, ProtocolError, QiskitRuntimeError
from prefect_runtime.wire.fields import number_of, whole_number_of
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

T = TypeVar("T")

BACKEND_SECONDS = 300.0  # how long a backend's documents are good for; calibrations change daily
REPORT_SECONDS = 5.0  # for a look at a backend's state before a job: a courtesy, which must not hold the job up
LEAST_BUSY = "least_busy"
CLOSED_WORDS = frozenset({"paused", "offline", "maintenance"})  # a status of a backend that runs no jobs


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
            ProtocolError: IBM Quantum Platform has no configuration of it.
        """
        return self._cached(self._account.backends, name, self._fetch)

    def _cached(self, cache: dict[str, tuple[float, T]], name: str, fetch: Callable[[str], T]) -> T:
        """Return what is known of a backend, asked for again after five minutes."""
        clock = self._client.clock
        if name not in cache or clock.monotonic() - cache[name][0] > BACKEND_SECONDS:
            found = fetch(name)
            cache[name] = (clock.monotonic(), found)
        return cache[name][1]

    def _fetch(self, name: str) -> Backend:
        status = _from_page(self._client.backend(name, "status"))
        self._account.statuses[name] = (self._client.clock.monotonic(), status)
        configuration = self._page(name, "configuration")
        if configuration is None and self._client.credentials.channel == "ibm_quantum_platform":
            raise ProtocolError(
                f"backend: the server has no configuration of {name!r}, so circuits cannot be put into its terms. "
                "Nothing was sent. Try again later, or choose another backend."
            )
        has_properties = configuration is not None and not configuration.get("simulator")
        properties = self._page(name, "properties") if has_properties else None
        return Backend(name, status=status, configuration=configuration, properties=properties or None)

    def _page(self, name: str, page: str) -> Mapping[str, Any] | None:
        """Return a page on a backend; None where the server has no such page."""
        try:
            return self._client.backend(name, page)
        except BackendNotFoundError:
            return None

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
            status = self._status(name)
            if status is None or status.operational:
                return backend
            _log.info("backend %s takes no jobs now (%s); trying the next", name, status.message)
        backend = self.known(names[-1])
        self._report(backend.name)
        return backend

    def _status(self, name: str) -> BackendStatus | None:
        """Return how a backend is doing, asked for once in five minutes; None where that cannot be had."""
        if self._client.credentials.channel == "local":
            return None  # its simulators always run

        def ask(name: str) -> BackendStatus:
            return _from_page(self._client.backend(name, "status", seconds=REPORT_SECONDS))

        try:
            return self._cached(self._account.statuses, name, ask)
        except QiskitRuntimeError:
            return None  # what is wrong with the name or the line, the request itself will tell

    def _report(self, name: str) -> None:
        """Say before a job is sent that its backend takes none now: it would wait, and nobody know why."""
        status = self._status(name)
        if status is not None and not status.operational:
            _log.warning(
                "backend %s is not running jobs now (%s): a job sent to it waits until it does", name, status.message
            )

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
        channel = self._client.credentials.channel
        if isinstance(asked, str) and asked != LEAST_BUSY and channel != "local":
            if channel == "ibm_quantum_platform":  # a classic server may have no pages on backends at all
                self._report(asked)
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


def _from_page(page: Mapping[str, Any]) -> BackendStatus:
    """Read ``GET /backends/{name}/status`` (IBM's REST API 0.45.3)."""
    message = str(page.get("message") or page.get("status") or "")
    word = str(page.get("status") or "active").lower()
    return BackendStatus(
        operational=bool(page.get("state", True)) and word not in CLOSED_WORDS,
        message=message,
        pending_jobs=whole_number_of(page.get("length_queue")) or 0,
    )


def _wait_of(device: Mapping[str, Any]) -> float | None:
    waits = device.get("wait_time_seconds")
    return number_of(waits.get("average")) if isinstance(waits, Mapping) else None


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
            pending_jobs=whole_number_of(device.get("queue_length")) or 0,
            wait_seconds=_wait_of(device),
        ),
    )
