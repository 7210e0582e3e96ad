"""The embedded runtime on a disk that is full or broken: it refuses in words, and shows nothing that is half there."""

from __future__ import annotations

import os
import random
import shutil
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from integration.support import Served, elapsed, eventually, free_port

from prefect_runtime.client import JobStatus, RuntimeJob, RuntimeService
from prefect_runtime.wire.errors import QiskitRuntimeError, ServerError, SubmissionUnknownError

from .clients import Books, check_integrity, upload_ledgers
from .faulty_disk import FOR_EVER, Fault, faulty, starts_under

pytestmark = [
    pytest.mark.skipif(shutil.which("strace") is None, reason="needs strace (.ci/setup installs it)"),
    pytest.mark.skipif(os.geteuid() != 0, reason="only root gets at a server that hides from its own user"),
]

QUEUE_SECONDS = 0.4  # of a job on the delayed backend: time to aim at its folder
DELAYED, AT_ONCE = "aer_simulator", "generic_5q"
REASONS = (
    "could not be written",  # the result, or the log
    "could not run it",  # its folder
    "OSError",  # the program's own publish
    "runtime restarted",
)


class Round:
    """A server, what its clients were told, and faults for it one after the other."""

    def __init__(self, folder: Path, dice: random.Random) -> None:
        self.dice = dice
        self.scratch = folder
        self.served = Served(folder / "served", slots=1, port=free_port(), delays={DELAYED: QUEUE_SECONDS})
        self.books = Books(ledger=folder / "ledger")
        self.service = RuntimeService(self.served.credentials, request_timeout=10)
        self.program = upload_ledgers(self.service)[False]
        self.struck: Counter[str] = Counter()
        self.outcomes: Counter[str] = Counter()
        self.longest = 0.0
        self._next = 0
        self._warm_up()

    def _warm_up(self) -> None:
        assert self.submit(AT_ONCE) is not None
        self.settle()

    def close(self) -> None:
        self.service.close()
        self.served.kill()

    def submit(self, backend: str, *, seconds: float = 0.0) -> RuntimeJob | None:
        """Submit a job; None where that is refused, which has to be in words."""
        number, self._next = self._next, self._next + 1
        inputs = {"number": number, "ledger": str(self.books.ledger), "seconds": seconds}
        try:
            job = self.service.run(self.program, inputs, options={"backend_name": backend})
        except (ServerError, SubmissionUnknownError) as error:
            if isinstance(error, ServerError):
                assert error.status_code in (503, 507)
                assert "disk" in str(error)
            self.outcomes[f"refused: {type(error).__name__} {getattr(error, 'status_code', '')}"] += 1
            self.books.refused.append(error)
            return None
        self.books.acknowledged[number] = job.job_id()
        return job

    def strike_server(self) -> int:
        """A fault of the database's log, while jobs are submitted and run."""
        fault = Fault.drawn(self.dice, ["pwrite64", "fdatasync"])
        log = self.served.folder / "runtime.sqlite-wal"
        with faulty(fault, self.served.process.pid, [log], self.scratch) as hits:
            for _ in range(2):
                self.submit(AT_ONCE)
            time.sleep(0.2)
        return self._count(fault, hits.count())

    def strike_worker(self) -> int:
        """A fault of the files that a job leaves behind."""
        guard = next(p for p in psutil.Process(self.served.process.pid).children() if "forkserver" in str(p.cmdline()))
        eventually(guard.children, what="the process beneath the guard")
        [forkserver] = guard.children()
        return self._strike_job(Fault.drawn(self.dice, ["write", "fsync", "openat"]), forkserver.pid)

    def strike_result(self) -> int:
        """A fault when the server makes what a worker has written the job's result."""
        return self._strike_job(Fault.drawn(self.dice, ["rename", "fsync"]), self.served.process.pid)

    def _strike_job(self, fault: Fault, pid: int) -> int:
        job = self.submit(DELAYED)
        assert job is not None
        folder = self.served.folder / "jobs" / job.job_id()
        names = ("log.txt", "interim.jsonl", "result.tmp", "result.json")
        with faulty(fault, pid, [folder.parent, folder, *(folder / name for name in names)], self.scratch) as hits:
            job.wait_for_final_state(timeout=60)
        return self._count(fault, hits.count())

    def strike_start(self) -> int:
        """A fault while the server starts; it starts all the same, or says why not, and the next start heals it."""
        fault = Fault.drawn(self.dice, ["pwrite64", "fdatasync", "openat", "write", "rename", "fsync"])
        folder = self.served.folder
        self.served.kill()
        names = ("runtime.sqlite", "runtime.sqlite-wal", "runtime.tmp", "runtime.lock", "programs.lock", "jobs")
        ended, hits = starts_under(fault, folder, [folder / name for name in names], self.scratch)
        if ended is not None:
            assert ended.returncode != 0
            assert "data-dir" in ended.stderr, (fault, ended.stderr)
        self.outcomes["start refused" if ended else "start went on"] += 1
        self.served.start()
        return self._count(fault, hits.count())

    def _count(self, fault: Fault, hits: int) -> int:
        if hits:
            self.struck[f"{fault.call} {fault.error}"] += 1
        return min(hits, 1)

    def maybe_kill(self) -> None:
        if self.dice.random() < 0.3:
            self.served.kill()
            check_integrity(self.served.folder, self.scratch / "copy")
            self.served.start()

    def settle(self) -> None:
        """Check that each acknowledged job ends, with its whole result or with a reason in words."""
        for number, job_id in self.books.acknowledged.items():
            job = self.service.job(job_id)
            seconds = elapsed()
            job.wait_for_final_state(timeout=90)
            self.longest = max(self.longest, seconds())
            if job.status() is JobStatus.DONE:
                assert job.result() == {"number": number, "padding": "x" * 5000}
                assert job.interim_results() == [number]
            else:
                assert job.status() is JobStatus.ERROR
                reason = job.error_message() or ""
                assert any(known in reason for known in REASONS), reason
                assert job.interim_results() in ([], [number])
                self.outcomes["failed: " + next(known for known in REASONS if known in reason)] += 1
            assert not (self.served.folder / "jobs" / job_id / "result.tmp").exists()
        began = self.books.began()
        assert max(began.values()) == 1
        assert len(self.service.jobs(limit=None)) <= self._next
        self.books.acknowledged.clear()  # looked at once each


