"""The pace of submission: full speed until the server says no, then its own, for all threads. On a fake clock."""

from __future__ import annotations

import itertools
import math
import threading
from typing import TYPE_CHECKING

import pytest

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.pace import Pace
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import RateLimitedError, WaitInterruptedError

if TYPE_CHECKING:
    from conftest import FakeClock

HOUR = 3600.0


class Limited:
    """A server that takes so many jobs a minute, and says with each refusal when the minute is over (or does not)."""

    def __init__(self, clock: FakeClock, *, per_minute: int = 5, says_when: bool = True) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._per_minute = per_minute
        self._says_when = says_when
        self.taken: list[float] = []
        self.refused: list[float] = []

    def post(self) -> float | None:
        """Take a job (None), or refuse it and return the seconds to wait."""
        with self._lock:
            now = self._clock.monotonic()
            recent = [at for at in self.taken if now - at < 60.0]
            if len(recent) < self._per_minute:
                self.taken.append(now)
                return None
            self.refused.append(now)
            return 60.0 - (now - recent[0])

    def submit(self, pace: Pace, patience: Deadline, per_minute: float | None = None) -> None:
        while True:
            pace.turn(patience, per_minute=per_minute)
            sent_at = self._clock.monotonic()
            told = self.post()
            if told is None:
                pace.taken()
                return
            pace.refused(told if self._says_when else None, sent_at=sent_at)


