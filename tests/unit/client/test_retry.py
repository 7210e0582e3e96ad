"""Deadlines and repetition, on a clock that only moves when somebody waits."""

from __future__ import annotations

import math
import threading
import time
import warnings
from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client.retry import SYSTEM_CLOCK, Deadline, RetryPolicy, check_seconds
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConfigurationError,
    IBMQError,
    InvalidInputError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    UnknownJobStatusError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

FOREVER = RetryPolicy(attempts=1000, first=1.0, cap=8.0)


class Script:
    """A call that raises what it is given, in turn, then returns "done"."""

    def __init__(self, *errors: BaseException) -> None:
        self.errors = list(errors)
        self.calls = 0

    def __call__(self) -> str:
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)
        return "done"


# Deadline


def test_a_deadline_counts_down_and_never_below_zero(clock: FakeClock) -> None:
    deadline = Deadline(10.0, clock)
    assert (deadline.remaining(), deadline.expired) == (10.0, False)
    clock.advance(9.5)
    assert (deadline.remaining(), deadline.expired) == (0.5, False)
    clock.advance(0.5)
    assert (deadline.remaining(), deadline.expired) == (0.0, True)
    clock.advance(100)
    assert (deadline.remaining(), deadline.expired) == (0.0, True)


def test_no_deadline_never_expires(clock: FakeClock) -> None:
    deadline = Deadline(None, clock)
    clock.advance(1e9)
    assert (deadline.remaining(), deadline.expired) == (math.inf, False)


def test_a_deadline_of_zero_has_expired(clock: FakeClock) -> None:
    assert Deadline(0, clock).expired


@pytest.mark.parametrize(("own", "other", "left"), [(10.0, 3.0, 3.0), (2.0, 3.0, 2.0), (None, 3.0, 3.0)])
def test_the_earlier_of_two_deadlines(clock: FakeClock, own: float | None, other: float, left: float) -> None:
    assert Deadline(own, clock).at_most(other).remaining() == left


def test_the_wall_clock_neither_ends_nor_stretches_a_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    deadline = Deadline(60.0)
    monkeypatch.setattr(time, "time", lambda: 4e9)
    assert 59 < deadline.remaining() <= 60


def test_the_system_clock_waits_until_notified() -> None:
    condition = threading.Condition()
    with condition:
        assert SYSTEM_CLOCK.wait(condition, 0.0) is False
    before = SYSTEM_CLOCK.monotonic()
    SYSTEM_CLOCK.sleep(0.001)
    assert SYSTEM_CLOCK.monotonic() >= before + 0.001


# RetryPolicy


def test_what_works_is_called_once_and_nobody_waits(clock: FakeClock) -> None:
    call = Script()
    assert FOREVER.run(call, Deadline(10.0, clock)) == "done"
    assert (call.calls, clock.sleeps) == (1, [])


def test_pauses_double_from_the_first_up_to_the_cap(clock: FakeClock) -> None:
    call = Script(*[ServerError("x")] * 8)
    assert FOREVER.run(call, Deadline(None, clock)) == "done"
    assert len(clock.sleeps) == 8
    for pause, longest in zip(clock.sleeps, [1, 2, 4, 8, 8, 8, 8, 8], strict=True):
        assert longest / 2 <= pause <= min(8.0, longest + 1.0)


def test_the_longest_first_pause_is_the_one_that_is_said(clock: FakeClock) -> None:
    """`first`: longest pause after the first failure, in seconds."""
    for _ in range(50):
        FOREVER.run(Script(ServerError("x")), Deadline(None, clock))
    assert max(clock.sleeps) <= FOREVER.first


def test_pauses_differ_so_that_many_clients_do_not_ask_in_step(clock: FakeClock) -> None:
    for _ in range(10):
        FOREVER.run(Script(ServerError("x")), Deadline(None, clock))
    assert len(set(clock.sleeps)) == 10


def test_tries_are_counted_and_the_last_error_is_raised_as_it_is(clock: FakeClock) -> None:
    errors = [ServerError(str(number)) for number in range(9)]
    call = Script(*errors)
    with pytest.raises(ServerError) as caught:
        RetryPolicy(attempts=3).run(call, Deadline(None, clock))
    assert caught.value is errors[2]
    assert (call.calls, len(clock.sleeps)) == (3, 2)


