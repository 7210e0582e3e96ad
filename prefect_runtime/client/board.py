"""Who waits for which job, and what is known of it: the board of the monitor. Used by monitor.py and inquiry.py."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from datetime import timedelta

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConfigurationError,
    PermissionDeniedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    RuntimeJobNotFound,
)
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument, JobStatus

_log = get_logger(__name__)

FIRST_PAUSE = 0.5  # seconds between the first two queries
GROWTH = 1.5
JITTER = 0.3  # a pause is 70 to 100 % of its length, so that many processes do not ask in step
SHORTEST_PAUSE = 0.05
PAUSE_WITH_FEED = 30.0
LONGEST_PAUSE = 60.0  # seconds between two queries while the job queues
LONGEST_PAUSE_RUNNING = 5.0
FIRST_ANSWER_GRACE = 0.5  # however short the timeout: a job that is final already is found so
AWAKE_GRACE = 1.5  # after a sleep a connection may be gone, and a token may have run out
OVERSLEPT = 0.25  # seconds by which a wait ends late if the process was stopped, or kept from running
LONGEST_TOLD_PAUSE = 600.0  # however long a server asks us to stay away: there are proxies that say a year
MOST_LATE = 1000  # final documents that nobody waits for, kept for who asks next
CONFIRM_GONE = 2  # a 404 for a known job is believed when it comes twice in a row


class Watch:
    """What is known of one job that somebody waits for."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.document: JobDocument | None = None
        self.error: QiskitRuntimeError | None = None
        self.waiters: set[Waiter] = set()
        self.answers = 0  # queries that were answered, or have failed
        self.is_asked = False  # a query is under way
        self.due = math.inf
        self.planned = 0.0  # seconds between the last query and `due`
        self.running_since: float | None = None  # when we first heard that it runs
        self._pause = FIRST_PAUSE
        self.rounds = 0
        self.times_gone = 0
        self.failed = False  # the last query was not answered

    @property
    def is_final(self) -> bool:
        """True once the job is known to be final."""
        return self.document is not None and self.document.is_final

    @property
    def settled(self) -> bool:
        """True once there is nothing more to ask."""
        return self.error is not None or self.is_final

    def heard(self, document: JobDocument, now: float) -> None:
        """Note what the server says; after a change of the status the next looks come soon again."""
        if self.document is None or self.document.word != document.word:
            self._pause = FIRST_PAUSE
        if document.status is JobStatus.RUNNING and self.running_since is None:
            self.running_since = now
        self.document = document

    def failed_with(self, error: QiskitRuntimeError) -> None:
        """Note that a query was not answered; only what the server says for good ends a wait."""
        gone = isinstance(error, RuntimeJobNotFound | PermissionDeniedError)
        # A sign-in service that is down is an event of the line; a token that it refused is not.
        for_good = isinstance(error, AuthenticationError | ConfigurationError) and not error.retryable
        self.answers += 1
        self.failed = True
        self.times_gone = self.times_gone + 1 if gone else 0
        if for_good or self.times_gone >= CONFIRM_GONE:
            self.error = error

    def asking(self) -> None:
        """Note that a query is under way."""
        self.is_asked = True

    def asked(self) -> None:
        """Note that none is under way any more."""
        self.is_asked = False
        for waiter in self.waiters:
            waiter.asked(self)

    def wanted_now(self) -> None:
        """Have it asked for as soon as the server lets us."""
        self.due = 0.0

    def wanted_in(self, longest_pause: float | None, now: float) -> None:
        """Have it asked for when somebody who has just heard how it is wants to hear again, or earlier."""
        pause = PAUSE_WITH_FEED if longest_pause is None else longest_pause
        self.due = min(self.due, now + min(PAUSE_WITH_FEED, max(SHORTEST_PAUSE, pause)))

    def plan(self, now: float, rest: float, *, is_told: bool, share: float) -> None:
        """Plan the next look, after one.

        Args:
            now: What time it is.
            rest: Seconds for which to leave the job alone in any case, because looking at it took long.
            is_told: A feed tells of changes by itself.
            share: Of the pause, which is to differ between processes.
        """
        self.rounds += 1
        pause = max(rest, self.next_pause(now))
        if is_told and not self.failed:  # a feed tells of changes, not of what a query that failed would have said
            pause = PAUSE_WITH_FEED
        caps = [waiter.longest_pause for waiter in self.waiters if waiter.longest_pause is not None]
        self.planned = max(SHORTEST_PAUSE, min([pause, *caps]) * share)
        self.due = now + self.planned

    def next_pause(self, now: float) -> float:
        """Return how long to leave the server alone: longer each time, up to a minute in the queue.

        While the job runs up to five seconds; half of what is left of the time that the server thinks it takes if that
        is more, so that the looks are few at first and close together at the end.
        """
        running = self.document is not None and self.document.status is JobStatus.RUNNING
        left = self._seconds_left(now) if running else 0.0
        if left > 2 * LONGEST_PAUSE_RUNNING:
            return min(left / 2, LONGEST_PAUSE)
        longest = LONGEST_PAUSE_RUNNING if running else LONGEST_PAUSE
        pause = min(self._pause, longest)
        self._pause = min(pause * GROWTH, longest)
        return pause

    def _seconds_left(self, now: float) -> float:
        expected = self.document.running_seconds if self.document is not None else None
        return 0.0 if expected is None or self.running_since is None else self.running_since + expected - now

    def tell(self) -> None:
        """Wake all who wait for the job."""
        for waiter in self.waiters:
            waiter.news.notify_all()


