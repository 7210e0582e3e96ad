"""Every way in which a flow runs, for the tests of cancelling: as a script, by `flow.serve`, by a process worker."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import UUID

import psutil
from canaries import sinks
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.workers.process import ProcessWorker

from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import JobDocument

from .shapes import ALL, GOES_SECONDS
from .support import eventually, jobs_of

PATIENCE_SECONDS = 90.0  # a flow's process imports Prefect anew: seconds on a busy machine
FLOWS = Path(__file__).with_name("shapes.py")
SHAPES = tuple(one.__name__ for one in ALL)
WAYS = ("script", "served", "worker")

SLEEPS = '''
import time
from pathlib import Path

def main(backend, user_messenger, *, number=0, gate=None):
    """Be under way for two minutes, or until there is a file."""
    end = time.monotonic() + 120
    while time.monotonic() < end and not (gate and Path(gate).exists()):
        time.sleep(0.1)
    return {"number": number}
'''


@dataclass(kw_only=True)
class Cancelled:
    """What a cancel has led to.

    Attributes:
        name: Way and shape.
        delay: Seconds from the flow's beginning to the cancel.
        jobs: What the runtime says of the flow run's jobs in the end.
        left: What was left: names of our threads in a script, ids of processes.
        seconds: From the moment when Prefect had the cancel to the end of each job that was cancelled.
    """

    name: str
    delay: float
    flow_run_id: UUID
    left: str
    jobs: list[JobDocument] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(kw_only=True)
class Stage:
    """A folder with the flows, their deployments, and the processes that run them."""

    folder: Path
    service: RuntimeService
    program: str
    deployments: dict[str, UUID] = field(default_factory=dict)
    pool: str = ""
    serving: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)
    log: Any = None
    scripts: list[subprocess.Popen[bytes]] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)

    def start(self, way: str, shape: str) -> tuple[UUID, int]:
        """Start a flow run; gives its id and its process, once it is in the flow's body."""
        if way == "script":
            flow_run_id, process, _ = self._start_script(shape)
            return flow_run_id, process.pid
        with get_client(sync_client=True) as client:
            parameters = {"program": self.program, "folder": str(self.folder)}
            flow_run = client.create_flow_run_from_deployment(self.deployments[f"{way} {shape}"], parameters=parameters)
        return flow_run.id, self.pid(flow_run.id)

    def pid(self, flow_run_id: UUID, execution: int = 1) -> int:
        """Return the process of an execution, once it is in the flow's body."""
        told = self.folder / f"{flow_run_id}.{execution}.began"
        eventually(told.exists, seconds=PATIENCE_SECONDS, what=f"the beginning of {flow_run_id}")
        return int(told.read_text().split()[0])

    def open_gate(self, flow_run_id: UUID) -> None:
        """Let the flow run's jobs end."""
        (self.folder / f"{flow_run_id}.gate").touch()

    def stop(self, way: str) -> None:
        """End the worker, or what serves, as whoever runs it does: it ends what runs under it, and tells nobody."""
        stop(self.serving[way])

    def serve(self, way: str) -> None:
        """Start a worker, or what serves."""
        worker = ["-m", "prefect", "worker", "start", "--pool", self.pool]
        command = worker if way == "worker" else [str(self.folder / "ways.py"), "serve"]
        self.serving[way] = serving(self, [sys.executable, *command])

    def cancel(self, way: str, shape: str, delay: float) -> Cancelled:
        """Start a flow run, cancel it after a delay, and wait until nothing of it is left."""
        if way == "script":
            return self._cancel_script(shape, delay)
        flow_run_id, pid = self.start(way, shape)
        asked = self._cancel(flow_run_id, delay)
        left = " ".join(left_of(pid, what=f"{way} {shape}"))
        in_state(flow_run_id, "Cancelled")
        return self._what_became(f"{way} {shape}", delay, flow_run_id, asked, left=left)

    def _start_script(self, shape: str) -> tuple[UUID, subprocess.Popen[bytes], Path]:
        token = f"token-{time.time_ns()}-{threading.get_ident()}"
        told, ended = self.folder / token, self.folder / f"{token}.ended"
        process = self._script()
        assert process.stdin is not None
        process.stdin.write(f"{shape} {token}\n".encode())
        process.stdin.flush()
        eventually(told.exists, seconds=PATIENCE_SECONDS, what="the script's beginning")
        return UUID(told.read_text()), process, ended

    def _cancel_script(self, shape: str, delay: float) -> Cancelled:
        flow_run_id, process, ended = self._start_script(shape)
        asked = self._cancel(flow_run_id, delay)
        eventually(ended.exists, seconds=PATIENCE_SECONDS, what=f"the end of script {shape}")
        self.scripts.append(process)
        return self._what_became(f"script {shape}", delay, flow_run_id, asked, left=ended.read_text())

    def _script(self) -> subprocess.Popen[bytes]:
        """Return a script that has nothing to do: the imports are what costs most."""
        with contextlib.suppress(IndexError):
            return self.scripts.pop()
        process = serving(
            self, [sys.executable, str(self.folder / "ways.py"), self.program, str(self.folder)], stdin=subprocess.PIPE
        )
        self.held.callback(stop, process)
        return process

    def _cancel(self, flow_run_id: UUID, delay: float) -> float:
        """Cancel a flow run after a delay."""
        time.sleep(delay)  # not a wait: which instant it hits is to vary
        return cancel(flow_run_id)

    def _what_became(self, name: str, delay: float, flow_run_id: UUID, asked: float, left: str = "") -> Cancelled:
        done = Cancelled(name=name, delay=delay, flow_run_id=flow_run_id, left=left)
        for job_id in jobs_of(self.service, flow_run_id):
            job = self.service.client.job(job_id)
            done.jobs.append(job)
            if job.word.upper().startswith("CANCEL"):
                done.seconds.append(seconds_after(asked, job))
        with (self.folder / "measured.txt").open("a") as file:
            words = [job.word for job in done.jobs]
            file.write(f"{name} {delay:.2f} {words} {[round(second, 2) for second in done.seconds]} {flow_run_id}\n")
        return done


