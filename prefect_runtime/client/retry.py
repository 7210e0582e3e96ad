"""Time and repetition: `Clock`, `Deadline`, `RetryPolicy`. The only home of tenacity; all of client may import it.

Every wait in this package goes through a `Clock`, so that tests run hours in milliseconds, and is bounded by a
`Deadline`. Deadlines use the monotonic clock: a jump of the wall clock neither ends nor stretches a wait.
"""

from __future__ import annotations

import math
import numbers
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

import tenacity

from prefect_runtime.wire.errors import AuthenticationError, ConfigurationError, QiskitRuntimeError, RateLimitedError

T = TypeVar("T")


class Clock(Protocol):
    """What time it is, and how to let some of it pass."""

    def monotonic(self) -> float:
        """Return seconds since some moment; never goes back."""

    def processor_time(self) -> float:
        """Return the seconds of processor time that the calling thread has taken so far."""

    def sleep(self, seconds: float) -> None:
        """Let that much time pass."""

    def wait(self, condition: threading.Condition, seconds: float | None) -> bool:
        """Wait, holding the condition's lock, until notified or that much time has passed (None: no limit)."""


class SystemClock:
    """The real time."""

    def monotonic(self) -> float:
        """Return `time.monotonic()`."""
        return time.monotonic()

    def processor_time(self) -> float:
        """Return `time.thread_time()`."""
        return time.thread_time()

    def sleep(self, seconds: float) -> None:
        """Sleep."""
        time.sleep(seconds)

    def wait(self, condition: threading.Condition, seconds: float | None) -> bool:
        """Wait on the condition."""
        return condition.wait(seconds)


SYSTEM_CLOCK = SystemClock()


class Deadline:
    """A moment after which we stop.

    Args:
        seconds: From now on; None for never.
        clock: Where the time comes from.
    """

    __slots__ = ("_at", "clock")

    def __init__(self, seconds: float | None, clock: Clock = SYSTEM_CLOCK) -> None:
        self.clock = clock
        # As a float: NumPy adds to a float32 in float32, in which a machine's uptime has no seconds.
        self._at = math.inf if seconds is None else clock.monotonic() + float(seconds)

    def remaining(self) -> float:
        """Return the seconds left: never below 0, `math.inf` for no deadline."""
        return max(0.0, self._at - self.clock.monotonic())

    @property
    def expired(self) -> bool:
        """True once no time is left."""
        return self.remaining() <= 0

    def at_most(self, seconds: float) -> Deadline:
        """Return the earlier one of this deadline and `seconds` from now."""
        return Deadline(min(seconds, self.remaining()), self.clock)


def is_number(value: object) -> bool:
    """Tell whether it is a number that can be counted with and shown, NumPy's among them; True and False are none."""
    if isinstance(value, numbers.Rational):  # a fraction has no form that is sent
        return is_whole_number(value)
    return isinstance(value, numbers.Real)


def is_whole_number(value: object) -> bool:
    """Tell whether it is a whole number, NumPy's among them; True and False are none."""
    return isinstance(value, numbers.Integral) and not isinstance(value, bool)


def check_seconds(name: str, value: float | None) -> None:
    """Refuse a time that is none.

    Raises:
        ConfigurationError: Not a number, negative, or more than can be waited for; the message names the field.
    """
    if value is None:
        return
    if not is_number(value) or not 0 <= value < math.inf:
        raise ConfigurationError(f"{name}: must be a number of seconds, 0 or more, or None; got {value!r}.")
    if value > threading.TIMEOUT_MAX:
        raise ConfigurationError(
            f"{name}: must be {threading.TIMEOUT_MAX:.0f} seconds at most, or None for as long as it takes."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to try something that is safe to repeat, and how long to pause in between.

    Attributes:
        attempts: Tries in all.
        first: Longest pause after the first failure, in seconds; doubles from there, with jitter.
        cap: Longest pause, in seconds.
        on: The errors to try again after, if they also say that this can help.
        to_the_end: Use up the time: a pause that is longer than what is left becomes as long as that.
    """

    attempts: int = 5
    first: float = 0.2
    cap: float = 5.0
    on: tuple[type[QiskitRuntimeError], ...] = (QiskitRuntimeError,)
    to_the_end: bool = False

    def run(self, call: Callable[[], T], deadline: Deadline, *, sleep: Callable[[float], None] | None = None) -> T:
        """Return what `call` returns, trying again while its error says that this can help.

        A pause that the server asks for (`RateLimitedError.retry_after`) is kept, unless it is longer than the time
        left: then the error is raised at once, with time to do something else (not so with `to_the_end`).

        Args:
            call: What to try.
            deadline: When to stop trying.
            sleep: Lets so many seconds pass, or raises to try no more; the clock's own if None.

        Raises:
            QiskitRuntimeError: The last one `call` raised.
        """
        exponential = tenacity.wait_exponential(multiplier=self.first, max=self.cap)

        def pause(state: tenacity.RetryCallState) -> float:
            error = state.outcome.exception() if state.outcome else None
            asked = error.retry_after if isinstance(error, RateLimitedError) else None
            # Half of it at least: two that failed together do not come back together.
            seconds = exponential(state) * random.uniform(0.5, 1.0) if asked is None else asked  # noqa: S311
            return min(seconds, deadline.remaining()) if self.to_the_end else seconds

        def give_up(state: tenacity.RetryCallState) -> bool:
            if self.to_the_end:
                return state.attempt_number >= self.attempts or deadline.expired
            return state.attempt_number >= self.attempts or state.upcoming_sleep >= deadline.remaining()

        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception(self._can_help),
            wait=pause,
            stop=give_up,
            sleep=sleep or deadline.clock.sleep,
            reraise=True,
        )
        return retrying(call)

    def _can_help(self, error: BaseException) -> bool:
        # isinstance first: tenacity hands us SIGTERM's and Ctrl-C's exceptions too, and those must pass.
        # Signing in has short retries of its own (signing.py): those of the request would multiply them.
        return isinstance(error, self.on) and error.retryable and not isinstance(error, AuthenticationError)
