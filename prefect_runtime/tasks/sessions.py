"""Sessions and batches in flows: plain context managers, for the body of a flow or of a task."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from prefect.logging import get_run_logger

from prefect_runtime import session_cards
from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.client import RuntimeService
from prefect_runtime.client.sessions import MODES, Mode, SessionDocument, check_max_ttl, open_session
from prefect_runtime.client.submission import now
from prefect_runtime.execution import current_execution
from prefect_runtime.memory import Memory
from prefect_runtime.pins import Pin, pin_key
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.session_cards import SESSION_PREFIX, account_of, open_or_find, taken_pin
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenSession:
    """An open session, in plain values that can be handed to any task.

    Attributes:
        session_id: What `run_program`, `run_sampler` and `run_estimator` take as ``session_id``.
        backend: What they take as ``backend``: the session's jobs must go there.
        mode: "dedicated" for a session, "batch" for a batch.
        max_ttl: Its time to live, in seconds; None for the runtime's own.
    """

    session_id: str
    backend: str | None
    mode: Mode
    max_ttl: float | None


@contextlib.contextmanager
def runtime_session(
    credentials: CredentialsLike, *, backend: str | Sequence[str] | None = None, max_ttl: float | None = None
) -> Iterator[OpenSession]:
    """Open a session for the time of a ``with``; leaving it closes it, and jobs in its queue still run.

    In a flow run it is on a card: a flow run that died in it finds it again when it is executed again, and `prefect-
    runtime reap` closes what was left open. Tasks that ask for equal ones have one each, and so have threads and
    coroutines. A session bills from its first job until it is closed.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        max_ttl: Its time to live, in seconds. Without one the log has a warning: a session that nobody closes is billed
            for hours.

    Raises:
        SessionUnknownError: The answer was lost: there may be a session, for `max_ttl`. It is not asked for again.
        ApiError: The runtime refused: there is none.
        ConnectFailedError: The runtime cannot be reached: there is none.

    Example:
        ```python
        with runtime_session("ibm", backend="ibm_x", max_ttl=600) as session:
            job_id = run_sampler("ibm", [circuit], session_id=session.session_id, backend=session.backend)
        ```
    """
    with _opened("dedicated", credentials, backend, max_ttl) as opened:
        yield opened


@contextlib.contextmanager
def runtime_batch(
    credentials: CredentialsLike, *, backend: str | Sequence[str] | None = None, max_ttl: float | None = None
) -> Iterator[OpenSession]:
    """Open a batch for the time of a ``with``: for jobs that are all there at once; see `runtime_session`."""
    with _opened("batch", credentials, backend, max_ttl) as opened:
        yield opened


@contextlib.contextmanager
def _opened(
    mode: Mode, credentials: CredentialsLike, backend: str | Sequence[str] | None, max_ttl: float | None
) -> Iterator[OpenSession]:
    life = check_max_ttl(max_ttl)
    with load_credentials(credentials).get_client() as service:
        pin, document, name = _open(service, mode, backend, life)
        try:
            yield OpenSession(
                session_id=document.id, backend=document.backend or name, mode=mode, max_ttl=document.max_ttl or life
            )
        finally:
            _close(service, document.id, pin)


def _open(
    service: RuntimeService, mode: Mode, backend: str | Sequence[str] | None, max_ttl: float | None
) -> tuple[Pin | None, SessionDocument, str | None]:
    with prefect_client() as client:
        execution = current_execution(client)
        if execution is None:
            name = service.backend_name(backend)
            return None, open_session(service.client, mode=mode, backend=name, max_ttl=max_ttl), name
        asked = backend if backend is None or isinstance(backend, str) else list(backend)
        key_of = functools.partial(pin_key, SESSION_PREFIX, execution.scope, account_of(service), mode, asked, max_ttl)
        with taken_pin(client, execution, key_of, Memory(service.memory)) as pin:
            name = pin.fields.get("backend") or service.backend_name(backend)
            document, was_there = open_or_find(
                service, pin, mode=mode, backend=name, max_ttl=max_ttl, execution=execution
            )
        said = "found on its card" if was_there else "opened"
        get_run_logger().info("%s %s: %s (on %s)", MODES[mode].capitalize(), document.id, said, name or "?")
        return pin, document, name


def _close(service: RuntimeService, session_id: str, pin: Pin | None) -> None:
    """Close a session; raises nothing, because what the body has done, or raised, counts more."""
    try:
        service.client.close_session(session_id)
    except QiskitRuntimeError as error:
        _log.warning("session %s: not closed, it ends after its time to live (%s)", session_id, error)
        return
    if pin is None:
        return
    try:
        session_cards.write(pin, {**pin.fields, "closed_at": now()})
    except Exception as error:  # noqa: BLE001 - Prefect's API; the session is closed, which is what counts
        _log.warning("session %s: its card still says open (%s)", session_id, type(error).__name__)
