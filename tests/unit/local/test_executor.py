"""What a slot does with a job that it cannot run, or may not run to its end."""

from __future__ import annotations

import errno
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.local import executor
from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.cells import Cells
from prefect_runtime.local.executor import Executor, NoProcessError
from prefect_runtime.local.process import Ending
from prefect_runtime.local.store import CANCELLED, FAILED, QUEUED, RAN_TOO_LONG, RUNNING, Job, Store
from prefect_runtime.local.uploads import Program

Told = list[tuple[str, list[str]]]
"""Statuses that a job has come to, each with the names of the cells there were by then."""


@pytest.fixture
def told() -> Told:
    return []


@pytest.fixture
def store(tmp_path: Path, told: Told) -> Iterator[Store]:
    def tell(job: Job) -> None:
        told.append((job.status, [cell.name for cell in (tmp_path / "cells").glob("*")]))

    made = Store(tmp_path / "runtime.sqlite", tell)
    yield made
    made.close()


@pytest.fixture
def slots(tmp_path: Path, store: Store) -> Executor:
    return Executor(
        store,
        tmp_path / "jobs",
        Bulletin(),
        slots=1,
        cells=Cells(tmp_path, same_user=True),
        calibration=Calibration(tmp_path / "calibration"),
        delays={},
    )


@pytest.fixture
def taken(store: Store) -> Job:
    """A job of an uploaded program that a slot has just taken."""
    store.programs.add(Program(id="p", name="p", data="def main(backend, user_messenger): pass"))
    store.add_job(Job(id="job", program_id="p", backend="aer_simulator"))
    job = store.take_next({})
    assert job is not None
    return job


@pytest.fixture
def no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse() -> Any:
        raise OSError(errno.EAGAIN, "Resource temporarily unavailable")

    monkeypatch.setattr(executor, "WorkerProcess", refuse)


@pytest.mark.usefixtures("no_room")
def test_a_job_is_back_in_the_queue_once_the_cell_it_was_to_run_in_is_gone(
    slots: Executor, taken: Job, told: Told
) -> None:
    with pytest.raises(NoProcessError):
        slots._run_safely(taken, 0, [])
    assert told == [(QUEUED, []), (RUNNING, []), (QUEUED, [])]


@pytest.mark.usefixtures("no_room")
def test_a_job_that_the_disk_does_not_take_back_is_not_failed_out_of_the_queue(
    slots: Executor, taken: Job, told: Told, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(job_id: str) -> None:
        raise sqlite3.OperationalError(f"disk I/O error: {job_id}")

    monkeypatch.setattr(slots._store, "discount_start", refuse)
    with pytest.raises(NoProcessError):
        slots._run_safely(taken, 0, [])
    assert [status for status, _ in told] == [QUEUED, RUNNING, FAILED]


class Ended:
    """A process that has come to its end in some way."""

    def __init__(self, ending: Ending) -> None:
        self._ending = ending

    def watch(self, *_: Any, **__: Any) -> Ending:
        return self._ending


DIED = Ending(None, exit_code=-15)


@pytest.mark.parametrize(
    ("ending", "cancelled", "status"),
    [
        (DIED, True, CANCELLED),
        (Ending(None, too_long=True), False, RAN_TOO_LONG),
        (Ending(None, broke="It filled its folder."), False, FAILED),
        (DIED, False, RUNNING),  # the next start settles it
    ],
)
def test_a_job_that_was_cancelled_or_broke_a_limit_while_the_server_ends_is_not_run_again(
    slots: Executor, store: Store, taken: Job, ending: Ending, cancelled: bool, status: str
) -> None:
    slots.close()
    slots._cancelled |= {taken.id} if cancelled else set()
    process: Any = Ended(ending)
    slots._watch(taken, process, 1.0, None)
    job = store.job(taken.id)
    assert job is not None
    assert job.status == status
