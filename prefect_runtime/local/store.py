"""Jobs of the embedded runtime, in SQLite. Imported by the server process only, never by a worker.

A job is acknowledged only after the row is on disk (WAL, synchronous FULL), and its status moves by compare-and-set, so
that of two threads that want to end a job one wins and the other is told.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from prefect_runtime.local.database import Database, as_text, now
from prefect_runtime.local.uploads import Programs
from prefect_runtime.wire.models import KEY_PREFIX, RAN_TOO_LONG_WORD

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "Queued", "Running", "Completed", "Failed", "Cancelled"
RAN_TOO_LONG = RAN_TOO_LONG_WORD
PENDING = (QUEUED, RUNNING)

_LEGAL = {
    QUEUED: (RUNNING,),
    RUNNING: (QUEUED,),
    CANCELLED: (QUEUED, RUNNING),
    COMPLETED: (RUNNING,),
    FAILED: (QUEUED, RUNNING),
    RAN_TOO_LONG: (RUNNING,),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the jobs table; times are ISO 8601 texts in UTC, `max_execution_time` is in seconds.

    `starts` is how often it was given to a process: more than once only where the server died in between.
    """

    id: str
    program_id: str
    backend: str
    params: str = field(default="{}", repr=False)
    tags: tuple[str, ...] = ()
    log_level: str = "WARNING"
    max_execution_time: float | None = None
    session_id: str | None = None
    private: bool = False
    image: str | None = None
    status: str = QUEUED
    reason: str = ""
    reason_code: int | None = None
    created: str = ""
    started: str | None = None
    ended: str | None = None
    starts: int = 0

    @property
    def is_final(self) -> bool:
        """True once nothing more will happen."""
        return self.status not in PENDING


