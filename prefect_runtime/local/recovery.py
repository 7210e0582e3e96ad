"""What a server does about the one before it that was killed, before it takes requests itself.

Queued jobs are in the database, in their order. Of a job that was running one of three becomes true: its result is on
disk already, so it is Completed; it may run again, so it is Queued, in its old place; or it is Failed.

The built-in primitives may run again: a simulation has no effect but its result, which nobody has seen yet. An uploaded
program may where its metadata says so (``"restartable": true`` in its spec).
"""

from __future__ import annotations

import fcntl
import sqlite3
import threading
import time
from pathlib import Path

from prefect_runtime.local.disk import in_words
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.store import COMPLETED, FAILED, QUEUED, RUNNING, Job, Store
from prefect_runtime.local.worker import BUILT_IN
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

MAX_STARTS = 3
"""A job that was running each time the server was killed may be what kills it: it is not run a fourth time."""

PROGRAMS_LOCK = "programs.lock"
WAIT_SECONDS = 20.0


def wait_for_old_programs(data_dir: Path) -> None:
    """Wait until no process of a server before this one is left: it might still write to the folder of its job.

    Raises:
        ConfigurationError: They do not end.
    """
    end = time.monotonic() + WAIT_SECONDS
    with (data_dir / PROGRAMS_LOCK).open("w") as lock:
        while True:
            try:
                return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > end:
                    raise ConfigurationError(
                        f"data-dir: programs of the runtime that served {data_dir} before are still running. End them."
                    ) from None
                time.sleep(0.02)


class Recovery:
    """Settles the jobs that were running: at the start or, where the disk does not take that, later.

    Until then they stay Running, and all else that is on the disk can be read.

    Args:
        store: The jobs.
        jobs_root: Folder with one folder a job.
    """

    def __init__(self, store: Store, jobs_root: Path) -> None:
        self._store = store
        self._root = jobs_root
        self._left = store.running()
        self._one_at_a_time = threading.Lock()

    def settle(self) -> None:
        """Settle what is left. Callable from any thread.

        Raises:
            sqlite3.Error: The disk does not take it.
        """
        if not self._left or not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            while self._left:
                now = self._store.job(self._left[0].id)
                if now is not None and now.status == RUNNING:  # not cancelled meanwhile
                    _settle(self._store, now, JobFolder(self._root / now.id))
                del self._left[0]
        finally:
            self._one_at_a_time.release()


def recover(store: Store, jobs_root: Path) -> Recovery:
    """Settle what was running, and remove the folders of jobs that are not there any more.

    Returns:
        What settles the rest, where the disk does not take it all.
    """
    recovery = Recovery(store, jobs_root)
    try:
        recovery.settle()
    except sqlite3.Error as error:
        _log.error("the disk fails (%s): jobs that were running stay so until it takes their end", in_words(error))
    for path in jobs_root.glob("*"):
        if store.job(path.name) is None:
            _log.info("job %s: is not there any more; its folder is removed", path.name)
            JobFolder(path).remove()
    return recovery


def _settle(store: Store, job: Job, folder: JobFolder) -> None:
    if folder.result.exists():  # it appears whole or not at all
        store.move(job.id, COMPLETED)
    elif not _may_run_again(store, job):
        folder.drop_result()
        store.move(job.id, FAILED, reason="The embedded runtime restarted while the job was running.")
    elif job.starts >= MAX_STARTS:
        reason = f"The embedded runtime restarted while the job was running, {job.starts} times: it is given up."
        folder.drop_result()
        store.move(job.id, FAILED, reason=reason)
    else:
        folder.remove()  # what it published and printed comes again
        store.move(job.id, QUEUED)


def _may_run_again(store: Store, job: Job) -> bool:
    program = store.programs.get(job.program_id)
    return job.program_id in BUILT_IN if program is None else program.spec.get("restartable") is True
