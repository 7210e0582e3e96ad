"""Which processes are beneath another, and whose they become. Light: the keeper is to be small when it imports it.

Where there is no /proc, no process is found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Iterable
from pathlib import Path

SERVER_VARIABLE = "EMBEDDED_RUNTIME_PID"
"""Tells the forkserver whose it is: asked for its parent, the system names another once that one was killed."""

GUARD_SECONDS = 10.0
"""The longest that the guard (keeper.py) takes to end what is left; as a rule, milliseconds."""

_SUBREAPER = 36  # Source: linux/prctl.h


def descendants(pid: int) -> list[int]:
    """Return the processes beneath one, also those in a session of their own, but for zombies."""
    beneath: dict[int, list[int]] = {}
    for child, parent in _parents().items():
        beneath.setdefault(parent, []).append(child)
    found = list(beneath.get(pid, []))
    for process in found:
        found.extend(beneath.get(process, []))
    return found


def children(pid: int) -> list[int]:
    """Return the processes that have one for their parent, without zombies."""
    return [child for child, parent in _parents().items() if parent == pid]


def is_beneath(pid: int, ancestor: int) -> bool:
    """Tell whether a process is there, and has another above it."""
    above = parent_of(pid)
    while above not in (None, 0, ancestor):
        above = parent_of(above)
    return above == ancestor


def parent_of(pid: int) -> int | None:
    """Return a process's parent; None once it is over, also where it only waits to be looked after (a zombie)."""
    with contextlib.suppress(OSError, ValueError, IndexError):
        # "pid (name) state ppid …": the name may hold blanks and brackets.
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        state, parent, threads = fields[0], fields[1], int(fields[17])
        # One whose first thread has ended shows as a zombie while the others end: until then, its children are its own.
        # Source: proc_pid_stat(5), num_threads.
        if state not in "ZX" or threads > 1:
            return int(parent)
    return None


def kill(pids: Iterable[int], number: int = signal.SIGKILL) -> None:
    """End processes at once, or send them another signal; those that are gone, or not ours, do not matter."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)


def prctl(option: int, *values: int) -> int:
    """Set something of this process; not 0 where the system does not know it."""
    if sys.platform != "linux":
        return -1
    given = [ctypes.c_ulong(value) for value in (*values, 0, 0, 0, 0)[:4]]
    return int(ctypes.CDLL(None).prctl(option, *given))


def close_all_but(keep: Iterable[int]) -> None:
    """Close all that this process has open but for its standard streams and these descriptors."""
    first = 3
    for number in sorted(keep):
        os.closerange(first, number)
        first = number + 1
    os.closerange(first, os.sysconf("SC_OPEN_MAX"))


def adopt_orphans() -> None:
    """Be the parent of those beneath us whose own parents end: who wants to end them all finds them here."""
    prctl(_SUBREAPER, 1)


def _parents() -> dict[int, int]:
    found = {int(entry.name): parent_of(int(entry.name)) for entry in Path("/proc").glob("[0-9]*")}
    return {pid: parent for pid, parent in found.items() if parent is not None}
