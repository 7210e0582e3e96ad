"""What belongs to an event loop is gone with it."""

from __future__ import annotations

import asyncio
import gc
import weakref

from prefect_runtime.tasks import aside


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
