"""Session cards: which session a flow run has open, so that it finds it again, and others can close it.

Used by tasks, hooks and the command line. Written before a session is asked for, completed with its id, and with the
moment of its end. A card with an intent and no id says that nobody knows: see `SessionUnknownError`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from prefect_runtime.card_writer import patch_card, remove_claims
from prefect_runtime.cards import record_of
from prefect_runtime.claims import Claims
from prefect_runtime.client import RuntimeService
from prefect_runtime.client.sessions import MODES, Mode, SessionDocument, open_session, unknown
from prefect_runtime.client.submission import now
from prefect_runtime.execution import Execution
from prefect_runtime.memory import Memory
from prefect_runtime.pins import Pin, as_table, moment, pin_key
from prefect_runtime.wire.errors import QiskitRuntimeError, SessionNotFoundError, SessionUnknownError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

SESSION_PREFIX = "prts1-"
LONGEST_TTL = 28_800.0  # seconds; IBM's documentation, "Session max time": 8 hours where none was given


def account_of(service: RuntimeService) -> str:
    """Return what tells one account from another on a card: a hash, and nothing of the account itself."""
    credentials = service.credentials
    return pin_key("", credentials.channel, credentials.url, credentials.instance)


@contextlib.contextmanager
def taken_pin(
    client: SyncPrefectClient, execution: Execution, key_of: Callable[[int], str], memory: Memory
) -> Iterator[Pin]:
    """Give the first card that nobody else in this execution has; nobody else is given it meanwhile.

    Who shared another's session would lose it as soon as that one has left it. Several of the same kind, one after the
    other, are several sessions; but where the body raises, the next who asks is given the same card.

    Args:
        client: Prefect's API.
        execution: Where we are.
        key_of: Gives the key of the card with a number.
        memory: What this process knows of the numbers that are taken.
    """
    number = memory.first_free(execution.chain, key_of(0))
    while (taken := _take(client, execution, key_of(number), memory)) is None:
        number += 1
    pin, claims = taken
    try:
        yield pin
        memory.took(execution.chain, key_of(0), number)
    except BaseException:
        memory.release(execution.claim, pin.key)
        raise
    finally:
        try:
            remove_claims(client, claims.held)
        except Exception as error:  # noqa: BLE001 - Prefect's API; the card speaks, and `reap` removes it
            _log.warning("session card %s: its claim could not be removed (%s)", pin.key, type(error).__name__)


def _take(client: SyncPrefectClient, execution: Execution, key: str, memory: Memory) -> tuple[Pin, Claims] | None:
    """Return a card, claimed, if nobody else has it.

    A claim tells tasks from one another. The body of a flow, or of a task, may ask in several threads or coroutines.
    """
    if not memory.reserve(execution.claim, key):
        return None
    taken = None
    try:
        claims = Claims(execution)
        while (rival := claims.take(client, key)) is not None:
            if rival:
                return None
        pin = Pin(client, execution, key)
        if not pin.fields.get("claim") or execution.is_mine_or_free(pin.fields["claim"]):
            taken = pin, claims
        else:
            remove_claims(client, claims.held)
        return taken
    finally:
        if taken is None:
            memory.release(execution.claim, key)


def open_or_find(
    service: RuntimeService, pin: Pin, *, mode: Mode, backend: str | None, max_ttl: float | None, execution: Execution
) -> tuple[SessionDocument, bool]:
    """Return the session of a card, and whether it was there before: opened now if the card has none that takes jobs.

    Args:
        service: The account.
        pin: The session's card.
        mode: "dedicated" or "batch".
        backend: Where its jobs run, by name.
        max_ttl: Its time to live, in seconds.
        execution: Where we are.

    Raises:
        SessionUnknownError: The answer was lost, now or in an earlier execution. Not asked for again.
        QiskitRuntimeError: The server refused, or cannot be reached; there is none.
    """
    known = _known(service, pin.fields)
    if known is not None:
        write(pin, {**pin.fields, "claim": execution.claim})
        return known, True
    fields = {
        "mode": mode,
        "backend": backend or "",
        "max_ttl": "" if max_ttl is None else f"{max_ttl:g}",
        "account": account_of(service),
        "root_run": execution.root_run_id,
        "claim": execution.claim,
        "intended_at": now(),
    }
    write(pin, fields)
    try:
        document = open_session(service.client, mode=mode, backend=backend, max_ttl=max_ttl)
    except SessionUnknownError:
        raise
    except QiskitRuntimeError:
        write(pin, {**fields, "intended_at": ""})  # provably none
        raise
    try:
        write(pin, {**fields, "session_id": document.id})
    except Exception:
        _close_unwritten(service, document.id)
        raise
    return document, False


def _close_unwritten(service: RuntimeService, session_id: str) -> None:
    """Close a session whose id could not be written down: nobody would find it again, and it costs until it is over."""
    try:
        service.client.close_session(session_id)
    except QiskitRuntimeError as error:
        _log.warning("session %s: open, and on no card: close it by hand (%s)", session_id, error)


def _known(service: RuntimeService, fields: dict[str, str]) -> SessionDocument | None:
    """Return the session that a card from an earlier execution tells of, if it still takes jobs."""
    if fields.get("closed_at") or not fields.get("intended_at"):
        return None
    if not fields.get("session_id"):
        ttl = float(fields["max_ttl"]) if fields.get("max_ttl") else None
        intended = parse_time(fields["intended_at"]) or datetime.now(UTC)
        over = intended + timedelta(seconds=ttl or LONGEST_TTL)
        if datetime.now(UTC) > over:
            return None
        raise unknown(
            fields.get("mode", ""),
            ttl,
            "That was in an earlier execution of this flow run, or earlier in this one; it is over at "
            f"{over:%F %T} UTC at the latest.",
        )
    try:
        document = SessionDocument.parse(service.client.session(fields["session_id"]))
    except SessionNotFoundError:
        return None
    return document if document.accepting_jobs else None


def write(pin: Pin, fields: dict[str, str]) -> None:
    """Write a session's card."""
    word = MODES.get(fields.get("mode", ""), "session")
    pin.write(fields, _markdown(fields), f"Card of a {word}")


