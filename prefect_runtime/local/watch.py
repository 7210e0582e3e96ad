"""What a server looks after while it serves: that it ends when nobody needs it, and that it can be found until then.

And that sessions end in time.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from prefect_runtime.local.app import Runtime
from prefect_runtime.local.disk import in_words
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

PAUSE_SECONDS = 5.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """The files by which the server is found.

    Attributes:
        lock: The folder's lock, open and held.
        lock_path: Where it should be.
        discovery: The discovery file.
        write_discovery: Writes it.
    """

    lock: TextIO
    lock_path: Path
    discovery: Path
    write_discovery: Callable[[], None]

    def is_ours(self) -> bool:
        """False once the folder was removed or replaced: clients look for a server elsewhere then."""
        try:
            return os.path.samestat(self.lock_path.stat(), os.fstat(self.lock.fileno()))
        except OSError:
            return False

    def heal(self) -> None:
        """Put the discovery file back when somebody has removed it."""
        try:
            if not self.discovery.exists():
                self.write_discovery()
        except OSError as error:
            _log.error("the discovery file cannot be written (%s); it is tried again", in_words(error))


async def until_needless(
    runtime: Runtime,
    place: Place,
    idle_seconds: float | None,
    *,
    clock: Callable[[], float],
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> None:
    """Return when nobody needs the server any more: the folder is gone, or no request or job came for `idle_seconds`.

    An open connection of a stream is a request that goes on. None: only the folder counts.
    """
    runtime.last_request = clock()
    while True:
        await sleep(PAUSE_SECONDS if idle_seconds is None else min(PAUSE_SECONDS, idle_seconds / 2))
        if not place.is_ours():
            _log.error("the runtime's folder was removed or replaced: it ends")
            return
        place.heal()
        _end_sessions(runtime)
        if runtime.open_requests or _has_jobs(runtime):
            runtime.last_request = clock()
        elif idle_seconds is not None and clock() - runtime.last_request > idle_seconds:
            return


def _end_sessions(runtime: Runtime) -> None:
    """Cancel what waits in a session whose time is over: where all slots are busy, nobody else looks for hours."""
    try:
        runtime.sessions.end_overdue()
    except sqlite3.Error as error:
        _log.error("a session cannot be closed (%s); it is tried again", in_words(error))


def _has_jobs(runtime: Runtime) -> bool:
    try:
        return runtime.store.count_pending() > 0
    except sqlite3.Error as error:
        _log.error("the database cannot be read (%s)", in_words(error))
        return True  # who ends now cannot say why
