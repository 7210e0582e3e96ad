"""The embedded runtime's SQLite database: its tables, one connection and one lock. Used by the stores in this folder.

What is acknowledged is on disk before that (WAL, synchronous FULL). One connection: SQLite has one writer anyway.
"""

from __future__ import annotations

import sqlite3
import threading
from datetime import UTC, datetime
from pathlib import Path

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
PRAGMA user_version = 2;
"""


class Database:
    """The connection, and the lock that whoever uses it holds.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.lock = threading.RLock()
        self.connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None, timeout=30)
        self.connection.row_factory = sqlite3.Row
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.executescript(_SCHEMA)

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
