"""Ends a wait from outside: a flow that a person cancels, an async caller that is gone. Used by those who wait.

That is a wait for a job, or one for something else in a call: its turn, an answer that was lost (`pause_for`).
"""

from __future__ import annotations

import contextlib
import threading
import weakref
from collections.abc import Callable, Iterator
from contextvars import ContextVar

from prefect_runtime.client.retry import Clock
from prefect_runtime.wire.errors import WaitInterruptedError

_around: ContextVar[Interrupt | None] = ContextVar("interrupt", default=None)


class Interrupt:
    """Makes every wait it was given raise, once it is set. One may serve several waits, at once or in turn.

    One that is made within another's `around` is set with it, so that who ends a whole call need not know its waits.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards all below
        self._reason = ""
        self._wakes: list[Callable[[], None]] = []
        self._inner: weakref.WeakSet[Interrupt] = weakref.WeakSet()  # those of waits that are over are gone
        outer = _around.get()
        if outer is not None:
            outer._hand_on(self)

    @contextlib.contextmanager
    def around(self) -> Iterator[Interrupt]:
        """End with this one all waits that begin in the block, in this context (`contextvars`), when it is set."""
        token = _around.set(self)
        try:
            yield self
        finally:
            _around.reset(token)

    def _hand_on(self, inner: Interrupt) -> None:
        with self._lock:
            self._inner.add(inner)
            late = self.is_set
        if late:
            inner.set(self._reason)

    def set(self, reason: str) -> None:
        """End the waits; `reason` says why, as a part of a sentence. The first one counts."""
        with self._lock:
            self._reason = self._reason or reason
            wakes, inner = list(self._wakes), list(self._inner)
        for wake in wakes:  # outside of the lock: they take others
            wake()
        for one in inner:
            one.set(self._reason)

    @property
    def is_set(self) -> bool:
        """True once the waits are to end."""
        return bool(self._reason)

    @property
    def reason(self) -> str:
        """Why they are to end, as a part of a sentence; empty if they are not."""
        return self._reason

    def check(self, job_id: str) -> None:
        """Raise if the wait for a job is to end.

        Raises:
            WaitInterruptedError: It is.
        """
        if self._reason:
            raise WaitInterruptedError(f"Job {job_id}: no longer waited for, {self._reason}.", job_id=job_id)

    @contextlib.contextmanager
    def waking(self, wake: Callable[[], None]) -> Iterator[None]:
        """Call `wake` when it is set, for the time of a wait; at once if it is set already."""
        with self._lock:
            self._wakes.append(wake)
            late = self.is_set
        if late:
            wake()
        try:
            yield
        finally:
            with self._lock:
                self._wakes.remove(wake)

    def pause(self, clock: Clock, seconds: float) -> None:
        """Let that much time pass, or less if it is set meanwhile."""
        changed = threading.Condition()

        def wake() -> None:
            with changed:
                changed.notify_all()

        with self.waking(wake), changed:
            if not self._reason:
                clock.wait(changed, seconds)


def pause_for(clock: Clock, seconds: float, given_up: str) -> None:
    """Let time pass in the middle of a call, unless the call is to end (`Interrupt.around`).

    Args:
        clock: Where the time comes from.
        seconds: How much.
        given_up: What is then not done, as a sentence without its end.

    Raises:
        WaitInterruptedError: It is to end.
    """
    interrupt = _around.get()
    if interrupt is None:
        clock.sleep(seconds)
        return
    interrupt.pause(clock, seconds)
    if interrupt.is_set:
        raise WaitInterruptedError(f"{given_up}, {interrupt.reason}.")
