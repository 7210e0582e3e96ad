"""Waiting by many: who is called where, who shares what, and that nothing stays behind."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client.monitor import FEED_LINGERS, JobMonitor
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.models import JobDocument, JobStatus

if TYPE_CHECKING:
    from conftest import FakeClock

Status = Callable[[float], str]


class Server:
    """Jobs whose status is one function of time; counts queries."""

    has_feed = False

    def __init__(self, clock: FakeClock, status: Status) -> None:
        self._clock, self._status, self._lock = clock, status, threading.Lock()
        self.started = clock.monotonic()
        self.queries: list[str] = []
        self.ids = [f"j{number}" for number in range(50)]

    def _document(self, job_id: str) -> JobDocument:
        return JobDocument.parse({"id": job_id, "status": self._status(self._clock.monotonic() - self.started)})

    def job(self, job_id: str, **_: Any) -> JobDocument:
        with self._lock:
            self.queries.append(job_id)
        return self._document(job_id)

    def jobs(self, *, limit: int = 200, offset: int = 0, **_: Any) -> list[JobDocument]:
        with self._lock:
            self.queries.append("list")
        return [self._document(job_id) for job_id in self.ids[offset : offset + limit]]

    def open_feed(self) -> Any:
        raise AssertionError("there is none")


def steps(now: float) -> str:
    return "Queued" if now < 60 else "Running" if now < 120 else "Completed"


@pytest.fixture(autouse=True)
def nobody_lingers() -> None:
    """Let those watchers end that tests before have left: with a feed, they linger for a while."""
    limit = time.monotonic() + 2 * FEED_LINGERS
    while watchers() and time.monotonic() < limit:
        time.sleep(0.05)


def watchers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "job-monitor"]


def no_watcher_is_left() -> bool:
    limit = time.monotonic() + 5
    while watchers() and time.monotonic() < limit:
        time.sleep(0.001)
    return not watchers()


def test_news_is_told_in_the_callers_thread_once_per_status(clock: FakeClock) -> None:
    told: list[tuple[str, str, str]] = []

    def on_change(document: JobDocument) -> None:
        told.append((document.id, document.word, threading.current_thread().name))

    monitor = JobMonitor(Server(clock, steps), clock=clock)
    monitor.wait(["j0", "j1"], deadline=Deadline(None, clock), on_change=on_change)
    here = threading.current_thread().name
    for job_id in ("j0", "j1"):
        assert [news[1:] for news in told if news[0] == job_id] == [
            ("Queued", here), ("Running", here), ("Completed", here),
        ]  # fmt: skip


def test_every_waiter_is_told_whenever_it_came(clock: FakeClock) -> None:
    told: dict[float, list[str]] = {0.0: [], 90.0: [], 500.0: []}
    server = Server(clock, lambda now: steps(now) if now < 120 or now > 600 else "Running")
    monitor = JobMonitor(server, clock=clock)

    def wait(after: float) -> None:
        clock.sleep(after)
        monitor.wait(
            ["j0"], deadline=Deadline(None, clock), on_change=lambda document: told[after].append(document.word)
        )

    threads = [threading.Thread(target=wait, args=(after,)) for after in told]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert told == {
        0.0: ["Queued", "Running", "Completed"], 90.0: ["Running", "Completed"], 500.0: ["Running", "Completed"],
    }  # fmt: skip


def test_a_callback_that_raises_ends_its_own_wait_and_no_other(clock: FakeClock) -> None:
    monitor = JobMonitor(Server(clock, steps), clock=clock)
    ended: list[Any] = []

    def fail(document: JobDocument) -> None:
        raise KeyError(document.word)

    def wait(on_change: Any) -> None:
        try:
            ended.append(monitor.wait(["j0"], deadline=Deadline(None, clock), on_change=on_change)["j0"].status)
        except KeyError as error:
            ended.append(error.args[0])

    threads = [threading.Thread(target=wait, args=(on_change,)) for on_change in (fail, None)]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert ended == ["Queued", JobStatus.DONE]


def test_a_slow_callback_does_not_stop_the_watcher(clock: FakeClock) -> None:
    server = Server(clock, steps)
    seen: list[int] = []

    def slow(document: JobDocument) -> None:
        clock.sleep(30)
        seen.append(len(server.queries))

    JobMonitor(server, clock=clock).wait(["j0"], deadline=Deadline(None, clock), on_change=slow)
    assert seen[0] > 3


def test_the_thread_ends_with_the_last_waiter_and_starts_again(clock: FakeClock) -> None:
    monitor = JobMonitor(Server(clock, steps), clock=clock)
    for _ in range(3):
        monitor.wait(["j0"], deadline=Deadline(200, clock))
        assert no_watcher_is_left()
    monitor.wait(["j1"], deadline=Deadline(0, clock))
    assert no_watcher_is_left()


def test_nothing_is_asked_once_nobody_waits(clock: FakeClock) -> None:
    server = Server(clock, lambda now: "Queued")
    JobMonitor(server, clock=clock).wait(["j0"], deadline=Deadline(100, clock))
    assert no_watcher_is_left()
    asked = len(server.queries)
    clock.sleep(1000)
    assert len(server.queries) == asked


@pytest.mark.parametrize("same", [True, False], ids=["one job", "a job each"])
def test_fifty_threads_wait_with_one_watcher(same: bool, clock: FakeClock) -> None:
    server = Server(clock, steps)
    monitor = JobMonitor(server, clock=clock)
    ended: list[JobStatus | None] = []
    most: list[int] = []

    def wait(job_id: str) -> None:
        found = monitor.wait([job_id], deadline=Deadline(None, clock))
        most.append(len(watchers()))
        ended.append(found[job_id].status)

    threads = [threading.Thread(target=wait, args=("j0" if same else job_id,)) for job_id in server.ids]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert ended == [JobStatus.DONE] * 50
    assert max(most) <= 1
    assert no_watcher_is_left()
    assert len(server.queries) < (100 if same else 600)


def test_deadlines_of_many_hold_each_for_itself(clock: FakeClock) -> None:
    monitor = JobMonitor(Server(clock, lambda now: "Queued"), clock=clock)
    start, ended = clock.monotonic(), {}

    def wait(seconds: float) -> None:
        monitor.wait(["j0"], deadline=Deadline(start + seconds - clock.monotonic(), clock))
        ended[seconds] = clock.monotonic() - start

    times = [10.5, 20.25, 300.125, 3000.0]
    threads = [threading.Thread(target=wait, args=(seconds,)) for seconds in times]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert ended == {seconds: seconds for seconds in times}


def test_the_shortest_wait_of_many_is_the_pause_while_it_is_there(clock: FakeClock) -> None:
    server = Server(clock, lambda now: "Completed" if now > 1000 else "Queued")
    monitor = JobMonitor(server, clock=clock)
    count: list[int] = []

    def impatient() -> None:
        monitor.wait(["j0"], deadline=Deadline(100, clock), longest_pause=0.5)
        count.append(len(server.queries))

    threads = [
        threading.Thread(target=impatient),
        threading.Thread(target=lambda: monitor.wait(["j0"], deadline=Deadline(None, clock))),
    ]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert 190 < count[0] < 320
    assert len(server.queries) - count[0] < 40


class ToldFeed:
    """A feed that has told of every job that it queues."""

    connected = True

    def last_word(self, job_id: str) -> JobDocument:
        return JobDocument.parse({"id": job_id, "status": "Queued"})

    def close(self) -> None:
        """Nothing to close."""


def test_who_comes_later_and_is_told_does_not_lengthen_the_pause_of_who_waits(clock: FakeClock) -> None:
    server = Server(clock, lambda now: "Queued")
    monitor = JobMonitor(server, clock=clock)
    asked: list[int] = []

    def impatient() -> None:
        monitor.wait(["j0"], deadline=Deadline(60, clock), longest_pause=0.5)
        asked.append(len(server.queries))

    def told() -> None:
        for _ in range(50):  # each one who comes is told, and is patient
            clock.sleep(1)
            monitor._feed = ToldFeed()  # type: ignore[assignment]
            monitor.wait(["j0"], deadline=Deadline(0.6, clock))

    threads = [threading.Thread(target=impatient), threading.Thread(target=told)]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert asked[0] >= 120
    monitor.close()
    assert no_watcher_is_left()


# When there are no more threads, or the watcher's own ends


@pytest.fixture
def no_more(monkeypatch: pytest.MonkeyPatch) -> set[str]:
    """Names of the threads that cannot be started."""
    names: set[str] = set()
    start = threading.Thread.start

    def start_if_possible(thread: threading.Thread) -> None:
        if thread.name in names:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_possible)
    return names


def test_without_a_thread_for_the_feed_jobs_are_asked_for(clock: FakeClock, no_more: set[str]) -> None:
    no_more.add("job-feed")
    server = Server(clock, steps)
    server.has_feed = True
    found = JobMonitor(server, clock=clock).wait(["j0"], deadline=Deadline(None, clock))
    assert found["j0"].status is JobStatus.DONE
    assert no_watcher_is_left()


def test_who_cannot_be_watched_for_is_told_and_leaves_nothing_behind(clock: FakeClock, no_more: set[str]) -> None:
    server = Server(clock, steps)
    monitor = JobMonitor(server, clock=clock)
    no_more.add("job-monitor")
    with pytest.raises(QiskitRuntimeError, match="No thread could be started") as caught:
        monitor.wait(["j0"], deadline=Deadline(1, clock))
    assert caught.value.retryable
    no_more.clear()
    assert monitor.wait(["j1"], deadline=Deadline(None, clock))["j1"].status is JobStatus.DONE
    assert "j0" not in server.queries
    assert no_watcher_is_left()


def test_a_watcher_that_dies_leaves_nobody_waiting(clock: FakeClock, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory() -> float:
        raise MemoryError

    monitor = JobMonitor(Server(clock, steps), clock=clock)
    with monkeypatch.context() as patch:
        patch.setattr(clock, "processor_time", no_memory)
        with pytest.raises(QiskitRuntimeError, match="MemoryError"):
            monitor.wait(["j0"], deadline=Deadline(None, clock))
    assert no_watcher_is_left()
    assert monitor.wait(["j0"], deadline=Deadline(None, clock))["j0"].status is JobStatus.DONE
