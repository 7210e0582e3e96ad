"""The embedded runtime that starts by itself: one per folder, found by every process, healed when it died."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from prefect_runtime.client import RuntimeService, discovery
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import ConfigurationError, QiskitRuntimeError
from prefect_runtime.wire.models import PROTOCOL

from .programs import ECHO, HOLDS, STUBBORN
from .support import alive, elapsed, eventually

METADATA = {"name": "of a test", "description": "of a test", "max_execution_time": 60}


@pytest.fixture
def homes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Makes a folder the embedded runtime's home; whatever runs there is stopped in the end."""
    used: list[Path] = []

    def choose(name: str) -> Path:
        used.append(tmp_path / name)
        monkeypatch.setenv("PREFECT_RUNTIME_HOME", str(used[-1]))
        return used[-1]

    yield choose
    for folder in used:
        if folder.is_dir() and (found := discovery.find(folder)):
            os.kill(found.pid, signal.SIGTERM)
            eventually(lambda folder=folder: discovery.find(folder) is None, what="the end of the runtime")


@pytest.fixture
def home(homes: Callable[[str], Path]) -> Path:
    return homes("home")


def running(home: Path) -> DiscoveryDocument:
    found = discovery.find(home)
    assert found is not None
    return found


def servers_of(home: Path) -> list[int]:
    """Pids of all embedded runtimes of a folder, found without its files."""
    found = []
    for process in psutil.process_iter(["cmdline"]):
        line = process.info["cmdline"] or []
        if "prefect_runtime.local" in line and str(home) in line:
            found.append(process.pid)
    return found


def python(code: str, *arguments: str) -> str:
    """Run code in another process and give what it prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout.strip()


RESULT_OF = """
import sys
from prefect_runtime.client import RuntimeService
with RuntimeService() as service:
    print(service.job(sys.argv[1]).result(timeout=20))
"""

RUN = """
import sys
from prefect_runtime.client import RuntimeService
with RuntimeService() as service:
    program = service.upload_program(sys.argv[1], {"name": "n", "description": "d", "max_execution_time": 60})
    print(service.run(program, {"value": 7}).job_id())
"""

INSTANCE = """
from prefect_runtime.client import discovery
print(discovery.find_or_start(discovery.home()).instance)
"""


def test_a_service_without_arguments_starts_a_runtime_that_other_processes_find(home: Path) -> None:
    with RuntimeService() as service:
        assert discovery.find(home) is None  # a service that nobody asks starts nothing
        program = service.upload_program(ECHO, METADATA)
        job_id = service.run(program, {"value": "for another process"}).job_id()
        assert python(RESULT_OF, job_id) == "for another process"
    assert servers_of(home) == [running(home).pid]


def test_the_runtime_outlives_the_process_that_started_it(home: Path) -> None:
    job_id = python(RUN, ECHO)
    assert psutil.pid_exists(running(home).pid)
    with RuntimeService() as service:
        assert service.job(job_id).result(timeout=10) == 7
    assert len(servers_of(home)) == 1


@pytest.mark.pr
def test_ten_processes_at_once_start_exactly_one(home: Path) -> None:
    command = [sys.executable, "-c", INSTANCE]
    processes = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(10)]
    said = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert said == {running(home).instance}
    assert servers_of(home) == [running(home).pid]
    assert (home / "runtime.log").read_text().count("READY") == 1


@pytest.mark.parametrize("content", ["{", "\xff", "of a dead one"])
def test_a_stale_discovery_file_is_healed(home: Path, content: str) -> None:
    home.mkdir()
    other = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])  # somebody else has the pid now
    dead = DiscoveryDocument(url="http://127.0.0.1:1", token="t", pid=other.pid, instance="i", protocol=PROTOCOL)
    (home / "runtime.json").write_bytes((dead.to_json() if content.startswith("of") else content).encode("latin-1"))
    (home / "runtime.lock").touch()
    try:
        assert discovery.find(home) is None
        with RuntimeService() as service:
            assert service.backends()
        assert running(home).url != dead.url
        assert running(home).pid != other.pid
    finally:
        other.kill()
        other.wait(10)


@pytest.mark.pr
def test_after_a_kill_the_next_call_works_and_nothing_is_lost(home: Path, tmp_path: Path) -> None:
    with RuntimeService() as service:
        program = service.upload_program(ECHO, METADATA)
        job = service.run(program, {"value": 1})
        job.wait_for_final_state(timeout=10)
        killed = running(home)
        os.kill(killed.pid, signal.SIGKILL)
        assert service.job(job.job_id()).result() == 1
        assert running(home).pid != killed.pid
        os.kill(running(home).pid, signal.SIGKILL)
        assert service.run(program, {"value": 2}).result(timeout=10) == 2
        assert len(service.jobs(limit=None)) == 2


@pytest.mark.pr
def test_a_wait_in_progress_survives_the_kill_of_the_runtime(home: Path, tmp_path: Path) -> None:
    with RuntimeService() as service:
        program = service.upload_program(HOLDS, METADATA)
        gate = str(tmp_path / "gate")
        jobs = [service.run(program, {"gate": gate}) for _ in range((os.cpu_count() or 1) + 1)]
        eventually(lambda: jobs[0].status().name == "RUNNING")
        Path(gate).touch()
        os.kill(running(home).pid, signal.SIGKILL)
        assert jobs[-1].result(timeout=15) == "held"  # was queued


@pytest.mark.pr
def test_another_home_is_another_runtime_also_within_one_process(homes: Callable[[str], Path]) -> None:
    first = homes("first")
    with RuntimeService() as service:
        service.upload_program(ECHO, METADATA)
    second = homes("second")
    with RuntimeService() as service:
        assert METADATA["name"] not in [program.name for program in service.programs()]
    assert running(first).pid != running(second).pid


@pytest.mark.parametrize("where", ["home", "parent of home"])
def test_a_home_that_is_a_file_is_refused_in_words(homes: Callable[[str], Path], where: str) -> None:
    home = homes("home" if where == "home" else "file/home")
    (home if where == "home" else home.parent).write_text("not a folder")
    with RuntimeService() as service, pytest.raises(ConfigurationError) as caught:
        service.backends()
    assert str(home) in str(caught.value)
    assert "PREFECT_RUNTIME_HOME" in str(caught.value)


def test_a_runtime_that_dies_at_its_start_is_an_error_with_the_end_of_its_log(home: Path) -> None:
    home.mkdir()
    (home / "runtime.sqlite").write_text("this is not a database " * 100)
    seconds = elapsed()
    with RuntimeService() as service, pytest.raises(QiskitRuntimeError) as caught:
        service.backends()
    assert seconds() < 10
    assert not caught.value.retryable
    assert str(home / "runtime.log") in str(caught.value)
    assert "not a database" in str(caught.value)
    assert servers_of(home) == []


def test_a_runtime_of_another_protocol_is_refused_in_words(home: Path) -> None:
    with RuntimeService() as service:
        service.backends()
    document = json.loads((home / "runtime.json").read_text())
    (home / "runtime.json").write_text(json.dumps({**document, "protocol": PROTOCOL + 1}))
    with pytest.raises(ConfigurationError, match="prefect-runtime stop"):
        discovery.find(home)
    (home / "runtime.json").write_text(json.dumps(document))


def cli(command: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "-m", "prefect_runtime.cli", command]
    return subprocess.run(line, capture_output=True, text=True, timeout=30, check=False)


def test_a_runtime_of_another_protocol_can_be_stopped_as_the_refusal_says(home: Path) -> None:
    home.mkdir()
    hold = (
        "import fcntl, sys, time\nlock = open(sys.argv[1], 'w')\nfcntl.flock(lock, fcntl.LOCK_EX)\n"
        "print('held', flush=True)\ntime.sleep(60)"
    )
    command = [sys.executable, "-c", hold, str(home / "runtime.lock")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdout is not None
        other.stdout.readline()
        document = {"url": "http://127.0.0.1:1", "token": "t", "pid": other.pid, "instance": "i", "protocol": 99}
        (home / "runtime.json").write_text(json.dumps(document))
        assert f"pid {other.pid}" in cli("status").stdout
        stopped = cli("stop")
        assert (stopped.returncode, stopped.stdout, stopped.stderr) == (0, "Stopped.\n", "")
        assert other.wait(5) == -signal.SIGTERM


def test_the_command_line_finds_and_stops_the_runtime(home: Path) -> None:
    with RuntimeService() as service:
        service.backends()
    pid = running(home).pid

    assert f"pid {pid}" in cli("status").stdout
    assert cli("stop").returncode == 0
    assert discovery.find(home) is None
    assert cli("status").returncode == 3
    assert cli("stop").returncode == 3


FORKS_WHILE_IT_STARTS_ONE = """
import os, sys, threading, time
from prefect_runtime.client import discovery
starting = threading.Thread(target=discovery.find_or_start, args=(discovery.home(),))
starting.start()
while not (discovery.home() / "runtime.lock").exists():
    time.sleep(0.01)
