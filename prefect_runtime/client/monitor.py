"""One watcher per account for every job that somebody in this process waits for. Used by job.py and service.py.

Callers put the jobs they wait for on one board; one thread asks the server for all of them, by list where there are
several, ever more seldom while nothing happens. Where the server tells of changes by itself (feed.py), asking is only
the safety net. A failed poll is an event of the line, not of the job: it is logged and tried again.
"""

from __future__ import annotations

import contextlib
import random
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from datetime import timedelta
from typing import Protocol

from prefect_runtime.client.board import FIRST_ANSWER_GRACE, Waiter, Watch, changed_since
from prefect_runtime.client.feed import Feed
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.client.sockets import Socket
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConfigurationError,
    PermissionDeniedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    RuntimeJobNotFound,
    ServerError,
    TransportError,
)
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import TAG, JobDocument, parse_time

_log = get_logger(__name__)

LONGEST_TOLD_PAUSE = 600.0  # however long a server asks us to stay away: there are proxies that say a year
JITTER = 0.3  # a pause is 70 to 100 % of its length, so that many processes do not ask in step
PAUSE_WITH_FEED = 30.0
FEED_LINGERS = 10.0  # seconds after the last wait: who runs one job after another opens one feed
SHORTEST_PAUSE = 0.05
PAGE, MAX_PAGES = 200, 5
CONFIRM_GONE = 2  # a 404 for a known job is believed when it comes twice in a row
ASK_ITSELF_EVERY = 10  # rounds: some servers move a job on only when that job is asked for
SAMPLE = 10  # of many jobs so many are asked for, until one of them shows that this server is of that kind


