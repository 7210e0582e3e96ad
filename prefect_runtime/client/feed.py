"""Status changes that the embedded runtime tells by itself, so that a waiter wakes at once. Used by monitor.py."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable

from prefect_runtime.client.transport.sockets import Socket
from prefect_runtime.wire.codec import decode
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

OPEN_SECONDS = 0.1
RECONNECT_SECONDS = 1.0
REMEMBERED = 1000  # jobs


class Feed:
    """A thread that reads the feed until closed; opens it again when it breaks.

    Args:
        open_feed: Opens the stream.
        take: Called with each document, in the feed's thread.
        state_changed: Called when the feed was opened or broke: something may have been missed just before.
    """

    def __init__(
        self,
        open_feed: Callable[[], Socket],
        take: Callable[[JobDocument], None],
        state_changed: Callable[[], None],
    ) -> None:
        self._open = open_feed
        self._take = take
        self._state_changed = state_changed
        self._closed = threading.Event()
        self._tried = threading.Event()
        self._socket: Socket | None = None
        self._told: OrderedDict[str, JobDocument] = OrderedDict()
        self._lock = threading.Lock()  # guards _told
        self.connected = False
        threading.Thread(target=self._run, name="job-feed", daemon=True).start()
        self._tried.wait(OPEN_SECONDS)  # mostly there in 3 ms, and then the first query need not be repeated

    def last_word(self, job_id: str) -> JobDocument | None:
        """Return what the feed told of a job last, which is how it is: an unbroken feed tells every change."""
        with self._lock:
            return self._told.get(job_id)

    def close(self) -> None:
        """End it."""
        self._closed.set()
        if self._socket is not None:
            self._socket.close()

    def _run(self) -> None:
        while not self._closed.is_set():
            try:
                self._socket = self._open()
                self._read(self._socket)
            except Exception as error:  # noqa: BLE001 - also a frame that is no JSON: the feed is opened anew
                if not self._closed.is_set():
                    _log.debug("the feed of status changes broke (%s)", type(error).__name__)
            self._tried.set()
            was_connected, self.connected = self.connected, False
            with self._lock:
                self._told.clear()
            if was_connected and not self._closed.is_set():
                self._state_changed()
            self._closed.wait(RECONNECT_SECONDS)

    def _read(self, socket: Socket) -> None:
        try:
            socket.receive()  # the server's greeting: from here on every change is told
            self.connected = True
            self._state_changed()
            self._tried.set()
            while not self._closed.is_set():
                document = JobDocument.parse(decode(socket.receive()))
                with self._lock:
                    known = self._told.get(document.id)
                    if known is not None and known.is_final:
                        continue
                    self._told[document.id] = document
                    self._told.move_to_end(document.id)
                    if len(self._told) > REMEMBERED:
                        self._told.popitem(last=False)
                self._take(document)
        finally:
            socket.close()
