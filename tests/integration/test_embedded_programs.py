"""Programs in the embedded runtime: how they die, what they see, and that the server outlives all of it."""

from __future__ import annotations

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

import psutil
import pytest
import requests

from prefect_runtime.client import Credentials, JobStatus, RuntimeJob, RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import RuntimeJobFailureError, RuntimeJobMaxTimeoutError

from .programs import ECHO, ENVIRONMENT, HOLDS, STUBBORN, that_does
from .support import Served, alive, elapsed, eventually

Run = Callable[..., RuntimeJob]
METADATA = {"description": "of a test", "max_execution_time": 60}


@pytest.fixture(scope="module")
def module_runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("single"), slots=1)
    yield served
    served.kill()


@pytest.fixture
def single(module_runtime: Served, request: pytest.FixtureRequest) -> Iterator[Served]:
    """A runtime with one slot; started anew after a test that left that slot dead."""
    yield module_runtime
    with RuntimeService(module_runtime.credentials) as service:
        stuck = service.jobs(pending=True)
    if stuck:
        module_runtime.kill()
        module_runtime.start()


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("sys.exit(3)", "SystemExit: 3"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("os._exit(7)", "exit code 7"),
        ("os._exit(0)", "exit code 0"),
        ("ctypes.string_at(0)", "SIGSEGV"),
        ("os.abort()", "SIGABRT"),
        ("os.kill(os.getpid(), signal.SIGKILL)", "SIGKILL"),
        ("os.kill(os.getpid(), signal.SIGRTMIN + 6)", "40"),  # a signal without a name
        ("os.closerange(3, 256)", ""),
        ("return object()", "object"),
        ("raise ValueError('x' * 30_000 + ' is the end')", "is the end"),
        ("raise ValueError('x' * 10**6 + ' is the end')", "is the end"),
        ("import no_such_module", "no_such_module"),
    ],
)
def test_however_a_program_dies_its_job_fails_with_a_reason_and_the_next_one_runs(
    single: Served, line: str, said: str
) -> None:
    with RuntimeService(single.credentials) as service:
        dies, echo = (
            service.upload_program(source, {**METADATA, "name": f"of {uuid4()}"}) for source in (that_does(line), ECHO)
        )
        job = service.run(dies, {})
        eventually(lambda: job.status().is_final, seconds=4, what="the end of the job")
        assert service.run(echo, {"value": 5}).result(timeout=4) == 5
        with pytest.raises(RuntimeJobFailureError) as caught:
            job.result()
        assert said in caught.value.reason


@pytest.mark.parametrize(
    "line",
    [
        "sys.stdout = io.StringIO(); return 'fine'",
        "sys.stdout.close(); return 'fine'",
        "sys.stderr = None; return 'fine'",
        "os.close(1); os.close(2); return 'fine'",
        "os.chdir('/'); return 'fine'",
        "threading.Thread(target=time.sleep, args=(60,)).start(); return 'fine'",
        "signal.signal(signal.SIGTERM, signal.SIG_IGN); return 'fine'",
        "user_messenger.publish('fine', final=True)",
        "os.fork() or os._exit(0); return 'fine'",
    ],
)
def test_what_a_program_does_to_its_process_does_not_cost_its_result(run: Run, line: str) -> None:
    assert run(that_does(line)).result(timeout=8) == "fine"


@pytest.mark.parametrize(
    ("line", "code"), [("return 'the fork'", 0), ("raise ValueError('of the fork')", 1), ("sys.exit(0)", 1)]
)
def test_a_fork_that_a_program_lets_run_on_neither_writes_its_result_nor_ends_its_job(
    line: str, code: int, run: Run
) -> None:
    forks = [
        "if (child := os.fork()) == 0:",
        f"    {line}",
        "return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])",
    ]
    job = run(that_does(*forks))
    assert job.result(timeout=20) == code
    assert ("of the fork" in job.logs()) == ("raise" in line)


@pytest.mark.parametrize(
    "does", ["time.sleep(60)", "while True: user_messenger.publish(1)"], ids=["silent", "publishes on and on"]
)
def test_a_program_that_runs_too_long_is_ended_and_told_apart(does: str, run: Run, service: RuntimeService) -> None:
    seconds = elapsed()
    job = run(that_does(does), max_execution_time=0.5)
    with pytest.raises(RuntimeJobMaxTimeoutError) as caught:
        job.result(timeout=10)
    assert 0.5 <= seconds() < 4
    assert job.status() is JobStatus.ERROR
    assert job.document().ran_too_long
    assert caught.value.reason_code == 1305
    assert "max_execution_time" in str(caught.value)
    assert service.job(job.job_id()).document().word == "Cancelled - Ran too long"


