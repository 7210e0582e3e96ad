"""Sees to it that no program outlives the server, however that ends. Importing it does it, so nobody else may.

process.py preloads it into the forkserver, from which all programs are forked. A program that holds Python's lock in C
code does not notice that its pipe to the server broke, and what it has started in a session of its own belongs to no
group that could be signalled. So the process that the server has started divides:

    the guard         stays the server's child, and waits until the server or the forkserver ends. Whoever loses its
                      parents beneath it becomes its child: it ends them until the system says that it has none
    the forkserver    is a child of it, goes on with Python's code, and takes in orphans as long as it lives: what a
                      program left behind is found among its children (process.py). Workers of uploaded programs do
                      the same for theirs (confinement.py)
    programs.lock     is held by both and all that is forked from them: the next server waits until it is free

Where the system has no pidfd, or refuses it (before Linux 5.3; some containers), there is no guard: programs still end
by their broken pipe.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import select
import signal
import time
import warnings

from prefect_runtime.local.process_tree import (
    GUARD_SECONDS,
    SERVER_VARIABLE,
    adopt_orphans,
    close_all_but,
    descendants,
    kill,
)

LOCK = "programs.lock"


def _keep() -> None:
    lock = None
    with contextlib.suppress(OSError):  # the server works in the data folder; it has made the file
        lock = os.open(LOCK, os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
    server = int(os.environ.pop(SERVER_VARIABLE))
    server_ends = _end_of(server)
    if os.getppid() != server:
        os._exit(1)  # it was killed while we began
    if server_ends is not None:
        _divide(server_ends, lock)
    adopt_orphans()
    # It is meant to reap those, too; Python's forkserver warns of each.
    warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")


def _end_of(pid: int) -> int | None:
    """Return what can be read from once a process has ended; None where the system does not offer that."""
    try:
        return os.pidfd_open(pid)
    except (AttributeError, OSError):
        return None


def _divide(server_ends: int, lock: int | None) -> None:
    """Return as the forkserver; the process that it is forked from is its guard and never returns."""
    adopt_orphans()
    forkserver = os.fork()
    if forkserver == 0:
        os.close(server_ends)
        return
    try:
        forkserver_ends = os.pidfd_open(forkserver)
        _be_silent()
        # Also what Python's forkserver was given: where it listens, nobody would answer once it was gone.
        close_all_but([number for number in (lock, server_ends, forkserver_ends) if number is not None])
        _guard([server_ends, forkserver_ends])
    finally:
        os._exit(0)


def _be_silent() -> None:
    """Let go of the server's output: a reader of it need not wait for us."""
    null = os.open(os.devnull, os.O_RDWR)
    for output in range(3):
        os.dup2(null, output)


def _guard(either_ends: list[int]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, signal.SIG_IGN)
    select.select(either_ends, [], [])
    end = time.monotonic() + GUARD_SECONDS
    while time.monotonic() < end:
        kill(descendants(os.getpid()))
        if _is_childless():
            return
        time.sleep(0.01)


def _is_childless() -> bool:
    """Tell whether all beneath this process have ended.

    A look at /proc could not tell: it takes its time, and who is forked meanwhile by a process that then ends is in
    no list. Whoever ends gives its children to us first.
    """
    try:
        while os.waitpid(-1, os.WNOHANG) != (0, 0):
            pass
    except ChildProcessError:
        return True
    return False


_keep()