@pytest.fixture
def field(tmp_path: Path, seed: int) -> Iterator[Round]:
    field = Round(tmp_path, random.Random(seed))
    yield field
    field.close()


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(10, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(300)]),
        pytest.param(100, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_disk_fault_leaves_nothing_half_there_and_no_acknowledged_job_behind(faults: int, field: Round) -> None:
    strikes = [*[field.strike_server, field.strike_worker, field.strike_result] * 3, field.strike_start]
    struck = tried = 0
    while struck < faults:
        assert tried < 4 * faults, "the faults hit nothing"
        struck += strikes[tried % len(strikes)]()
        tried += 1
        field.maybe_kill()
        field.settle()
    check_integrity(field.served.folder, field.scratch / "copy")
    print(f"{struck} faults of {tried} tried: {dict(field.struck)}; {dict(field.outcomes)}")
    print(f"a job took {field.longest:.1f} s to be final at most")


def test_a_full_disk_is_a_refusal_in_words_and_room_heals_it(field: Round) -> None:
    log = field.served.folder / "runtime.sqlite-wal"
    held = field.submit(AT_ONCE)
    with faulty(Fault("pwrite64", "ENOSPC", FOR_EVER), field.served.process.pid, [log], field.scratch):
        with pytest.raises(ServerError, match="disk is full") as caught:
            field.service.run(field.program, {"number": -1, "ledger": str(field.books.ledger)})
        assert caught.value.status_code == 507
        with pytest.raises(QiskitRuntimeError, match="disk is full"):
            field.service.upload_program(
                "def main(backend, user_messenger): pass", {"name": "n", "description": "d", "max_execution_time": 1}
            )
        assert held is not None
        assert field.service.job(held.job_id()).job_id() == held.job_id()  # what is there can be looked at
    assert field.submit(AT_ONCE) is not None
    field.settle()
    assert len(field.service.jobs(limit=None)) == 3  # the first, the held one, the last
    assert -1 not in field.books.began()


def test_a_job_whose_end_the_disk_does_not_take_is_written_down_once_it_does(field: Round) -> None:
    job = field.submit(DELAYED)
    assert job is not None
    log = field.served.folder / "runtime.sqlite-wal"
    taken_then_ended = Fault("fdatasync", "EIO", "2..3")  # in the slot's thread: its start goes well, its end does not
    with faulty(taken_then_ended, field.served.process.pid, [log], field.scratch) as hits:
        eventually(lambda: hits.count() >= 1, what="the fault")
        assert job.status() is JobStatus.RUNNING
        job.wait_for_final_state(timeout=60)
        assert hits.count() == 2
    assert job.status() is JobStatus.DONE
    field.settle()


def test_a_cancel_that_the_disk_does_not_take_at_once_is_not_said_to_come_too_late(field: Round) -> None:
    job = field.submit(DELAYED, seconds=60)
    assert job is not None
    log = field.served.folder / "runtime.sqlite-wal"
    taken_then_cancelled = Fault("fdatasync", "EIO", "2..5")  # a second apart: longer than an answer takes
    with faulty(taken_then_cancelled, field.served.process.pid, [log], field.scratch) as hits:
        eventually(lambda: job.interim_results() == [1], what="the program's begin")
        job.cancel()
        assert hits.count() == 4
    assert job.status() is JobStatus.CANCELLED