class KeyTakenError(Exception):
    """A job with the same request key is there already: `job_id` is its id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


_LIGHT = (
    "id, program_id, backend, tags, log_level, max_execution_time, session_id, private, image, "
    "status, reason, reason_code, created, started, ended, starts"
)


class Store:
    """The jobs, and with them the database of everything else.

    Args:
        path: The database file.
        on_change: Called with the job (without params) after each committed change, from the thread that made it.
    """

    def __init__(self, path: Path, on_change: Callable[[Job], None]) -> None:
        self._on_change = on_change
        self.database = Database(path)
        self.programs = Programs(self.database)
        self._lock = self.database.lock
        self._db = self.database.connection

    def close(self) -> None:
        """Close the database."""
        self.database.close()

    def add_job(self, job: Job, admit: Callable[[], None] = lambda: None) -> Job:
        """Put a job at the end of the queue; on return it is on disk.

        Args:
            job: The job.
            admit: Raises what speaks against a new job, which is not added then. Nothing changes between its look and
                the job's row.

        Raises:
            KeyTakenError: One of its tags is a request key that another job has.
        """
        row: list[Any] = [
            job.id,
            _key(job.tags),
            job.program_id,
            job.backend,
            job.params,
            json.dumps(job.tags),
            job.log_level,
        ]
        row += [job.max_execution_time, job.session_id, job.private, job.image, QUEUED]
        with self._lock:
            self.check_key(job.tags)  # before the rest: a request that has its job needs no room
            admit()
            with self.database.transaction():
                self._db.execute(
                    "INSERT INTO jobs (id, request_key, program_id, backend, params, tags, log_level,"
                    " max_execution_time, session_id, private, image, status, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (*row, now()),
                )
                added = self._written(job.id)
            self._on_change(added)
            return added

    def check_key(self, tags: Iterable[str]) -> None:
        """Check that no job has the request key among some tags yet.

        Raises:
            KeyTakenError: One has.
        """
        with self._lock:
            taken = self._db.execute("SELECT id FROM jobs WHERE request_key = ?", (_key(tags),)).fetchone()
        if taken is not None:
            raise KeyTakenError(taken["id"])

    def job(self, job_id: str, *, with_params: bool = False) -> Job | None:
        """Return one job, or None."""
        columns = f"{_LIGHT}, params" if with_params else _LIGHT
        with self._lock:
            row = self._db.execute(f"SELECT {columns} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608  # nosec B608 # own words, values are bound
        return _job(row) if row else None

    def jobs(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        pending: bool | None = None,
        program: str | None = None,
        backend: str | None = None,
        session_id: str | None = None,
        tags: Iterable[str] = (),
        created_after: str | None = None,
        created_before: str | None = None,
        ascending: bool = False,
        with_params: bool = False,
    ) -> tuple[list[Job], int]:
        """Return one page of jobs, newest first (or oldest), and how many match in all."""
        where, values = ["1"], list[Any]()
        if pending is not None:
            where.append(f"status {'IN' if pending else 'NOT IN'} (?, ?)")
            values += PENDING
        for column, value in (("program_id", program), ("backend", backend), ("session_id", session_id)):
            if value is not None:
                where.append(f"{column} = ?")
                values.append(value)
        for tag in tags:
            where.append("EXISTS (SELECT 1 FROM json_each(jobs.tags) WHERE json_each.value = ?)")
            values.append(tag)
        for comparison, moment in ((">=", created_after), ("<=", created_before)):
            if moment is not None:
                where.append(f"created {comparison} ?")
                values.append(moment)
        condition = " AND ".join(where)
        order = "ASC" if ascending else "DESC"
        columns = f"{_LIGHT}, params" if with_params else _LIGHT
        page = f"SELECT {columns} FROM jobs WHERE {condition} ORDER BY seq {order} LIMIT ? OFFSET ?"  # noqa: S608  # nosec B608 # own words, values are bound
        with self._lock:
            rows = self._db.execute(page, (*values, limit, offset)).fetchall()
            count = self._db.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values).fetchone()[0]  # noqa: S608  # nosec B608 # own words, values are bound
        return [_job(row) for row in rows], count

    def take_next(self, delays: Mapping[str, float]) -> Job | None:
        """Move the oldest queued job to Running and return it with its params; None when there is none.

        Args:
            delays: Seconds that jobs of a backend stay in the queue at least, by the backend's name.

        The job is returned as it stood in the queue.
        """
        waiting, values = "", list[str]()
        for backend, seconds in delays.items():
            waiting += " AND NOT (backend = ? AND created > ?)"
            values += [backend, as_text(datetime.now(UTC) - timedelta(seconds=seconds))]
        with self._lock:
            row = self._db.execute(
                f"SELECT id FROM jobs WHERE status = ?{waiting} ORDER BY seq LIMIT 1",  # noqa: S608  # nosec B608 # own words, values are bound
                (QUEUED, *values),
            ).fetchone()
            # Read first: once it is moved, nothing may fail any more.
            job = self.job(row["id"], with_params=True) if row else None
            return job if job is not None and self.move(job.id, RUNNING) else None

    def move(self, job_id: str, status: str, *, reason: str = "", reason_code: int | None = None) -> bool:
        """Change a job's status if that is legal from where it stands; False if it is not (somebody was first)."""
        before = _LEGAL[status]
        stamp = {QUEUED: "started = NULL", RUNNING: "starts = starts + 1, started = ?"}.get(status, "ended = ?")
        times = [now()] if "?" in stamp else []
        with self._lock:
            with self.database.transaction():
                moved = self._db.execute(
                    f"UPDATE jobs SET status = ?, reason = ?, reason_code = ?, {stamp}"  # noqa: S608  # nosec B608 # own words, values are bound
                    f" WHERE id = ? AND status IN ({', '.join('?' * len(before))})",
                    (status, reason, reason_code, *times, job_id, *before),
                ).rowcount
                job = self._written(job_id) if moved else None
            if job is not None:
                self._on_change(job)  # with the lock held: news in the order in which it happened
        return job is not None

    def discount_start(self, job_id: str) -> None:
        """Have a job's last start not count: the server ended it in good order, which says nothing against the job."""
        with self._lock:
            self._db.execute("UPDATE jobs SET starts = max(starts - 1, 0) WHERE id = ?", (job_id,))

    def running(self) -> list[Job]:
        """Return the jobs that are Running, oldest first."""
        with self._lock:
            query = f"SELECT {_LIGHT} FROM jobs WHERE status = ? ORDER BY seq"  # noqa: S608  # nosec B608 # own words, values are bound
            return [_job(row) for row in self._db.execute(query, (RUNNING,))]

    def set_tags(self, job_id: str, tags: Iterable[str]) -> None:
        """Replace a job's tags; what it was submitted under stays its request key."""
        with self._lock:
            self._db.execute("UPDATE jobs SET tags = ? WHERE id = ?", (json.dumps(list(tags)), job_id))

    def tags_like(self, text: str, *, limit: int = 200) -> list[str]:
        """Return the tags of all jobs in which a text occurs, in order."""
        escaped = text.replace("\\", "\\\\").replace("%", "\\%").replace("_", "\\_")
        query = (
            "SELECT DISTINCT tag.value AS tag FROM jobs, json_each(jobs.tags) AS tag"
            " WHERE tag.value LIKE ? ESCAPE '\\' ORDER BY tag LIMIT ?"
        )
        with self._lock:
            return [row["tag"] for row in self._db.execute(query, (f"%{escaped}%", limit))]

    def seconds_run(self) -> float:
        """Return how long all jobs ran together."""
        query = "SELECT sum(julianday(ended) - julianday(started)) FROM jobs WHERE ended IS NOT NULL"
        with self._lock:
            days = self._db.execute(query).fetchone()[0]
        return 86_400 * (days or 0.0)

    def delete_job(self, job_id: str) -> bool:
        """Forget a job that is final; False if it is not."""
        with self._lock:
            cursor = self._db.execute("DELETE FROM jobs WHERE id = ? AND status NOT IN (?, ?)", (job_id, *PENDING))
        return bool(cursor.rowcount)

    def mean_seconds(self) -> float:
        """Return how long the last jobs ran, on average."""
        query = (
            "SELECT avg(seconds) FROM (SELECT 86400 * (julianday(ended) - julianday(started)) AS seconds FROM jobs"
            " WHERE ended IS NOT NULL AND started IS NOT NULL ORDER BY seq DESC LIMIT 20)"
        )
        with self._lock:
            return float(self._db.execute(query).fetchone()[0] or 0.0)

    def count_pending(self) -> int:
        """Return how many jobs are queued or running."""
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM jobs WHERE status IN (?, ?)", PENDING).fetchone()[0]
        return count

    def _written(self, job_id: str) -> Job:
        job = self.job(job_id)
        assert job is not None, job_id  # noqa: S101 - the caller has just written the row
        return job


def _key(tags: Iterable[str]) -> str | None:
    return next((tag for tag in tags if tag.startswith(KEY_PREFIX)), None)


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values["tags"] = tuple(json.loads(values["tags"]))
    values["private"] = bool(values["private"])
    return Job(**values)
