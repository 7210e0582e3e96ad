"""A server's list of a job's interim results, put in order. Used by streaming.py to catch up with what was missed."""

from __future__ import annotations

from collections import Counter
from typing import Protocol

from prefect_runtime.client.retry import Clock
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    StreamClosedError,
    TransportError,
)
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

MOST_GARBLED = 3  # answers in a row that are no list: then there is none
PAUSE = 0.5  # seconds between two questions for a list that is wanted now
MOST_ROUNDS_IN_VAIN = 3


class ListSource(Protocol):
    """What is needed of a `RuntimeClient`."""

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        """Ask for the list of a job's interim results so far."""


class ListOfResults:
    """A server's list of a job's interim results, oldest first whichever way round the server has it.

    IBM's had the newest first, others may have the oldest first (Source: Qiskit/qiskit-ibm-runtime issue 15). Which it
    is, is told by what came over the stream, or by the end at which the list grows.

    Args:
        source: Asks for the list.
        job_id: The job.
    """

    def __init__(self, source: ListSource, job_id: str) -> None:
        self._source = source
        self._job_id = job_id
        self._garbled = self._rounds_in_vain = 0
        self._newest_first: bool | None = None
        self._before: list[int] = []
        self._unannounced: Counter[int] = Counter()  # given out from the list, no frame has come for it (yet)
        self.order_guessed = False
        """True if nothing told which way round the list is: IBM's was assumed."""
        self.answered = False
        """True if the last question was."""
        self.there = True
        """False once the server is known to have no list that can be used."""

    def look(self, seen: list[int], *, tries: int, last: bool) -> list[str] | None:
        """Return all results so far, of which the first are those seen; None if that cannot be said (now).

        Args:
            seen: Hashes of those that came.
            tries: How often to ask.
            last: The job is final: there will be no later one.
        """
        for attempt in range(tries):
            if not self.there:
                return None
            if attempt:
                self._source.clock.sleep(PAUSE)
            texts = self._ask()
            self.answered = texts is not None
            if texts is not None:
                self._rounds_in_vain = 0
                return self._in_order(texts, seen, last=last)
        return None

    def raise_if_out_of_reach(self) -> None:
        """Let the connection go when the list is needed and cannot be had now: with the next one, it is asked again.

        Raises:
            StreamClosedError: It is.
        """
        if self.answered or not self.there:
            return
        self._rounds_in_vain += 1
        self.there = self._rounds_in_vain < MOST_ROUNDS_IN_VAIN
        if self.there:
            raise StreamClosedError("The list of interim results cannot be had now.", job_id=self._job_id)

    def _ask(self) -> list[str] | None:
        try:
            texts = self._source.interim_results(self._job_id, patient=False)
        except (TransportError, ServerError, RateLimitedError, AuthenticationError):
            return None  # not now
        except ProtocolError:
            self._garbled += 1
            self.there = self._garbled < MOST_GARBLED
            return None
        except QiskitRuntimeError:
            self.there = False
            return None
        self._garbled = 0
        return texts

    def _in_order(self, texts: list[str], seen: list[int], *, last: bool) -> list[str] | None:
        listed = [hash(text) for text in texts]
        fits = {False: _agree(seen, listed), True: _agree(seen, listed[::-1])}
        if self._newest_first is None and listed != listed[::-1]:
            grown = {
                False: listed[: len(self._before)] == self._before,
                True: listed[len(listed) - len(self._before) :] == self._before,
            }
            possible = [way for way in (False, True) if fits[way] and grown[way]]
            if len(possible) == 1:
                self._newest_first = possible[0]
            elif possible and not last:
                self._before = listed
                return None
            else:
                self.order_guessed = bool(possible)
        self._before = listed
        newest_first = self._newest_first is not False  # where nothing tells: as IBM had it
        if not fits[newest_first]:
            _log.warning("job %s: the list of interim results is not what was streamed", self._job_id)
            self.there = False
            return None
        return texts[::-1] if newest_first else texts

    def give_out(self, texts: list[str]) -> None:
        """Remember that these were given out before a frame came for them."""
        self._unannounced.update(map(hash, texts))

    def was_announced(self, text: str) -> bool:
        """True, once for each, if a frame is for a result that was given out from the list."""
        if self._unannounced[hash(text)] <= 0:
            return False
        self._unannounced[hash(text)] -= 1
        return True


def _agree(one: list[int], other: list[int]) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]
