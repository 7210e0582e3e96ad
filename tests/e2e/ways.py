"""Every way in which a flow runs, for the tests of cancelling: as a script, by `flow.serve`, by a process worker."""

from __future__ import annotations

import contextlib
import os
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

from canaries import sinks
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.flows import Flow
from prefect.workers.process import ProcessWorker

from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import JobDocument

from .support import eventually, jobs_of

PATIENCE_SECONDS = 90.0  # a flow's process imports Prefect anew: seconds on a busy machine
SHAPES = ("direct", "submitted", "mapped", "asynchronous")
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

FLOWS = '''
"""Flows in four shapes, and ways to run them."""
import asyncio, os, sys, threading, time
from pathlib import Path
from prefect import flow, serve
from prefect.runtime import flow_run
from prefect_runtime import cancel_jobs, run_program, wait_for_final_state

def begun(folder):
    told = Path(folder, f"{flow_run.id}.{flow_run.run_count}")
    told.with_suffix(told.suffix + ".tmp").write_text(f"{os.getpid()} {flow_run.id}")
    told.with_suffix(told.suffix + ".tmp").rename(told.with_suffix(told.suffix + ".began"))
    token = os.environ.get("TOKEN")
    if token:
        Path(folder, token + ".tmp").write_text(str(flow_run.id))
        Path(folder, token + ".tmp").rename(Path(folder, token))

def gate(folder):
    return f"{folder}/{flow_run.id}.gate"

@flow(on_cancellation=[cancel_jobs])
def direct(program: str, folder: str):
    begun(folder)
    job_id = run_program("local", program, {"gate": gate(folder)})
    wait_for_final_state("local", job_id)
    return job_id

@flow(on_cancellation=[cancel_jobs])
def submitted(program: str, folder: str):
    begun(folder)
    job_id = run_program.submit("local", program, {"gate": gate(folder)})
    return wait_for_final_state.submit("local", job_id).result()

@flow(on_cancellation=[cancel_jobs])
def mapped(program: str, folder: str):
    begun(folder)
    ids = run_program.map("local", program, [{"number": number, "gate": gate(folder)} for number in range(3)])
    return wait_for_final_state.map("local", ids).result()

@flow(on_cancellation=[cancel_jobs])
async def asynchronous(program: str, folder: str):
    begun(folder)
    job_id = run_program.submit("local", program, {"gate": gate(folder)})
    return wait_for_final_state.submit("local", job_id).result()

ALL = [direct, submitted, mapped, asynchronous]

if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*[one.to_deployment("served") for one in ALL], query_seconds=1, pause_on_shutdown=False, limit=20)
    else:
        # One flow run for each line: its shape, and the file to tell its id in.
        for line in sys.stdin:
            shape, os.environ["TOKEN"] = line.split()
            chosen = {one.__name__: one for one in ALL}[shape]
            try:
                if chosen is asynchronous:
                    asyncio.run(chosen(*sys.argv[1:]))
                else:
                    chosen(*sys.argv[1:])
            except Exception:
                pass  # what a flow run has come to is asked elsewhere
            time.sleep(0.5)  # the thread of a watch is told to end, and ends
            left = [thread.name for thread in threading.enumerate() if thread.name.startswith("flow-watch")]
            Path(sys.argv[2], os.environ["TOKEN"] + ".ended").write_text(" ".join(left))
'''


@dataclass(kw_only=True)
class Cancelled:
    """What a cancel has led to.

    Attributes:
        name: Way and shape.
        delay: Seconds from the flow's beginning to the cancel.
        jobs: What the runtime says of the flow run's jobs in the end.
        left: Names of our threads that were left in a script.
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
    worker: subprocess.Popen[bytes] | None = None
    log: Any = None
    scripts: list[subprocess.Popen[bytes]] = field(default_factory=list)
    held: ExitStack = field(default_factory=ExitStack)

    def start(self, way: str, shape: str) -> tuple[UUID, int]:
        """Start a flow run; gives its id and its process, once it is in the flow's body."""
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

    def stop_worker(self) -> None:
        """End the worker as whoever runs it does: it ends what runs under it at once, and tells nobody."""
        assert self.worker is not None
        stop(self.worker)

    def start_worker(self) -> None:
        """Start a worker."""
        self.worker = serving(self, [sys.executable, "-m", "prefect", "worker", "start", "--pool", self.pool])

    def cancel(self, way: str, shape: str, delay: float) -> Cancelled:
        """Start a flow run, cancel it after a delay, and wait until nothing of it is left."""
        if way == "script":
            return self._cancel_script(shape, delay)
        flow_run_id, pid = self.start(way, shape)
        asked = self._cancel(flow_run_id, delay)
        eventually(lambda: not is_alive(pid), seconds=PATIENCE_SECONDS, what=f"the end of {way} {shape}")
        in_state(flow_run_id, "Cancelled")
        return self._what_became(f"{way} {shape}", delay, flow_run_id, asked)

    def _cancel_script(self, shape: str, delay: float) -> Cancelled:
        token = f"token-{time.time_ns()}-{threading.get_ident()}"
        told, ended = self.folder / token, self.folder / f"{token}.ended"
        process = self._script()
        assert process.stdin is not None
        process.stdin.write(f"{shape} {token}\n".encode())
        process.stdin.flush()
        eventually(told.exists, seconds=PATIENCE_SECONDS, what="the script's beginning")
        flow_run_id = UUID(told.read_text())
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
    (folder / "ways.py").write_text(FLOWS)
    with ExitStack() as held:
        held.enter_context(sinks.log(folder / "log", "what runs flows"))
        log = held.enter_context((folder / "log").open("wb"))
        stage = Stage(folder=folder, service=service, program=program, log=log)
        held.enter_context(stage.held)
        if "worker" in ways:
            held.enter_context(_worker(stage))
        if "served" in ways:
            held.callback(stop, serving(stage, [sys.executable, str(folder / "ways.py"), "serve"]))
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
    stage.start_worker()
    try:
        yield
    finally:
        stage.stop_worker()


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
        running.wait(15)
    except subprocess.TimeoutExpired:
        running.kill()
        running.wait()