def run(clock: FakeClock, server: Limited, jobs: int, threads: int, *, patience: float = 10 * HOUR,
        per_minute: float | None = None) -> list[Exception]:  # fmt: skip
    pace = Pace(clock)
    errors: list[Exception] = []
    started = threading.Barrier(threads)

    def work() -> None:
        started.wait(10)
        for _ in range(jobs // threads):
            try:
                server.submit(pace, Deadline(patience, clock), per_minute)
            except RateLimitedError as error:
                errors.append(error)

    workers = [threading.Thread(target=work) for _ in range(threads)]
    for worker in workers:
        worker.start()
    clock.join(workers)
    return errors


def test_without_a_refusal_nothing_waits(clock: FakeClock) -> None:
    server = Limited(clock, per_minute=1000)
    run(clock, server, 200, 8)
    assert len(server.taken) == 200
    assert clock.sleeps == []


@pytest.mark.parametrize("says_when", [True, False], ids=["Retry-After", "no Retry-After"])
def test_threads_share_the_servers_pace_and_seldom_meet_a_refusal(says_when: bool, clock: FakeClock) -> None:
    server = Limited(clock, says_when=says_when)
    began = clock.monotonic()
    run(clock, server, 64, 16)
    assert len(server.taken) == 64
    needed = (64 / 5 - 1) * 60  # seconds, were every minute used to the full
    assert clock.monotonic() - began < (2 if says_when else 3) * needed
    # 16 threads that each wait by themselves would be refused hundreds of times.
    assert len(server.refused) - 11 < 64 / 2  # the first eleven were under way together


def test_a_refusal_holds_back_those_who_have_not_sent_yet(clock: FakeClock) -> None:
    pace = Pace(clock)
    pace.refused(30.0, sent_at=clock.monotonic())
    began = clock.monotonic()
    assert pace.turn(Deadline(HOUR, clock)) == 30.0
    assert clock.monotonic() - began == 30.0


def test_who_sleeps_towards_his_turn_when_another_is_refused_goes_on_waiting(clock: FakeClock) -> None:
    pace = Pace(clock)
    pace.refused(10.0, sent_at=clock.monotonic())
    began = clock.monotonic()
    turns: list[float] = []
    waiting = threading.Thread(target=lambda: turns.append(pace.turn(Deadline(HOUR, clock))))

    def refuse_later() -> None:
        clock.sleep(5.0)
        pace.refused(60.0, sent_at=clock.monotonic())

    refusing = threading.Thread(target=refuse_later)
    waiting.start(), refusing.start()
    clock.join([waiting, refusing])
    assert clock.monotonic() - began >= 65.0
    assert turns[0] >= 65.0


def test_a_turn_after_the_deadline_is_refused_at_once(clock: FakeClock) -> None:
    pace = Pace(clock)
    pace.refused(86_400.0, sent_at=clock.monotonic())
    with pytest.raises(RateLimitedError, match="Nothing was sent") as caught:
        pace.turn(Deadline(60, clock))
    assert caught.value.retry_after == 86_400.0
    assert clock.sleeps == []


def test_no_server_keeps_an_account_away_for_longer_than_a_day(clock: FakeClock) -> None:
    pace = Pace(clock)
    pace.refused(math.inf, sent_at=clock.monotonic())
    assert pace.turn(Deadline(25 * HOUR, clock)) == 24 * HOUR


def test_the_gap_grows_once_for_refusals_of_requests_that_were_under_way_together(clock: FakeClock) -> None:
    pace = Pace(clock)
    sent_at = clock.monotonic()
    clock.advance(0.1)
    for _ in range(32):
        pace.refused(0.0, sent_at=sent_at)
    began = clock.monotonic()
    for _ in range(3):
        pace.turn(Deadline(HOUR, clock))
    assert clock.monotonic() - began == pytest.approx(0.5)  # a quarter of a second between two, not 2 ** 32


def test_nobody_is_further_apart_than_the_server_asks_to_stay_away(clock: FakeClock) -> None:
    """A gateway that says 429 now and then, for a moment, is no limit of jobs a minute."""
    pace = Pace(clock)
    for _ in range(5):
        pace.turn(Deadline(HOUR, clock))
        pace.refused(2.0, sent_at=clock.monotonic())
    pace.turn(Deadline(HOUR, clock))
    assert pace.turn(Deadline(HOUR, clock)) == pytest.approx(2.0)  # not 2 ** 4


def test_who_waits_comes_sooner_when_the_gap_has_shrunk_meanwhile(clock: FakeClock) -> None:
    pace = Pace(clock)
    for _ in range(5):
        pace.refused(None, sent_at=clock.monotonic())  # a gap of 16 s
        clock.advance(60)
    pace.turn(Deadline(HOUR, clock))
    began = clock.monotonic()
    waiting = [threading.Thread(target=pace.turn, args=(Deadline(HOUR, clock),)) for _ in range(8)]
    for thread in waiting:
        thread.start()
    for _ in range(60):
        pace.taken()
    clock.join(waiting)
    assert clock.monotonic() - began < 20  # not 8 * 16


def test_it_recovers_to_full_speed_slowly_at_first(clock: FakeClock) -> None:
    pace = Pace(clock)
    for _ in range(3):
        pace.refused(1.0, sent_at=clock.monotonic())  # a gap of 1 s
    waits = []
    for _ in range(40):
        waits.append(pace.turn(Deadline(HOUR, clock)))
        pace.taken()
    assert waits[1] == pytest.approx(0.9)
    assert all(later <= earlier for earlier, later in itertools.pairwise(waits[1:]))
    assert waits[3] > 0.4
    assert waits[-1] == 0.0


def test_a_fixed_rate_is_kept_where_it_is_asked_for(clock: FakeClock) -> None:
    server = Limited(clock, per_minute=1000)
    run(clock, server, 24, 4, per_minute=12.0)
    gaps = [later - earlier for earlier, later in itertools.pairwise(server.taken)]
    assert gaps == pytest.approx([5.0] * 23)


def test_who_waits_for_a_turn_and_is_gone_sends_nothing_and_takes_no_turn(clock: FakeClock) -> None:
    pace, interrupt = Pace(clock), Interrupt()
    pace.refused(600.0, sent_at=clock.monotonic())
    began, raised = clock.monotonic(), []

    def waits() -> None:
        with (
            interrupt.around(),
            pytest.raises(WaitInterruptedError, match=r"was not sent .*, because it is cancelled") as e,
        ):
            pace.turn(Deadline(HOUR, clock))
        raised.append((clock.monotonic() - began, e.value))

    waiting = threading.Thread(target=waits)
    waiting.start()
    clock.sleep(5.0)
    interrupt.set("because it is cancelled")
    clock.join([waiting])
    assert [at for at, _ in raised] == [5.0]
    assert pace.turn(Deadline(HOUR, clock)) == 595.0, "who comes next has the same pause, and the turn"


def test_who_is_gone_before_he_waits_does_not_wait(clock: FakeClock) -> None:
    pace, interrupt = Pace(clock), Interrupt()
    pace.refused(600.0, sent_at=clock.monotonic())
    interrupt.set("because it is cancelled")
    began = clock.monotonic()
    with interrupt.around(), pytest.raises(WaitInterruptedError):
        pace.turn(Deadline(HOUR, clock))
    assert clock.monotonic() == began