def test_the_programs_own_limit_holds_where_the_job_has_none(service: RuntimeService) -> None:
    metadata = {"name": f"short-{os.getpid()}", "description": "of a test", "max_execution_time": 0.5}
    program = service.upload_program(that_does("time.sleep(60)"), metadata)
    with pytest.raises(RuntimeJobMaxTimeoutError):
        service.run(program, {}).result(timeout=10)


def test_a_job_whose_program_is_deleted_while_it_waits_fails_and_says_so(single: Served, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    with RuntimeService(single.credentials) as service:
        holds, echo = (
            service.upload_program(source, {**METADATA, "name": f"of {uuid4()}"}) for source in (HOLDS, ECHO)
        )
        service.run(holds, {"gate": str(gate)})
        job = service.run(echo, {"value": 5})
        service.delete_program(echo)
        gate.touch()
        with pytest.raises(RuntimeJobFailureError) as caught:
            job.result(timeout=20)
    assert caught.value.reason == f"The program '{echo}' was deleted while the job was in the queue."


def test_programs_see_no_token_and_no_prefect_setting(serve: Callable[..., Served]) -> None:
    secrets = {"PREFECT_API_KEY": "secret-1", "PREFECT_RUNTIME_TOKEN": "secret-2", "AWS_SECRET_ACCESS_KEY": "secret-3"}
    served = serve(slots=1, environment={**os.environ, **secrets, "LC_ALL": "C.UTF-8"})
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(ENVIRONMENT, {**METADATA, "name": "environment"})
        seen = service.run(program, {}).result(timeout=10)
    assert not [name for name in seen if name.startswith("PREFECT_")]
    assert not {*secrets.values(), served.found.token} & set(seen.values())
    assert seen["PATH"] == os.environ["PATH"]
    assert seen["LC_ALL"] == "C.UTF-8"


@pytest.mark.skipif(not Path("/proc/self/limits").exists(), reason="there is no /proc here")
def test_no_process_of_the_runtime_writes_a_core_file(serve: Callable[..., Served]) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_CORE)
    resource.setrlimit(resource.RLIMIT_CORE, (hard, hard))  # as on a machine where people look into crashes
    try:
        served = serve(slots=1)
    finally:
        resource.setrlimit(resource.RLIMIT_CORE, (soft, hard))
    eventually(lambda: len(served.descendants()) >= 3, what="the process that runs primitives, and those above it")
    for pid in (served.process.pid, *served.descendants()):
        limits = Path(f"/proc/{pid}/limits").read_text()
        assert re.search(r"^Max core file size +0 +0 ", limits, re.MULTILINE), limits


@pytest.mark.parametrize("own_session", [False, True])
@pytest.mark.parametrize("way", ["cancel", "too long"])
def test_a_program_that_ignores_sigterm_is_gone_with_its_children_within_two_seconds(
    run: Run, tmp_path: Path, own_session: bool, way: str
) -> None:
    file = tmp_path / "pids"
    inputs = {"pid_file": str(file), "own_session": own_session}
    job = run(STUBBORN, inputs, max_execution_time=4 if way == "too long" else None)
    eventually(file.exists)
    pids = [int(pid) for pid in file.read_text().split()]
    try:
        if way == "cancel":
            seconds = elapsed()
            job.cancel()
            assert seconds() < 2
        else:
            job.wait_for_final_state(timeout=15)
        eventually(lambda: not alive(pids), seconds=0.5, what="the end of the program and its child")
    finally:
        for pid in alive(pids):
            os.kill(pid, signal.SIGKILL)


DAEMON = """
import ctypes, os, signal, threading, time

def main(backend, user_messenger, *, pid_file, dies, parent_looks_dead):
    if os.fork() == 0:
        os.setsid()
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        if os.fork() == 0:
            with open(pid_file + ".new", "w") as file:
                file.write(str(os.getpid()))
            os.rename(pid_file + ".new", pid_file)
            time.sleep(60)
        if parent_looks_dead:  # /proc says "zombie" once the first thread has ended, whatever the others do
            threading.Thread(target=time.sleep, args=(60,)).start()
            ctypes.CDLL(None).pthread_exit(None)
        os._exit(0)
    while not os.path.exists(pid_file):
        time.sleep(0.01)
    if dies:
        os._exit(3)
    return "done"
"""


