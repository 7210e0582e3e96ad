"""Uploaded programs of the embedded runtime, in SQLite. Imported by the server process only."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_runtime.local.database import Database, now


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


class Programs:
    """The table of programs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def save(self, program: Program) -> bool:
        """Add a program, or replace the one with its id; False if another has its name."""
        values: list[Any] = [program.id, program.name, program.data, program.description, program.cost]
        values += [program.is_public, json.dumps(program.spec), program.created or now(), now()]
        with self._database.lock:
            try:
                self._database.connection.execute(
                    "INSERT INTO programs (id, name, data, description, cost, is_public, spec, created, updated)"
                    " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?) ON CONFLICT (id) DO UPDATE SET name = excluded.name,"
                    " data = excluded.data, description = excluded.description, cost = excluded.cost,"
                    " is_public = excluded.is_public, spec = excluded.spec, updated = excluded.updated",
                    values,
                )
            except sqlite3.IntegrityError:
                return False
        return True

    def get(self, program_id: str) -> Program | None:
        """Return one uploaded program, or None."""
        with self._database.lock:
            row = self._database.connection.execute("SELECT * FROM programs WHERE id = ?", (program_id,)).fetchone()
        return _program(row) if row else None

    def all(self) -> Sequence[Program]:
        """Return all uploaded programs, oldest first."""
        with self._database.lock:
            rows = self._database.connection.execute("SELECT * FROM programs ORDER BY created").fetchall()
        return [_program(row) for row in rows]

    def delete(self, program_id: str) -> bool:
        """Forget a program; False if there is none."""
        with self._database.lock:
            return bool(self._database.connection.execute("DELETE FROM programs WHERE id = ?", (program_id,)).rowcount)


def _program(row: sqlite3.Row) -> Program:
    values = dict(row)
    values["spec"] = json.loads(values["spec"])
    values["is_public"] = bool(values["is_public"])
    return Program(**values)
