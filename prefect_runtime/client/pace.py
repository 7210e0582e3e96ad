"""At what pace an account's job requests are sent: as fast as they come, until the server says no. For submission.

A session bills by the clock, so nothing is held back on suspicion. Once the server has said 429 (or code 1202), all
threads of the process stay away for as long as it asks, then come one by one, and ever closer to each other while it
takes them. Source of the reason: IBM documents five job creations a minute and user (REST API 0.45.3, ``POST /jobs``).
"""

from __future__ import annotations

import threading

from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import RateLimitedError

FIRST_GAP, LONGEST_GAP = 0.25, 60.0  # seconds between two requests after a refusal; each further one doubles it, but
# where the server says how long to stay away, no two need be further apart than that
RECOVERY, MOST_RECOVERY = 0.1, 0.5  # by what part each request that is taken shortens the gap: the first, the second by
# twice that, and so on: what the server keeps taking was no limit of so many a minute
NO_GAP = 0.1  # seconds: below that, at full speed again
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds to stay away where the server does not say; doubles
LONGEST_TOLD = 86_400.0  # seconds to stay away, whatever the server says: one absurd answer must not end an account


class Pace:
    """The pace of one account in this process. Safe to share between threads.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._last, self._gap_then = float("-inf"), 0.0  # when the last one went, and the gap at that time
        self._away_until = 0.0
        self._gap = 0.0
        self._pause = FIRST_PAUSE
        self._taken_in_a_row = 0
        self._refused_at = float("-inf")

    def turn(self, patience: Deadline, *, per_minute: float | None = None) -> float:
        """Wait until a request may be sent, and return for how many seconds that was: 0.0 if it could go at once.

        Args:
            patience: When to give up; a turn that would come later is not waited for.
            per_minute: A fixed rate to keep, for callers who want one; a slower server is slower still.

        Raises:
            RateLimitedError: The turn would come too late. Nothing was sent.
            WaitInterruptedError: Whoever wanted it sent is gone. Nothing was sent.
        """
        waited = 0.0
        fixed = 60.0 / per_minute if per_minute else 0.0
        while True:
            with self._lock:
                now = self._clock.monotonic()
                # No turn is reserved: whoever waits comes sooner when the gap has shrunk meanwhile.
                gap = max(min(self._gap, self._gap_then), fixed)
                pause = max(self._last + gap, self._away_until) - now
                if pause <= 0:
                    self._last, self._gap_then = now, self._gap
                    return waited
            if pause > patience.remaining():
                raise RateLimitedError(
                    f"The server takes job requests slowly; this one's turn is in {pause:.0f} s or later, which is "
                    "longer than there is time. Nothing was sent; try again later.",
                    retry_after=pause,
                )
            pause_for(self._clock, pause, "The request was not sent while it waited for its turn")
            waited += pause

    def refused(self, retry_after: float | None, *, sent_at: float) -> None:
        """Say that the server has refused a request that was sent at some moment, and how long it wants to be left."""
        with self._lock:
            now = self._clock.monotonic()
            told = self._pause if retry_after is None else min(retry_after, LONGEST_TOLD)
            self._away_until = max(self._away_until, now + told)
            if sent_at < self._refused_at:
                return  # one of several that were under way: the same refusal
            self._refused_at = now
            self._taken_in_a_row = 0
            longest = LONGEST_GAP if retry_after is None else min(LONGEST_GAP, max(FIRST_GAP, retry_after))
            self._gap = min(longest, max(FIRST_GAP, 2 * self._gap))
            self._pause = min(LONGEST_PAUSE, 2 * self._pause)

    def taken(self) -> None:
        """Say that the server has taken a request: the next ones may come a little faster."""
        with self._lock:
            self._pause = FIRST_PAUSE
            self._taken_in_a_row += 1
            self._gap *= 1 - min(MOST_RECOVERY, RECOVERY * self._taken_in_a_row)
            if self._gap < NO_GAP:
                self._gap = 0.0