class StatusSource(Protocol):
    """What the monitor needs of a `RuntimeClient`."""

    @property
    def has_feed(self) -> bool:
        """True where the server tells of status changes by itself."""

    def open_feed(self) -> Socket:
        """Open that stream."""

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Ask for one job."""

    def jobs(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        tags: Sequence[str] = (),
        created_after: str | None = None,
        patient: bool = True,
    ) -> list[JobDocument]:
        """Ask for a page of jobs."""


class JobMonitor:
    """Watches jobs of one account.

    Args:
        source: Asks the server.
        clock: Where the time comes from.
    """

    def __init__(self, source: StatusSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._lock = threading.RLock()  # guards all below
        self._wake = threading.Condition(self._lock)
        self._watches: dict[str, Watch] = {}
        self._thread: threading.Thread | None = None
        self._feed: Feed | None = None
        self._times_to_ask_again = 0  # what is under way then may be too old
        self._idle_until = 0.0  # when the thread ends if nobody waits any more
        self._random = random.Random()  # noqa: S311 - jitter
        self._list_lags = False  # a job that was asked for itself was further than the list said

    def wait(
        self,
        job_ids: Collection[str],
        *,
        deadline: Deadline,
        longest_pause: float | None = None,
        on_change: Callable[[JobDocument], None] | None = None,
        interrupt: Interrupt | None = None,
    ) -> dict[str, JobDocument]:
        """Return the documents of jobs once all are final, or at the deadline as far as they are known.

        Args:
            job_ids: The jobs.
            deadline: When to stop waiting; nothing is raised then.
            longest_pause: The longest time between two queries, in seconds; None leaves it to the monitor.
            on_change: Called in this thread with a job's document after each change of its status word.
            interrupt: Ends the wait when it is set.

        Raises:
            WaitInterruptedError: `interrupt` was set, and not all are final.
            RuntimeJobNotFound: The server said so twice in a row.
            PermissionDeniedError: The server said so twice in a row.
            AuthenticationError: The sign-in failed for good.
        """
        words: dict[str, str] = {}
        with self._watching(job_ids, deadline, longest_pause, interrupt) as call, self._lock:
            while True:
                changed = changed_since(call.watches, words) if on_change else []
                if on_change and changed:
                    self._unlocked(on_change, changed)
                    continue
                if not all(watch.is_final for watch in call.watches):
                    call.check()
                    if not call.is_over():
                        self._wait_for_news(call)
                        continue
                return {watch.job_id: watch.document for watch in call.watches if watch.document}

    def as_completed(
        self,
        job_ids: Collection[str],
        *,
        deadline: Deadline,
        longest_pause: float | None = None,
        interrupt: Interrupt | None = None,
    ) -> Iterator[JobDocument]:
        """Give the documents of jobs as they become final, the first first; ends with the last, or at the deadline.

        Args:
            job_ids: The jobs.
            deadline: When to stop waiting; nothing is raised then.
            longest_pause: The longest time between two queries, in seconds; None leaves it to the monitor.
            interrupt: Ends the wait when it is set.

        Raises:
            QiskitRuntimeError: As `wait`, when all that are final have been given.
        """
        with self._watching(job_ids, deadline, longest_pause, interrupt) as call:
            while call.watches:
                with self._lock:
                    final = [watch for watch in call.watches if watch.is_final]
                    if not final:
                        call.check()
                        if call.is_over():
                            return
                        self._wait_for_news(call)
                        continue
                    for watch in final:
                        call.watches.remove(watch)
                        self._leave(watch, call)
                yield from (watch.document for watch in final if watch.document is not None)

    @contextlib.contextmanager
    def _watching(
        self, job_ids: Collection[str], deadline: Deadline, longest_pause: float | None, interrupt: Interrupt | None
    ) -> Iterator[Waiter]:
        """Put jobs on the board for the time of a call."""
        call = Waiter(self._lock, self._clock, deadline, longest_pause, interrupt)
        with self._lock:
            # The feed may be some milliseconds late: who has no time to wait for it has to ask.
            trusting = deadline.remaining() > FIRST_ANSWER_GRACE
            call.watches = [self._enter(job_id, call, trusting=trusting) for job_id in dict.fromkeys(job_ids)]
            call.answers_before = {watch.job_id: watch.answers for watch in call.watches}
        try:
            with call.interrupt.waking(call.wake):
                yield call
        finally:
            with self._lock:
                for watch in call.watches:
                    self._leave(watch, call)

    def close(self) -> None:
        """End at once instead of lingering; who waits goes on waiting."""
        with self._lock:
            self._idle_until = 0.0
            self._wake.notify()

    def _wait_for_news(self, call: Waiter) -> None:
        if call.wait():
            self._ask_again()

    def _unlocked(self, call: Callable[[JobDocument], None], documents: list[JobDocument]) -> None:
        self._lock.release()
        try:
            for document in documents:
                call(document)
        finally:
            self._lock.acquire()

    def _enter(self, job_id: str, waiter: Waiter, *, trusting: bool) -> Watch:
        watch = self._watches.get(job_id)
        if watch is None:
            watch = self._watches[job_id] = Watch(job_id)
        watch.waiters.add(waiter)
        if self._thread is None or not self._thread.is_alive():  # a forked process has no threads
            self._start()
        told = self._feed.last_word(job_id) if trusting and self._feed is not None else None
        if told is not None:
            self._take(told)
            pause = PAUSE_WITH_FEED if waiter.longest_pause is None else waiter.longest_pause
            watch.due = self._clock.monotonic() + min(PAUSE_WITH_FEED, max(SHORTEST_PAUSE, pause))
        else:
            watch.due = watch.not_before  # who has just come wants to know now
        self._wake.notify()
        return watch

    def _start(self) -> None:
        self._feed = None
        self._thread = threading.Thread(target=self._run, name="job-monitor", daemon=True)
        self._thread.start()

    def _leave(self, watch: Watch, waiter: Waiter) -> None:
        watch.waiters.discard(waiter)
        if not watch.waiters:
            self._watches.pop(watch.job_id, None)
            if not self._watches and self._feed is not None:
                self._idle_until = self._clock.monotonic() + FEED_LINGERS
            self._wake.notify()

    # The watcher's thread

    def _run(self) -> None:
        # Opened while the first query is under way; when it is there, everything is asked once more.
        feed = self._source.has_feed and Feed(self._source.open_feed, self._take, self._feed_state_changed)
        self._feed = feed or None
        try:
            while (due := self._next_due()) is not None:
                seen = self._times_to_ask_again
                try:
                    self._ask(due)
                except Exception:  # noqa: BLE001 - a fault of ours must not leave callers waiting for ever
                    _log.exception("the watcher of jobs stumbled; it goes on")
                with self._lock:
                    # An answer may be older than the feed: what happened between the two would be told by nobody.
                    again = self._times_to_ask_again != seen
                    for job_id in due:
                        self._plan_next(job_id, at_once=again)
        finally:
            if feed:
                feed.close()

    def _next_due(self) -> list[str] | None:
        """Wait until jobs are due for a query and return them; None when nobody waits any more."""
        with self._lock:
            while True:
                if not self._watches:
                    idle = self._idle_until - self._clock.monotonic()
                    if idle > 0:
                        self._clock.wait(self._wake, idle)
                        continue
                    self._thread = self._feed = None
                    return None
                open_watches = [watch for watch in self._watches.values() if not watch.settled]
                now = self._clock.monotonic()
                if any(watch.due <= now for watch in open_watches):
                    # What is due soon goes along: one list serves all, and jitter does not pull them apart.
                    return [watch.job_id for watch in open_watches if watch.due - JITTER * watch.planned <= now]
                next_due = min((watch.due for watch in open_watches), default=None)
                self._clock.wait(self._wake, None if next_due is None else max(0.0, next_due - now))

    def _ask(self, job_ids: list[str]) -> None:
        alone = list(job_ids)
        if len(job_ids) > 1:
            alone = [job_id for job_id in job_ids if self._wants_own_query(job_id)]
            if len(alone) > SAMPLE and not self._list_lags:
                alone = self._random.sample(alone, SAMPLE)
            others = set(job_ids) - set(alone)
            listed = self._ask_list(others) if others else others
            alone += [job_id for job_id in job_ids if job_id not in listed and job_id not in alone]
        for job_id in alone:
            before = self._word(job_id)
            self._ask_one(job_id)
            # A change that the list did not tell of; if it was only quicker than the list, that costs some requests.
            self._list_lags |= len(job_ids) > 1 and before not in ("", self._word(job_id))

    def _word(self, job_id: str) -> str:
        with self._lock:
            watch = self._watches.get(job_id)
            return watch.document.word if watch is not None and watch.document is not None else ""

    def _wants_own_query(self, job_id: str) -> bool:
        with self._lock:
            watch = self._watches.get(job_id)
            return watch is not None and watch.rounds % ASK_ITSELF_EVERY == ASK_ITSELF_EVERY - 1

    def _ask_list(self, wanted: set[str]) -> set[str]:
        """Ask for a list and take in what it says of the wanted jobs; return those it shows."""
        seen: set[str] = set()
        oldest = self._oldest(wanted)
        for page in range(MAX_PAGES):
            try:
                documents = self._source.jobs(
                    limit=PAGE, offset=page * PAGE, tags=[TAG], created_after=oldest, patient=False
                )
            except (TransportError, ServerError, RateLimitedError, AuthenticationError, ConfigurationError) as error:
                self._failed(wanted - seen, error)
                return wanted
            except QiskitRuntimeError as error:  # says nothing of the jobs: each is asked for
                _log.warning("the server's list of jobs is of no use (%s)", error)
                return seen
            for document in documents:
                if document.id in wanted:
                    seen.add(document.id)
                    self._take(document)
            if len(documents) < PAGE or seen == wanted:
                break
        return seen

    def _oldest(self, wanted: set[str]) -> str | None:
        """Return since when the list is wanted: None while nothing is known of one of the jobs."""
        with self._lock:
            watches = [self._watches.get(job_id) for job_id in wanted]
            known = [watch.document.created for watch in watches if watch is not None and watch.document is not None]
        try:
            moments = [moment for moment in map(parse_time, known) if moment is not None]
        except ProtocolError:
            return None
        if not moments or len(moments) < len(wanted):
            return None
        # A second earlier: nobody says whether the moment itself is after it.
        return (min(moments) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")

    def _ask_one(self, job_id: str) -> None:
        try:
            document = self._source.job(job_id, patient=False)
        except QiskitRuntimeError as error:
            self._failed([job_id], error)
        else:
            self._take(document)

    def _take(self, document: JobDocument) -> None:
        """Put what the server says of a job on the board; what comes after a final status is left out."""
        with self._lock:
            watch = self._watches.get(document.id)
            if watch is None:
                return
            watch.times_gone, watch.failed = 0, False
            known = watch.document
            if known is not None and known.is_final:
                return
            if document.status is None and (known is None or known.word != document.word):
                _log.warning(
                    "job %s: status %r is not known to this version; waiting on", document.id, document.word[:60]
                )
            watch.heard(document, self._clock.monotonic())
            watch.answers += 1
            watch.tell()

    def _failed(self, job_ids: Collection[str], error: QiskitRuntimeError) -> None:
        gone = isinstance(error, RuntimeJobNotFound | PermissionDeniedError)
        # A sign-in service that is down is an event of the line; a token that it refused is not.
        for_good = isinstance(error, AuthenticationError | ConfigurationError) and not error.retryable
        _log.warning("status of %s not known now, will ask again: %s", _names(job_ids), error)
        with self._lock:
            for job_id in job_ids:
                watch = self._watches.get(job_id)
                if watch is None:
                    continue
                watch.answers += 1
                watch.failed = True
                watch.times_gone = watch.times_gone + 1 if gone else 0
                if isinstance(error, RateLimitedError) and error.retry_after is not None:
                    watch.not_before = self._clock.monotonic() + min(error.retry_after, LONGEST_TOLD_PAUSE)
                if for_good or watch.times_gone >= CONFIRM_GONE:
                    watch.error = error
                watch.tell()

    def _plan_next(self, job_id: str, *, at_once: bool) -> None:
        watch = self._watches.get(job_id)
        if watch is None:
            return
        if at_once:
            watch.due = watch.not_before
            return
        watch.rounds += 1
        pause = watch.next_pause(self._clock.monotonic())
        if watch.failed:
            pass  # the feed tells of changes, not of what a query that failed would have said
        elif self._feed is not None and self._feed.connected:
            pause = PAUSE_WITH_FEED
        caps = [waiter.longest_pause for waiter in watch.waiters if waiter.longest_pause is not None]
        # The jitter comes last: who looks twice a second in step with the job would always just miss its end.
        pause = max(SHORTEST_PAUSE, min([pause, *caps]) * (1 - JITTER * self._random.random()))
        now = self._clock.monotonic()
        watch.due = max(now + pause, watch.not_before)
        watch.planned = watch.due - now if watch.due > watch.not_before else 0.0

    def _feed_state_changed(self) -> None:
        """The feed came or went: what happened around that moment is only found by asking."""
        with self._lock:
            if not self._watches and self._feed is not None and not self._feed.connected:
                self._idle_until = 0.0  # it only lingers: opened anew, it would start a runtime that was stopped
            self._ask_again()

    def _ask_again(self) -> None:
        """Have all jobs asked for now, also those whose query is under way: its answer may be too old."""
        self._times_to_ask_again += 1
        for watch in self._watches.values():
            watch.due = watch.not_before
        self._wake.notify()


def _names(job_ids: Collection[str]) -> str:
    first = next(iter(job_ids), "no job")
    return f"job {first}" if len(job_ids) == 1 else f"{len(job_ids)} jobs ({first}, …)"
