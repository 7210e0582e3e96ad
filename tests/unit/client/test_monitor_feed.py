"""The watcher and the feed of status changes: what happens while the feed opens is not missed."""

from __future__ import annotations

import threading
import time

import pytest

from prefect_runtime.client.monitor import JobMonitor
from prefect_runtime.client.retry import SYSTEM_CLOCK, Deadline
from prefect_runtime.wire.errors import StreamClosedError
from prefect_runtime.wire.models import JobDocument, JobStatus


class QuietFeed:
    """A feed that opens and then tells nothing, as one that opened just after the last change."""

    def __init__(self) -> None:
        self.opened = threading.Event()
        self.closed = threading.Event()

    def receive(self) -> str:
        """Greet once, then stay silent until closed."""
        if not self.opened.is_set():
            self.opened.set()
            return "{}"
        self.closed.wait(20)
        raise StreamClosedError("closed")

    def close(self) -> None:
        """End the silence."""
        self.closed.set()


class Server:
    """Answers the first query, which was sent before the feed opened, only after that."""

    has_feed = True

    def __init__(self) -> None:
        self.feed = QuietFeed()
        self.queries = 0
        self.asked = threading.Event()

    def open_feed(self) -> QuietFeed:
        """Open the feed, once the first query is under way."""
        assert self.asked.wait(5)
        return self.feed

    def job(self, job_id: str, **_: object) -> JobDocument:
        """Say Running, and Completed to every later query."""
        self.queries += 1
        word = "Running" if self.queries == 1 else "Completed"
        if self.queries == 1:
            self.asked.set()
            assert self.feed.opened.wait(5)
            time.sleep(0.05)  # the feed says that it is open while this answer is on its way
        return JobDocument.parse({"id": job_id, "status": word})


@pytest.mark.parametrize("longest_pause", [None, 5.0])
def test_a_change_between_a_query_and_the_opening_of_the_feed_is_not_missed(longest_pause: float | None) -> None:
    server = Server()
    monitor = JobMonitor(server, clock=SYSTEM_CLOCK)  # type: ignore[arg-type]
    began = time.monotonic()

    found = monitor.wait(["j"], deadline=Deadline(10), longest_pause=longest_pause)

    assert found["j"].status is JobStatus.DONE
    assert time.monotonic() - began < 1
    assert server.queries == 2
