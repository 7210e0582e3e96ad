"""A worker process as the server sees it: start, give it a job, end it. Imported by executor.py and endings.py.

Processes are forked from a server process that has Qiskit imported ("forkserver"), so that a fresh one costs
milliseconds, while the HTTP server itself never loads Qiskit.
"""

from __future__ import annotations

import errno
import functools
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import wait
from typing import Any

from prefect_runtime.local import worker
from prefect_runtime.local.confinement import clear_away
from prefect_runtime.local.inbox import Inbox
from prefect_runtime.local.process_tree import (
    GUARD_SECONDS,
    SERVER_VARIABLE,
    children,
    descendants,
    is_beneath,
    kill,
    parent_of,
)
from prefect_runtime.local.worker import Order, Report
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

TERM_GRACE_SECONDS = 0.5
DEATH_SECONDS = 2.0  # from the end of its pipe to the news of how it died, which on a busy machine take their time
"""Between SIGTERM and SIGKILL: a cancel has to be through within 2 s, the kill of the whole tree included."""

HOW_IS_UNKNOWN = 255
"""The exit code that Python gives where the forkserver could not tell; also that of a program that ends with it."""

TAKE_SECONDS = 60.0
"""For an idle process to say that it has a job: milliseconds, but on a machine that swaps."""

LOOK_SECONDS = 1.0
"""Between two looks at what a program does to its folder."""

_SWEEPS = 50  # who forks faster than we can look, has limits: the last of its processes has no room to fork

_PRELOAD = [
    "prefect_runtime.local.keeper",  # first, while it is small: it forks
    "prefect_runtime.local.worker",
    "prefect_runtime.local.programs.sampler",
    "prefect_runtime.local.programs.estimator",
    "prefect_runtime.local.device",
    "prefect_runtime.wire.qiskit_values",
    "qiskit_aer.primitives",
]


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


_CONTEXT = _context()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job's process came to its end: `report` is None when the process died without one.

    `broke` says which limit was broken when that is why it was ended, `was_ended` that somebody else ended it.
    """

    report: Report | None
    too_long: bool = False
    exit_code: int | None = None
    broke: str = ""
    was_ended: bool = False


_STARTING = threading.Lock()
"""Held while a process is made or orphans are looked for: a new worker is nobody's orphan."""

_alive: set[int] = set()  # pids of workers


def _start(process: Any) -> None:
    """Start a process.

    Raises:
        OSError: There is no room for one.
    """
    # Where the forkserver is gone, Python makes another as soon as that one's guard, which it takes for it, has ended
    # what was left.
    until = time.monotonic() + GUARD_SECONDS + 1
    broken_off = 0
    while True:
        try:
            process.start()
            return
        except ConnectionRefusedError:
            if time.monotonic() > until:
                raise
            time.sleep(0.02)
        except (EOFError, ConnectionError):
            broken_off += 1
            if broken_off == 2:  # as it ends itself where it cannot fork
                raise ChildProcessError(errno.ECHILD, "the process that forks them ends") from None


@functools.cache
def _complain_once_if_unguarded(forkserver: int | None) -> None:
    if forkserver is not None and parent_of(forkserver) == os.getpid():  # keeper.py puts the guard between the two
        _log.warning("programs may outlive a runtime that is killed: this system offers no way to watch over processes")


