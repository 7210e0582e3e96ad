"""A work pool, a deployment and a worker of its own, a process as in real life."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

from canaries import sinks
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.client.schemas.objects import FlowRun
from prefect.flows import Flow
from prefect.workers.process import ProcessWorker

from .support import eventually

PATIENCE_SECONDS = 150.0  # a flow's process imports Prefect anew, twice: seconds on a busy machine


def deploy(source: str, name: str, *, folder: Path, pool: str, at_most: int | None = None) -> UUID:
    """Write a flow to a file, make a work pool and a deployment there, and return the deployment's id.

    Args:
        source: Python source with a flow of that name.
        name: Of the flow's function, and of the deployment.
        folder: Where the file is put.
        pool: Name of the work pool.
        at_most: How many flow runs the pool lets run at a time.
    """
    (folder / f"{name}.py").write_text(source)
    with get_client(sync_client=True) as client:
        template = ProcessWorker.get_default_base_job_template()
        client.create_work_pool(
            WorkPoolCreate(name=pool, type="process", base_job_template=template, concurrency_limit=at_most)
        )
    loaded: Any = Flow.from_source(str(folder), entrypoint=f"{name}.py:{name}")
    deployed: UUID = loaded.deploy(name, work_pool_name=pool, print_next_steps=False, ignore_warnings=True)
    return deployed


@contextmanager
def running_worker(pool: str, *, folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker of a pool; it must live until the end."""
    with started_worker(pool, folder=folder) as worker:
        yield worker
        log = folder / "worker.log"
        assert worker.poll() is None, f"the worker ended:\n{log.read_text()[-3000:]}"


@contextmanager
def started_worker(
    pool: str, *options: str, folder: Path, log: str = "worker.log"
) -> Iterator[subprocess.Popen[bytes]]:
    """Start a worker of a pool, with options of its command; whether it lives until the end is not asked."""
    with sinks.log(folder / log, "a worker"), (folder / log).open("wb") as sink:
        worker = subprocess.Popen(
            [sys.executable, "-m", "prefect", "worker", "start", "--pool", pool, *options],
            env=os.environ | {"PREFECT_WORKER_QUERY_SECONDS": "0.3"},
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=sink,
            stderr=subprocess.STDOUT,
        )
        try:
            yield worker
        finally:
            worker.terminate()
            try:
                worker.wait(15)
            except subprocess.TimeoutExpired:
                worker.kill()
                worker.wait()


def in_state(flow_run_id: UUID, *names: str, seconds: float = PATIENCE_SECONDS) -> FlowRun:
    """Return a flow run once it is in the state of one of these names."""

    def look() -> FlowRun | None:
        with get_client(sync_client=True) as client:
            flow_run: FlowRun = client.read_flow_run(flow_run_id)
        return flow_run if flow_run.state is not None and flow_run.state.name in names else None

    found = eventually(look, seconds=seconds, what=f"{' or '.join(names)}, the state of {flow_run_id},")
    assert found is not None
    return found
