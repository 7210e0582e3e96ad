"""Writes down in the background what is true already, so that no job waits for Prefect's API.

Used by whatever writes a card. Only what may be late goes this way: which job a request has (the intent is on the card
already, and the job carries the request's key), and what people see. The order is kept; of several writes to one card
that have not been sent, one is sent: so it lingers first, for a moment in which a quick job runs and is fetched. The
thread lives while there is something to write, and the interpreter waits for it at its end.
"""

from __future__ import annotations

import contextlib
import contextvars
import threading
from collections import OrderedDict
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client

from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

LINGER_SECONDS = 0.25  # unless somebody waits
LONGEST_FLUSH_SECONDS = 30.0


@dataclass(kw_only=True)
class Place:
    """Where a card is. Shared by all who write on it, so that one of them makes it and the others find it made.

    Attributes:
        artifact_id: Its artifact; None before there is one.
        new: What the artifact is made with, besides what is written on it.
    """

    artifact_id: UUID | None = None
    new: Mapping[str, Any] = field(default_factory=dict)


@dataclass(kw_only=True)
class Write:
    """What is to be written of one request.

    Attributes:
        key: The request's key.
        place: Its card, if there is something to write on it.
        body: Members of the card to write.
        claims: Ids of the variables to remove after that.
        urgent: Others may wait for it, in other processes.
    """

    key: str
    place: Place | None
    body: dict[str, Any] = field(repr=False)
    claims: list[str] = field(default_factory=list)
    urgent: bool = False


@dataclass(kw_only=True)
class _Pending:
    write: Write
    client: SyncPrefectClient  # the run's own, held open
    release: Callable[[], None]
    context: contextvars.Context  # Prefect's settings of the run


class CardWriter:
    """A queue of writes, and a thread for as long as it is not empty."""

    def __init__(self) -> None:
        self._changed = threading.Condition()  # guards all below
        self._queue: OrderedDict[str, _Pending] = OrderedDict()
        self._under_way: str | None = None  # the key of what is being sent; None: there is no thread
        self._awaited = 0  # how many wait here for something to be written

    def put(self, client: SyncPrefectClient, write: Write, *, at_once: bool = False) -> None:
        """Have something written soon, in the order given; or wait for that, in a process that others may end."""
        self._put(client, write)
        if at_once:
            self.flush([write.key])

    def _put(self, client: SyncPrefectClient, write: Write) -> None:
        with self._changed:
            waiting = self._queue.get(write.key)
            if waiting is not None:
                waiting.write.place = write.place or waiting.write.place
                waiting.write.body.update(write.body)
                waiting.write.claims += write.claims
                waiting.write.urgent |= write.urgent
                self._changed.notify_all()
                return
            held = contextlib.ExitStack()
            held.enter_context(client)
            self._queue[write.key] = _Pending(
                write=write, client=client, release=held.close, context=contextvars.copy_context()
            )
            if self._under_way is not None:
                self._changed.notify_all()
                return
            self._under_way = ""
        try:
            threading.Thread(target=self._linger_and_write, name="card-writer").start()
        except RuntimeError:  # no more threads: then this one
            self._write_all()

    def flush(self, keys: Collection[str]) -> bool:
        """Wait until nothing of these requests is left to be written; False if that takes too long."""

        def written() -> bool:
            return self._under_way not in keys and not any(key in self._queue for key in keys)

        with self._changed:
            self._awaited += 1
            self._changed.notify_all()
            try:
                return self._changed.wait_for(written, timeout=LONGEST_FLUSH_SECONDS)
            finally:
                self._awaited -= 1

    def _linger_and_write(self) -> None:
        with self._changed:
            self._changed.wait_for(self._is_awaited, timeout=LINGER_SECONDS)
        self._write_all()

    def _is_awaited(self) -> bool:
        return self._awaited > 0 or any(pending.write.urgent for pending in self._queue.values())

    def _write_all(self) -> None:
        while True:
            with self._changed:
                if not self._queue:
                    self._under_way = None
                    self._changed.notify_all()
                    return
                self._under_way, pending = self._queue.popitem(last=False)
                self._changed.notify_all()
            if not pending.context.run(_send, pending) and not threading.main_thread().is_alive():
                self._give_up()  # the interpreter waits for us, and Prefect's API is not there

    def _give_up(self) -> None:
        with self._changed:
            if self._queue:
                _log.warning("Prefect's API cannot be reached: %d job cards stay behind", len(self._queue))
            for pending in self._queue.values():
                with contextlib.suppress(Exception):
                    pending.release()
            self._queue.clear()


def _send(pending: _Pending) -> bool:
    """Write, with the run's client, or one of our own where that fails; a card that stays behind costs nobody a job."""
    try:
        _write(pending.client, pending.write)
        return True
    except Exception as first:  # noqa: BLE001 - closed under our hands, or a server that is not there
        try:
            with get_client(sync_client=True, httpx_settings={}) as own:  # settings: else it is the same one again
                _write(own, pending.write)
            return True
        except Exception as error:  # noqa: BLE001 - whatever it is, the job is not concerned
            _log.warning("card of %s: not brought up to date (%s)", pending.write.key, type(error).__name__)
            _log.debug("first error: %s", type(first).__name__)
            return False
    finally:
        with contextlib.suppress(Exception):
            pending.release()


def _write(client: SyncPrefectClient, write: Write) -> None:
    if write.body and write.place is not None:
        write_card(client, write.place, write.body)
        write.body = {}
    remove_claims(client, write.claims)


def write_card(client: SyncPrefectClient, place: Place, body: dict[str, Any]) -> None:
    """Write on a card, which is made if there is none yet; as `patch_card`, without an event."""
    if place.artifact_id is not None:
        patch_card(client, place.artifact_id, body)
        return
    made = client.request("POST", "/artifacts/", json={**place.new, **body}).json()
    place.artifact_id = UUID(made["id"])


def patch_card(client: SyncPrefectClient, artifact_id: UUID, body: dict[str, Any]) -> None:
    """Write a card anew, without the event that Prefect's own method emits: it would carry the whole text each time."""
    client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact_id}, json=body)


def remove_claims(client: SyncPrefectClient, ids: list[str]) -> None:
    """Remove claims by their ids, the last first, and take each off the list: from here on the card speaks."""
    while ids:
        try:
            client.request("DELETE", "/variables/{id}", path_params={"id": ids[-1]})
        except httpx.HTTPStatusError as error:
            if error.response.status_code != httpx.codes.NOT_FOUND:
                raise
        ids.pop()