class WorkerProcess:
    """One worker, alive from construction to `end`.

    Raises:
        OSError: There is no room for one.
    """

    def __init__(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        with _STARTING:
            self._process = _CONTEXT.Process(
                target=worker.main, args=(theirs,)
            )  # not daemon: programs may use multiprocessing
            os.environ[SERVER_VARIABLE] = str(os.getpid())  # for the forkserver, which may be started now
            _start(self._process)
            self._pid: int = self._process.pid
            _alive.add(self._pid)
            self._parent = parent_of(self._pid)  # the forkserver
        _complain_once_if_unguarded(self._parent)
        theirs.close()
        self._inbox = Inbox(self._pipe)
        self._uid: int | None = None
        self._ending = threading.Lock()
        self._ended = False  # or about to be

    def take(self, order: Order) -> bool:
        """Give it a job; False where it is gone, or silent, so that once it is ended nothing of the job has run."""
        self._uid = order.cell.uid if order.cell else None
        try:
            self._pipe.send(order)
            until = time.monotonic() + TAKE_SECONDS
            # What is sent to a process that has just died is lost without an error: only its word counts.
            while (report := self._report(until)) is not None:
                if report.kind == "started":
                    return True
        except (EOFError, OSError, ValueError):
            pass
        return False

    def watch(
        self,
        on_interim: Callable[[], None],
        *,
        seconds: float | None,
        look: Callable[[], str | None] = lambda: None,
    ) -> Ending:
        """Return how the job that it took ended; blocks until then.

        Args:
            on_interim: Called after new interim results.
            seconds: The longest it may take; then the process is ended.
            look: Called every now and then; the process is ended when it gives a reason to.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        try:
            next_look = time.monotonic() + LOOK_SECONDS
            while True:
                now = time.monotonic()
                # Also a program that never stops publishing has its time: a full pipe does not extend it.
                if limit is not None and now >= limit:
                    return self._end_of_time()
                if now >= next_look:
                    next_look = now + LOOK_SECONDS
                    broke = look()
                    if broke is not None:
                        self.end()
                        return Ending(None, broke=broke)
                report = self._report(min(next_look, limit or next_look))
                if report is None:
                    continue
                if report.is_last:
                    return Ending(report, was_ended=self._ended)
                on_interim()
        except ValueError:
            self.end()
            return Ending(None, broke="It wrote into the pipe between its process and the runtime.")
        except (EOFError, OSError):
            pass
        return self.death()

    def _end_of_time(self) -> Ending:
        """End it, unless it has reported its end in time and only we have come late to read it."""
        if self._pipe.poll():
            self._inbox.read()  # once: all that fits into the pipe of one that reports now and then
        while (data := self._inbox.next()) is not None:
            report = Report.parse(data)
            if report.is_last:
                return Ending(report)
        self.end()
        return Ending(None, too_long=True)

    def _report(self, until: float) -> Report | None:
        """Return its next report; None if none has come by then.

        Raises:
            EOFError, OSError: It is dead.
            ValueError: What has come is no report.
        """
        while (data := self._inbox.next()) is None:
            left = until - time.monotonic()
            if left <= 0:
                return None
            news = wait([self._pipe, self._process.sentinel], left)
            if self._pipe in news:
                self._inbox.read()
            elif news and not self._pipe.poll():
                raise EOFError  # what it left behind holds the pipe
        return Report.parse(data)

    def death(self) -> Ending:
        """Return how it died, which it is about to if it has not."""
        self._process.join(DEATH_SECONDS)
        return Ending(None, exit_code=self._process.exitcode, was_ended=self._ended)

    def end(self) -> None:
        """End the process and all that it started: TERM, a grace, KILL. Harmless when it is gone."""
        with self._ending:
            if self._ended:  # by another thread: by now its pid, and its user, may be those of the next program
                return
            self._ended = True
            # Of one that is over, the pid may be somebody else's by now; what it left behind is an orphan.
            if self._process.is_alive() or self._forkserver() is None:
                self._end_group()
            try:
                if self._uid is not None:
                    self._clear_away(self._uid)
            finally:
                _alive.discard(self._pid)
                self._kill_orphans()

    def _end_group(self) -> None:
        for number, grace in ((signal.SIGTERM, TERM_GRACE_SECONDS), (signal.SIGKILL, 5.0)):
            self._signal_group(number)
            self._process.join(grace)
            if not self._process.is_alive():
                break
        self._signal_group(signal.SIGKILL)  # what the program started and left behind

    def _clear_away(self, uid: int) -> None:
        """Remove all of the program's user.

        Raises:
            OSError: There is no room for the process that does it.
        """
        killer = _CONTEXT.Process(target=clear_away, args=(uid,))
        with _STARTING:
            _start(killer)
            _alive.add(killer.pid)
        killer.join(5.0)
        killer.kill()  # one that has much to remove: it would take the next program's files as well
        killer.join(5.0)
        _alive.discard(killer.pid)

    def _forkserver(self) -> int | None:
        """Return the forkserver that orphans become children of; None where its pid is not one of ours any more."""
        return self._parent if self._parent is not None and is_beneath(self._parent, os.getpid()) else None

    def _kill_orphans(self) -> None:
        """End what a program left behind, however it hid: where its own parents are gone, it is the forkserver's."""
        for _ in range(_SWEEPS):
            forkserver = self._forkserver()
            if forkserver is None:
                return
            with _STARTING:
                orphans = [pid for pid in children(forkserver) if pid not in _alive]
            if not orphans:
                return
            kill([*orphans, *(pid for orphan in orphans for pid in descendants(orphan))])

    def _signal_group(self, number: int) -> None:
        # No such group: all gone, or the process is about to make it, so signal it alone.
        try:
            os.killpg(self._pid, number)
        except (ProcessLookupError, PermissionError):
            if self._process.is_alive():
                kill([self._pid], number)  # gone by now, maybe: whose end the forkserver has seen, but not told us of
