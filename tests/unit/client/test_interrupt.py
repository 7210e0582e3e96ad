"""What ends a wait ends those within it, holds on to none that is over, and wakes who pauses."""

from __future__ import annotations

import gc
import threading
import weakref
from typing import TYPE_CHECKING

import pytest

from prefect_runtime.client.interrupt import Interrupt, pause_for
from prefect_runtime.wire.errors import WaitInterruptedError

if TYPE_CHECKING:
    from conftest import FakeClock


def test_those_made_within_are_set_with_it_also_if_it_was_set_before() -> None:
    outer = Interrupt()
    with outer.around():
        before = Interrupt()
        with before.around():
            within = Interrupt()
        outer.set("because it is over")
        after = Interrupt()
    assert [one.reason for one in (before, within, after)] == ["because it is over"] * 3
    assert not Interrupt().is_set


def test_it_holds_none_whose_wait_is_over() -> None:
    outer = Interrupt()
    with outer.around():
        gone = [weakref.ref(Interrupt()) for _ in range(100)]
        kept = Interrupt()
    gc.collect()
    assert [one() for one in gone] == [None] * 100
    outer.set("because it is over")
    assert kept.is_set


def test_a_pause_ends_when_the_call_is_to_end_and_one_without_a_call_does_not(clock: FakeClock) -> None:
    interrupt, ended = Interrupt(), []
    began = clock.monotonic()

    def pauses() -> None:
        with interrupt.around(), pytest.raises(WaitInterruptedError, match=r"Nothing came, because it is over\."):
            pause_for(clock, 60.0, "Nothing came")
        ended.append(clock.monotonic() - began)

    pausing = threading.Thread(target=pauses)
    pausing.start()
    pause_for(clock, 5.0, "Nothing came")
    interrupt.set("because it is over")
    clock.join([pausing])
    assert ended == [5.0]
