"""What happens to jobs, and to the server, when the processes that they are to run in are not to be had."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from uuid import uuid4

import psutil
import pytest
import requests

from prefect_runtime.client import Credentials, JobStatus, RuntimeJob, RuntimeService
from prefect_runtime.local.recovery import MAX_STARTS
from prefect_runtime.wire.discovery_file import DiscoveryDocument

from .programs import that_does
from .support import Served, elapsed, eventually

PUBS = {"pubs": [['OPENQASM 3.0; include "stdgates.inc"; bit[1] c; qubit[1] q; x q[0]; c[0] = measure q[0];']]}
LEAVES_A_MARK = "def main(backend, user_messenger, *, mark):\n    open(mark, 'a').write('ran ')\n    return 'done'\n"


@pytest.fixture
def single(serve: Callable[..., Served]) -> Served:
    served = serve(slots=1)
    eventually(lambda: kept_workers(served), seconds=30, what="a process that waits for a job")
    return served


@pytest.fixture
def client(single: Served) -> Iterator[RuntimeService]:
    with RuntimeService(single.credentials) as service:
        yield service


@pytest.fixture
def run(client: RuntimeService, tmp_path: Path) -> Callable[[], tuple[RuntimeJob, Path]]:
    """Runs a program that leaves a mark each time it runs; gives the job and where the marks are."""
    metadata = {"name": f"{uuid4()}", "description": "marks", "max_execution_time": 60}
    program = client.upload_program(LEAVES_A_MARK, metadata)

    def run() -> tuple[RuntimeJob, Path]:
        mark = tmp_path / f"{uuid4()}"
        mark.touch()
        mark.chmod(0o666)
        return client.run(program, {"mark": str(mark)}), mark

    return run


def forkservers(served: Served) -> list[psutil.Process]:
    """The process that makes the others, beneath its guard; none before the first is wanted."""
    found = []
    for child in psutil.Process(served.process.pid).children():
        with contextlib.suppress(psutil.Error):  # one that is just gone
            found += child.children() if "forkserver" in str(child.cmdline()) else []
    return found


def kept_workers(served: Served) -> list[psutil.Process]:
    """Processes that wait for a job, or have one."""
    return [child for one in forkservers(served) for child in one.children()]


def test_a_job_runs_although_the_kept_process_that_was_to_run_it_is_gone(
    single: Served, client: RuntimeService
) -> None:
    assert client.run("sampler", PUBS).result(timeout=60)[0].data.c.get_counts() == {"1": 4096}
    for worker in kept_workers(single):
        worker.kill()
    for _ in range(2):
        assert client.run("sampler", PUBS).result(timeout=60)[0].data.c.get_counts() == {"1": 4096}


def test_a_job_runs_although_what_makes_processes_dies_while_it_makes_one(
    single: Served, run: Callable[[], tuple[RuntimeJob, Path]], client: RuntimeService
) -> None:
    [stopped] = forkservers(single)
    stopped.suspend()
    job, mark = run()
    eventually(lambda: job.status() is JobStatus.RUNNING, what="the start of the job")
    stopped.kill()
    assert job.result(timeout=60) == "done"
    assert mark.read_text() == "ran "
    assert client.jobs(pending=True) == []


def test_the_server_answers_while_a_process_is_being_made(
    single: Served, run: Callable[[], tuple[RuntimeJob, Path]]
) -> None:
    [stopped] = forkservers(single)
    stopped.suspend()
    try:
        job, _ = run()
        eventually(lambda: job.status() is JobStatus.RUNNING, what="the start of the job")
        seconds = elapsed()
        run()
        requests.get(f"{single.found.url}/version", timeout=5)
        assert seconds() < 2
    finally:
        stopped.resume()


def test_a_job_that_is_cancelled_while_its_process_is_made_never_runs(
    single: Served, run: Callable[[], tuple[RuntimeJob, Path]]
) -> None:
    [stopped] = forkservers(single)
    stopped.suspend()
    job, mark = run()
    eventually(lambda: job.status() is JobStatus.RUNNING, what="the start of the job")
    try:
        job.cancel()
        assert job.status() is JobStatus.CANCELLED
    finally:
        stopped.resume()
    assert run()[0].result(timeout=60) == "done"
    assert (job.status(), mark.read_text()) == (JobStatus.CANCELLED, "")


def test_a_job_that_ended_in_time_has_its_result_however_late_the_server_comes_to_read_it(
    single: Served, client: RuntimeService
) -> None:
    source = that_does("time.sleep(0.5)", "user_messenger.publish(1)", "time.sleep(0.1)", "return 'in time'")
    program = client.upload_program(source, {"name": f"{uuid4()}", "description": "quick", "max_execution_time": 60})
    job = client.run(program, {}, max_execution_time=2)
    eventually(lambda: job.status() is JobStatus.RUNNING, what="the start of the job")
    server = psutil.Process(single.process.pid)
    server.suspend()  # as a machine that is too busy does it
    time.sleep(3)
    server.resume()
    assert job.result(timeout=20) == "in time"


def test_a_job_whose_process_was_being_made_when_the_server_ended_runs_once_it_is_back(
    single: Served, run: Callable[[], tuple[RuntimeJob, Path]]
) -> None:
    [stopped] = forkservers(single)
    stopped.suspend()
    job, mark = run()
    eventually(lambda: job.status() is JobStatus.RUNNING, what="the start of the job")
    single.process.send_signal(signal.SIGTERM)
    eventually(lambda: not (single.folder / "runtime.json").exists(), what="the server's goodbye")
    stopped.resume()
    assert single.process.wait(20) == 0
    single.kill()
    single.start()
    with RuntimeService(single.credentials) as service:
        assert service.job(job.job_id()).result(timeout=60) == "done"
    assert mark.read_text() == "ran "


@pytest.mark.pr
def test_a_server_that_is_stopped_in_good_order_again_and_again_gives_no_job_up(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    mark = tmp_path / "mark"
    mark.touch()
    mark.chmod(0o666)
    source = that_does(
        "mark = kwargs['mark']",
        "open(mark, 'a').write('ran ')",
        f"time.sleep(60 if open(mark).read().count('ran') <= {MAX_STARTS} else 0)",
        "return 'done'",
    )
    served = serve(slots=1)
    with RuntimeService(served.credentials) as service:
        metadata = {"name": f"{uuid4()}", "description": "again", "max_execution_time": 60, "restartable": True}
        job_id = service.run(service.upload_program(source, metadata), {"mark": str(mark)}).job_id()
    for times in range(1, MAX_STARTS + 1):
        eventually(lambda: mark.read_text().count("ran") == times, seconds=30, what=f"start {times}")  # noqa: B023
        served.process.send_signal(signal.SIGTERM)
        assert served.process.wait(20) == 0
        served.kill()
        served.start()
    with RuntimeService(served.credentials) as service:
        assert service.job(job_id).result(timeout=60) == "done"
    assert mark.read_text() == "ran " * (MAX_STARTS + 1)


SCARCE = """
import errno, sys
from pathlib import Path
from prefect_runtime.local import executor
from prefect_runtime.local.launcher import Settings, serve

