"""Whoever runs servers, workers and clusters for tests looks for canaries in what they have written."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from canaries.values import ALL

from prefect_runtime.client import RuntimeService

from .dask_cluster import running_cluster
from .postgres import running_postgres
from .test_deployments import serving
from .ways import staged
from .workers import started_worker

FURTHER_THAN_A_LOG_IS_LONG = 1_000_000
"""Who writes a log goes on at its own place in the file."""

Runs = Callable[[Path, RuntimeService], AbstractContextManager[Any]]
LOGS: dict[str, Runs] = {
    "worker.log": lambda folder, _: started_worker("canaries", folder=folder),
    "serve.log": lambda folder, _: serving(folder),
    "log": lambda folder, service: staged(folder, service, "no program", ways=()),
    "scheduler.log": lambda folder, _: running_cluster(folder, 0),
    "machine-0/worker.log": lambda folder, _: running_cluster(folder, 1),
}
"""Who runs something, by the name of the log."""


def assert_all_twelve(raised: pytest.ExceptionInfo[AssertionError], where: str) -> None:
    for name in ALL:
        assert f"{name}, as plain, in {where}" in str(raised.value)


@pytest.mark.parametrize("name", [pytest.param(name, marks=pytest.mark.pr if name != "log" else ()) for name in LOGS])
def test_all_twelve_are_found_in_the_log_of_what_runs_flows(name: str, tmp_path: Path, service: RuntimeService) -> None:
    with (
        pytest.raises(AssertionError, match="canaries where") as raised,
        LOGS[name](tmp_path, service),
        (tmp_path / name).open("r+b") as log,
    ):
        log.seek(FURTHER_THAN_A_LOG_IS_LONG)
        log.write("\n".join(ALL.values()).encode())
    assert_all_twelve(raised, "runtime: worker.log" if "machine" in name else "the log of ")


@pytest.mark.pr
def test_all_twelve_are_found_in_a_database_of_postgresql() -> None:
    async def write(url: str) -> None:
        database = await asyncpg.connect(url.replace("+asyncpg", ""))
        await database.execute("CREATE TABLE log (message text)")
        await database.executemany("INSERT INTO log VALUES ($1)", [(value,) for value in ALL.values()])
        await database.close()

    with pytest.raises(AssertionError, match="canaries where") as raised, running_postgres() as url:
        asyncio.run(write(url))
    assert_all_twelve(raised, "PostgreSQL: log")


@pytest.mark.pr
def test_all_twelve_are_found_in_the_log_of_postgresql() -> None:
    async def fail(url: str) -> None:
        database = await asyncpg.connect(url.replace("+asyncpg", ""))
        with pytest.raises(asyncpg.UndefinedTableError):
            await database.fetch(f"SELECT * FROM nowhere -- {list(ALL.values())}")
        await database.close()

    with pytest.raises(AssertionError, match="canaries where") as raised, running_postgres() as url:
        asyncio.run(fail(url))
    assert_all_twelve(raised, "the log of PostgreSQL")