class Waiter:
    """One call of somebody who waits; used with the monitor's lock held."""

    def __init__(
        self,
        lock: threading.RLock,
        clock: Clock,
        deadline: Deadline,
        longest_pause: float | None,
        interrupt: Interrupt | None = None,
    ) -> None:
        self.news = threading.Condition(lock)
        self.longest_pause = longest_pause
        self.interrupt = interrupt or Interrupt()
        self.watches: list[Watch] = []
        self.answers_before: dict[str, int] = {}
        self._too_old: set[str] = set()  # jobs whose query was under way when the process was stopped
        self._clock = clock
        self._deadline = deadline
        self._grace = Deadline(FIRST_ANSWER_GRACE, clock)

    def check(self) -> None:
        """Raise what the server has said for good of one of the jobs, or that the wait is to end."""
        for watch in self.watches:
            self.interrupt.check(watch.job_id)
            if watch.error is not None:
                raise watch.error

    def is_over(self) -> bool:
        """True after the deadline; not before each job was asked for once, if that does not take too long."""
        if not self._deadline.expired:
            return False
        return self._grace.expired or all(self._has_answer(watch) for watch in self.watches)

    def _has_answer(self, watch: Watch) -> bool:
        return watch.job_id not in self._too_old and watch.answers > self.answers_before[watch.job_id]

    def asked(self, watch: Watch) -> None:
        """Take note that a query has ended; one from before a sleep says nothing of the time after it."""
        if watch.job_id in self._too_old:
            self._too_old.discard(watch.job_id)
            self.answers_before[watch.job_id] = watch.answers

    def wake(self) -> None:
        """Have it look once more; for who does not hold the lock."""
        with self.news:
            self.news.notify_all()

    def wait(self) -> bool:
        """Wait for news, until the deadline; True if that took much longer: what we know is old, and worth a question.

        A laptop that sleeps, or SIGSTOP: the deadline has passed, but nobody has looked at the jobs meanwhile.
        """
        left = self._deadline.remaining() or self._grace.remaining()
        start = self._clock.monotonic()
        self._clock.wait(self.news, None if left == float("inf") else left)
        if self._clock.monotonic() - start <= left + OVERSLEPT:
            return False
        self._grace = Deadline(AWAKE_GRACE, self._clock)
        self.answers_before = {watch.job_id: watch.answers for watch in self.watches}
        self._too_old = {watch.job_id for watch in self.watches if watch.is_asked}
        return True


