"""How much memory a simulation may take, and the error that says it would take more. Loads no Qiskit.

Linux promises memory that it does not have: a simulation that is too large is not refused when it starts, but killed
when it touches what it was promised. So we ask before, and count what others use by now.
"""

from __future__ import annotations

import contextlib
from pathlib import Path

KEPT_FREE = 0.1
"""Part of what is free that no simulation is given: the server, the results and everybody else need some."""

_GROUPS = Path("/sys/fs/cgroup")


class CannotSimulateError(ValueError):
    """A circuit that no exact method can run in the memory there is; the message says what it needs and what there is.

    The worker reports the message alone as the job's reason, without a traceback.
    """


def available() -> int:
    """Return how many bytes a simulation may take now: what is free on the machine and in its control groups."""
    import psutil  # Qiskit Aer depends on it: where circuits run, it is there

    free = min([int(psutil.virtual_memory().available), *free_in_groups(_GROUPS, Path("/proc/self/cgroup"))])
    return int(free * (1 - KEPT_FREE))


def free_in_groups(root: Path, membership: Path) -> list[int]:
    """Return what the limits of this process's control groups leave, in bytes; none where there are no limits.

    A limit of an outer group holds for the inner ones. Memory that holds copies of files ("inactive_file") is counted
    as used by a group, but given back when needed.

    Args:
        root: Where control groups are mounted; version 2, or version 1 with its folder ``memory``.
        membership: The process's own list of groups, ``/proc/self/cgroup``.

    Source: Linux, Documentation/admin-guide/cgroup-v2.rst ("memory.max", "memory.current", "memory.stat").
    """
    left: list[int] = []
    for folder in _own_groups(root, membership):
        for limit, used in (("memory.max", "memory.current"), ("memory.limit_in_bytes", "memory.usage_in_bytes")):
            with contextlib.suppress(OSError, ValueError):  # "max" is no number: no limit
                taken = int((folder / used).read_text()) - _reclaimable(folder)
                left.append(max(0, int((folder / limit).read_text()) - max(0, taken)))
    return left


def _own_groups(root: Path, membership: Path) -> list[Path]:
    try:
        lines = membership.read_text().splitlines()
    except OSError:
        return []
    folders = [root, root / "memory"]  # inside a container, its own group is mounted at the root
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers in ("", "memory"):
            top = root / controllers
            group = top / path.lstrip("/")
            folders += [folder for folder in (group, *group.parents) if folder.is_relative_to(top)]
    return list(dict.fromkeys(folders))


def _reclaimable(folder: Path) -> int:
    for line in (folder / "memory.stat").read_text().splitlines():
        name, _, value = line.partition(" ")
        if name in ("inactive_file", "total_inactive_file"):
            return int(value)
    return 0


def in_words(size: float) -> str:
    """Return a size in bytes as a person says it."""
    for unit in ("bytes", "KiB", "MiB", "GiB", "TiB"):
        if size < 1024:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:,.0f} PiB" if size < 10**6 else "more than any computer has"
