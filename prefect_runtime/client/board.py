"""Who waits for which job, and what is known of it: the board of the monitor. Used by monitor.py, under its lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.models import JobDocument, JobStatus

FIRST_PAUSE = 0.5  # seconds between the first two queries
GROWTH = 1.5
LONGEST_PAUSE = 60.0  # seconds between two queries while the job queues
LONGEST_PAUSE_RUNNING = 5.0
FIRST_ANSWER_GRACE = 0.5  # however short the timeout: a job that is final already is found so
AWAKE_GRACE = 1.5  # after a sleep a connection may be gone, and a token may have run out
OVERSLEPT = 0.25  # seconds by which a wait ends late if the process was stopped, or kept from running


class Watch:
    """What is known of one job that somebody waits for."""

    def __init__(self, job_id: str) -> None:
        self.job_id = job_id
        self.document: JobDocument | None = None
        self.error: QiskitRuntimeError | None = None
        self.waiters: set[Waiter] = set()
        self.answers = 0  # queries that were answered, or have failed
        self.due = 0.0
        self.planned = 0.0  # seconds between the last query and `due`
        self.not_before = 0.0  # when the server lets us ask again
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
        return self._grace.expired or all(w.answers > self.answers_before[w.job_id] for w in self.watches)

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
        return True


def changed_since(watches: Sequence[Watch], words: dict[str, str]) -> list[JobDocument]:
    """Return the documents whose status word is another than when we last looked, and remember them."""
    changed = [w.document for w in watches if w.document is not None and words.get(w.job_id) != w.document.word]
    words.update({document.id: document.word for document in changed})
    return changed
