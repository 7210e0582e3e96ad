"""Requests that a caller has named: one at a time in this process, and which jobs they have got. For submission.

Whoever asks under a name looks first whether the server has its job. Two threads that look at the same moment would
both find none, and so would the second of two calls where the server's list is a little behind, or where the answer to
the first was lost.
"""

from __future__ import annotations

import contextlib
import threading
from collections import OrderedDict
from collections.abc import Iterator

from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.request import Card
from prefect_runtime.client.retry import Clock

TURN_PAUSE = 0.1  # seconds
MOST_REMEMBERED = 1000  # requests; after so many others, the server's list has it


class NamedRequests:
    """The named requests of one account in this process. Safe to share between threads.

    Args:
        clock: Where the time comes from.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._at_work: set[str] = set()
        self._cards: OrderedDict[str, Card] = OrderedDict()

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

    def remember(self, card: Card) -> None:
        """Remember that a request is about to be sent, or which job it has got."""
        with self._lock:
            self._cards[card.key] = card
            self._cards.move_to_end(card.key)
            if len(self._cards) > MOST_REMEMBERED:
                self._cards.popitem(last=False)

    def forget(self, key: str) -> None:
        """Forget a request that was provably not taken."""
        with self._lock:
            self._cards.pop(key, None)

    def known(self, key: str) -> Card | None:
        """Return the card of the request that was sent under a key here; without a job if its answer was lost."""
        with self._lock:
            return self._cards.get(key)
