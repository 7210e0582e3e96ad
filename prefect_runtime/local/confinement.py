"""What a worker does to itself before it runs an uploaded program: fewer rights, limits, a folder. Used by worker.py.

Linux offers all of it; where something is not offered, the program runs without.
"""

from __future__ import annotations

import contextlib
import ctypes
import multiprocessing.resource_tracker
import os
import resource
import stat
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from prefect_runtime.local.cells import Cell, Limits, remove_tree
from prefect_runtime.local.process_tree import adopt_orphans, close_all_but, prctl
from prefect_runtime.local.programs import memory

NICENESS = 5

# Source: linux/prctl.h, linux/capability.h
_PDEATHSIG, _DUMPABLE, _KEEPCAPS, _NO_NEW_PRIVS, _AMBIENT, _AMBIENT_RAISE = 1, 4, 8, 38, 47, 2
_CAPABILITY_VERSION_3 = 0x2008_0522
_DAC_READ_SEARCH = 2
_SIGKILL = 9


def confine(cell: Cell, *, keep: Iterable[int]) -> None:
    """Confine this process for good.

    Args:
        cell: To what.
        keep: File descriptors that stay open; standard output and error do anyway.

    Raises:
        OSError: The user cannot be taken: the program must not run as another.
    """
    _close_others(keep)
    os.chdir(cell.folder)
    os.environ["TMPDIR"] = str(cell.folder)
    tempfile.tempdir = None  # somebody may have asked before
    _give_way()
    _set_limits(cell.limits, own_user=cell.uid is not None)
    if cell.uid is not None:
        os.environ |= {"HOME": str(cell.folder), "USER": str(cell.uid), "LOGNAME": str(cell.uid)}
        _become(cell.uid, reads_all=cell.reads_all)
    prctl(_NO_NEW_PRIVS, 1)  # no sudo
    prctl(_PDEATHSIG, _SIGKILL)  # after the change of user, which undoes it
    adopt_orphans()


def hide_from_own_user() -> None:
    """Keep other processes of the same user from reading this one's memory and the environment it was started with."""
    prctl(_DUMPABLE, 0)


def clear_away(uid: int) -> None:
    """End all processes of a user and remove what it left where everybody may write. For a process of its own.

    All of it as that user: what is not its own is out of reach, and no program forks faster than all at once are ended.
    """
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    os.setresuid(uid, uid, uid)
    with contextlib.suppress(ProcessLookupError):
        os.kill(-1, _SIGKILL)  # all but this one
    for place in ("/dev/shm", "/tmp", "/var/tmp"):  # noqa: S108  # nosec B108 # nothing is put there
        with contextlib.suppress(OSError):
            for entry in Path(place).iterdir():
                _remove_if_owned(entry, uid)


def _remove_if_owned(entry: Path, uid: int) -> None:
    with contextlib.suppress(OSError):
        status = entry.lstat()
        if status.st_uid != uid:
            return
        if stat.S_ISDIR(status.st_mode):
            remove_tree(entry)
        else:
            entry.unlink()


def _close_others(keep: Iterable[int]) -> None:
    """Close what the process was forked with: pipes to processes that are none of the program's business."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    close_all_but(keep)
    # It watches over what programs share between processes; with its pipe closed, a new one is started if need be.
    tracker: Any = multiprocessing.resource_tracker._resource_tracker
    tracker._fd = tracker._pid = None


def _give_way() -> None:
    """Let the server, and whoever else is here, have the processors first."""
    with contextlib.suppress(OSError):
        os.nice(NICENESS)
    with contextlib.suppress(OSError):  # Linux may weigh sessions against each other instead of processes
        Path("/proc/self/autogroup").write_text(str(NICENESS))


def _set_limits(limits: Limits, *, own_user: bool) -> None:
    processes = limits.processes + 2 * (os.cpu_count() or 1)
    free = memory.available() if limits.memory is None else limits.memory
    wanted = {
        resource.RLIMIT_CORE: 0,
        resource.RLIMIT_FSIZE: limits.file_bytes,
        resource.RLIMIT_NOFILE: limits.files,
        resource.RLIMIT_NPROC: processes if own_user else processes + _tasks_of(os.getuid()),
        resource.RLIMIT_AS: _address_space() + free,
    }
    for kind, value in wanted.items():
        _, hard = resource.getrlimit(kind)
        most = value if hard == resource.RLIM_INFINITY else min(value, hard)
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(kind, (most, most))


def _address_space() -> int:
    """Return the bytes of address space this process has; 0 where there is no /proc."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    except OSError:
        return 0


def _tasks_of(uid: int) -> int:
    """Count a user's processes and threads: the system's limit is one on all of them together."""
    count = 0
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            if folder.stat().st_uid == uid:
                # The 18th word after the name in brackets (Source: proc_pid_stat(5), num_threads).
                count += int((folder / "stat").read_text().rpartition(")")[2].split()[17])
    return count


def _become(uid: int, *, reads_all: bool) -> None:
    os.setgroups([])
    os.setresgid(uid, uid, uid)
    if reads_all:
        prctl(_KEEPCAPS, 1)
    os.setresuid(uid, uid, uid)
    if reads_all:
        _keep_only(_DAC_READ_SEARCH)
    prctl(_DUMPABLE, 1)  # its own entry in /proc is its own again


def _keep_only(capability: int) -> None:
    """Drop all of root's rights but one, which child processes inherit: they start the same interpreter."""
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    bit = 1 << capability
    sets = (ctypes.c_uint32 * 6)(bit, bit, bit, 0, 0, 0)  # effective, permitted, inheritable
    if ctypes.CDLL(None).capset(header, sets) or prctl(_AMBIENT, _AMBIENT_RAISE, capability):
        raise OSError("the right to read files could not be kept")
