"""Writes down how a job ended, whatever the disk says to that. Used by executor.py only."""

from __future__ import annotations

import signal
import sqlite3
from collections.abc import Callable

from prefect_runtime.local.disk import in_words
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.process import HOW_IS_UNKNOWN, Ending
from prefect_runtime.local.store import CANCELLED, COMPLETED, FAILED, RAN_TOO_LONG, Store
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import RAN_TOO_LONG_CODE

_log = get_logger(__name__)


class Endings:
    """How jobs ended.

    Args:
        store: Where the jobs are.
        closes_within_pause: Waits a pause, between two tries; returns True at once when the server ends.
    """

    def __init__(self, store: Store, closes_within_pause: Callable[[], bool]) -> None:
        self._store = store
        self._closes_within_pause = closes_within_pause

    def write(
        self, job_id: str, folder: JobFolder, ending: Ending, *, limit: float | None = None, cancelled: bool = False
    ) -> None:
        """Write down how a job's process came to its end.

        Args:
            job_id: The job.
            folder: Its files.
            ending: How its process ended, or what it reported.
            limit: Seconds that it might run.
            cancelled: Whether somebody wanted its end.
        """
        report = ending.report
        if report is not None and report.kind == "done":
            self._write_done(job_id, folder, report.digest)
            return
        folder.drop_result()
        if cancelled and (report is None or ending.was_ended):  # some turn SIGTERM into an exception, and report that
            self.end(job_id, CANCELLED)
        elif report is not None:
            self.end(job_id, FAILED, reason=report.reason)
        elif ending.too_long:
            reason = f"Ran too long: more than max_execution_time, {limit:g} s."
            self.end(job_id, RAN_TOO_LONG, reason=reason, reason_code=RAN_TOO_LONG_CODE)
        elif ending.broke:
            self.end(job_id, FAILED, reason=ending.broke)
        else:
            _log.warning("job %s: its process died (%s)", job_id, ending.exit_code)
            self.end(job_id, FAILED, reason=_how_it_died(ending.exit_code))

    def _write_done(self, job_id: str, folder: JobFolder, digest: str) -> None:
        try:
            folder.finish_result(digest)
        except OSError as error:
            self.end(job_id, FAILED, reason=f"The job's result could not be written: {in_words(error)}.")
        else:
            self.end(job_id, COMPLETED)

    def end(self, job_id: str, status: str, *, reason: str = "", reason_code: int | None = None) -> None:
        """Write down a job's last status. Where the disk does not take it, wait until it does, or until closed.

        The job stays Running meanwhile. Should the server end first, its successor settles the job (recovery.py).
        """
        while True:
            try:
                self._store.move(job_id, status, reason=reason, reason_code=reason_code)
                return
            except sqlite3.Error as error:
                complain(error)
            if self._closes_within_pause():
                return


def complain(error: sqlite3.Error | OSError) -> None:
    """Log that the disk fails, where what failed is tried again."""
    _log.error("the disk fails (%s); it is tried again", in_words(error))


def _how_it_died(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        known = {number.value: number.name for number in signal.Signals}
        name = known.get(-exit_code, f"signal {-exit_code}")
        return f"The program's process was ended by {name}: the program crashed, or the system ran out of memory."
    if exit_code in (None, HOW_IS_UNKNOWN):
        return "The program's process ended without a result: it called os._exit(), or somebody ended it and others."
    return f"The program's process ended without a result (exit code {exit_code}): the program called os._exit()?"
