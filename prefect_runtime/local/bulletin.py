"""Wakes readers on the event loop when a thread has news of a job. Imported by the server process only."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager

from prefect_runtime.local.store import Job

Subscription = asyncio.Queue["Job | None"]
"""What a reader gets: the job after each change of its status, None for a new interim result."""


class Bulletin:
    """Hands news from the executor's threads to subscribers on the event loop."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._lock = threading.Lock()
        self._readers: dict[Subscription, str | None] = {}

    def attach(self, loop: asyncio.AbstractEventLoop | None) -> None:
        """Say which loop the readers are on (None: there are none any more)."""
        with self._lock:
            self._loop = loop

    def post_status(self, job: Job) -> None:
        """Tell of a job's new status. Callable from any thread."""
        self._post(job.id, job)

    def post_interim(self, job_id: str) -> None:
        """Tell of a new interim result. Callable from any thread."""
        self._post(job_id, None)

    def _post(self, job_id: str, item: Job | None) -> None:
        with self._lock:
            if self._loop is not None and self._readers:
                self._loop.call_soon_threadsafe(self._deliver, job_id, item)

    def _deliver(self, job_id: str, item: Job | None) -> None:
        for reader, wanted in self._readers.items():
            if item is None and not reader.empty():
                continue  # it has not come round to the last ones: one look will serve for all
            if wanted == job_id or (wanted is None and item is not None):
                reader.put_nowait(item)

    @contextmanager
    def subscribe(self, job_id: str | None) -> Iterator[Subscription]:
        """Give a reader the news of one job, or with None the status changes of all. On the event loop only."""
        reader: Subscription = asyncio.Queue()
        with self._lock:
            self._readers[reader] = job_id
        try:
            yield reader
        finally:
            with self._lock:
                del self._readers[reader]
