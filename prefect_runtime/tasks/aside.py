"""Runs what blocks beside an event loop: in a thread of its own, as if called where it is awaited. Used by twins.py.

Not in the loop's default executor: it has six threads on two processors, and a wait for a job holds one for hours.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import itertools
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, Generic, TypeVar

import anyio
from prefect.client.orchestration import PrefectClient
from prefect.context import AsyncClientContext, SyncClientContext, TaskRunContext
from prefect.tasks import Task

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.flow_watch import LAST_WORDS_SECONDS, watches

T = TypeVar("T")

GRACE_SECONDS = 10.0
"""How long a cancelled caller waits for the thread to end, which may have a job to cancel. Prefect kills after 30 s."""

MOST_AT_WORK = 4
"""Calls that work, and do not only wait, at once beside one event loop. Each may keep the interpreter for 5 ms before
the loop has it again. Of 50 jobs it was late by 500 ms at worst with 50 of them, by 45 to 70 ms with 8, and by 40 ms
with 4, which took 4.5 s instead of 3.5."""

_END: Any = object()
_numbers = itertools.count(1)


class OfLoop(Generic[T]):
    """Something that each event loop has its own of, until the loop is closed.

    A lock or semaphore that somebody had to wait for holds its loop: that nobody else does would free neither.

    Args:
        make: Makes one; called in the loop.
    """

    def __init__(self, make: Callable[[], T]) -> None:
        self._make = make
        self._of: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, T] = weakref.WeakKeyDictionary()

    def get(self) -> T:
        """Return that of the running loop."""
        loop = asyncio.get_running_loop()
        found = self._of.get(loop)
        if found is None:
            found = self._of[loop] = self._make()
            self._forget_closed()
        return found

    def _forget_closed(self) -> None:
        for reference in self._of.keyrefs():
            loop = reference()
            if loop is not None and loop.is_closed():
                self._of.pop(loop, None)


_turns = OfLoop(asyncio.Lock)
_at_work = OfLoop(lambda: asyncio.Semaphore(MOST_AT_WORK))


async def turn() -> None:
    """Wait for a turn of one's own in the event loop: what comes next may take some milliseconds of it.

    Of many who ask at once one goes on in each round, and whatever else is due comes in between.
    """
    async with _turns.get():
        await asyncio.sleep(0)


def at_work() -> asyncio.Semaphore:
    """Return what lets no more than so many calls work at once beside the running event loop."""
    return _at_work.get()


async def aside(call: Callable[[], T], name: str, *, task: Task[..., Any] | None = None) -> T:
    """Return what a call gives that runs in a thread of its own, in the context that this is awaited in.

    If the caller is cancelled, every wait for a job in that call ends, and the call itself is waited for a little: what
    it does then (a person's cancel cancels the job) is the business of whoever wrote it.

    Args:
        call: What blocks.
        name: For the thread.
        task: The sync task that the call is the body of; it finds itself as the one that runs.
    """
    interrupt = Interrupt()
    return await _aside(call, name, interrupt, task)


async def iterate_aside(make: Callable[[], Iterator[T]], name: str) -> AsyncIterator[T]:
    """Give the items of a sync iterator, each fetched in a thread; the iterator is closed at the end, however it comes.

    Args:
        make: Makes the iterator; called in a thread too.
        name: For the threads.
    """
    interrupt = Interrupt()
    iterator = await _aside(make, name, interrupt)
    try:
        while (item := await _aside(lambda: next(iterator, _END), name, interrupt)) is not _END:
            yield item
    finally:
        interrupt.set("whoever iterated has stopped")
        close = getattr(iterator, "close", None)
        if close is not None:
            with contextlib.suppress(ValueError):  # still at work after the grace: it ends by itself
                await _aside(close, name, interrupt)


@contextlib.asynccontextmanager
async def hold_aside(make: Callable[[], contextlib.AbstractContextManager[T]], name: str) -> AsyncIterator[T]:
    """Enter a sync context manager in a thread, which holds it until this one is left, and leaves it then.

    A caller that is cancelled waits a little until it is left (see `aside`); what is entered later is left at once.

    Args:
        make: Makes the context manager; called in the thread.
        name: For the thread.
    """
    loop = asyncio.get_running_loop()
    entered: asyncio.Future[Any] = loop.create_future()
    over = threading.Event()

    def hold() -> None:
        with make() as value:
            loop.call_soon_threadsafe(entered.set_result, value)
            over.wait()

    holding: asyncio.Future[Any] = asyncio.create_task(aside(hold, name))
    try:
        await asyncio.wait([entered, holding], return_when=asyncio.FIRST_COMPLETED)
        if entered.done():
            yield entered.result()
    finally:
        over.set()
        if not entered.done():
            holding.cancel()
        try:
            await asyncio.wait([holding])
        except asyncio.CancelledError:
            holding.cancel()
            with anyio.move_on_after(GRACE_SECONDS, shield=True):  # it has its own, which a second cancel would end
                await asyncio.wait([holding])
            raise
        await holding  # or raises why it could not be entered


async def _aside(call: Callable[[], T], name: str, interrupt: Interrupt, task: Task[..., Any] | None = None) -> T:
    loop = asyncio.get_running_loop()
    outcome: asyncio.Future[T] = loop.create_future()
    context = contextvars.copy_context()

    def settle(value: Any, error: BaseException | None) -> None:
        if error is not None:
            outcome.set_exception(error)
        else:
            outcome.set_result(value)

    def work() -> None:
        value, error = None, None
        try:
            value = context.run(_call_in_place, call, interrupt, task)
        except BaseException as caught:  # noqa: BLE001 - raised again where it is awaited
            error = RuntimeError("the call was exhausted") if isinstance(caught, StopIteration) else caught
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits any more
            loop.call_soon_threadsafe(settle, value, error)

    threading.Thread(target=work, name=f"{name}-{next(_numbers)}", daemon=True).start()
    try:
        await asyncio.shield(asyncio.wait([outcome]))
        await turn()
        return outcome.result()
    except asyncio.CancelledError:
        threading.Thread(target=_end, args=(interrupt,), name=f"{name}-end", daemon=True).start()
        outcome.add_done_callback(_seen)
        with anyio.move_on_after(GRACE_SECONDS, shield=True):  # Prefect's timeouts cancel again and again
            await asyncio.wait([outcome])
        raise


def _end(interrupt: Interrupt) -> None:
    """End the waits of a call, once those have acted who cancel a job because a person has cancelled its flow run."""
    watches.look_now(LAST_WORDS_SECONDS)
    interrupt.set("whoever waited for it was cancelled")


def _seen(outcome: asyncio.Future[Any]) -> None:
    """Take note of an error that nobody will ask for."""
    if not outcome.cancelled():
        outcome.exception()


def _call_in_place(call: Callable[[], T], interrupt: Interrupt, task: Task[..., Any] | None) -> T:
    """Call in the thread; its context is a copy, so that nothing has to be put back."""
    _share_prefect_client()
    running = TaskRunContext.get()
    with contextlib.ExitStack() as stack:
        if task is not None and running is not None:
            # Prefect asks of the running task whether its own functions have to give a coroutine here.
            stack.enter_context(running.model_copy(update={"task": task}))
        stack.enter_context(interrupt.around())
        return call()


# Making a sync client of Prefect's API takes 80 ms of processor time, and an async flow has none. So all threads beside
# one async client share one; it is closed when that one is gone.
_clients: weakref.WeakKeyDictionary[PrefectClient, SyncClientContext] = weakref.WeakKeyDictionary()
_clients_lock = threading.Lock()


def _share_prefect_client() -> None:
    beside = AsyncClientContext.get()
    if SyncClientContext.get() is not None or beside is None:
        return
    with _clients_lock:
        shared = _clients.get(beside.client)
        if shared is None:
            shared = SyncClientContext()
            shared.client.__enter__()
            weakref.finalize(beside.client, shared.client.__exit__, None, None, None)
            _clients[beside.client] = shared
    SyncClientContext.__var__.set(shared)  # entering it is for one thread only
