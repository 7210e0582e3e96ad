"""What is scanned: folders with the databases in them, and the processes that tests have started."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterable, Iterator
from pathlib import Path

from .allowed import leaks
from .scanner import Hit, scan

ROWS_AT_ONCE = 2000
RUNTIME = ("prefect_runtime.local", "multiprocessing.forkserver")
"""In the arguments of an embedded runtime, and of what it starts: below it nobody is to know a token."""


def assert_clean(*hits: Iterable[Hit]) -> None:
    """Fail with the list of all canaries that are where they must not be."""
    found = sorted(set(leaks(hit for some in hits for hit in some)))
    assert not found, "canaries where they must not be:\n  " + "\n  ".join(map(str, found))


def folder(path: Path, kind: str) -> Iterator[Hit]:
    """Scan all that is in a folder: names, files as they are, and the rows of databases."""
    # os.walk, because a folder may go while it is looked at.
    files = [Path(parent, name) for parent, *both in os.walk(path) for name in [*both[0], *both[1]]]
    for file in sorted(files):
        name = str(file.relative_to(path))
        yield from scan(name, f"{kind}: the name of a file")
        if not file.is_file() or file.is_symlink():
            continue
        with contextlib.suppress(FileNotFoundError):  # a server may be at work in there
            data = file.read_bytes()
            yield from scan(data, f"{kind}: {name}")
            if data.startswith(b"SQLite format 3\0"):
                yield from rows(file, f"{kind}: {name}")


@contextlib.contextmanager
def log(path: Path, whose: str) -> Iterator[None]:
    """Fail at the end, if all went well so far, where a log that processes have written has a canary in it."""
    yield
    assert_clean(scan(path.read_bytes(), f"the log of {whose}"))


def rows(file: Path, where: str) -> Iterator[Hit]:
    """Scan a SQLite database column by column: in the file, a long value is in pieces."""
    with contextlib.closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True)) as database:
        tables = database.execute("SELECT name FROM sqlite_master WHERE type = 'table' AND rootpage").fetchall()
        for (table,) in tables:
            found = database.execute(f'SELECT * FROM "{table}"')
            names = [column[0] for column in found.description]
            while some := found.fetchmany(ROWS_AT_ONCE):
                for name, values in zip(names, zip(*some, strict=True), strict=True):
                    yield from scan(_joined(values), f"{where}, {table}.{name}")


def _joined(values: Iterable[object]) -> bytes:
    given = (value for value in values if isinstance(value, str | bytes))
    return b"\0".join(value.encode("utf-8", "surrogateescape") if isinstance(value, str) else value for value in given)


def processes(ours: Path) -> Iterator[Hit]:
    """Scan arguments and environments of this process's descendants, and of whoever names the tests' folder.

    Args:
        ours: A folder that only this process's tests use: what has left the family (a server) has it in its arguments.
    """
    parents, arguments = _all_processes()
    below = _descendants(
        parents, {os.getpid(), *(pid for pid, line in arguments.items() if os.fsencode(ours) + b"/" in line)}
    )
    programs = _descendants(parents, {pid for pid in below if any(word.encode() in arguments[pid] for word in RUNTIME)})
    for pid in below - {os.getpid()}:
        yield from scan(arguments[pid], "process: arguments")
        kind = "process: environment of a runtime's" if pid in programs else "process: environment"
        with contextlib.suppress(OSError):
            for entry in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0"):
                name, _, value = entry.partition(b"=")
                yield from scan(value, f"{kind} {name.decode('utf-8', 'replace')}")


def _all_processes() -> tuple[dict[int, int], dict[int, bytes]]:
    parents: dict[int, int] = {}
    arguments: dict[int, bytes] = {}
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, IndexError):
            parent = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
            arguments[int(entry.name)] = (entry / "cmdline").read_bytes()
            parents[int(entry.name)] = parent
    return parents, arguments


def _descendants(parents: dict[int, int], roots: set[int]) -> set[int]:
    """Return some processes and all beneath them."""
    known = set(roots)
    while more := {pid for pid, parent in parents.items() if parent in known} - known:
        known |= more
    return known
