"""The client by which we call Prefect's API: one a process and server, and no long sleep after what is over at once."""

from __future__ import annotations

import atexit
import contextlib
import os
import threading
from collections.abc import Iterator
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.context import SyncClientContext, get_settings_context
from prefect.settings import PREFECT_API_AUTH_STRING, PREFECT_API_KEY, PREFECT_API_URL

PAUSES = (0.1, 0.4, 1.5, 5.0, 20.0)
"""Seconds, one after each answer that the server is busy: as many as Prefect's client tries again, which of itself
pauses for 2, 4, 8, 16 and 32. Eight processes that write at once need the longer ones."""
_TRIES = "prefect_runtime_tries"


def ask_again_soon(answer: httpx.Response) -> None:
    """Have Prefect's client ask again soon where it is told that the server is busy. A response hook of httpx.

    A locked SQLite is answered with 503, and is free the next moment; but after an answer that does not say when to
    come again, Prefect's client sleeps for two to three seconds (3.8.8, with any number of retries). Of the five in
    which a cancelled flow run's job is to be cancelled, two such answers take all.
    """
    if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or "retry-after" in answer.headers:
        return
    extensions = answer.request.extensions  # the request's own: it is the same one that is sent again
    tries = extensions.get(_TRIES, 0)
    if tries < len(PAUSES):
        extensions[_TRIES] = tries + 1
        answer.headers["Retry-After"] = str(PAUSES[tries])


AT_ONCE: Any = {"_sync": True}
"""For Prefect's functions that are sync or async: in the body of an async flow, and beside its loop, they would give a
coroutine, and do nothing. No type of theirs has it: their decorator takes it."""

HTTPX_SETTINGS: dict[str, Any] = {"event_hooks": {"response": [ask_again_soon]}}


@contextlib.contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Give a client of the Prefect server that this run works with, kept for this process: it costs more than a call.

    A run without a server's address has a temporary one, which only the run's own client knows for sure.
    """
    url = PREFECT_API_URL.value()
    if url:
        yield _clients.get(url, PREFECT_API_KEY.value(), PREFECT_API_AUTH_STRING.value())
        return
    with SyncClientContext.get_or_create() as context:
        yield context.client


@contextlib.contextmanager
def at_first_answer() -> Iterator[None]:
    """Have Prefect's client raise what it is answered first, without retries of its own.

    The settings are copied by hand: `temporary_settings` checks all of them anew, which takes 30 ms.
    """
    context = get_settings_context()
    client = context.settings.client.model_copy(update={"max_retries": 0})
    settings = context.settings.model_copy(update={"client": client})
    with context.model_copy(update={"settings": settings}):
        yield


class _Clients:
    """The clients of this process, by what tells one server or account from another; open until it ends."""

    def __init__(self) -> None:
        self.start_afresh()

    def start_afresh(self) -> None:
        """Forget them all: in a forked process, whose parent goes on using the connections."""
        self._lock = threading.Lock()
        self._open: dict[tuple[object, ...], SyncPrefectClient] = {}

    def get(self, *account: object) -> SyncPrefectClient:
        with self._lock:
            client = self._open.get(account)
            if client is None:
                client = get_client(sync_client=True, httpx_settings=HTTPX_SETTINGS)
                client.__enter__()
                self._open[account] = client
            return client

    def close(self) -> None:
        with self._lock:
            for client in self._open.values():
                with contextlib.suppress(Exception):
                    client.__exit__(None, None, None)
            self._open.clear()


_clients = _Clients()
atexit.register(_clients.close)  # after the card writer's thread, which the interpreter waits for first
os.register_at_fork(after_in_child=_clients.start_afresh)
