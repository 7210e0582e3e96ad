"""An embedded runtime where the system refuses what it wants, clears up behind it, or ends more than was wanted."""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import psutil
import pytest

from prefect_runtime.client import JobStatus, RuntimeJob, RuntimeService

from .programs import that_does
from .support import Served, alive, eventually

SAMPLER = {"pubs": [['OPENQASM 3.0; include "stdgates.inc"; bit[1] c; qubit[1] q; x q[0]; c[0] = measure q[0];']]}
METADATA = {"description": "d", "max_execution_time": 60}


def upload(service: RuntimeService, *lines: str, restartable: bool = False) -> str:
    metadata = METADATA | {"name": f"{uuid4()}", "restartable": restartable}
    return service.upload_program(that_does(*lines), metadata)


def began(job: RuntimeJob) -> None:
    eventually(job.interim_results, seconds=30, what="the program's first word")


@pytest.fixture
def before_python(tmp_path: Path) -> Callable[[str], dict[str, str]]:
    """Gives an environment in which every Python process runs some code before its own; by a path that is relative."""

    def environment(code: str) -> dict[str, str]:
        folder = tmp_path / "first"
        folder.mkdir()
        (folder / "sitecustomize.py").write_text(code)
        return os.environ | {"PYTHONPATH": os.path.relpath(folder)}

    return environment


NO_PIDFD = """
import ctypes
class Filter(ctypes.Structure):
    _fields_ = [("code", ctypes.c_ushort), ("jt", ctypes.c_ubyte), ("jf", ctypes.c_ubyte), ("k", ctypes.c_uint32)]
class Program(ctypes.Structure):
    _fields_ = [("length", ctypes.c_ushort), ("filters", ctypes.POINTER(Filter))]
load, jump, give = 0x20, 0x15, 0x06  # Source: linux/bpf_common.h
refuse, allow = 0x0005_0000 | {errno}, 0x7FFF_0000  # Source: linux/seccomp.h
filters = (Filter * 4)((load, 0, 0, 0), (jump, 0, 1, 434), (give, 0, 0, refuse), (give, 0, 0, allow))
system = ctypes.CDLL(None)
assert system.prctl(38, 1, 0, 0, 0) == 0  # no new privileges, without which nobody may filter
assert system.prctl(22, 2, ctypes.byref(Program(4, filters)), 0, 0) == 0
"""
"""Has the system refuse pidfd_open (number 434 on all machines), as kernels before 5.3 and some containers do."""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "prctl"), reason="seccomp is Linux's")
@pytest.mark.parametrize("errno", [1, pytest.param(38, marks=pytest.mark.pr)], ids=["EPERM", "ENOSYS"])
def test_jobs_run_where_the_system_refuses_to_watch_over_processes(
    serve: Callable[..., Served],
    before_python: Callable[[str], dict[str, str]],
    errno: int,
    capfd: pytest.CaptureFixture[str],
) -> None:
    served = serve(slots=1, environment=before_python(NO_PIDFD.replace("{errno}", str(errno))))
    with RuntimeService(served.credentials) as service:
        assert service.run("sampler", SAMPLER).result(timeout=60)[0].data.c.get_counts() == {"1": 4096}
        assert service.run(upload(service, "return 1"), {}).result(timeout=60) == 1
    assert capfd.readouterr().err.count("programs may outlive a runtime that is killed") == 1


def test_jobs_run_although_who_started_the_runtime_ignored_the_ends_of_its_processes(
    serve: Callable[..., Served], before_python: Callable[[str], dict[str, str]]
) -> None:
    served = serve(slots=1, environment=before_python("import signal; signal.signal(signal.SIGCHLD, signal.SIG_IGN)"))
    with RuntimeService(served.credentials) as service:
        program = upload(service, "return 1")
        assert service.run(program, {}).result(timeout=60) == 1
        server = psutil.Process(served.process.pid)
        [guard] = [child for child in server.children() if "forkserver" in str(child.cmdline())]
        assert all(Path(place).is_absolute() for place in guard.environ()["PYTHONPATH"].split(os.pathsep))
        guard.children()[0].kill()
        assert service.run(program, {}).result(timeout=60) == 1


