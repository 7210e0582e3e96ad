"""Which processes are beneath another. Light: the keeper imports it before anything else is there."""

from __future__ import annotations

import contextlib
from pathlib import Path

SERVER_VARIABLE = "EMBEDDED_RUNTIME_PID"
"""Tells the forkserver whose it is: asked for its parent, the system names another once that one was killed."""


def descendants(pid: int) -> list[int]:
    """Return the processes beneath one, also those in a session of their own; none where there is no /proc.

    Those that are over and only wait to be looked after (zombies) are left out: nothing can be beneath them.
    """
    children: dict[int, list[int]] = {}
    for entry in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            # "pid (name) state ppid …": the name may hold blanks and brackets.
            state, parent, *_ = entry.read_text().rpartition(")")[2].split()
            if state not in "ZX":
                children.setdefault(int(parent), []).append(int(entry.parent.name))
    found = list(children.get(pid, []))
    for process in found:
        found.extend(children.get(process, []))
    return found
