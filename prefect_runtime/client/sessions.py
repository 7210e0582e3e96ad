"""Sessions and batches: jobs that belong together, under one time to live -> `RuntimeSession`.

Used by service.py, and on Prefect's side. A session bills by the clock until it is closed, so a time to live is asked
for, and leaving the ``with`` closes it, however it is left. Nothing names a session before its id is known: an answer
that was lost cannot be looked for, and is never asked for again.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Self

from prefect_runtime.client.request import whole
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, RetryPolicy, check_seconds
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConfigurationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    SessionUnknownError,
)
from prefect_runtime.wire.logs import get_logger

if TYPE_CHECKING:
    from prefect_runtime.client.job import RuntimeJob
    from prefect_runtime.client.service import RuntimeService

_log = get_logger(__name__)

Mode = Literal["dedicated", "batch"]
MODES: Mapping[str, str] = {"dedicated": "session", "batch": "batch"}
_NOT_TAKEN = RetryPolicy(attempts=6, first=0.5, cap=8.0, on=(ConnectFailedError, RateLimitedError))


@dataclass(frozen=True, slots=True, kw_only=True)
class SessionDocument:
    """What a server says of a session (schema JobSession, IBM's REST API 0.45.3).

    Attributes:
        id: The session's id.
        state: "open", "active", "inactive" or "closed".
        accepting_jobs: False once it takes no more.
        mode: "dedicated" or "batch"; empty if the server does not say.
        backend: Where its jobs run; empty if the server does not say.
        max_ttl: Time to live in seconds, from its start.
        active_ttl: What is left of it, in seconds.
    """

    id: str
    state: str = ""
    accepting_jobs: bool = True
    mode: str = ""
    backend: str = ""
    max_ttl: float | None = None
    active_ttl: float | None = None

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> SessionDocument:
        """Read one; what is missing is not known.

        Raises:
            ProtocolError: No id in it.
        """
        if not isinstance(document.get("id"), str):
            raise ProtocolError("A session document without an id came from the server.")
        state = str(document.get("state") or "")
        accepting = document.get("accepting_jobs")
        return cls(
            id=document["id"],
            state=state,
            accepting_jobs=state != "closed" if accepting is None else bool(accepting),
            mode=str(document.get("mode") or ""),
            backend=str(document.get("backend_name") or document.get("backend") or ""),
            max_ttl=_number(document.get("max_ttl")),
            active_ttl=_number(document.get("active_ttl")),
        )


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def check_max_ttl(max_ttl: float | None) -> float | None:
    """Return a time to live, in seconds; a missing one is warned about.

    Raises:
        ConfigurationError: It is none.
    """
    check_seconds("max_ttl", max_ttl)
    if max_ttl is None:
        _log.warning(
            "max_ttl: not given. Should this process die, the session stays open, and is billed, for as long as the "
            "server lets it, which is hours"
        )
        return None
    if max_ttl == 0:
        raise ConfigurationError("max_ttl: must be more than 0 seconds.")
    return whole(max_ttl)


def open_session(client: RuntimeClient, *, mode: Mode, backend: str | None, max_ttl: float | None) -> SessionDocument:
    """Open a session and return its document.

    Raises:
        SessionUnknownError: The answer was lost: there may be one now. Not asked for again.
        ApiError: The server refused: there is none.
        ConnectFailedError: The server cannot be reached: there is none.
    """
    try:
        document = _NOT_TAKEN.run(
            lambda: client.open_session(mode=mode, backend=backend, max_ttl=max_ttl),
            Deadline(client.request_timeout, client.clock),
        )
    except (AnswerLostError, ServerError, ProtocolError) as error:
        raise unknown(mode, max_ttl, f"{error}") from None
    return SessionDocument.parse(document)


def unknown(mode: str, max_ttl: float | None, why: str) -> SessionUnknownError:
    """Return the error for a session of which nobody knows whether it is there."""
    life = f"{max_ttl:g} s" if max_ttl is not None else "the server's own time to live (hours)"
    return SessionUnknownError(
        f"It is not known whether a {MODES.get(mode, mode)} was opened. It was not asked for again, because nothing "
        f"could tell the first from the second. If there is one, it ends by itself after {life}; until then it can be "
        f"closed with the provider's tools. {why}",
        max_ttl=max_ttl,
    )


class RuntimeSession:
    """A session, or a batch, to be used as a context manager: leaving it closes it.

    Jobs that are in its queue when it is closed still run.

    Args:
        service: The account.
        document: What the server said when it was opened.
        mode: "dedicated" or "batch".
        backend: Where its jobs run.
    """

    def __init__(self, service: RuntimeService, document: SessionDocument, *, mode: Mode, backend: str | None) -> None:
        self._service = service
        self.session_id = document.id
        self.mode = mode
        self.backend = document.backend or backend
        self.max_ttl = document.max_ttl

    def __repr__(self) -> str:
        return f"<RuntimeSession {self.session_id!r} ({MODES[self.mode]}) on {self.backend!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            self.close()
        except QiskitRuntimeError as failure:
            # What the body has done, or raised, counts more; the session ends by itself.
            _log.warning("session %s: not closed, it ends after its time to live (%s)", self.session_id, failure)

    def run(self, program_id: str, inputs: Mapping[str, Any], **options: Any) -> RuntimeJob:
        """Run a program in the session and return its job; see `RuntimeService.run`."""
        options.setdefault("backend", self.backend)
        return self._service.run(program_id, inputs, session_id=self.session_id, **options)

    def details(self) -> SessionDocument:
        """Return what the server says of the session now."""
        return SessionDocument.parse(self._service.client.session(self.session_id))

    def close(self) -> None:
        """Take no more jobs; those in the queue still run. Harmless when it is closed."""
        self._service.client.close_session(self.session_id)

    def cancel(self) -> None:
        """Close the session and cancel what is in its queue; what runs goes on."""
        self._service.client.cancel_session(self.session_id)