def test_jobs_run_although_somebody_clears_up_where_temporary_files_are(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    temporary = tmp_path / "t"
    temporary.mkdir()
    temporary.chmod(0o777)
    # A short path, as data folders have: sockets have no room for the one of a test.
    with tempfile.TemporaryDirectory(prefix="r") as short:
        served = serve(Path(short) / "d", slots=1, environment=os.environ | {"TMPDIR": str(temporary)})
        jobs_before_and_after(served, temporary)
        served.kill()


def jobs_before_and_after(served: Served, temporary: Path) -> None:
    with RuntimeService(served.credentials) as service:
        program = upload(service, "return 1")
        assert service.run(program, {}).result(timeout=60) == 1
        for entry in temporary.iterdir():
            shutil.rmtree(entry)
        assert service.run(program, {}).result(timeout=60) == 1


def test_when_what_makes_processes_ends_its_jobs_say_so_and_leave_nothing_and_the_next_ones_run(
    serve: Callable[..., Served],
) -> None:
    served = serve(slots=2)
    with RuntimeService(served.credentials) as service:
        program = upload(service, "user_messenger.publish(os.getcwd())", "time.sleep(50)")
        jobs = [service.run(program, {}) for _ in range(2)]
        for job in jobs:
            began(job)
        folders = [Path(folder) for job in jobs for folder in job.interim_results()]
        assert all(folder.exists() for folder in folders)
        server = psutil.Process(served.process.pid)
        [guard] = [child for child in server.children() if "forkserver" in str(child.cmdline())]
        guard.children()[0].kill()
        for job in jobs:
            job.wait_for_final_state(timeout=20)
            assert job.status() is JobStatus.ERROR
            assert "somebody ended it" in (job.error_message() or "")
        after = [service.run(upload(service, "return 1"), {}) for _ in range(2)]
        assert [job.result(timeout=60) for job in after] == [1, 1]
        eventually(lambda: not any(folder.exists() for folder in folders), what="the end of their folders")


def end_all_at_once(served: Served) -> None:
    """What the end of a service or a session does: SIGTERM to all processes, the server not first."""
    server = psutil.Process(served.process.pid)
    for process in [*server.children(recursive=True), server]:
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
    assert server.wait(30) in (0, None)


def test_jobs_whose_processes_are_ended_together_with_the_server_run_when_it_is_back(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(slots=1)
    gate = tmp_path / "gate"
    with RuntimeService(served.credentials) as service:
        wait = f"while not os.path.exists({str(gate)!r}): time.sleep(0.01)"
        job = service.run(upload(service, "user_messenger.publish(1)", wait, "return 1", restartable=True), {})
        began(job)
    end_all_at_once(served)
    served.kill()
    gate.touch()
    served.start()
    with RuntimeService(served.credentials) as service:
        assert service.job(job.job_id()).result(timeout=60) == 1


TURNS_SIGTERM_INTO_AN_EXCEPTION = (
    "import signal",
    "signal.signal(signal.SIGTERM, lambda *_: sys.exit(3))",
    "user_messenger.publish(1)",
    "time.sleep(50)",
)


def test_a_program_that_makes_an_exception_of_its_end_is_cancelled_all_the_same(
    serve: Callable[..., Served],
) -> None:
    served = serve(slots=1)
    with RuntimeService(served.credentials) as service:
        job = service.run(upload(service, *TURNS_SIGTERM_INTO_AN_EXCEPTION), {})
        began(job)
        job.cancel()
        assert job.status() is JobStatus.CANCELLED


PID_OF_ANOTHER = """
import os, signal, subprocess
from prefect_runtime.local import process

ORPHAN = "sh -c 'sleep 60 & echo $$ $!; exec sleep 60' &"

def worker_that_died():
    worker = process.WorkerProcess()
    os.kill(worker._pid, signal.SIGKILL)
    worker._process.join()
    return worker

if __name__ == "__main__":
    quiet = {"start_new_session": True, "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    parent, child = map(int, subprocess.Popen(["sh", "-c", ORPHAN], **quiet).stdout.readline().split())
    dead = worker_that_died()
    dead._pid = parent  # as if the system had given its pid to another
    dead.end()
    dead = worker_that_died()
    dead._parent = parent
    dead.end()
    print(parent, child)
"""


def test_who_has_the_pid_of_a_process_that_is_long_over_is_left_alone() -> None:
    command = [sys.executable, "-c", PID_OF_ANOTHER]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr
    others = [int(pid) for pid in done.stdout.split()]
    left = alive(others)
    for pid in left:
        os.kill(pid, signal.SIGKILL)
    assert left == others
