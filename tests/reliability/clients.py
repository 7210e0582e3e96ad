"""Clients of an embedded runtime that dies under them: what they were told, the programs they run, and who judges.

A program writes its job's number into a ledger, a file, as the first thing it does. What a client writes down is only
what the server has acknowledged with a job id.
"""

from __future__ import annotations

import random
import shutil
import sqlite3
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.wire.errors import QiskitRuntimeError

LEDGER = """
import os, subprocess, sys, time

def main(backend, user_messenger, *, number, ledger, seconds=0.0, child=False):
    file = os.open(ledger, os.O_WRONLY | os.O_APPEND)
    os.write(file, b"%d\\n" % number)
    os.close(file)
    if child:
        subprocess.Popen(["sleep", "60"], start_new_session=True)
    user_messenger.publish(number)
    time.sleep(seconds)
    return {"number": number, "padding": "x" * 5000}
"""
"""Writes its number into the ledger and returns it; may start a process that no group of its own leads to."""


@dataclass
class Books:
    """What clients were told, and what programs did.

    Attributes:
        ledger: One line for each time that a program began: the number of its job.
        acknowledged: Job ids by number.
        refused: The errors of requests that were not acknowledged.
        restartable: Numbers of the jobs that may run again.
    """

    ledger: Path
    acknowledged: dict[int, str] = field(default_factory=dict)
    refused: list[Exception] = field(default_factory=list)
    restartable: set[int] = field(default_factory=set)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.ledger.touch()
        self.ledger.chmod(0o666)  # programs have users of their own

    def began(self) -> Counter[int]:
        """Return how often each job's program began."""
        return Counter(int(line) for line in self.ledger.read_text().splitlines())


class Clients:
    """Threads, a client each, that submit jobs until told to stop; they go on when a request fails."""

    def __init__(self, credentials: Credentials, books: Books, programs: dict[bool, str], dice: random.Random) -> None:
        self._credentials = credentials
        self._books = books
        self._programs = programs
        self._next = 0
        self._over = threading.Event()
        self._go = threading.Semaphore(0)
        self._threads = [threading.Thread(target=self._submit, args=(dice.random(),)) for _ in range(8)]
        for thread in self._threads:
            thread.start()

    def let(self, jobs: int) -> None:
        """Let that many more jobs be submitted."""
        self._go.release(jobs)

    def close(self) -> None:
        """Stop, and wait until the last request is over."""
        self._over.set()
        self._go.release(len(self._threads))
        for thread in self._threads:
            thread.join(120)
            assert not thread.is_alive()

    def _submit(self, start: float) -> None:
        dice = random.Random(start)
        with RuntimeService(self._credentials, request_timeout=10) as service:
            while True:
                self._go.acquire()
                if self._over.is_set():
                    return
                self._submit_one(service, dice)
                self._over.wait(dice.uniform(0, 0.2))

    def _submit_one(self, service: RuntimeService, dice: random.Random) -> None:
        books = self._books
        again = dice.random() < 0.2
        with books.lock:
            number = self._next
            self._next += 1
            if again:
                books.restartable.add(number)
        inputs = {"number": number, "ledger": str(books.ledger), "seconds": dice.choice([0, 0, 0.05, 0.3])}
        try:
            job_id = service.run(self._programs[again], inputs | {"child": dice.random() < 0.1}).job_id()
        except QiskitRuntimeError as error:  # anything else is no error of ours, and ends the test
            with books.lock:
                books.refused.append(error)
            return
        with books.lock:
            books.acknowledged[number] = job_id


def upload_ledgers(service: RuntimeService) -> dict[bool, str]:
    """Upload the program twice; give the ids by whether it may run again."""
    metadata = {"description": "writes down that it began", "max_execution_time": 60}
    return {
        again: service.upload_program(LEDGER, {**metadata, "name": f"ledger-{again}", "restartable": again})
        for again in (False, True)
    }


class Traces:
    """Where a server and all that comes from it works: its folder, and the cells of its programs.

    Args:
        folder: The server's folder.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._cells: set[Path] = set()

    def note(self) -> None:
        """Note where the cells are, to be called while a server runs."""
        self._cells.add(Path((self._folder / "cells.at").read_text()))

    def processes(self) -> list[int]:
        """Return the processes, of all servers noted so far, whose working directory is there."""
        found = []
        for process in psutil.process_iter():
            try:
                if process.status() != psutil.STATUS_ZOMBIE and self._is_here(Path(process.cwd())):
                    found.append(process.pid)
            except (psutil.Error, OSError):
                continue
        return found

    def folders(self) -> list[Path]:
        """Return the folders with cells that are there."""
        return [cells for cells in self._cells if cells.exists()]

    def assert_none_is_left(self, *, seconds: float = 10.0) -> None:
        """Wait until no process works there any more; those that stay are named."""
        deadline = time.monotonic() + seconds
        while left := self.processes():
            assert time.monotonic() < deadline, [
                psutil.Process(pid).as_dict(["ppid", "status", "cmdline"]) for pid in left
            ]
            time.sleep(0.05)

    def _is_here(self, place: Path) -> bool:
        return any(place.is_relative_to(folder) for folder in (self._folder, *self._cells))


def check_integrity(folder: Path, scratch: Path) -> Counter[str]:
    """Check a dead server's database on a copy, so that its successor still has to recover it by itself.

    Returns:
        How many jobs it has, by status.
    """
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir()
    for file in folder.glob("runtime.sqlite*"):
        shutil.copy(file, scratch / file.name)
    with sqlite3.connect(scratch / "runtime.sqlite") as database:
        assert database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        found = Counter(dict(database.execute("SELECT status, count(*) FROM jobs GROUP BY status").fetchall()))
    database.close()
    return found


def started_in_order(folder: Path, one_start_only: Callable[[str], bool]) -> list[str]:
    """Return when jobs were started, in the order in which they were submitted."""
    database = sqlite3.connect(folder / "runtime.sqlite")
    rows = database.execute("SELECT id, started FROM jobs WHERE started IS NOT NULL ORDER BY seq").fetchall()
    database.close()
    return [started for job_id, started in rows if one_start_only(job_id)]
