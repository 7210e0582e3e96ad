"""The embedded runtime's SQLite database: its tables, one connection and one lock. Used by the stores in this folder.

What is acknowledged is on disk before that (WAL, synchronous FULL). One connection: SQLite has one writer anyway.
"""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from prefect_runtime.wire.errors import ConfigurationError

_VERSION = 3
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
    ended TEXT,
    starts INTEGER NOT NULL DEFAULT 0,
    bytes INTEGER
);
CREATE INDEX IF NOT EXISTS jobs_by_status ON jobs (status, seq);
CREATE INDEX IF NOT EXISTS jobs_by_session ON jobs (session_id) WHERE session_id IS NOT NULL;
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
CREATE TABLE IF NOT EXISTS sessions (
    id TEXT PRIMARY KEY,
    mode TEXT NOT NULL CHECK (mode IN ('dedicated', 'batch')),
    backend TEXT NOT NULL,
    max_ttl REAL NOT NULL,
    created TEXT NOT NULL,
    closed TEXT
);
"""

_STEPS = {
    3: "ALTER TABLE jobs ADD COLUMN starts INTEGER NOT NULL DEFAULT 0; ALTER TABLE jobs ADD COLUMN bytes INTEGER;",
}
"""What makes a file of the version before into one of this; older ones than the first are not about any more."""


class Database:
    """The connection, and the lock that whoever uses it holds.

    Args:
        path: The file.

    Raises:
        ConfigurationError: It cannot be opened or written, is no database, is damaged, or is of a newer version.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        log = path.with_name(path.name + "-wal")
        was_killed = log.exists() and log.stat().st_size > 0  # who ends in order leaves no log behind
        try:
            self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
            try:
                self._open(was_killed)
            except BaseException:
                self.connection.close()
                raise
        except sqlite3.Error as error:
            raise ConfigurationError(f"data-dir: the database {path} cannot be used ({error}).") from None

    def _open(self, was_killed: bool) -> None:
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        if was_killed and (found := self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]) != "ok":
            raise sqlite3.DatabaseError(f"it is damaged: {found}")
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > _VERSION:
            raise sqlite3.DatabaseError("a newer prefect-runtime made it; upgrade, or use another folder")
        if version == _VERSION:
            return  # nothing to write: one can look at the results on a disk that is full
        steps = "".join(sql for number, sql in _STEPS.items() if 0 < version < number)
        # All or nothing: half a table would stop every later start.
        self.connection.executescript(f"BEGIN IMMEDIATE; {steps or _SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Hold the lock, and keep all that is written meanwhile or nothing of it; on return it is on disk."""
        with self.lock:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield
                self.connection.execute("COMMIT")
            except BaseException:
                if self.connection.in_transaction:  # of some errors SQLite has rolled back itself
                    self.connection.execute("ROLLBACK")
                raise

    def close(self) -> None:
        """Close the connection."""
        with self.lock:
            self.connection.close()


def now() -> str:
    """Return the current time as the servers write it: UTC, microseconds, ``Z``."""
    return as_text(datetime.now(UTC))


def as_text(moment: datetime) -> str:
    """Return a time as it stands in the tables, where texts are compared as times."""
    return moment.astimezone(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")
