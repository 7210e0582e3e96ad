"""Requests that a caller has named: one at a time in this process, and which jobs they have got. For submission.

Whoever asks under a name looks first whether the server has its job. Two threads that look at the same moment would
both find none, and so would the second of two calls where the server's list is a little behind.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.retry import Clock

TURN_PAUSE = 0.1  # seconds
MOST_REMEMBERED = 1000  # jobs; after so many others, the server's list has it


class Names:
    """The named requests of one account in this process. Safe to share between threads.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._at_work: set[str] = set()
        self._jobs: OrderedDict[str, tuple[str, str]] = OrderedDict()

    @contextlib.contextmanager
    def turn(self, key: str) -> Iterator[None]:
        """Let no other thread look for the job of this key, or make it, at the same time.

        Raises:
            WaitInterruptedError: Whoever wanted the job is gone. Nothing was sent.
        """
        while not self._begin(key):
            pause_for(self._clock, TURN_PAUSE, "Nothing was sent while another thread asked for the same")
        try:
            yield
        finally:
            with self._lock:
                self._at_work.discard(key)

    def _begin(self, key: str) -> bool:
        with self._lock:
            if key in self._at_work:
                return False
            self._at_work.add(key)
            return True

    def remember(self, key: str, fingerprint: str, job_id: str) -> None:
        """Remember which job a request has got."""
        with self._lock:
            self._jobs[key] = (fingerprint, job_id)
            self._jobs.move_to_end(key)
            if len(self._jobs) > MOST_REMEMBERED:
                self._jobs.popitem(last=False)

    def job_of(self, key: str) -> tuple[str, str] | None:
        """Return the fingerprint of the request that has got a job under a key here, and the job's id."""
        with self._lock:
            return self._jobs.get(key)
