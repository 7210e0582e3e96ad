"""A worker process as the server sees it: start, give it a job, end it. Imported by executor.py only.

Processes are forked from a server process that has Qiskit imported ("forkserver"), so that a fresh one costs
milliseconds, while the HTTP server itself never loads Qiskit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

from prefect_runtime.local import worker
from prefect_runtime.local.confinement import clear_away
from prefect_runtime.local.worker import MAX_REPORT_BYTES, Order, Report

TERM_GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL: a cancel has to be through within 2 s, the kill of the whole tree included."""

LOOK_SECONDS = 1.0
"""Between two looks at what a program does to its folder."""

_SWEEPS = 50  # who forks faster than we can look, has limits: the last of its processes has no room to fork

_PRELOAD = [
    "prefect_runtime.local.forks",
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

    `broke` says which limit was broken when that is why it was ended.
    """

    report: Report | None
    too_long: bool = False
    exit_code: int | None = None
    broke: str = ""


_STARTING = threading.Lock()
"""Held while a process is made or orphans are looked for: a new worker is nobody's orphan."""

_alive: set[int] = set()  # pids of workers


class WorkerProcess:
    """One worker, alive from construction to `end`."""

    def __init__(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        with _STARTING:
            self._process = _CONTEXT.Process(
                target=worker.main, args=(theirs,)
            )  # not daemon: programs may use multiprocessing
            self._process.start()
            self._pid: int = self._process.pid
            _alive.add(self._pid)
        theirs.close()
        self._parent = _parent(Path(f"/proc/{self._pid}/stat"))  # the process that workers are forked from
        self._uid: int | None = None
        self._ending = threading.Lock()

    def run(
        self,
        order: Order,
        on_interim: Callable[[], None],
        *,
        seconds: float | None,
        look: Callable[[], str | None] = lambda: None,
    ) -> Ending:
        """Give it a job and return how that ended; blocks until then.

        Args:
            order: The job.
            on_interim: Called after new interim results.
            seconds: The longest it may take; then the process is ended.
            look: Called every now and then; the process is ended when it gives a reason to.
        """
        self._uid = order.cell.uid if order.cell else None
        limit = None if seconds is None else time.monotonic() + seconds
        try:
            self._pipe.send(order)
            next_look = time.monotonic() + LOOK_SECONDS
            while True:
                now = time.monotonic()
                # Also a program that never stops publishing has its time: a full pipe does not extend it.
                if limit is not None and now >= limit:
                    self.end()
                    return Ending(None, too_long=True)
                if now >= next_look:
                    next_look = now + LOOK_SECONDS
                    broke = look()
                    if broke is not None:
                        self.end()
                        return Ending(None, broke=broke)
                news = wait([self._pipe, self._process.sentinel], max(0.0, min(next_look, limit or next_look) - now))
                if not news:
                    continue
                if self._pipe not in news and not self._pipe.poll():
                    break  # it is dead, but what it left behind holds the pipe
                report = Report.parse(self._pipe.recv_bytes(MAX_REPORT_BYTES))
                if report.kind != "interim":
                    return Ending(report)
                on_interim()
        except ValueError:
            self.end()
            return Ending(None, broke="It wrote into the pipe between its process and the runtime.")
        except (EOFError, OSError):
            pass
        self._process.join(TERM_GRACE_SECONDS)
        return Ending(None, exit_code=self._process.exitcode)

    def end(self) -> None:
        """End the process and all that it started: TERM, a grace, KILL. Harmless when it is gone."""
        with self._ending:
            escaped = _beneath(self._pid)  # looked for while their parents are alive
            for number, grace in ((signal.SIGTERM, TERM_GRACE_SECONDS), (signal.SIGKILL, 5.0)):
                self._signal_group(number)
                self._process.join(grace)
                if not self._process.is_alive():
                    break
            self._signal_group(signal.SIGKILL)  # what the program started and left behind
            _kill(escaped)
            if self._uid is not None:
                killer = _CONTEXT.Process(target=clear_away, args=(self._uid,))
                with _STARTING:
                    killer.start()
                    _alive.add(killer.pid)
                killer.join(5.0)
                _alive.discard(killer.pid)
            _alive.discard(self._pid)
            self._kill_orphans()

    def _kill_orphans(self) -> None:
        """End what a program left behind, however it hid: where its own parents are gone, it is its forks' parent's."""
        if self._parent is None:
            return
        for _ in range(_SWEEPS):
            with _STARTING:
                parents = _parents()
                orphans = [pid for pid, parent in parents.items() if parent == self._parent and pid not in _alive]
            if not orphans:
                return
            _kill([*orphans, *(pid for orphan in orphans for pid in _beneath(orphan))])

    def _signal_group(self, number: int) -> None:
        # No such group: all gone, or the process is about to make it, so signal it alone.
        try:
            os.killpg(self._pid, number)
        except ProcessLookupError:
            if self._process.is_alive():
                os.kill(self._pid, number)


def _kill(pids: Iterable[int]) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def _beneath(pid: int) -> list[int]:
    """Return the processes beneath one, also those in a session of their own; none where there is no /proc."""
    children: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        children.setdefault(parent, []).append(child)
    found = list(children.get(pid, []))
    for process in found:
        found.extend(children.get(process, []))
    return found


def _parents() -> dict[int, int]:
    """Return the parent of every process that is not dead yet."""
    found = {int(entry.parent.name): _parent(entry) for entry in Path("/proc").glob("[0-9]*/stat")}
    return {pid: parent for pid, parent in found.items() if parent is not None}


def _parent(entry: Path) -> int | None:
    """Return a living process's parent, from its ``/proc/PID/stat``."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # "pid (name) state ppid …": the name may hold blanks and brackets.
        state, parent = entry.read_text().rpartition(")")[2].split()[:2]
        if state not in "ZX":
            return int(parent)
    return None
