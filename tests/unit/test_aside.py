"""What is done beside an event loop: what belongs to the loop is gone with it, and what is held is left."""

from __future__ import annotations

import asyncio
import gc
import threading
import weakref
from collections.abc import Callable

import anyio
import pytest

from prefect_runtime.tasks import aside
from prefect_runtime.wire.errors import ConfigurationError


async def crowd() -> weakref.ref[asyncio.AbstractEventLoop]:
    """Have many wait for a turn and for a place at work."""

    async def one() -> None:
        await aside.turn()
        async with aside.at_work():
            await asyncio.sleep(0)

    await asyncio.gather(*[one() for _ in range(4 * aside.MOST_AT_WORK)])
    return weakref.ref(asyncio.get_running_loop())


def test_one_event_loop_after_another_is_freed_though_many_waited_in_it() -> None:
    loops = [asyncio.run(crowd()) for _ in range(5)]
    gc.collect()
    assert [loop() is not None for loop in loops[:-1]] == [False] * 4  # the last one goes with the next that comes


def test_of_each_loop_there_is_one_place_to_wait() -> None:
    async def same() -> bool:
        return aside.at_work() is aside.at_work()

    assert asyncio.run(same())


class Door:
    """A context manager that takes its time to be entered and left, and writes down what happens to it."""

    def __init__(self, *, opens: threading.Event | None = None, fails: Exception | None = None) -> None:
        self.opens, self.fails = opens, fails
        self.seen: list[str] = []

    def __enter__(self) -> str:
        self.seen.append("asked for")
        if self.opens is not None:
            self.opens.wait(30)
        if self.fails is not None:
            raise self.fails
        self.seen.append(f"entered in {threading.current_thread().name.partition('-')[0]}")
        return "inside"

    def __exit__(self, *_: object) -> None:
        self.seen.append("left")


def test_what_is_held_aside_is_entered_before_the_body_and_left_after_it_beside_the_loop() -> None:
    door = Door()

    async def hold() -> str:
        async with aside.hold_aside(lambda: door, "door") as value:
            assert door.seen == ["asked for", "entered in door"]
        return value

    assert asyncio.run(hold()) == "inside"
    assert door.seen == ["asked for", "entered in door", "left"]


def test_the_loop_goes_on_while_something_is_entered_aside() -> None:
    opens = threading.Event()
    door = Door(opens=opens)

    async def hold() -> None:
        async with aside.hold_aside(lambda: door, "door"):
            pass

    async def both() -> None:
        holding = asyncio.create_task(hold())
        while not door.seen:
            await asyncio.sleep(0)
        opens.set()  # by the loop, which could not if it were blocked
        await holding

    asyncio.run(asyncio.wait_for(both(), 20))
    assert door.seen[-1] == "left"


def test_an_error_of_the_body_is_raised_and_what_was_held_is_left() -> None:
    door = Door()

    async def hold() -> None:
        async with aside.hold_aside(lambda: door, "door"):
            raise KeyError("of the body")

    with pytest.raises(KeyError, match="of the body"):
        asyncio.run(hold())
    assert door.seen[-1] == "left"


def test_what_cannot_be_entered_says_why_where_it_is_awaited() -> None:
    async def hold() -> None:
        async with aside.hold_aside(lambda: Door(fails=ConfigurationError("max_ttl: no")), "door"):
            raise AssertionError("there is no body without it")

    with pytest.raises(ConfigurationError, match="max_ttl"):
        asyncio.run(hold())


def test_what_is_entered_after_its_caller_was_cancelled_is_left_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aside, "GRACE_SECONDS", 0.05)
    opens = threading.Event()
    door = Door(opens=opens)

    async def hold() -> None:
        async with aside.hold_aside(lambda: door, "door"):
            raise AssertionError("its caller is gone")

    async def cancel() -> None:
        holding = asyncio.create_task(hold())
        while not door.seen:
            await asyncio.sleep(0)
        holding.cancel()
        with pytest.raises(asyncio.CancelledError):
            await holding

    asyncio.run(cancel())
    (thread,) = [thread for thread in threading.enumerate() if thread.name.startswith("door-") and thread.is_alive()]
    assert door.seen == ["asked for"]
    opens.set()
    thread.join(20)
    assert door.seen == ["asked for", f"entered in {thread.name.partition('-')[0]}", "left"]


@pytest.mark.parametrize("times", ["once", "again and again"])
def test_a_caller_that_is_cancelled_goes_on_only_when_what_it_held_is_left(times: str) -> None:
    """Prefect's timeouts cancel again and again, and a process that ends then takes the thread with it."""
    closes = threading.Event()

    class Slow(Door):
        def __exit__(self, *_: object) -> None:
            self.seen.append("leaving")
            closes.wait(30)
            super().__exit__()

    door = Slow()

    async def hold() -> None:
        async with aside.hold_aside(lambda: door, "door"):
            await asyncio.Event().wait()

    async def until(word: str) -> None:
        while door.seen[-1:] != [word]:
            await asyncio.sleep(0)

    async def cancelled_once() -> None:
        holding = asyncio.create_task(hold())
        await until("entered in door")
        holding.cancel()
        await until("leaving")
        for _ in range(20):
            await asyncio.sleep(0)
        assert not holding.done()
        closes.set()
        with pytest.raises(asyncio.CancelledError):
            await holding

    async def cancelled_again_and_again() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(hold)
            await until("entered in door")
            group.cancel_scope.cancel()
            after_rounds(20, closes.set)

    def after_rounds(rounds: int, call: Callable[[], None]) -> None:
        if rounds == 0:
            call()
        else:
            asyncio.get_running_loop().call_soon(after_rounds, rounds - 1, call)

    asyncio.run(cancelled_once() if times == "once" else cancelled_again_and_again())
    assert door.seen[-1] == "left"
