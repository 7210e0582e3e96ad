"""How long jobs that are final are kept: by age, and by what all of them take up together. Imported by the server only.

A job that is queued or running is never touched. Nor is one that ended a moment ago, however large: whoever waits for
it has to get its result. A job that is pruned is gone as after a deletion: its id is not known any more.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prefect_runtime.local.database import as_text
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.store import PENDING, Store
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

KEEP_DAYS = 90.0
KEEP_GIGABYTES = 10.0
YOUNG_SECONDS = 3600.0
"""So long after its end a job is kept, whatever it takes up."""

PAUSE_SECONDS = 60.0
BYTES_IN_GIGABYTE = 10**9


@dataclass(frozen=True, slots=True, kw_only=True)
class Keep:
    """What is kept; None: without limit.

    Attributes:
        days: Days since a job's end.
        gigabytes: Size of all final jobs together (inputs, logs, interim results, results), in 10^9 bytes.
    """

    days: float | None = KEEP_DAYS
    gigabytes: float | None = KEEP_GIGABYTES


class Retention:
    """Removes what need not be kept, the oldest first.

    Args:
        store: The jobs.
        jobs_root: Folder with one folder a job.
        keep: What is kept.
        monotonic: A clock in seconds, for the pauses between two looks.
        today: The time by which a job's age is told.
    """

    def __init__(
        self,
        store: Store,
        jobs_root: Path,
        keep: Keep,
        *,
        monotonic: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._db = store.database
        self._root = jobs_root
        self._keep = keep
        self._monotonic = monotonic
        self._today = today
        self._due = monotonic()
        self._one_at_a_time = threading.Lock()

    def prune_if_due(self) -> None:
        """Prune, unless that was done a moment ago or somebody is at it. Callable from any thread."""
        if self._monotonic() < self._due or not self._one_at_a_time.acquire(blocking=False):
            return
        try:
            self._due = self._monotonic() + PAUSE_SECONDS
            self.prune()
        finally:
            self._one_at_a_time.release()

    def prune(self) -> list[str]:
        """Remove the jobs that need not be kept; return their ids."""
        self._measure()
        gone = [job_id for job_id in self._too_old() + self._too_many() if self._remove(job_id)]
        if gone:
            _log.info("%d jobs were pruned, the first is %s", len(gone), gone[0])
        return gone

    def _remove(self, job_id: str) -> bool:
        # The row first: a folder without a job is removed by the next start, a job without its result would be a loss.
        removed = self._store.delete_job(job_id)
        if removed:
            JobFolder(self._root / job_id).remove()
        return removed

    def _measure(self) -> None:
        """Write down the size of each job that has become final since the last time."""
        query = "SELECT id, length(CAST(params AS BLOB)) AS size FROM jobs WHERE bytes IS NULL AND status NOT IN (?, ?)"
        with self._db.lock:
            rows = self._db.connection.execute(query, PENDING).fetchall()
        sizes = [(JobFolder(self._root / row["id"]).size() + row["size"], row["id"]) for row in rows]
        if sizes:
            with self._db.transaction():
                self._db.connection.executemany("UPDATE jobs SET bytes = ? WHERE id = ?", sizes)

    def _too_old(self) -> list[str]:
        if self._keep.days is None:
            return []
        before = as_text(self._today() - timedelta(days=self._keep.days))
        query = "SELECT id FROM jobs WHERE status NOT IN (?, ?) AND ended < ? ORDER BY ended"
        with self._db.lock:
            return [row["id"] for row in self._db.connection.execute(query, (*PENDING, before))]

    def _too_many(self) -> list[str]:
        """Return the oldest final jobs without which the rest is small enough; never the young ones."""
        if self._keep.gigabytes is None:
            return []
        # Summed up from the newest on: the job with which the sum gets too large and all before it have to go.
        query = (
            "SELECT id FROM (SELECT id, ended, seq, sum(bytes) OVER (ORDER BY ended DESC, seq DESC) AS together"
            " FROM jobs WHERE status NOT IN (?, ?)) WHERE together > ? AND ended < ? ORDER BY ended, seq"
        )
        young = as_text(self._today() - timedelta(seconds=YOUNG_SECONDS))
        limit = self._keep.gigabytes * BYTES_IN_GIGABYTE
        with self._db.lock:
            return [row["id"] for row in self._db.connection.execute(query, (*PENDING, limit, young))]
