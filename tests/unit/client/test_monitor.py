"""Waiting: how often the server is asked, when a wait ends, and what never ends it. Hours on a fake clock."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.monitor import JobMonitor
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.service_jobs import ServiceJobs
from prefect_runtime.wire.errors import (
    AnswerLostError,
    AuthenticationError,
    ConfigurationError,
    ConnectFailedError,
    PermissionDeniedError,
    ProtocolError,
    RateLimitedError,
    RuntimeJobNotFound,
    ServerError,
    TransportError,
    WaitInterruptedError,
)
from prefect_runtime.wire.models import TAG, JobDocument, JobStatus

if TYPE_CHECKING:
    from conftest import FakeClock

HOUR = 3600.0


class Server:
    """A server with jobs whose status is a function of time, and errors where a test puts them; keeps all queries."""

    has_feed = False

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.status: dict[str, Callable[[float], str]] = {}
        self.listed: set[str] | None = None
        self.errors: Iterator[Exception | None] = iter(())
        self.queries: list[tuple[float, str]] = []
        self.list_limits: set[tuple[str, ...]] = set()
        self.created: dict[str, str] = {}
        self.since: list[str | None] = []
        self.expected: float | None = None
        self.cost = 0.0  # seconds of the asking thread's processor time, a query
        self.started = clock.monotonic()

    def queued_until(self, job_id: str, seconds: float, end: str = "Completed") -> None:
        self.status[job_id] = lambda now: end if now >= seconds else "Queued"

    def times(self, kind: str | None = None) -> list[float]:
        return [at for at, what in self.queries if kind in (None, what)]

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        assert not patient, "the monitor has a loop of its own"
        return self._document(job_id, self._asked(job_id))

    def jobs(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        tags: Sequence[str] = (),
        created_after: str | None = None,
        patient: bool = True,
    ) -> list[JobDocument]:
        assert not patient
        self.list_limits.add(tuple(tags))
        self.since.append(created_after)
        now = self._asked("list")
        shown = [job_id for job_id in self.status if self.listed is None or job_id in self.listed]
        shown = [job_id for job_id in shown if created_after is None or self.created.get(job_id, "9") >= created_after]
        page = shown[offset : offset + limit]
        return [self._document(job_id, now) for job_id in page]

    def _document(self, job_id: str, now: float) -> JobDocument:
        created = self.created.get(job_id)
        status = self.status[job_id](now)
        return JobDocument.parse(
            {"id": job_id, "status": status, "created": created, "estimated_running_time_seconds": self.expected}
        )

    def open_feed(self) -> Any:
        raise AssertionError("there is none")

    def _asked(self, what: str) -> float:
        with self._lock:
            now = self._clock.monotonic() - self.started
            self.queries.append((now, what))
            self._clock.worked += self.cost
            if error := next(self.errors, None):
                raise error
            return now

    def runs_for(self, job_id: str, seconds: float, *, expected: float) -> None:
        self.status[job_id] = lambda now: "Completed" if now >= seconds else "Running"
        self.expected = expected


@pytest.fixture
def server(clock: FakeClock) -> Server:
    return Server(clock)


@pytest.fixture
def monitor(server: Server, clock: FakeClock) -> JobMonitor:
    return JobMonitor(server, clock=clock)


def pauses(times: list[float]) -> list[float]:
    return [later - earlier for earlier, later in itertools.pairwise(times)]


# How often


def test_an_hour_in_the_queue_is_fewer_than_90_requests(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("j", HOUR)
    found = monitor.wait(["j"], deadline=Deadline(None, clock))
    assert found["j"].status is JobStatus.DONE
    assert 60 < len(server.queries) < 90
    assert server.times()[-1] - HOUR <= 60


def test_after_five_minutes_a_queued_job_is_asked_for_every_50_seconds_or_more_on_average(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 10 * HOUR)
    monitor.wait(["j"], deadline=Deadline(None, clock))
    late = pauses([at for at in server.times() if at >= 300])
    assert len(late) > 500  # the average of so many is exact to half a second
    assert sum(late) / len(late) >= 50
    assert max(late) <= 60


def test_jobs_that_take_long_to_look_at_are_looked_at_more_seldom(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    for number in range(1000):
        server.queued_until(f"j{number}", HOUR)
    server.cost = 0.02  # five lists a look, at least: a tenth of a second of work
    monitor.wait(list(server.status), deadline=Deadline(20, clock))
    assert clock.worked <= 0.03 * 20 + 0.1  # and the first look
    server.cost = 0.0
    queries = len(server.queries)
    monitor.wait(list(server.status), deadline=Deadline(20, clock))
    assert len(server.queries) - queries > 1.4 * queries  # what costs nothing is looked at as often as ever


def test_a_callers_pause_is_kept_however_long_a_look_takes(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 30)
    server.cost = 1.0
    monitor.wait(["j"], deadline=Deadline(None, clock), longest_pause=2.0)
    assert max(pauses(server.times())) <= 2.0


def test_more_jobs_than_five_lists_show_are_not_asked_for_one_by_one(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    for number in range(3000):
        server.queued_until(f"j{number}", HOUR)
    monitor.wait(list(server.status), deadline=Deadline(20, clock))
    assert {what for _, what in server.queries} == {"list"}


def test_pauses_grow_from_half_a_second_and_differ(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("j", 100)
    monitor.wait(["j"], deadline=Deadline(None, clock))
    first = pauses(server.times())[:8]
    assert 0.25 <= first[0] <= 0.5
    for earlier, later in itertools.pairwise(first):
        assert earlier * 0.7 < later < earlier * 3
    other = Server(clock)
    other.queued_until("j", 100)
    JobMonitor(other, clock=clock).wait(["j"], deadline=Deadline(None, clock))
    assert pauses(other.times())[:8] != first


def test_news_makes_it_ask_often_again(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.status["j"] = lambda now: "Queued" if now < HOUR else "Running" if now < HOUR + 600 else "Completed"
    monitor.wait(["j"], deadline=Deadline(None, clock))
    running = [at for at in server.times() if at >= HOUR]
    assert pauses(running)[0] <= 0.5
    assert max(pauses(running)) <= 5.0


@pytest.mark.parametrize("wait", [0.0, 0.2, 5.0, 45.0])
def test_a_callers_wait_is_the_longest_pause(
    wait: float, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 100 * wait + 10)
    monitor.wait(["j"], deadline=Deadline(None, clock), longest_pause=wait)
    longest = max(wait, 0.05)
    assert max(pauses(server.times())) <= longest + 1e-6
    assert len(server.queries) < 140 + 12 / longest  # pauses are 70 to 100 % of it


def test_a_long_wait_of_the_callers_is_no_reason_to_ask_less_often(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 30)
    monitor.wait(["j"], deadline=Deadline(None, clock), longest_pause=1e6)
    assert len(server.queries) > 6


@pytest.mark.parametrize(("wait", "status"), [(None, "Queued"), (None, "Running"), (5.0, "Queued")])
def test_a_pause_the_server_asks_for_is_kept(
    wait: float | None, status: str, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.status["j"] = lambda now: "Completed" if now > 400 else status
    server.errors = iter([None, RateLimitedError("x", retry_after=300.0)])
    monitor.wait(["j"], deadline=Deadline(None, clock), longest_pause=wait)
    assert pauses(server.times())[1] >= 300 - 1e-6


def test_a_pause_the_server_asks_for_holds_for_all_jobs_and_for_who_comes_later(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    for job_id in "abc":
        server.status[job_id] = lambda now: "Completed"
    server.listed = set()
    server.errors = iter([None, None, RateLimitedError("x", retry_after=60.0)])
    assert len(monitor.wait("abc", deadline=Deadline(1, clock))) == 1
    assert server.queries[0][1] == "list"
    assert len(server.queries) == 3, "the third job was not asked for any more"
    for _ in range(5):
        assert monitor.wait(["d"], deadline=Deadline(0.2, clock)) == {}
    assert len(server.queries) == 3
    assert set(monitor.wait("abc", deadline=Deadline(None, clock))) == set("abc")
    assert server.times()[3] >= 60


def test_ten_jobs_are_hardly_more_requests_than_one(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    """Each fifth round asks for each job itself, as some servers move a job on only then; the others are one list."""
    ids = [f"j{number}" for number in range(10)]
    for job_id in ids:
        server.queued_until(job_id, HOUR)
    found = monitor.wait(ids, deadline=Deadline(None, clock))
    assert {document.status for document in found.values()} == {JobStatus.DONE}
    assert len(server.queries) < 3 * 90
    assert server.list_limits == {(TAG,)}


def test_an_hour_of_two_hundred_jobs_is_hardly_more_requests_than_of_one(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    ids = [f"j{number}" for number in range(200)]
    for job_id in ids:
        server.queued_until(job_id, HOUR)
    found = monitor.wait(ids, deadline=Deadline(None, clock))
    assert {document.status for document in found.values()} == {JobStatus.DONE}
    # A list each time, which the 200 just fit in, and ten jobs by themselves each tenth time.
    assert len(server.queries) < 2 * 90 + 10 * 10


def test_a_server_whose_list_stands_still_is_found_out_by_the_jobs_that_are_asked_for_themselves(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    ids = [f"j{number}" for number in range(100)]
    for job_id in ids:
        server.queued_until(job_id, 300)
    moving = server.jobs

    def jobs(**given: Any) -> list[JobDocument]:
        return [JobDocument.parse({"id": document.id, "status": "Queued"}) for document in moving(**given)]

    server.jobs = jobs  # type: ignore[method-assign]
    monitor.wait(ids, deadline=Deadline(HOUR, clock), longest_pause=10)
    assert clock.monotonic() - server.started < 600  # at the tenth look one is further, at the next tenth all are


def test_several_jobs_are_asked_for_by_one_list_request(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    for job_id in "abc":
        server.status[job_id] = lambda now: "Completed"
    assert set(monitor.wait("abc", deadline=Deadline(None, clock))) == set("abc")
    assert [what for _, what in server.queries] == ["list"]


def test_a_list_is_asked_for_since_the_oldest_job_that_is_waited_for(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    for job_id, created in (("a", "2026-01-31T12:00:05Z"), ("b", "2026-01-31T12:00:01Z")):
        server.created[job_id] = created
        server.queued_until(job_id, 60)
    found = monitor.wait("ab", deadline=Deadline(None, clock))
    assert {document.status for document in found.values()} == {JobStatus.DONE}
    assert server.since[0] is None  # nothing was known yet
    assert set(server.since[1:]) == {"2026-01-31T12:00:00Z"}
    assert len(server.since) > 4


def test_jobs_are_given_as_they_become_final(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    for job_id, seconds in (("slow", 300.0), ("quick", 10.0), ("later", 100.0)):
        server.queued_until(job_id, seconds)
    given = [(d.id, clock.monotonic() - server.started) for d in monitor.as_completed(
        ["slow", "quick", "later"], deadline=Deadline(None, clock), longest_pause=2.0)]  # fmt: skip
    assert [job_id for job_id, _ in given] == ["quick", "later", "slow"]
    assert [round(at, -1) for _, at in given] == [10, 100, 300]


def test_jobs_that_are_not_final_at_the_deadline_are_left_out(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("quick", 10)
    server.queued_until("slow", HOUR)
    deadline = Deadline(60, clock)
    assert [document.id for document in monitor.as_completed(["slow", "quick"], deadline=deadline)] == ["quick"]
    assert deadline.expired


def test_who_stops_taking_jobs_is_watched_for_no_more(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("quick", 10)
    server.queued_until("slow", HOUR)
    for _ in monitor.as_completed(["slow", "quick"], deadline=Deadline(None, clock)):
        break
    asked = len(server.queries)
    clock.sleep(HOUR)
    assert len(server.queries) <= asked + 1


def test_a_job_of_many_is_found_on_a_later_page(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.status = {f"other{number}": lambda now: "Completed" for number in range(450)}
    server.status |= {job_id: lambda now: "Completed" for job_id in "ab"}
    monitor.wait("ab", deadline=Deadline(None, clock))
    assert [what for _, what in server.queries] == ["list"] * 3


def test_jobs_that_the_list_does_not_show_are_asked_for_themselves(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    for job_id in "abc":
        server.status[job_id] = lambda now: "Completed"
    server.listed = {"a"}
    assert set(monitor.wait("abc", deadline=Deadline(None, clock))) == set("abc")
    assert sorted(server.queries) == [(0.0, "b"), (0.0, "c"), (0.0, "list")]


def test_a_job_that_the_list_shows_but_does_not_move_is_asked_for_itself_too(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    stale = server.jobs
    server.status = {job_id: lambda now: "Completed" if now > 20 else "Queued" for job_id in "ab"}

    def jobs(**given: Any) -> list[JobDocument]:
        return [JobDocument.parse({"id": document.id, "status": "Queued"}) for document in stale(**given)]

    server.jobs = jobs  # type: ignore[method-assign]
    found = monitor.wait("ab", deadline=Deadline(60, clock), longest_pause=0.2)  # both are due at once, always
    assert {document.status for document in found.values()} == {JobStatus.DONE}
    assert server.times()[-1] < 25


# When a wait ends


@pytest.mark.parametrize("wait", [None, 5.0, 1000.0])
def test_a_deadline_holds_exactly(wait: float | None, server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("j", HOUR)
    start = clock.monotonic()
    found = monitor.wait(["j"], deadline=Deadline(123.25, clock), longest_pause=wait)
    assert clock.monotonic() - start == 123.25
    assert found["j"].status is JobStatus.QUEUED


def test_a_timeout_of_zero_still_finds_a_job_that_is_final(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.status["j"] = lambda now: "Completed"
    assert monitor.wait(["j"], deadline=Deadline(0, clock))["j"].status is JobStatus.DONE
    server.status["k"] = lambda now: "Queued"
    assert monitor.wait(["k"], deadline=Deadline(0, clock))["k"].status is JobStatus.QUEUED
    assert len(server.queries) == 2
    assert clock.monotonic() == server.started


def test_who_looks_again_and_again_for_a_moment_finds_a_final_job_however_slow_the_line(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.status["j"] = lambda now: "Completed"
    quick = server.job

    def job(job_id: str, **given: Any) -> JobDocument:
        clock.sleep(0.7)
        return quick(job_id, **given)

    server.job = job  # type: ignore[method-assign]
    start = clock.monotonic()
    assert monitor.wait(["j"], deadline=Deadline(0.1, clock)) == {}
    assert clock.monotonic() - start <= 0.1 + 0.5  # a stall outlives no deadline by more
    clock.sleep(1)
    assert monitor.wait(["j"], deadline=Deadline(0.1, clock))["j"].status is JobStatus.DONE
    assert len(server.queries) == 1


def test_what_came_too_late_is_given_to_one_and_only_if_it_is_final(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    board = monitor._board
    board.take(JobDocument.parse({"id": "j", "status": "Queued"}))
    board.take(JobDocument.parse({"id": "k", "status": "Completed"}))
    server.status = {"j": lambda now: "Running", "k": lambda now: "Failed"}
    for expected in (JobStatus.DONE, JobStatus.ERROR):
        found = monitor.wait("jk", deadline=Deadline(0, clock))
        assert {job_id: document.status for job_id, document in found.items()} == {
            "j": JobStatus.RUNNING,
            "k": expected,
        }


@pytest.mark.parametrize(
    ("word", "status"),
    [("Completed", JobStatus.DONE), ("Failed", JobStatus.ERROR), ("Cancelled", JobStatus.CANCELLED),
     ("CANCELLED - RAN TOO LONG", JobStatus.ERROR)],
)  # fmt: skip
def test_every_final_word_ends_a_wait(
    word: str, status: JobStatus, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 10, word)
    assert monitor.wait(["j"], deadline=Deadline(HOUR, clock))["j"].status is status


def test_a_wait_for_many_ends_with_the_last_one(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("a", 10)
    server.queued_until("b", 1000)
    found = monitor.wait(["a", "b", "a"], deadline=Deadline(None, clock))
    assert list(found) == ["a", "b"]
    assert all(document.is_final for document in found.values())
    assert max(server.times("a"), default=0.0) < 100, "asked on though it was final"


def test_unknown_words_are_waited_on_with_one_warning(
    server: Server, monitor: JobMonitor, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    server.queued_until("j", 300)
    server.status["j"] = lambda now: "Completed" if now > 300 else "Pending"
    with caplog.at_level(logging.WARNING, "prefect_runtime"):
        found = monitor.wait(["j"], deadline=Deadline(None, clock))
    assert found["j"].status is JobStatus.DONE
    assert [record.args and record.args[1] for record in caplog.records] == ["Pending"]  # type: ignore[index]


class Jobs(ServiceJobs):
    """As much of a service as a wait for jobs needs."""

    def __init__(self, monitor: JobMonitor, clock: FakeClock) -> None:
        self.monitor, self.clock = monitor, clock

    @property
    def client(self) -> Any:
        return self


def test_a_word_nobody_knows_costs_no_other_job_its_status(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.status = {"odd": lambda now: "Pending", "done": lambda now: "Completed", "waits": lambda now: "Queued"}
    found = Jobs(monitor, clock).wait(["odd", "done", "waits"], timeout=10)
    assert found == {"done": JobStatus.DONE, "waits": JobStatus.QUEUED}


# What never ends it, and what does


@pytest.mark.parametrize(
    "error",
    [TransportError("x"), ConnectFailedError("x"), AnswerLostError("x"), ServerError("x", status_code=503),
     ProtocolError("x"), RateLimitedError("x")],
    ids=lambda error: type(error).__name__,
)  # fmt: skip
def test_a_query_that_fails_is_asked_again_for_hours(
    error: Exception, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.errors = itertools.chain([None], itertools.repeat(error, 300))
    server.status["j"] = lambda now: "Completed" if now > HOUR else "Running"
    assert monitor.wait(["j"], deadline=Deadline(None, clock))["j"].status is JobStatus.DONE
    assert len(server.queries) > 300


def test_a_server_that_answers_nonsense_does_not_leave_its_waiters_alone(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    """Whatever goes wrong in the watcher's thread: who waits is told, or it goes on."""
    server.errors = iter([ValueError("a bug, or a document nobody thought of")])
    server.status["j"] = lambda now: "Completed"
    found: dict[str, JobDocument] = {}
    told: list[BaseException] = []
    hook, threading.excepthook = threading.excepthook, lambda args: None
    try:
        with contextlib.suppress(Exception):
            try:
                found = monitor.wait(["j"], deadline=Deadline(HOUR, clock))
            except Exception as error:
                told.append(error)
                raise
    finally:
        threading.excepthook = hook
    assert told or [document.is_final for document in found.values()] == [True]
    assert clock.monotonic() - server.started < HOUR


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_fault_that_stays_is_not_a_flood_of_requests(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.errors = itertools.repeat(ValueError("a bug"), 60)  # not for ever: a thread that spins stops the clock
    server.status["j"] = lambda now: "Completed"
    with contextlib.suppress(Exception):
        monitor.wait(["j"], deadline=Deadline(100, clock))
    assert len(server.queries) < 50


@pytest.mark.parametrize("error", [RuntimeJobNotFound("gone"), PermissionDeniedError("no")], ids=["404", "403"])
def test_a_job_is_believed_gone_when_that_is_said_twice_in_a_row(
    error: Exception, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", HOUR)
    server.errors = iter([None, error, None, error, TransportError("x"), error, None, error, error])
    with pytest.raises(type(error)) as caught:
        monitor.wait(["j"], deadline=Deadline(None, clock))
    assert caught.value is error
    assert len(server.queries) == 9


@pytest.mark.parametrize("error", [AuthenticationError("bad token"), ConfigurationError("bad url")])
def test_a_sign_in_that_failed_for_good_ends_a_wait_at_once(
    error: Exception, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.errors = iter([error])
    server.queued_until("j", HOUR)
    with pytest.raises(type(error)):
        monitor.wait(["j"], deadline=Deadline(None, clock))
    assert len(server.queries) == 1


def test_an_error_of_one_job_is_not_the_others(server: Server, monitor: JobMonitor, clock: FakeClock) -> None:
    server.queued_until("good", 100)
    server.listed = set()
    ask = server.job

    def job(job_id: str, **given: Any) -> JobDocument:
        if job_id == "gone":
            raise RuntimeJobNotFound("gone", job_id=job_id)
        return ask(job_id, **given)

    server.job = job  # type: ignore[method-assign]
    ended: dict[str, Any] = {}

    def wait(job_id: str) -> None:
        try:
            ended[job_id] = monitor.wait([job_id], deadline=Deadline(None, clock))[job_id].status
        except RuntimeJobNotFound as error:
            ended[job_id] = error.job_id

    threads = [threading.Thread(target=wait, args=(job_id,)) for job_id in ("good", "gone")]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert ended == {"good": JobStatus.DONE, "gone": "gone"}


def test_a_timeout_that_passes_while_the_process_is_stopped_asks_once_more(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    found: dict[str, JobDocument] = {}

    def wait() -> None:
        found.update(monitor.wait(["j"], deadline=Deadline(10, clock)))

    def stopped_at_five_seconds(now: float) -> str:
        if 5 <= now < 10:
            clock.advance(100)
        return "Queued" if now < 50 else "Completed"

    server.status["j"] = stopped_at_five_seconds
    waiter = threading.Thread(target=wait, name="waiter")
    waiter.start()
    clock.join([waiter])
    assert found["j"].status is JobStatus.DONE


@pytest.mark.parametrize("ends", ["with what was so before", "with an error"])
def test_a_query_that_was_under_way_when_the_process_was_stopped_is_not_the_one_more(
    ends: str, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    found: dict[str, JobDocument] = {}

    def stopped_at_five_seconds(now: float) -> str:
        if 5 <= now < 10:
            clock.advance(100)
            clock.sleep(0.1)  # who waits is awake before the answer is read
            if ends == "with an error":
                raise TransportError("the connection was gone")
        elif now >= 10:
            clock.sleep(0.1)  # an answer takes its time
        return "Queued" if now < 50 else "Completed"

    server.status["j"] = stopped_at_five_seconds
    waiter = threading.Thread(target=lambda: found.update(monitor.wait(["j"], deadline=Deadline(10, clock))))
    waiter.start()
    clock.join([waiter])
    assert found["j"].status is JobStatus.DONE


def test_an_interrupt_ends_the_waits_it_was_given_and_no_others(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.queued_until("j", 60)
    interrupt = Interrupt()
    ended: dict[str, object] = {}

    def wait(name: str, given: Interrupt | None) -> None:
        try:
            ended[name] = monitor.wait(["j"], deadline=Deadline(None, clock), interrupt=given)["j"].status
        except WaitInterruptedError as error:
            ended[name] = (clock.monotonic() - server.started, error.message)

    server.status["trigger"] = lambda now: "Queued" if now < 30 else "Completed"
    threads = [
        threading.Thread(target=wait, args=("told", interrupt)),
        threading.Thread(target=wait, args=("not told", None)),
        threading.Thread(
            target=lambda: [
                interrupt.set("the flow run was cancelled")
                for _ in monitor.as_completed(["trigger"], deadline=Deadline(None, clock))
            ]
        ),
    ]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert ended["not told"] is JobStatus.DONE
    at, message = ended["told"]  # type: ignore[misc]  # seen above
    assert 30 <= at < 60
    assert message == "Job j: no longer waited for, the flow run was cancelled."
    with pytest.raises(WaitInterruptedError):
        monitor.wait(["j2"], deadline=Deadline(None, clock), interrupt=interrupt)


def test_a_running_job_is_left_alone_for_half_of_what_is_left_of_the_time_the_server_expects(
    server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.runs_for("j", 600, expected=600)
    monitor.wait(["j"], deadline=Deadline(None, clock))
    assert 15 <= len(server.queries) <= 40, "a look every five seconds is 120 and more"
    assert server.times()[-1] - 600 <= 5
    assert max(pauses(server.times())) <= 60
    assert max(pauses([at for at in server.times() if at > 590])) <= 5


@pytest.mark.parametrize("expected", [20.0, 0.0, -5.0, 1e9])
def test_a_wrong_expectation_costs_a_minute_at_most(
    expected: float, server: Server, monitor: JobMonitor, clock: FakeClock
) -> None:
    server.runs_for("j", 300, expected=expected)
    monitor.wait(["j"], deadline=Deadline(None, clock))
    assert server.times()[-1] - 300 <= (60 if expected > 300 else 5)
