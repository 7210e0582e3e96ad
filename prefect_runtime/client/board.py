"""Who waits for which job, and what is known of it: the board of the monitor. Used by monitor.py, under its lock."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.models import JobDocument

FIRST_PAUSE = 0.5  # seconds between the first two queries
FIRST_ANSWER_GRACE = 0.5  # however short the timeout: a job that is final already is found so


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
        self.pause = FIRST_PAUSE
        self.rounds = 0
        self.times_gone = 0
        self.failed = False  # the last query was not answered

    @property
    def settled(self) -> bool:
        """True once there is nothing more to ask."""
        return self.error is not None or (self.document is not None and self.document.is_final)

    def tell(self) -> None:
        """Wake all who wait for the job."""
        for waiter in self.waiters:
            waiter.news.notify_all()


class Waiter:
    """One call of somebody who waits; used with the monitor's lock held."""

    def __init__(self, lock: threading.RLock, clock: Clock, deadline: Deadline, longest_pause: float | None) -> None:
        self.news = threading.Condition(lock)
        self.longest_pause = longest_pause
        self.watches: list[Watch] = []
        self.answers_before: dict[str, int] = {}
        self._clock = clock
        self._deadline = deadline
        self._grace = Deadline(FIRST_ANSWER_GRACE, clock)

    def check(self) -> None:
        """Raise what the server has said for good of one of the jobs."""
        for watch in self.watches:
            if watch.error is not None:
                raise watch.error

    def is_over(self) -> bool:
        """True after the deadline; not before each job was asked for once, if that does not take too long."""
        if not self._deadline.expired:
            return False
        return self._grace.expired or all(w.answers > self.answers_before[w.job_id] for w in self.watches)

    def wait(self) -> None:
        """Wait for news, until the deadline."""
        left = self._deadline.remaining() or self._grace.remaining()
        self._clock.wait(self.news, None if left == float("inf") else left)


def changed_since(watches: Sequence[Watch], words: dict[str, str]) -> list[JobDocument]:
    """Return the documents whose status word is another than when we last looked, and remember them."""
    changed = [w.document for w in watches if w.document is not None and words.get(w.job_id) != w.document.word]
    words.update({document.id: document.word for document in changed})
    return changed