def cancel(flow_run_id: UUID) -> float:
    """Cancel a flow run, as the button in the UI does; gives when Prefect had it (wall clock).

    A server on a locked SQLite may take seconds until then, in which nobody can know of it.
    """
    with get_client(sync_client=True) as client:
        accepted = client.set_flow_run_state(flow_run_id, State(type=StateType.CANCELLING)).state
    assert accepted is not None
    return accepted.timestamp.timestamp()


def seconds_after(asked: float, job: JobDocument) -> float:
    """Return how long after a cancel a job ended."""
    ended = parse_time(job.ended)
    assert ended is not None
    return max(0.0, ended.timestamp() - asked)


def is_alive(pid: int) -> bool:
    """True if there is such a process, and not only what is left of it until its parent asks."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def left_of(pid: int, *, what: str) -> list[str]:
    """Wait for the end of a process; gives the ids of those that were under it and did not end soon, and ends them."""
    under = set[psutil.Process]()

    def is_over() -> bool:
        with contextlib.suppress(psutil.NoSuchProcess):
            under.update(psutil.Process(pid).children(recursive=True))
        return not is_alive(pid)

    eventually(is_over, seconds=PATIENCE_SECONDS, what=f"the end of {what}")
    end = time.monotonic() + GOES_SECONDS
    while (left := [one for one in under if one.is_running() and is_alive(one.pid)]) and time.monotonic() < end:
        time.sleep(0.1)
    for one in left:
        with contextlib.suppress(psutil.NoSuchProcess):
            one.kill()
    return [str(one.pid) for one in left]


def in_state(flow_run_id: UUID, *names: str) -> FlowRun:
    """Return a flow run once it is in one of those states."""

    def look() -> FlowRun | None:
        with get_client(sync_client=True) as client:
            flow_run: FlowRun = client.read_flow_run(flow_run_id)
        return flow_run if flow_run.state is not None and flow_run.state.name in names else None

    found = eventually(look, seconds=PATIENCE_SECONDS, what=f"{names}, the state of {flow_run_id},")
    assert found is not None
    return found


@contextmanager
def staged(folder: Path, service: RuntimeService, program: str, *, ways: tuple[str, ...] = WAYS) -> Iterator[Stage]:
    """Deploy the flows, and run what serves them."""
    shutil.copy(FLOWS, folder / "ways.py")
    with ExitStack() as held:
        held.enter_context(sinks.log(folder / "log", "what runs flows"))
        log = held.enter_context((folder / "log").open("wb"))
        stage = Stage(folder=folder, service=service, program=program, log=log)
        held.enter_context(stage.held)
        if "worker" in ways:
            held.enter_context(_worker(stage))
        if "served" in ways:
            stage.serve("served")
            held.callback(stage.stop, "served")
            with get_client(sync_client=True) as client:
                for shape in SHAPES:
                    name = f"{shape}/served"

                    def deployed(name: str = name) -> Any:
                        try:
                            return client.read_deployment_by_name(name)
                        except Exception:  # noqa: BLE001 - not yet
                            return None

                    stage.deployments[f"served {shape}"] = eventually(deployed, seconds=PATIENCE_SECONDS, what=name).id
        yield stage


@contextmanager
def _worker(stage: Stage) -> Iterator[None]:
    pool = f"ways-{time.time_ns()}"
    with get_client(sync_client=True) as client:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(WorkPoolCreate(name=pool, type="process", base_job_template=template))
    for shape in SHAPES:
        loaded: Any = Flow.from_source(str(stage.folder), entrypoint=f"ways.py:{shape}")
        stage.deployments[f"worker {shape}"] = loaded.deploy(
            f"worker-{pool}", work_pool_name=pool, print_next_steps=False, ignore_warnings=True
        )
    stage.pool = pool
    stage.serve("worker")
    try:
        yield
    finally:
        stage.stop("worker")


def serving(stage: Stage, command: list[str], *, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
    """Start what serves flow runs."""
    return subprocess.Popen(
        command,
        env=os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "0.5"},
        cwd=stage.folder,
        stdin=stdin,
        stdout=stage.log,
        stderr=subprocess.STDOUT,
    )


def stop(running: subprocess.Popen[bytes]) -> None:
    """End a process, first gently; harmless if it has ended."""
    if running.stdin is not None:
        running.stdin.close()
    running.send_signal(signal.SIGTERM)
    try:
        running.wait(45)  # Prefect gives what runs under it 30 seconds
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
