"""What the unit tests share: a clock on which hours pass in milliseconds."""

from __future__ import annotations

import itertools
import math
import threading
import time
from collections.abc import Callable, Iterable, Iterator

import pytest


class _Sleeper:
    """A thread that waits on a condition until some moment."""

    def __init__(self, condition: threading.Condition, until: float) -> None:
        self.condition = condition
        self.until = until
        self.awake = False


class FakeClock:
    """A `Clock` whose time moves on, to the next moment somebody waits for, once every thread of the test waits.

    Threads that were there before the clock (those of pytest) are not waited for. Nothing is measured in real time, so
    what a test sees does not depend on how fast the machine is.
    """

    def __init__(self) -> None:
        self.now = 1_000.0
        self.worked = 0.0  # seconds of processor time, which pass by hand only
        self.sleeps: list[float] = []
        self._lock = threading.Lock()
        self._sleepers: dict[threading.Thread, _Sleeper] = {}
        self._not_ours = set(threading.enumerate()) - {threading.current_thread()}
        self._closed = threading.Event()
        self._mover = threading.Thread(target=self._move, name="fake-clock", daemon=True)

    def monotonic(self) -> float:
        return self.now

    def processor_time(self) -> float:
        return self.worked

    def advance(self, seconds: float) -> None:
        """Let time pass by hand."""
        self.now += seconds

    def sleep(self, seconds: float) -> None:
        self.sleeps.append(seconds)
        condition = threading.Condition()
        until = self.now + seconds
        with condition:
            while self.now < until:
                self._block(condition, until)

    def wait(self, condition: threading.Condition, seconds: float | None) -> bool:
        until = math.inf if seconds is None else self.now + seconds
        if self.now >= until:
            return False
        self._block(condition, until)
        return self.now < until

    def join(self, threads: Iterable[threading.Thread], seconds: float = 20.0) -> None:
        """Wait for threads to end while time goes on for them; fails when they do not."""
        self._not_ours.add(threading.current_thread())
        limit = time.monotonic() + seconds
        for thread in threads:
            thread.join(max(0.0, limit - time.monotonic()))
            assert not thread.is_alive(), f"{thread.name} does not end; the clock says {self.now}"
        self._not_ours.discard(threading.current_thread())

    def close(self) -> None:
        self._closed.set()
        if self._mover.is_alive():
            self._mover.join(5)

    def _block(self, condition: threading.Condition, until: float) -> None:
        """Wait for a notification: somebody's, or the mover's once `until` has come. Holds the condition's lock."""
        _tell_on_notify(condition, self._notified)
        thread = threading.current_thread()
        with self._lock:
            self._sleepers[thread] = _Sleeper(condition, until)
            if not self._mover.ident:
                self._mover.start()
        condition.wait()
        with self._lock:
            del self._sleepers[thread]

    def _notified(self, condition: threading.Condition, count: float) -> None:
        with self._lock:
            waiting = (s for s in self._sleepers.values() if s.condition is condition and not s.awake)
            for sleeper in itertools.islice(waiting, None if count == math.inf else int(count)):
                sleeper.awake = True

    def _move(self) -> None:
        while not self._closed.is_set():
            for sleeper in self._due():
                with sleeper.condition:
                    sleeper.condition.notify_all()
            time.sleep(0.0002)

    def _due(self) -> list[_Sleeper]:
        """Move the time on if everybody waits; return who is to be woken."""
        ours = set(threading.enumerate()) - self._not_ours - {self._mover}
        with self._lock:
            sleepers = list(self._sleepers.values())
            if ours - set(self._sleepers) or any(sleeper.awake for sleeper in sleepers):
                return []
            soonest = min((sleeper.until for sleeper in sleepers), default=math.inf)
            if soonest < math.inf:
                self.now = max(self.now, soonest)
            return [sleeper for sleeper in sleepers if sleeper.until <= self.now]


def _tell_on_notify(condition: threading.Condition, tell: Callable[[threading.Condition, float], None]) -> None:
    """Have a condition tell the clock when it is notified: who has been notified does not wait any more."""
    if "notify" in vars(condition):
        return
    notify, notify_all = condition.notify, condition.notify_all

    def notify_and_tell(n: int = 1) -> None:
        tell(condition, n)
        notify(n)

    def notify_all_and_tell() -> None:
        tell(condition, math.inf)
        notify_all()

    vars(condition).update(notify=notify_and_tell, notify_all=notify_all_and_tell)


@pytest.fixture
def clock() -> Iterator[FakeClock]:
    """Time that passes only while everybody waits."""
    clock = FakeClock()
    yield clock
    clock.close()