@pytest.mark.parametrize("parent_looks_dead", [False, True], ids=["alone", "with a parent that looks dead"])
@pytest.mark.parametrize("same_user", [False, True], ids=["own user", "the server's user"])
def test_a_daemon_that_a_program_leaves_behind_is_ended(
    serve: Callable[..., Served], tmp_path: Path, same_user: bool, parent_looks_dead: bool
) -> None:
    served = serve(slots=1, same_user=same_user)
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(DAEMON, {**METADATA, "name": "daemon"})
        for dies in (False, True):
            file = tmp_path / f"pid-{dies}"
            inputs = {"pid_file": str(file), "dies": dies, "parent_looks_dead": parent_looks_dead}
            job = service.run(program, inputs)
            job.wait_for_final_state(timeout=20)
            pid = int(file.read_text())
            eventually(lambda pid=pid: not alive([pid]), seconds=10, what="the end of the daemon")
            assert (job.status() is JobStatus.ERROR) is dies
        echo = service.upload_program(ECHO, {**METADATA, "name": "echo"})
        assert service.run(echo, {"value": 5}).result(timeout=20) == 5  # the runtime is none the worse for it


@pytest.mark.pr
def test_killed_and_started_again_the_runtime_has_kept_every_job(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(slots=1)
    with RuntimeService(served.credentials) as service:
        echo = service.upload_program(ECHO, {**METADATA, "name": "echo"})
        stubborn = service.upload_program(STUBBORN, {**METADATA, "name": "stubborn"})
        done = service.run(echo, {"value": [1, 2]})
        done.wait_for_final_state()
        running = service.run(stubborn, {"pid_file": str(tmp_path / "pids")})
        eventually((tmp_path / "pids").exists)
        queued = [service.run(echo, {"value": number}) for number in range(3)]
    pids = {*served.descendants(), *(int(pid) for pid in (tmp_path / "pids").read_text().split())}
    assert len(pids) >= 3
    served.kill()
    eventually(lambda: not alive(list(pids)), seconds=5, what="the end of all processes of the killed server")
    served.start()
    with RuntimeService(served.credentials) as service:
        ids = [job.job_id() for job in (done, running, *queued)]
        statuses = service.wait(ids, timeout=15)
        assert [statuses[job_id] for job_id in ids] == [JobStatus.DONE, JobStatus.ERROR, *[JobStatus.DONE] * 3]
        assert service.job(done.job_id()).result() == [1, 2]
        assert [service.job(job.job_id()).result() for job in queued] == [0, 1, 2]
        with pytest.raises(RuntimeJobFailureError, match="restarted"):
            service.job(running.job_id()).result()
        assert len(service.jobs(limit=None)) == 5


def test_sigterm_removes_the_discovery_file_and_leaves_no_process(own_runtime: Any, tmp_path: Path) -> None:
    with RuntimeService(own_runtime.credentials) as service:
        program = service.upload_program(HOLDS, {**METADATA, "name": "holds"})
        service.run(program, {"gate": str(tmp_path / "gate"), "pid_file": str(tmp_path / "pid")})
        eventually((tmp_path / "pid").exists)
        pids = [child.pid for child in psutil.Process(own_runtime.process.pid).children(recursive=True)]
    assert pids
    seconds = elapsed()
    own_runtime.stop()
    assert seconds() < 8
    assert own_runtime.process.returncode == 0
    assert not (own_runtime.data_dir / "runtime.json").exists()
    eventually(lambda: not alive(pids), seconds=2, what="the end of all its processes")


def test_ready_is_said_once_requests_are_answered(serve: Callable[..., Served]) -> None:
    served = serve(slots=1)
    assert served.ready_line == f"READY {served.found.url}\n"


def discovered(folder: Path) -> Credentials:
    """Credentials for the runtime that serves a folder."""
    found = DiscoveryDocument.parse((folder / "runtime.json").read_text())
    return Credentials(channel="local", url=found.url, token=found.token)


def serve_by_hand(folder: Path, *options: str, through: Sequence[str] = ()) -> subprocess.CompletedProcess[str]:
    """Run the command that a person types, through another that starts it if need be, and wait for its end."""
    command = [*through, sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def test_a_second_runtime_of_the_same_folder_is_refused(runtime: Any, service: RuntimeService) -> None:
    second = serve_by_hand(runtime.data_dir)
    assert second.returncode == 1
    assert "another runtime is serving" in second.stderr
    assert "Traceback" not in second.stderr
    assert service.backends()


def test_a_folder_that_is_a_file_is_refused_in_words(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    refused = serve_by_hand(tmp_path / "file")
    assert refused.returncode == 1
    assert str(tmp_path / "file") in refused.stderr
    assert "Traceback" not in refused.stderr


@pytest.mark.skipif(os.geteuid() == 0 and not shutil.which("setpriv"), reason="root may do everything")
def test_a_folder_that_one_may_not_enter_is_refused_in_words(tmp_path: Path) -> None:
    folder = tmp_path / "of somebody else"
    folder.mkdir(mode=0)
    as_others = ["setpriv", "--inh-caps=-all", "--bounding-set=-dac_override,-dac_read_search"]
    refused = serve_by_hand(folder, through=as_others if os.geteuid() == 0 else ())
    folder.chmod(0o700)
    assert refused.returncode == 1
    assert f"data-dir: {folder} cannot be used (Permission denied)" in refused.stderr
    assert "Traceback" not in refused.stderr


def test_a_discovery_file_that_cannot_be_written_is_said_in_words_and_nothing_is_served(tmp_path: Path) -> None:
    (tmp_path / "runtime.tmp").mkdir()  # where it is written first
    refused = serve_by_hand(tmp_path)
    assert refused.returncode == 1
    assert f"data-dir: {tmp_path} cannot be used" in refused.stderr
    assert "READY" not in refused.stdout
    assert "Traceback" not in refused.stderr


def test_on_a_disk_that_takes_nothing_results_can_be_read_and_what_was_running_is_settled_once_it_does(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(slots=1)
    with RuntimeService(served.credentials) as service:
        echo, holds = (service.upload_program(text, {**METADATA, "name": f"{uuid4()}"}) for text in (ECHO, HOLDS))
        done = service.run(echo, {"value": 5})
        done.wait_for_final_state(timeout=30)
        job = service.run(holds, {"gate": str(tmp_path / "gate"), "pid_file": str(tmp_path / "pid")})
        eventually((tmp_path / "pid").exists, what="the start of the job")
    served.kill()
    # No file may be larger: enough for the database to be opened and the server to be found, not for a change.
    line = f"ulimit -S -f 32; exec {sys.executable} -m prefect_runtime.cli serve --data-dir {served.folder} --slots 1"
    with subprocess.Popen(["bash", "-c", line], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("READY")
            credentials = discovered(served.folder)
            with RuntimeService(credentials) as service:
                assert service.job(done.job_id()).result(timeout=10) == 5
                waiting = service.job(job.job_id())
                assert waiting.status() is JobStatus.RUNNING
                resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
                eventually(lambda: waiting.status() is JobStatus.ERROR, what="the end of the job")
                assert "restarted" in (waiting.error_message() or "")
                assert service.run(echo, {"value": 6}).result(timeout=30) == 6
        finally:
            process.send_signal(signal.SIGTERM)
            assert process.wait(20) == 0


def test_a_calibration_that_the_disk_does_not_take_leaves_the_old_one(serve: Callable[..., Served]) -> None:
    served = serve(slots=1)

    def recalibrate() -> requests.Response:
        headers = {"X-Access-Token": served.found.token}
        return requests.post(f"{served.found.url}/runtime/recalibrate", headers=headers, timeout=10)

    first, second = recalibrate().json()["calibration"], recalibrate().json()["calibration"]
    resource.prlimit(served.process.pid, resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
    assert recalibrate().status_code == 503
    served.kill()
    served.start()
    assert (second, recalibrate().json()["calibration"]) == (first + 1, first + 2)


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--keep-days", "1000000", "at most 36500, or inf"),
        ("--queue-delay", "generic_5q=1e12", "with 31536000 at most"),
        ("--queue-delay", "generic_5q=inf", "is not BACKEND=SECONDS"),
    ],
)
def test_days_and_delays_that_no_calendar_has_are_refused(tmp_path: Path, option: str, value: str, said: str) -> None:
    refused = serve_by_hand(tmp_path, option, value)
    assert refused.returncode == 1
    assert said in refused.stderr
    assert "Traceback" not in refused.stderr


def test_what_is_kept_can_be_without_limit(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", str(tmp_path / "runtime")]
    command += ["--keep-days", "inf", "--keep-gigabytes", "inf", "--idle-seconds", "1"]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ended.returncode == 0
    assert "READY" in ended.stdout
    assert "stumbled" not in ended.stderr


def test_an_idle_runtime_ends_by_itself_and_a_busy_one_does_not(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(slots=1, idle_seconds=1.5)  # who asks for the first time has so long, too
    gate, begun = tmp_path / "gate", tmp_path / "begun"
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(HOLDS, {**METADATA, "name": "holds"})
        service.run(program, {"gate": str(gate), "pid_file": str(begun)})
    eventually(begun.exists, seconds=30, what="the program's begin, for which Qiskit has to be there")
    with pytest.raises(subprocess.TimeoutExpired):
        served.process.wait(2.0)
    gate.touch()
    assert served.process.wait(20) == 0
    assert not (served.folder / "runtime.json").exists()