def _markdown(fields: dict[str, str]) -> str:
    if fields.get("closed_at"):
        state = "closed"
    elif fields.get("session_id"):
        state = "open"
    else:
        state = "asked for" if fields.get("intended_at") else "not opened"
    rows = {
        "Session": f"`{fields['session_id']}`" if fields.get("session_id") else "",
        "State": state,
        "Backend": fields.get("backend", ""),
        "Time to live": f"{fields['max_ttl']} s" if fields.get("max_ttl") else "the server's own",
        "Asked for": moment(fields.get("intended_at", "")),
        "Closed": moment(fields.get("closed_at", "")),
    }
    title = MODES.get(fields.get("mode", ""), "session").capitalize()
    return as_table(f"{title} on {fields.get('backend') or 'a backend of the runtime'}", rows)


def open_sessions(
    prefect: SyncPrefectClient, service: RuntimeService, *, flow_run_ids: list[UUID] | None = None
) -> Iterator[Artifact]:
    """Give the cards of an account's sessions that are not closed, of some flow runs or of all."""
    wanted = ArtifactFilter(
        key=ArtifactFilterKey(like_=f"{SESSION_PREFIX}%"),
        flow_run_id=ArtifactFilterFlowRunId(any_=flow_run_ids) if flow_run_ids else None,
    )
    offset = 0
    while page := prefect.read_artifacts(artifact_filter=wanted, limit=200, offset=offset):
        for card in page:
            fields = record_of(card)
            if fields.get("session_id") and not fields.get("closed_at") and fields["account"] == account_of(service):
                yield card
        offset += len(page)


def close_left(prefect: SyncPrefectClient, service: RuntimeService, card: Artifact) -> str:
    """Close the session of a card that nobody will close any more; return its id. Closed before, or gone: fine too.

    Raises:
        QiskitRuntimeError: The server could not be asked, or refused.
    """
    fields = record_of(card)
    try:
        service.client.close_session(fields["session_id"])
    except SessionNotFoundError:
        _log.info("session %s: not there any more", fields["session_id"])
    fields["closed_at"] = now()
    try:
        patch_card(prefect, card.id, {"data": _markdown(fields), "metadata_": fields})
    except Exception as error:  # noqa: BLE001 - Prefect's API; closed it is, and whoever asked has others to deal with
        _log.warning("session %s: its card still says open (%s)", fields["session_id"], type(error).__name__)
    return fields["session_id"]