class Scarce(executor.WorkerProcess):
    def __init__(self):
        if not room.exists():
            with told.open("a") as file:
                file.write("no ")
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        super().__init__()

folder = Path(sys.argv[1])
room, told = folder / "room", folder / "told"
folder.mkdir()
room.touch()
executor.WorkerProcess = Scarce
serve(Settings(data_dir=folder, slots=1))
"""


@pytest.fixture
def scarce(tmp_path: Path) -> Iterator[tuple[RuntimeService, Path]]:
    """A server on a machine that has room for a process while there is a file `room` in its folder, and that folder."""
    folder = tmp_path / "scarce"
    command = [sys.executable, "-c", SCARCE, str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        assert server.stdout.readline().startswith("READY")
        found = DiscoveryDocument.parse((folder / "runtime.json").read_text())
        with RuntimeService(Credentials(channel="local", url=found.url, token=found.token)) as service:
            yield service, folder
        server.terminate()


@pytest.mark.pr
def test_jobs_wait_in_the_queue_until_there_is_room_for_a_process_and_can_be_cancelled_there(
    scarce: tuple[RuntimeService, Path],
) -> None:
    service, folder = scarce
    metadata = {"name": f"{uuid4()}", "description": "waits", "max_execution_time": 60}
    program = service.upload_program(that_does("return 'ran'"), metadata)
    assert service.run(program, {}).result(timeout=60) == "ran"
    (folder / "room").unlink()
    first, second, cancelled = [service.run(program, {}) for _ in range(3)]
    refusals = folder / "told"
    eventually(lambda: refusals.exists() and refusals.read_text().count("no") >= 3, seconds=30, what="refusals")
    cancelled.cancel()
    assert first.status() is JobStatus.QUEUED
    (folder / "room").touch()
    assert [job.result(timeout=60) for job in (first, second)] == ["ran", "ran"]
    assert cancelled.status() is JobStatus.CANCELLED


@pytest.mark.pr
def test_a_server_that_is_stopped_while_there_is_no_room_for_a_process_ends_at_once(
    scarce: tuple[RuntimeService, Path],
) -> None:
    service, folder = scarce
    (folder / "room").unlink()
    metadata = {"name": f"{uuid4()}", "description": "waits", "max_execution_time": 60}
    service.run(service.upload_program(that_does("return 'ran'"), metadata), {})
    refusals = folder / "told"
    eventually(lambda: refusals.exists() and refusals.read_text().count("no") >= 2, seconds=30, what="refusals")
    server = psutil.Process(DiscoveryDocument.parse((folder / "runtime.json").read_text()).pid)
    seconds = elapsed()
    server.terminate()
    server.wait(30)
    assert seconds() < 5
    assert refusals.read_text().count("no") < 20


SILENT = """
import os, signal, sys
from pathlib import Path
from prefect_runtime.local import process
from prefect_runtime.local.worker import Order
if __name__ == "__main__":
    process.TAKE_SECONDS = 0.5
    worker = process.WorkerProcess()
    os.kill(worker._pid, signal.SIGSTOP)
    folder = Path(sys.argv[1])
    order = Order(folder=folder, program_id="sampler", backend="b", calibration=0, log_level="INFO", params="{}")
    print(worker.take(order))
    worker.end()
