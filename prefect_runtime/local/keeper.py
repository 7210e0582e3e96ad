"""Sees to it that no program outlives the server, however that ends. Importing it does it, so nobody else may.

process.py preloads it into the forkserver, from which all programs are forked. A program that holds Python's lock in C
code does not notice that its pipe to the server broke, and what it has started in a session of its own belongs to no
group that could be signalled. So:

    the forkserver    takes in whoever loses its parent beneath it: all that programs start stays findable. Workers of
                      uploaded programs do the same for theirs as long as they live (confinement.py)
    the guard         a child of it that waits for the server's end, and then kills everything beneath the forkserver.
                      It is there before the first worker, by which process.py tells it from what a program left behind
    programs.lock     is held by the forkserver and all that is forked from it: the next server waits until it is free

Where there is no pidfd (Linux 5.3), programs still end by their broken pipe.
"""

from __future__ import annotations

import atexit
import contextlib
import fcntl
import os
import select
import signal
import time
import warnings

from prefect_runtime.local.process_tree import SERVER_VARIABLE, adopt_orphans, descendants, kill

LOCK = "programs.lock"
_KILL_SECONDS = 10.0


def _keep() -> None:
    with contextlib.suppress(OSError):  # the server works in the data folder; it has made the file
        lock = os.open(LOCK, os.O_RDWR)
        fcntl.flock(lock, fcntl.LOCK_SH)
    adopt_orphans()
    # It is meant to reap those, too; Python's forkserver warns of each.
    warnings.filterwarnings("ignore", message="forkserver: waitpid returned unexpected pid")
    forkserver, server = os.getpid(), int(os.environ.pop(SERVER_VARIABLE))
    if not hasattr(os, "pidfd_open"):
        return
    if os.getppid() != server:
        os._exit(1)  # it was killed while we began
    if os.fork() == 0:
        try:
            _guard(forkserver, [os.pidfd_open(server), os.pidfd_open(forkserver)])
        finally:
            os._exit(0)
    # The server ended, and with it all workers: what they left behind is still there, and the guard.
    atexit.register(_kill_beneath, forkserver)


def _guard(forkserver: int, either_ends: list[int]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    null = os.open(os.devnull, os.O_RDWR)
    for output in range(3):
        os.dup2(null, output)  # a reader of the server's output need not wait for us
    select.select(either_ends, [], [])
    with contextlib.suppress(ProcessLookupError):
        os.kill(forkserver, signal.SIGSTOP)  # once it was gone, nobody would know who was beneath it
    if os.getppid() != forkserver:
        return  # it has ended, and killed them itself
    _kill_beneath(forkserver)
    os.kill(forkserver, signal.SIGKILL)


def _kill_beneath(forkserver: int) -> None:
    end = time.monotonic() + _KILL_SECONDS
    while time.monotonic() < end:
        left = [pid for pid in descendants(forkserver) if pid != os.getpid()]
        if not left:
            return
        kill(left)
        time.sleep(0.01)


_keep()
