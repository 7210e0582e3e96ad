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


class NameTakenError(Exception):
    """Another program has that name."""


class Programs:
    """The table of programs."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def add(self, program: Program) -> bool:
        """Add a program; False if another has its name."""
        values: list[Any] = [program.id, program.name, program.data, program.description, program.cost]
        values += [program.is_public, json.dumps(program.spec), now(), now()]
        insert = (
            "INSERT INTO programs (id, name, data, description, cost, is_public, spec, created, updated)"
            " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        with self._database.lock:
            try:
                self._database.connection.execute(insert, values)
            except sqlite3.IntegrityError:
                return False
        return True

    def change(self, program_id: str, **members: Any) -> bool:
        """Change some members of a program; False if it is not there (any more).

        The others stay what they are by then: who changed them, or deleted the program, while these were checked has
        been told that it was done.

        Raises:
            NameTakenError: Another program has the new name.
        """
        if "spec" in members:
            members["spec"] = json.dumps(members["spec"])
        columns = "".join(f"{member} = ?, " for member in members)
        update = f"UPDATE programs SET {columns}updated = ? WHERE id = ?"  # noqa: S608  # nosec B608 # own words, values are bound
        with self._database.lock:
            try:
                return bool(self._database.connection.execute(update, (*members.values(), now(), program_id)).rowcount)
            except sqlite3.IntegrityError:
                raise NameTakenError from None

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
