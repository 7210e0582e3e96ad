"""Programs that mean harm: each ends with a reason, the server answers others meanwhile, and nothing is left behind."""

from __future__ import annotations

import os
import re
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
from integration.programs import ECHO, that_does
from integration.support import Served, alive, eventually

from prefect_runtime.client import RuntimeService
from prefect_runtime.local.cells import FIRST_UID, LAST_UID

from . import prober
from .hostile_programs import OWN_USER, PROGRAMS, Hostile, source

LIMITS = {"memory": 1024**3, "file_bytes": 32 * 1024**2, "folder_bytes": 64 * 1024**2, "folder_files": 5_000}
ANSWERED_WITHIN_SECONDS = 0.1
QUIET_SECONDS = 3.0
OR_TIMES_QUIET = 3.0  # on a machine whose others make the server wait, with no hostile program near
GONE_SECONDS = 60.0  # 200 processes that are ended all at once take turns, and let others go first
METADATA = {"description": "hostile", "max_execution_time": 60}
SECRET = "secret-of-the-environment"
IS_ROOT = os.geteuid() == 0


class Prober:
    """A process that asks the server all the time, and what it has measured so far."""

    def __init__(self, served: Served) -> None:
        host, port = served.found.url.removeprefix("http://").split(":")
        command = [sys.executable, prober.__file__, host, port, served.found.token]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.seconds: list[float] = []
        self.quiet: list[float] = []
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.seconds.append(float(line.split()[1]))

    def watch_quiet(self) -> None:
        """Note how long answers take while no program runs."""
        first = len(self.seconds)
        time.sleep(QUIET_SECONDS)
        self.quiet += self.seconds[first:]

    def stop(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self._reader.join(30)
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    environment = {**os.environ, "PREFECT_API_KEY": SECRET}
    folder = tmp_path_factory.mktemp("hostile")
    served = Served(folder / "runtime", slots=2, limits=LIMITS, environment=environment)
    yield served
    served.process.terminate()
    assert served.process.wait(20) == 0
    assert not list(served.folder.glob("cells*")), "folders of programs were left behind"
    served.kill()


@pytest.fixture(scope="module")
def asked(served: Served) -> Iterator[Prober]:
    asked = Prober(served)
    asked.watch_quiet()
    yield asked
    asked.stop()
    assert asked.process.returncode == 0, "a question was not answered"


def p99(seconds: list[float]) -> float:
    return statistics.quantiles(seconds, n=100)[98] if len(seconds) > 1 else seconds[0]


@pytest.fixture(scope="module")
def uids(served: Served) -> set[int]:
    """The users that programs of this server run as, and nobody else does; none where it is not root."""
    if not IS_ROOT:
        return set()
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(that_does("time.sleep(0.5); return os.getuid()"), {**METADATA, "name": "uid"})
        found = {job.result(timeout=30) for job in [service.run(program, {}) for _ in range(2)]}
    assert len(found) == 2, "each slot has its own"
    assert found <= set(range(FIRST_UID, LAST_UID + 1))
    return found


def processes_of(uids: set[int]) -> list[int]:
    found = psutil.process_iter(["uids"])
    return [process.pid for process in found if process.info["uids"] and process.info["uids"].real in uids]


def files_of(uids: set[int]) -> set[Path]:
    return {entry for place in ("/dev/shm", "/tmp") for entry in Path(place).iterdir() if _owner(entry) in uids}


def _owner(entry: Path) -> int | None:
    try:
        return entry.lstat().st_uid
    except FileNotFoundError:
        return None


def sized(program: Hostile) -> object:
    marks = [] if program.quick else [pytest.mark.pr]
    if program.needs == OWN_USER and not IS_ROOT:
        marks.append(pytest.mark.skip(reason="the server is not root: programs run as its own user"))
    return pytest.param(program, id=program.name, marks=marks)


@pytest.mark.parametrize("program", [sized(program) for program in PROGRAMS])
def test_a_hostile_program_ends_with_a_reason_and_leaves_nothing(
    served: Served, asked: Prober, uids: set[int], tmp_path: Path, program: Hostile
) -> None:
    victim = tmp_path / "victim"
    victim.mkdir()
    (victim / "file").write_text("precious")
    before, first = set(served.descendants()), len(asked.seconds)
    with RuntimeService(served.credentials) as service:
        echo = service.upload_program(ECHO, {**METADATA, "name": f"echo {uuid4()}"})
        other = service.run(echo, {"value": "other"})
        assert other.result(timeout=30) == "other"
        given = {
            "data_dir": str(served.folder),
            "other_job": other.job_id(),
            "victim": str(victim),
            "server": served.process.pid,
            "url": served.found.url,
        }
        hostile = service.upload_program(source(program), {**METADATA, "name": f"{program.name} {uuid4()}"})
        job = service.run(hostile, given, max_execution_time=program.seconds)
        assert service.run(echo, {"value": 5}).result(timeout=30) == 5  # meanwhile, on the other slot
        job.wait_for_final_state(timeout=program.seconds + 30)
        document = job.document()
        reason = job.error_message() or ""
        assert document.word in program.ends, reason
        assert re.search(program.said, reason), reason
        assert document.word == "Completed" or reason
        if document.word == "Completed":
            assert SECRET not in str(job.result(timeout=10))
        assert service.run(echo, {"value": 6}).result(timeout=30) == 6
    seconds = asked.seconds[first:]
    print(f"{program.name}: {document.word}; {len(seconds)} answers, p99 {1000 * p99(seconds):.0f} ms")
    # Forked workers come and go; what stays is what was there, warm.
    eventually(
        lambda: not alive([*(set(served.descendants()) - before)]),
        seconds=GONE_SECONDS,
        what="the end of its processes",
    )
    eventually(lambda: not processes_of(uids), seconds=GONE_SECONDS, what="the end of every process of its user")
    eventually(lambda: not files_of(uids), seconds=GONE_SECONDS, what="the removal of what it left to everybody")
    eventually(
        lambda: not list((served.folder / "cells").iterdir()), seconds=GONE_SECONDS, what="the removal of its folder"
    )
    assert not (served.folder / "owned").exists()
    assert (victim / "file").read_text() == "precious"
    assert other.result() == "other"


def test_the_server_answered_others_within_100_ms_all_the_while(
    asked: Prober,
) -> None:
    asked.watch_quiet()
    seconds, quiet = list(asked.seconds), asked.quiet
    assert len(seconds) > 100, "asked too little for a word on one answer in a hundred"
    worst = 1000 * max(seconds)
    print(
        f"{len(seconds)} answers during hostile programs: p99 {1000 * p99(seconds):.1f} ms, worst {worst:.0f} ms; "
        f"{len(quiet)} without: p99 {1000 * p99(quiet):.1f} ms"
    )
    assert p99(seconds) < max(ANSWERED_WITHIN_SECONDS, OR_TIMES_QUIET * p99(quiet))
