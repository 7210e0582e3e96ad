"""A real cluster of dask.distributed, whose workers are as machines are: each has an embedded runtime of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil
from canaries import sinks
from canaries.values import give_token

from prefect_runtime.client import Credentials, RuntimeService, discovery

from .support import eventually

START_SECONDS = 60.0


@dataclass(frozen=True, kw_only=True)
class Cluster:
    """A running cluster: the scheduler's address, and the homes of its machines' embedded runtimes."""

    address: str
    homes: Sequence[Path]

    def jobs(self) -> list[list[str]]:
        """Return the ids of all jobs there are, machine by machine."""
        return [_jobs(home) for home in self.homes]


@contextmanager
def running_cluster(folder: Path, machines: int, *, one_core_each: bool = False) -> Iterator[Cluster]:
    """Run a scheduler and a worker with one thread for each machine.

    Args:
        folder: Where all of it keeps its files.
        machines: How many workers.
        one_core_each: Hold each machine, its embedded runtime included, to a processor of its own.
    """
    homes = [folder / f"machine-{number}" for number in range(machines)]
    file = folder / "scheduler.json"
    with sinks.log(folder / "scheduler.log", "a scheduler of Dask's"), ExitStack() as held:
        _start(held, folder / "scheduler.log", "scheduler", "--host", "127.0.0.1", "--port", "0", file=file)
        for number, home in enumerate(homes):
            give_token(home)
            held.callback(_stop_runtime, home)
            options = ["--host", "127.0.0.1", "--nthreads", "1", "--no-nanny", "--name", home.name]
            worker = _start(held, home / "worker.log", "worker", *options, file=file, home=home)
            if one_core_each:
                cores = psutil.Process().cpu_affinity() or [0]
                psutil.Process(worker.pid).cpu_affinity([cores[number % len(cores)]])
        eventually(file.exists, seconds=START_SECONDS, what="a Dask scheduler")
        yield Cluster(address=json.loads(file.read_text())["address"], homes=homes)
    for home in homes:
        sinks.assert_clean(sinks.folder(home, "runtime"))  # with its worker's log


def _start(
    held: ExitStack, log: Path, what: str, *options: str, file: Path, home: Path | None = None
) -> subprocess.Popen[bytes]:
    environment = dict(os.environ) if home is None else os.environ | {discovery.HOME_VARIABLE: str(home)}
    command = [sys.executable, "-m", "dask", what, "--scheduler-file", str(file), "--no-dashboard", *options]
    sink = held.enter_context(log.open("wb"))
    process = subprocess.Popen(
        command, env=environment, cwd=log.parent, stdin=subprocess.DEVNULL, stdout=sink, stderr=subprocess.STDOUT
    )
    held.callback(_stop, process)
    return process


def _stop(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(15)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def _stop_runtime(home: Path) -> None:
    found = discovery.find(home)
    if found is not None:
        process = psutil.Process(found.pid)
        process.terminate()
        eventually(lambda: not process.is_running(), seconds=20, what="the embedded runtime's end")


def _jobs(home: Path) -> list[str]:
    found = discovery.find(home)
    if found is None:
        return []
    with RuntimeService(Credentials(url=found.url, token=found.token)) as service:
        return [job.job_id() for job in service.jobs(limit=None)]