"""


def test_a_process_that_does_not_say_that_it_has_a_job_does_not_have_it(tmp_path: Path) -> None:
    command = [sys.executable, "-c", SILENT, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("False\n", 0), done.stderr
    assert not list(tmp_path.iterdir())


DYING = """
import os, signal
from prefect_runtime.local import process

class Untold:
    def is_alive(self): return True
    def join(self, timeout): pass

if __name__ == "__main__":
    worker = process.WorkerProcess()
    os.kill(worker._pid, signal.SIGKILL)
    worker._process.join()
    worker._process = Untold()  # between the forkserver's seeing its end and our hearing of it
    worker.end()
    print("ended")
"""


def test_a_process_that_dies_while_it_is_ended_is_ended() -> None:
    command = [sys.executable, "-c", DYING]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("ended\n", 0), done.stderr


ENDED_TWICE = """
import sys
from pathlib import Path
from prefect_runtime.local import process
from prefect_runtime.local.cells import Cells
from prefect_runtime.local.worker import Order

SOURCE = "import time\\ndef main(backend, user_messenger):\\n    time.sleep(1.0)"

def begun(name):
    folder = root / name
    folder.mkdir()
    told = {"program_id": name, "backend": "aer_simulator", "calibration": 0, "log_level": "INFO", "params": "{}"}
    worker = process.WorkerProcess()
    assert worker.take(Order(folder=folder, source=SOURCE, cell=cells.open(name, 0), **told))
    return worker

if __name__ == "__main__":
    root = Path(sys.argv[1])
    cells = Cells(root)
    first = begun("first")
    first.end()
    second = begun("second")
    first.end()  # a cancel that comes late, of the job before it in the same slot
    print(second.watch(lambda: None, seconds=20).report)
    second.end()
    cells.remove()
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give programs a user of their own")
def test_who_ends_a_process_once_more_does_not_end_the_next_program_of_its_user(tmp_path: Path) -> None:
    command = [sys.executable, "-c", ENDED_TWICE, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert "kind='done'" in done.stdout, done.stderr
    assert done.returncode == 0
