"""Sessions of the embedded runtime: jobs that belong together, under one time to live. Imported by the server only.

Nothing is reserved for a session here: its jobs wait in the queue like all others. What a client can rehearse is the
rest: opening, closing, running out of time. Source of the words: IBM's REST API 0.45.3, ``/sessions``.
"""

from __future__ import annotations

import secrets
import sqlite3
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from prefect_runtime.local.database import as_text, now
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.store import CANCELLED, QUEUED, RUNNING, Store
from prefect_runtime.wire.fields import parse_time

DEFAULT_TTL_SECONDS = 28_800.0  # IBM's documentation, "Session max time": 8 hours
INTERACTIVE_TTL_SECONDS = 60  # the same page: how long a session waits for its next job
MODES = ("dedicated", "batch")
SESSION_CLOSED = 4001  # IBM's registry of errors


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One session; `max_ttl` is in seconds, times are ISO 8601 texts in UTC."""

    id: str
    mode: str
    backend: str
    max_ttl: float
    created: str
    closed: str | None = None

    @property
    def ends(self) -> datetime:
        """When its time is over."""
        created = parse_time(self.created)
        assert created is not None, self.id  # noqa: S101 - written by `open`
        return created + timedelta(seconds=self.max_ttl)


class Sessions:
    """The table of sessions.

    Args:
        store: The jobs in them, and the database.
    """

    def __init__(self, store: Store) -> None:
        self._store = store
        self._lock = store.database.lock
        self._db = store.database.connection

    def open(self, *, mode: str, backend: str, max_ttl: float) -> Session:
        """Open a session."""
        session = Session(id=secrets.token_hex(10), mode=mode, backend=backend, max_ttl=max_ttl, created=now())
        values = (session.id, mode, backend, max_ttl, session.created)
        with self._lock:
            insert = "INSERT INTO sessions (id, mode, backend, max_ttl, created) VALUES (?, ?, ?, ?, ?)"
            self._db.execute(insert, values)
        return session

    def get(self, session_id: str) -> Session:
        """Return a session; one whose time is over has been closed by then.

        Raises:
            Refusal: 404, there is none.
        """
        row = self._row(session_id)
        if row is None:
            raise Refusal(404, 404, f"There is no session {session_id!r} here.")
        session = Session(**row)
        if session.closed is None and datetime.now(UTC) > session.ends:
            self.cancel(session_id, at=as_text(session.ends))
            session = Session(**(self._row(session_id) or row))
        return session

    def has(self, session_id: str) -> bool:
        """True if there is, or was, such a session."""
        return self._row(session_id) is not None

    def _row(self, session_id: str) -> sqlite3.Row | None:
        with self._lock:
            row: sqlite3.Row | None = self._db.execute("SELECT * FROM sessions WHERE id = ?", (session_id,)).fetchone()
        return row

    def check_accepts(self, session_id: str) -> None:
        """Check that a job may be submitted in a session.

        Raises:
            Refusal: 404, there is none; 400, it takes no jobs any more.
        """
        if self.get(session_id).closed is not None:
            raise Refusal(400, SESSION_CLOSED, f"session_id: session {session_id} is closed.")

    def close(self, session_id: str, *, at: str | None = None) -> None:
        """Take no more jobs; those in the queue still run."""
        with self._lock:
            update = "UPDATE sessions SET closed = ? WHERE id = ? AND closed IS NULL"
            self._db.execute(update, (at or now(), session_id))

    def cancel(self, session_id: str, *, at: str | None = None) -> None:
        """Close a session and cancel its queued jobs; running ones go on."""
        self.close(session_id, at=at)
        with self._lock:  # to the end: a job that a slot takes meanwhile would be cancelled while it runs
            query = "SELECT id FROM jobs WHERE session_id = ? AND status = ?"
            queued = [row["id"] for row in self._db.execute(query, (session_id, QUEUED))]
            for job_id in queued:
                self._store.move(job_id, CANCELLED, reason=f"Session {session_id} was closed.")

    def end_overdue(self) -> None:
        """Close the sessions whose time is over; asked before each job is taken, so that none of theirs starts then."""
        with self._lock:
            query = "SELECT * FROM sessions WHERE closed IS NULL"
            still_open = [Session(**row) for row in self._db.execute(query)]
        for session in still_open:
            if datetime.now(UTC) > session.ends:
                self.cancel(session.id, at=as_text(session.ends))

    def document(self, session: Session) -> dict[str, Any]:
        """Return a session as IBM's clients read it (schema JobSession)."""
        query = "SELECT status, started, ended FROM jobs WHERE session_id = ?"
        with self._lock:
            jobs = self._db.execute(query, (session.id,)).fetchall()
        started = [row["started"] for row in jobs if row["started"]]
        ended = [row["ended"] for row in jobs if row["started"] and row["ended"]]
        if session.closed is not None:
            state = "closed"
        elif any(row["status"] == RUNNING for row in jobs):
            state = "active"
        else:
            state = "inactive" if started else "open"
        return {
            "id": session.id,
            "mode": session.mode,
            "backend_name": session.backend,
            "state": state,
            "accepting_jobs": session.closed is None,
            "interactive_ttl": INTERACTIVE_TTL_SECONDS,
            "max_ttl": session.max_ttl,
            "active_ttl": max(0.0, (session.ends - datetime.now(UTC)).total_seconds()),
            "elapsed_time": _seconds_between(session.created, session.closed),
            "started_at": session.created,
            "activated_at": min(started, default=None),
            "closed_at": session.closed,
            "last_job_started": max(started, default=None),
            "last_job_completed": max(ended, default=None),
        }


def _seconds_between(start: str, end: str | None) -> float:
    began, ended = parse_time(start), parse_time(end) or datetime.now(UTC)
    return (ended - began).total_seconds() if began else 0.0


def check_new(body: dict[str, Any], backends: tuple[str, ...]) -> dict[str, Any]:
    """Return what `Sessions.open` takes, from a request's body.

    Raises:
        Refusal: 400 or 404; the message names the field.
    """
    mode = body.get("mode") or "dedicated"
    if mode not in MODES:
        raise Refusal(400, 400, f"mode: {mode!r} is none of {', '.join(MODES)}.")
    backend = body.get("backend")
    if backend not in backends:
        raise Refusal(404, 404, f"backend: there is no backend {backend!r} here; there are {', '.join(backends)}.")
    ttl = body.get("max_ttl")
    if ttl is None:
        ttl = DEFAULT_TTL_SECONDS
    if isinstance(ttl, bool) or not isinstance(ttl, int | float) or not 0 < ttl <= DEFAULT_TTL_SECONDS:
        raise Refusal(400, 400, f"max_ttl: must be a number of seconds, at most {DEFAULT_TTL_SECONDS:g}.")
    return {"mode": mode, "backend": backend, "max_ttl": float(ttl)}
