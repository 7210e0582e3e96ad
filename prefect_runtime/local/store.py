"""Jobs and programs of the embedded runtime, in SQLite. Imported by the server process only, never by a worker.

A job is acknowledged only after the row is on disk (WAL, synchronous FULL), and its status moves by compare-and-set, so
that of two threads that want to end a job one wins and the other is told.
"""

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from prefect_runtime.wire.models import KEY_PREFIX, RAN_TOO_LONG_WORD

QUEUED, RUNNING, COMPLETED, FAILED, CANCELLED = "Queued", "Running", "Completed", "Failed", "Cancelled"
RAN_TOO_LONG = RAN_TOO_LONG_WORD
PENDING = (QUEUED, RUNNING)

_LEGAL = {
    RUNNING: (QUEUED,),
    CANCELLED: (QUEUED, RUNNING),
    COMPLETED: (RUNNING,),
    FAILED: (QUEUED, RUNNING),
    RAN_TOO_LONG: (RUNNING,),
}

_SCHEMA = """
CREATE TABLE IF NOT EXISTS jobs (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    id TEXT NOT NULL UNIQUE,
    request_key TEXT UNIQUE,
    program_id TEXT NOT NULL,
    backend TEXT NOT NULL,
    params TEXT NOT NULL,
    tags TEXT NOT NULL,
    log_level TEXT NOT NULL,
    max_execution_time REAL,
    session_id TEXT,
    private INTEGER NOT NULL,
    image TEXT,
    status TEXT NOT NULL
        CHECK (status IN ('Queued', 'Running', 'Completed', 'Failed', 'Cancelled', 'Cancelled - Ran too long')),
    reason TEXT NOT NULL DEFAULT '',
    reason_code INTEGER,
    created TEXT NOT NULL,
    started TEXT,
    ended TEXT
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, seq);
CREATE TABLE IF NOT EXISTS programs (
    id TEXT PRIMARY KEY,
    name TEXT NOT NULL UNIQUE,
    data TEXT NOT NULL,
    description TEXT NOT NULL,
    cost REAL NOT NULL,
    is_public INTEGER NOT NULL,
    spec TEXT NOT NULL,
    created TEXT NOT NULL,
    updated TEXT NOT NULL
);
PRAGMA user_version = 1;
"""


