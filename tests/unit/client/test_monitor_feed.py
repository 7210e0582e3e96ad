"""The watcher and the feed of status changes: what happens while the feed opens is not missed."""

from __future__ import annotations

import json
import os
import queue
import signal
import threading
import time
from collections.abc import Callable

import pytest

from prefect_runtime.client import feed
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
    monitor.close()

    assert found["j"].status is JobStatus.DONE
    assert time.monotonic() - began < 4  # who misses it asks again after five
    assert server.queries == 2


class TellingFeed:
    """A feed that tells what a test puts into it, until it is broken or closed."""

    def __init__(self) -> None:
        self.frames: queue.Queue[str | None] = queue.Queue()
        self.frames.put("{}")  # the greeting

    def receive(self) -> str:
        """Return the next frame; None among them breaks the feed."""
        frame = self.frames.get(timeout=20)
        if frame is None:
            raise StreamClosedError("broken")
        return frame

    def close(self) -> None:
        """End it."""
        self.frames.put(None)


class TellingServer:
    """Counts the feeds that are opened and the queries that are sent."""

    has_feed = True

    def __init__(self) -> None:
        self.feeds: list[TellingFeed] = []
        self.queries: list[str] = []
        self.status: dict[str, str] = {}

    def open_feed(self) -> TellingFeed:
        """Open another feed."""
        self.feeds.append(TellingFeed())
        return self.feeds[-1]

    def job(self, job_id: str, **_: object) -> JobDocument:
        """Answer a query."""
        self.queries.append(job_id)
        return JobDocument.parse({"id": job_id, "status": self.status[job_id]})

    def tell(self, job_id: str, word: str) -> None:
        """Change a job's status, and say so on the feed."""
        self.status[job_id] = word
        self.feeds[-1].frames.put(json.dumps({"id": job_id, "status": word}))


def told(monitor: JobMonitor, job_id: str) -> Callable[[], bool]:
    """Whether the monitor's feed has told of a job."""
    return lambda: monitor._feed is not None and monitor._feed.last_word(job_id) is not None


def told_of_a_queued_job() -> tuple[TellingServer, JobMonitor]:
    """A monitor nobody waits at any more, whose feed has told of the job "a"."""
    server = TellingServer()
    monitor = JobMonitor(server, clock=SYSTEM_CLOCK)  # type: ignore[arg-type]
    server.status["first"] = "Completed"
    monitor.wait(["first"], deadline=Deadline(10))
    server.tell("a", "Queued")
    eventually(told(monitor, "a"))
    return server, monitor


def test_one_job_after_another_uses_one_feed_and_no_query_for_what_it_told() -> None:
    server = TellingServer()
    monitor = JobMonitor(server, clock=SYSTEM_CLOCK)  # type: ignore[arg-type]
    server.status["first"] = "Completed"
    monitor.wait(["first"], deadline=Deadline(10))

    for job_id in ("a", "b", "c"):
        server.tell(job_id, "Queued")
        eventually(told(monitor, job_id))
        threading.Timer(0.05, server.tell, (job_id, "Completed")).start()
        assert monitor.wait([job_id], deadline=Deadline(10))[job_id].status is JobStatus.DONE

    assert set(server.queries) == {"first"}
    assert len(server.feeds) == 1
    monitor.close()
    eventually(lambda: monitor._thread is None)


def test_what_a_feed_told_before_it_broke_is_not_believed() -> None:
    server, monitor = told_of_a_queued_job()

    server.feeds[-1].close()
    eventually(lambda: not told(monitor, "a")())
    server.status["a"] = "Completed"

    assert monitor.wait(["a"], deadline=Deadline(5))["a"].status is JobStatus.DONE
    assert "a" in server.queries
    monitor.close()


def test_a_feed_that_only_lingers_is_not_opened_again_when_it_breaks() -> None:
    """Opened again, it would start a runtime that somebody has just stopped."""
    server, monitor = told_of_a_queued_job()
    server.feeds[-1].close()
    eventually(lambda: monitor._thread is None)  # long before the feed would have lingered to its end
    time.sleep(1.2 * feed.RECONNECT_SECONDS)
    assert len(server.feeds) == 1


def test_a_callers_wait_is_the_longest_pause_also_for_a_job_the_feed_told_of() -> None:
    server, monitor = told_of_a_queued_job()
    server.status["a"] = "Completed"  # and the feed is silent about it

    assert monitor.wait(["a"], deadline=Deadline(5), longest_pause=0.2)["a"].status is JobStatus.DONE
    monitor.close()


def test_who_has_no_time_to_wait_for_the_feed_asks() -> None:
    server, monitor = told_of_a_queued_job()
    server.status["a"] = "Completed"  # and the feed has not said so yet

    assert monitor.wait(["a"], deadline=Deadline(0))["a"].status is JobStatus.DONE
    monitor.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # which is the point
def test_a_forked_process_watches_by_itself() -> None:
    server = TellingServer()
    monitor = JobMonitor(server, clock=SYSTEM_CLOCK)  # type: ignore[arg-type]
    server.status.update(first="Completed", later="Completed")
    monitor.wait(["first"], deadline=Deadline(10))

    child = os.fork()
    if child == 0:  # the watcher's thread is not here
        code = 1
        signal.alarm(20)  # who waits for a lock that nobody gives back ends like this
        try:
            found = monitor.wait(["later"], deadline=Deadline(5))
            code = 0 if found["later"].status is JobStatus.DONE else 1
        finally:
            os._exit(code)  # what raises is no second run of the tests

    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    monitor.close()


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something is true; fails when it is not within 5 s."""
    limit = time.monotonic() + 5
    while not condition():
        assert time.monotonic() < limit
        time.sleep(0.002)
