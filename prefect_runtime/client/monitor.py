"""One watcher per account for every job that somebody in this process waits for: `RuntimeClient.monitor`.

Callers put the jobs they wait for on one board; one thread asks the server for all of them, by list where there are
several, ever more seldom while nothing happens. Where the server tells of changes by itself (feed.py), asking is only
the safety net. A failed poll is an event of the line, not of the job: it is logged and tried again.
"""

from __future__ import annotations

import contextlib
import math
import random
import threading
from collections.abc import Callable, Collection, Iterator

from prefect_runtime.client.board import FIRST_ANSWER_GRACE, JITTER, Board, Waiter, Watch, changed_since
from prefect_runtime.client.feed import Feed
from prefect_runtime.client.inquiry import Inquiry, StatusSource
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

FEED_LINGERS = 10.0  # seconds after the last wait: who runs one job after another opens one feed
MOST_SHARE = 0.02  # of a core: what took long to look at is left alone for so much longer
LONGEST_REST = 60.0  # seconds, for that reason


class JobMonitor:
    """Watches jobs of one account.

    Args:
        source: Asks the server.
        clock: Where the time comes from.
    """

    def __init__(self, source: StatusSource, *, clock: Clock) -> None:
        self._source = source
        self._clock = clock
        self._board = Board(clock)
        self._inquiry = Inquiry(source, self._board)
        self._lock = self._board.lock  # guards all below as well
        self._wake = threading.Condition(self._lock)
        self._thread: threading.Thread | None = None
        self._feed: Feed | None = None
        self._times_to_ask_again = 0  # what is under way then may be too old
        self._idle_until = 0.0  # when the thread ends if nobody waits any more
        self._random = random.Random()  # noqa: S311 - jitter

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
        try:
            with self._lock:
                # The feed may be some milliseconds late: who has no time to wait for it has to ask.
                trusting = deadline.remaining() > FIRST_ANSWER_GRACE
                for job_id in dict.fromkeys(job_ids):
                    self._enter(job_id, call, trusting=trusting)
                self._start_if_need_be()
            with call.interrupt.waking(call.wake):
                yield call
        finally:
            with self._lock:
                for watch in call.watches:
                    self._leave(watch, call)
                for job_id in job_ids:  # a signal may have come between two lines of entering
                    if job_id in self._board.watches and not self._board.watches[job_id].waiters:
                        del self._board.watches[job_id]

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

    def _enter(self, job_id: str, waiter: Waiter, *, trusting: bool) -> None:
        watch = self._board.watch(job_id)
        watch.waiters.add(waiter)
        waiter.watches.append(watch)
        waiter.answers_before[job_id] = watch.answers
        told = self._feed.last_word(job_id) if trusting and self._feed is not None else None
        if told is not None:
            self._board.take(told)
            watch.wanted_in(waiter.longest_pause, self._clock.monotonic())
        else:
            watch.wanted_now()  # who has just come wants to know
        self._wake.notify()

    def _start_if_need_be(self) -> None:
        if self._thread is not None and self._thread.is_alive():  # a forked process has no threads
            return
        self._feed = None
        self._thread = threading.Thread(target=self._run, name="job-monitor", daemon=True)
        try:
            self._thread.start()
        except RuntimeError:
            raise QiskitRuntimeError(
                "No thread could be started to watch jobs: this process, or its machine, has as many as it may have. "
                "The jobs go on; wait for them again with fewer threads.",
                retryable=True,
            ) from None

    def _leave(self, watch: Watch, waiter: Waiter) -> None:
        watch.waiters.discard(waiter)
        if not watch.waiters:
            self._board.watches.pop(watch.job_id, None)
            if not self._board.watches and self._feed is not None:
                self._idle_until = self._clock.monotonic() + FEED_LINGERS
            self._wake.notify()

    # The watcher's thread

    def _run(self) -> None:
        feed: Feed | None = None
        try:
            feed = self._open_feed()
            self._watch()
        except BaseException as error:  # noqa: BLE001 - whatever it is: who waits must not do so for ever
            _log.exception("the watcher of jobs has ended")
            self._tell_of_the_end(error)
        finally:
            if feed is not None:
                feed.close()

    def _open_feed(self) -> Feed | None:
        """Open it while the first query is under way; when it is there, everything is asked once more."""
        if not self._source.has_feed:
            return None
        try:
            self._feed = Feed(self._source.open_feed, self._board.take, self._feed_state_changed)
        except RuntimeError:  # no more threads: asking finds everything as well, only later
            _log.warning("no thread could be started to hear of status changes: jobs are asked for instead")
        return self._feed

    def _watch(self) -> None:
        while (due := self._next_due()) is not None:
            seen, cost, left_out = self._times_to_ask_again, self._clock.processor_time(), set[str]()
            try:
                left_out.update(self._inquiry.ask(due))
            except Exception:  # noqa: BLE001 - a fault of ours must not leave callers waiting for ever
                _log.exception("the watcher of jobs stumbled; it goes on")
            rest = min(LONGEST_REST, (self._clock.processor_time() - cost) / MOST_SHARE)
            with self._lock:
                # An answer may be older than the feed: what happened between the two would be told by nobody.
                again = self._times_to_ask_again != seen
                for job_id in due:
                    self._plan_next(job_id, rest, at_once=again or job_id in left_out)

    def _tell_of_the_end(self, error: BaseException) -> None:
        with self._lock:
            self._thread = self._feed = None
            for watch in self._board.watches.values():
                watch.error = QiskitRuntimeError(
                    f"Job {watch.job_id}: nobody watches it any more, by a fault of ours ({type(error).__name__}). It "
                    "goes on; wait for it again with its id.",
                    job_id=watch.job_id,
                    retryable=True,
                )
                watch.tell()

    def _next_due(self) -> list[str] | None:
        """Wait until jobs are due for a query and return them; None when nobody waits any more."""
        with self._lock:
            while True:
                if not self._board.watches:
                    idle = self._idle_until - self._clock.monotonic()
                    if idle > 0:
                        self._clock.wait(self._wake, idle)
                        continue
                    self._thread = self._feed = None
                    return None
                open_watches = [watch for watch in self._board.watches.values() if not watch.settled]
                now = self._clock.monotonic()
                let = self._board.not_before
                if now >= let and any(watch.due <= now for watch in open_watches):
                    # What is due soon goes along: one list serves all, and jitter does not pull them apart.
                    due = [watch for watch in open_watches if watch.due - JITTER * watch.planned <= now]
                    for watch in due:
                        watch.asking()
                    return [watch.job_id for watch in due]
                next_due = min((watch.due for watch in open_watches), default=math.inf)
                self._clock.wait(self._wake, None if next_due == math.inf else max(0.0, max(next_due, let) - now))

    def _plan_next(self, job_id: str, rest: float, *, at_once: bool) -> None:
        watch = self._board.watches.get(job_id)
        if watch is None:
            return
        watch.asked()
        if at_once:
            watch.wanted_now()
            return
        is_told = self._feed is not None and self._feed.connected
        # The jitter comes last: who looks twice a second in step with the job would always just miss its end.
        watch.plan(self._clock.monotonic(), rest, is_told=is_told, share=1 - JITTER * self._random.random())

    def _feed_state_changed(self) -> None:
        """The feed came or went: what happened around that moment is only found by asking."""
        with self._lock:
            if not self._board.watches and self._feed is not None and not self._feed.connected:
                self._idle_until = 0.0  # it only lingers: opened anew, it would start a runtime that was stopped
            self._ask_again()

    def _ask_again(self) -> None:
        """Have all jobs asked for now, also those whose query is under way: its answer may be too old."""
        self._times_to_ask_again += 1
        for watch in self._board.watches.values():
            watch.wanted_now()
        self._wake.notify()