@pytest.mark.parametrize(
    "error",
    [
        InvalidInputError("x"),
        UnknownJobStatusError("x"),
        QiskitRuntimeError("x"),
        ServerError("x", retryable=False),
        ProtocolError("x", retryable=False),
        IBMQError("x"),
        ValueError("x"),
        TimeoutError("x"),
        KeyboardInterrupt(),
        SystemExit(1),
        GeneratorExit(),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_must_not_or_cannot_be_repeated_passes_at_once(clock: FakeClock, error: BaseException) -> None:
    call = Script(error)
    with pytest.raises(type(error)) as caught:
        FOREVER.run(call, Deadline(None, clock))
    assert caught.value is error
    assert (call.calls, clock.sleeps) == (1, [])


def test_a_pause_the_server_asks_for_is_kept_exactly(clock: FakeClock) -> None:
    call = Script(RateLimitedError("x", retry_after=17.5), RateLimitedError("x", retry_after=0.0), ServerError("x"))
    assert FOREVER.run(call, Deadline(60.0, clock)) == "done"
    assert clock.sleeps[:2] == [17.5, 0.0]
    assert clock.sleeps[2] not in (0.0, 17.5)


def test_a_429_without_a_time_backs_off_as_anything_else(clock: FakeClock) -> None:
    FOREVER.run(Script(RateLimitedError("x")), Deadline(None, clock))
    assert 0.5 <= clock.sleeps[0] <= 2.0


@pytest.mark.parametrize("asked", [60.0, 61.0, math.inf])
def test_a_pause_longer_than_the_time_left_is_not_begun(clock: FakeClock, asked: float) -> None:
    call = Script(RateLimitedError("x", retry_after=asked))
    with pytest.raises(RateLimitedError):
        FOREVER.run(call, Deadline(60.0, clock))
    assert (call.calls, clock.sleeps) == (1, [])


def test_nobody_waits_past_the_deadline(clock: FakeClock) -> None:
    call = Script(*[AnswerLostError("x")] * 999)
    start = clock.monotonic()
    with pytest.raises(AnswerLostError):
        FOREVER.run(call, Deadline(30.0, clock))
    assert 20.0 < clock.monotonic() - start < 30.0
    assert call.calls == len(clock.sleeps) + 1 > 4


def test_a_policy_serves_many_threads_at_once(clock: FakeClock) -> None:
    policy = RetryPolicy(attempts=3)
    done: list[str] = []

    def work() -> None:
        done.append(policy.run(Script(ServerError("x"), ServerError("x")), Deadline(100.0, clock)))

    threads = [threading.Thread(target=work) for _ in range(20)]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert done == ["done"] * 20


def test_no_warning_reaches_a_user_who_makes_warnings_errors(clock: FakeClock) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert RetryPolicy().run(Script(ServerError("x")), Deadline(None, clock)) == "done"


# check_seconds


@pytest.mark.parametrize("value", [None, 0, 0.0, 1, 1e9, 0.001])
def test_times_are_taken(value: float | None) -> None:
    check_seconds("timeout", value)


@pytest.mark.parametrize("value", [-1, -0.001, math.nan, math.inf, -math.inf, True, "5", b"5", [5], 1j])
def test_what_is_no_time_is_refused_with_the_fields_name(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout: "):
        check_seconds("timeout", value)


@pytest.mark.parametrize("value", [threading.TIMEOUT_MAX * 1.001, 1e10, 1e300, 10**400])
def test_a_time_that_no_thread_can_wait_for_is_refused_by_name(value: float) -> None:
    with pytest.raises(ConfigurationError, match=r"^timeout: must be \d+ seconds at most, or None"):
        check_seconds("timeout", value)


def test_the_longest_time_that_is_let_through_can_be_waited_for() -> None:
    check_seconds("timeout", threading.TIMEOUT_MAX)
    condition = threading.Condition()
    threading.Timer(0.01, lambda: _notify(condition)).start()
    with condition:
        assert SYSTEM_CLOCK.wait(condition, Deadline(threading.TIMEOUT_MAX).remaining())


def _notify(condition: threading.Condition) -> None:
    with condition:
        condition.notify_all()
