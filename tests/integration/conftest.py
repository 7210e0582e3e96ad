"""Fixtures of the integration tests; `runtime`, `own_runtime`, `service` and `upload` are in tests/conftest.py."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import requests
from canaries.values import INPUTS

from prefect_runtime.client import RuntimeJob, RuntimeService
from prefect_runtime.wire.errors import QiskitRuntimeError

from .programs import HOLDS, NUMBERS
from .support import Served


@pytest.fixture
def run(service: RuntimeService, upload: Callable[..., str]) -> Iterator[Callable[..., RuntimeJob]]:
    """Runs a program (source, inputs, options of `RuntimeService.run`); ends what still runs when the test is over."""
    jobs: list[RuntimeJob] = []

    def run(source: str = NUMBERS, inputs: dict[str, Any] | None = None, **options: Any) -> RuntimeJob:
        canaries = INPUTS if "**kwargs" in source else {}
        jobs.append(service.run(upload(source), {**canaries, **(inputs or {})}, **options))
        return jobs[-1]

    yield run
    for job in jobs:
        with contextlib.suppress(QiskitRuntimeError):
            service.job(job.job_id()).cancel()


@pytest.fixture
def hold(run: Callable[..., RuntimeJob], tmp_path: Path) -> Callable[..., tuple[RuntimeJob, Path]]:
    """Runs a job that ends once a file exists; gives the job, and the path to touch."""
    count = 0

    def hold(*, publish: list[Any] | None = None, **options: Any) -> tuple[RuntimeJob, Path]:
        nonlocal count
        count += 1
        gate = tmp_path / f"gate-{count}"
        inputs = {"gate": str(gate), "pid_file": str(tmp_path / f"pid-{count}"), "publish": publish or []}
        return run(HOLDS, inputs, **options), gate

    return hold


@pytest.fixture
def count_jobs(runtime: Any) -> Callable[[], int]:
    """Asks the server, not the client, how many jobs there are."""

    def count() -> int:
        answer = requests.get(
            f"{runtime.found.url}/jobs?limit=1", headers={"X-Access-Token": runtime.found.token}, timeout=10
        )
        number: int = answer.json()["count"]
        return number

    return count


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Served]]:
    """Starts embedded runtimes with settings of the test's own; they are gone when the test is over."""
    started: list[Served] = []

    def serve(folder: Path | None = None, **settings: Any) -> Served:
        started.append(Served(folder or tmp_path / "served", **settings))
        return started[-1]

    yield serve
    for served in started:
        served.kill()
    for served in started:
        served.look_for_canaries()