@dataclass(frozen=True, slots=True, kw_only=True)
class Job:
    """One row of the jobs table; times are ISO 8601 texts in UTC, `max_execution_time` is in seconds."""

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

    @property
    def is_final(self) -> bool:
        """True once nothing more will happen."""
        return self.status not in PENDING


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One uploaded program; `cost` is its longest run in seconds."""

    id: str
    name: str
    data: str = field(repr=False)
    description: str = ""
    cost: float = 600.0  # the classic service's default, by its API page
    is_public: bool = False
    spec: dict[str, Any] = field(default_factory=dict)
    created: str = ""
    updated: str = ""


class KeyTakenError(Exception):
    """A job with the same request key is there already: `job_id` is its id."""

    def __init__(self, job_id: str) -> None:
        super().__init__(job_id)
        self.job_id = job_id


def now() -> str:
    """Return the current time as the servers write it: UTC, microseconds, ``Z``."""
    return datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


_LIGHT = (
    "id, program_id, backend, tags, log_level, max_execution_time, session_id, private, image, "
    "status, reason, reason_code, created, started, ended"
)


class Store:
    """The database. One connection, one lock: SQLite has one writer anyway.

    Args:
        path: The database file.
        on_change: Called with the job (without params) after each committed change, from the thread that made it.
    """

    def __init__(self, path: Path, on_change: Callable[[Job], None]) -> None:
        self._on_change = on_change
        self._lock = threading.RLock()
        self._db = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self._db.row_factory = sqlite3.Row
        self._db.execute("PRAGMA journal_mode = WAL")
        self._db.execute("PRAGMA synchronous = FULL")
        self._db.executescript(_SCHEMA)

    def close(self) -> None:
        """Close the database."""
        with self._lock:
            self._db.close()

    # Jobs

    def add_job(self, job: Job) -> Job:
        """Put a job at the end of the queue; on return it is on disk.

        Raises:
            KeyTakenError: One of its tags is a request key that another job has.
        """
        key = next((tag for tag in job.tags if tag.startswith(KEY_PREFIX)), None)
        created = now()
        row: list[Any] = [job.id, key, job.program_id, job.backend, job.params, json.dumps(job.tags), job.log_level]
        row += [job.max_execution_time, job.session_id, job.private, job.image, QUEUED, created]
        with self._lock:
            try:
                self._db.execute(
                    "INSERT INTO jobs (id, request_key, program_id, backend, params, tags, log_level,"
                    " max_execution_time, session_id, private, image, status, created)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    row,
                )
            except sqlite3.IntegrityError:
                taken = self._db.execute("SELECT id FROM jobs WHERE request_key = ?", (key,)).fetchone()
                if taken is None:
                    raise
                raise KeyTakenError(taken["id"]) from None
            return self._changed(job.id)

    def job(self, job_id: str, *, with_params: bool = False) -> Job | None:
        """Return one job, or None."""
        columns = f"{_LIGHT}, params" if with_params else _LIGHT
        with self._lock:
            row = self._db.execute(f"SELECT {columns} FROM jobs WHERE id = ?", (job_id,)).fetchone()  # noqa: S608
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
    ) -> tuple[list[Job], int]:
        """Return one page of jobs, newest first (or oldest), without params, and how many match in all."""
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
        page = f"SELECT {_LIGHT} FROM jobs WHERE {condition} ORDER BY seq {order} LIMIT ? OFFSET ?"  # noqa: S608
        with self._lock:
            rows = self._db.execute(page, (*values, limit, offset)).fetchall()
            count = self._db.execute(f"SELECT count(*) FROM jobs WHERE {condition}", values).fetchone()[0]  # noqa: S608
        return [_job(row) for row in rows], count

    def take_next(self) -> Job | None:
        """Move the oldest queued job to Running and return it with its params; None when the queue is empty."""
        with self._lock:
            row = self._db.execute(
                "SELECT id FROM jobs WHERE status = ? ORDER BY seq LIMIT 1",
                (QUEUED,),
            ).fetchone()
            if row is None or not self.move(row["id"], RUNNING):
                return None
            return self.job(row["id"], with_params=True)

    def move(self, job_id: str, status: str, *, reason: str = "", reason_code: int | None = None) -> bool:
        """Change a job's status if that is legal from where it stands; False if it is not (somebody was first)."""
        before = _LEGAL[status]
        stamp = "started" if status == RUNNING else "ended"
        with self._lock:
            moved = self._db.execute(
                f"UPDATE jobs SET status = ?, reason = ?, reason_code = ?, {stamp} = ?"  # noqa: S608
                f" WHERE id = ? AND status IN ({', '.join('?' * len(before))})",
                (status, reason, reason_code, now(), job_id, *before),
            ).rowcount
            if moved:
                self._changed(job_id)  # with the lock held: news in the order in which it happened
        return bool(moved)

    def fail_interrupted(self) -> list[str]:
        """End what a server before this one was running when it died; return the ids.

        A program is not assumed to be repeatable, so it is not queued again.
        """
        with self._lock:
            rows = self._db.execute("SELECT id FROM jobs WHERE status = ?", (RUNNING,)).fetchall()
        ids = [row["id"] for row in rows]
        for job_id in ids:
            self.move(job_id, FAILED, reason="The embedded runtime was restarted while the job was running.")
        return ids

    def delete_job(self, job_id: str) -> bool:
        """Forget a job that is final; False if it is not."""
        with self._lock:
            cursor = self._db.execute("DELETE FROM jobs WHERE id = ? AND status NOT IN (?, ?)", (job_id, *PENDING))
        return bool(cursor.rowcount)

    def count_pending(self) -> int:
        """Return how many jobs are queued or running."""
        with self._lock:
            count: int = self._db.execute("SELECT count(*) FROM jobs WHERE status IN (?, ?)", PENDING).fetchone()[0]
        return count

    def _changed(self, job_id: str) -> Job:
        job = self.job(job_id)
        assert job is not None, job_id  # noqa: S101 - the caller has just written the row
        self._on_change(job)
        return job

    # Programs

    def save_program(self, program: Program) -> bool:
        """Add a program, or replace the one with its id; False if another has its name."""
        values: list[Any] = [program.id, program.name, program.data, program.description, program.cost]
        values += [program.is_public, json.dumps(program.spec), program.created or now(), now()]
        with self._lock:
            try:
                self._db.execute(
                    "INSERT INTO programs (id, name, data, description, cost, is_public, spec, created, updated)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
                    " data = excluded.data, description = excluded.description, cost = excluded.cost,"
                    " is_public = excluded.is_public, spec = excluded.spec, updated = excluded.updated",
                    values,
                )
            except sqlite3.IntegrityError:
                return False
        return True

    def program(self, program_id: str) -> Program | None:
        """Return one uploaded program, or None."""
        with self._lock:
            row = self._db.execute("SELECT * FROM programs WHERE id = ?", (program_id,)).fetchone()
        return _program(row) if row else None

    def programs(self) -> Sequence[Program]:
        """Return all uploaded programs, oldest first."""
        with self._lock:
            rows = self._db.execute("SELECT * FROM programs ORDER BY created").fetchall()
        return [_program(row) for row in rows]

    def delete_program(self, program_id: str) -> bool:
        """Forget a program; False if there is none."""
        with self._lock:
            return bool(self._db.execute("DELETE FROM programs WHERE id = ?", (program_id,)).rowcount)


def _job(row: sqlite3.Row) -> Job:
    values = dict(row)
    values["tags"] = tuple(json.loads(values["tags"]))
    values["private"] = bool(values["private"])
    return Job(**values)


def _program(row: sqlite3.Row) -> Program:
    values = dict(row)
    values["spec"] = json.loads(values["spec"])
    values["is_public"] = bool(values["is_public"])
    return Program(**values)