pid = os.fork()
if pid == 0:
    os.closerange(0, 3)
    time.sleep(60)
    os._exit(0)
starting.join()
print(pid, flush=True)
os._exit(0)
"""


def test_a_process_that_was_forked_during_a_start_keeps_nobody_from_the_next(home: Path) -> None:
    pid = int(python(FORKS_WHILE_IT_STARTS_ONE))
    try:
        assert cli("stop").returncode == 0
        assert discovery.find(home) is None
        found = python(INSTANCE)
        assert found == running(home).instance
    finally:
        os.kill(pid, signal.SIGKILL)


def test_stopped_means_that_its_programs_are_ended_and_that_another_can_start(home: Path, tmp_path: Path) -> None:
    with RuntimeService() as service:
        stubborn = service.upload_program(STUBBORN, METADATA)
        files = [tmp_path / f"pids-{number}" for number in range(len(os.sched_getaffinity(0)))]
        for file in files:
            service.run(stubborn, {"pid_file": str(file)})
        for file in files:
            eventually(file.exists, seconds=30, what="the start of a program")
    server, programs = running(home).pid, [int(pid) for file in files for pid in file.read_text().split()]
    assert cli("stop").returncode == 0
    assert alive(programs) == []
    assert discovery.find_or_start(home).pid != server


def test_a_start_while_the_one_before_is_still_ending_waits_for_that(home: Path) -> None:
    first = discovery.find_or_start(home).pid
    # Found no more, and not gone yet: held up where it would end its processes.
    with (home / "runtime.lock").open("r") as slow:
        os.kill(first, signal.SIGTERM)
        eventually(lambda: not (home / "runtime.json").exists(), what="the removal of the discovery file")
        eventually(lambda: not alive([first]), what="the end of the server")
        fcntl.flock(slow, fcntl.LOCK_EX)
        with ThreadPoolExecutor(1) as pool:
            second = pool.submit(discovery.find_or_start, home)
            time.sleep(2.5)
            assert not second.done()
            fcntl.flock(slow, fcntl.LOCK_UN)
            assert second.result(30).pid != first
    assert len(servers_of(home)) == 1