class Board:
    """The jobs that somebody waits for, and what the server has said of them.

    Args:
        clock: Where the time comes from.

    Attributes:
        lock: Guards all of it.
        watches: By job id.
        not_before: When the server lets us ask again, for whichever job; kept when nobody waits any more.
    """

    def __init__(self, clock: Clock) -> None:
        self.lock = threading.RLock()
        self.watches: dict[str, Watch] = {}
        self.not_before = 0.0
        self._late: OrderedDict[str, JobDocument] = OrderedDict()
        self._clock = clock

    def watch(self, job_id: str) -> Watch:
        """Return the watch of a job, set up anew if nobody waits for it yet; with the lock held.

        An answer that came after the last waiter had gone is in it, if it was final: on a slow line, who looks again
        and again for a moment would never have one.
        """
        watch = self.watches.get(job_id)
        if watch is None:
            watch = self.watches[job_id] = Watch(job_id)
            watch.document = self._late.pop(job_id, None)
        return watch

    def take(self, document: JobDocument) -> None:
        """Put what the server says of a job on the board; what comes after a final status is left out."""
        with self.lock:
            watch = self.watches.get(document.id)
            if watch is None:
                self._keep(document)
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

    def _keep(self, document: JobDocument) -> None:
        if not document.is_final:
            return
        self._late[document.id] = document
        while len(self._late) > MOST_LATE:
            self._late.popitem(last=False)

    def failed(self, job_ids: Collection[str], error: QiskitRuntimeError) -> None:
        """Note that a query was not answered."""
        _log.warning("status of %s not known now, will ask again: %s", _names(job_ids), error)
        with self.lock:
            if isinstance(error, RateLimitedError) and error.retry_after is not None:
                self.not_before = self._clock.monotonic() + min(error.retry_after, LONGEST_TOLD_PAUSE)
            for job_id in job_ids:
                watch = self.watches.get(job_id)
                if watch is None:
                    continue
                watch.failed_with(error)
                watch.tell()

    @property
    def is_to_wait(self) -> bool:
        """True while the server does not let us ask."""
        with self.lock:
            return self._clock.monotonic() < self.not_before

    def word(self, job_id: str) -> str:
        """Return the job's last status word; empty if none is known."""
        with self.lock:
            watch = self.watches.get(job_id)
            return watch.document.word if watch is not None and watch.document is not None else ""

    def rounds(self, job_id: str) -> int:
        """Return how often the job was asked for; 0 if nobody waits for it any more."""
        with self.lock:
            watch = self.watches.get(job_id)
            return watch.rounds if watch is not None else 0

    def oldest(self, job_ids: Collection[str]) -> str | None:
        """Return since when a list is to be to show these jobs: None while nothing is known of one of them."""
        with self.lock:
            watches = [self.watches.get(job_id) for job_id in job_ids]
            known = [watch.document.created for watch in watches if watch is not None and watch.document is not None]
        try:
            moments = [moment for moment in map(parse_time, known) if moment is not None]
        except ProtocolError:
            return None
        if not moments or len(moments) < len(job_ids):
            return None
        # A second earlier: nobody says whether the moment itself is after it.
        return (min(moments) - timedelta(seconds=1)).isoformat().replace("+00:00", "Z")


def changed_since(watches: Sequence[Watch], words: dict[str, str]) -> list[JobDocument]:
    """Return the documents whose status word is another than when we last looked, and remember them."""
    changed = [w.document for w in watches if w.document is not None and words.get(w.job_id) != w.document.word]
    words.update({document.id: document.word for document in changed})
    return changed


def _names(job_ids: Collection[str]) -> str:
    first = next(iter(job_ids), "no job")
    return f"job {first}" if len(job_ids) == 1 else f"{len(job_ids)} jobs ({first}, …)"
