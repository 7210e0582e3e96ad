"""What becomes of the jobs of a server that was killed, and of the files that go with them."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from prefect_runtime.local.database import Database
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.recovery import MAX_STARTS, recover
from prefect_runtime.local.store import COMPLETED, FAILED, QUEUED, RUNNING, Job, Store
from prefect_runtime.local.uploads import Program
from prefect_runtime.wire.errors import ConfigurationError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "runtime.sqlite", lambda job: None)
    for again in (False, True):
        store.programs.add(Program(id=f"again-{again}", name=f"{again}", data="", spec={"restartable": again}))
    yield store
    store.close()


def started(store: Store, job_id: str, program_id: str, times: int = 1) -> None:
    """Add a job that was running when its server was killed, for the given time."""
    store.add_job(Job(id=job_id, program_id=program_id, backend="b"))
    for time in range(times):
        if time:
            store.move(job_id, QUEUED)
        store.move(job_id, RUNNING)


def status(store: Store, job_id: str) -> tuple[str, str]:
    job = store.job(job_id)
    assert job is not None
    return job.status, job.reason


def test_a_job_that_was_running_is_failed_with_a_reason(store: Store, tmp_path: Path) -> None:
    started(store, "j", "again-False")
    recover(store, tmp_path / "jobs")
    assert status(store, "j") == (FAILED, "The embedded runtime restarted while the job was running.")


@pytest.mark.parametrize("program_id", ["again-True", "sampler", "estimator"])
def test_a_job_that_may_run_again_is_queued_in_its_old_place(store: Store, tmp_path: Path, program_id: str) -> None:
    started(store, "first", program_id)
    store.add_job(Job(id="second", program_id=program_id, backend="b"))
    folder = JobFolder(tmp_path / "jobs" / "first")
    folder.create()
    folder.interim.write_text("1\n")
    recover(store, tmp_path / "jobs")
    assert folder.read_interim() == []  # it is published again
    taken = store.take_next({})
    assert taken is not None
    assert taken.id == "first"


def test_a_job_that_was_running_at_every_kill_is_given_up(store: Store, tmp_path: Path) -> None:
    started(store, "j", "sampler", times=MAX_STARTS)
    recover(store, tmp_path / "jobs")
    assert status(store, "j")[0] == FAILED
    assert "given up" in status(store, "j")[1]


def test_a_job_whose_result_is_on_disk_is_completed(store: Store, tmp_path: Path) -> None:
    started(store, "j", "again-False")
    folder = JobFolder(tmp_path / "jobs" / "j")
    folder.create()
    folder.result.write_text("1")
    recover(store, tmp_path / "jobs")
    assert status(store, "j")[0] == COMPLETED


def test_of_a_job_that_may_not_run_again_no_half_result_stays(store: Store, tmp_path: Path) -> None:
    started(store, "j", "again-False")
    folder = JobFolder(tmp_path / "jobs" / "j")
    folder.create()
    folder.log.write_text("it said so")
    folder.unfinished.write_text('{"ha')
    recover(store, tmp_path / "jobs")
    assert status(store, "j")[0] == FAILED
    assert list(folder.path.iterdir()) == [folder.log]


def test_the_folder_of_a_job_that_is_not_there_is_removed(store: Store, tmp_path: Path) -> None:
    JobFolder(tmp_path / "jobs" / "gone").create()
    recover(store, tmp_path / "jobs")
    assert list((tmp_path / "jobs").iterdir()) == []


def test_a_database_of_the_version_before_keeps_its_jobs(tmp_path: Path) -> None:
    path = tmp_path / "runtime.sqlite"
    store = Store(path, lambda job: None)
    store.add_job(Job(id="j", program_id="p", backend="b"))
    for column in ("starts", "bytes"):
        store.database.connection.execute(f"ALTER TABLE jobs DROP COLUMN {column}")
    store.database.connection.execute("PRAGMA user_version = 2")
    store.close()
    store = Store(path, lambda job: None)
    assert store.move("j", RUNNING)
    assert status(store, "j") == (RUNNING, "")
    store.close()


def test_a_database_of_a_newer_version_is_refused_in_words(tmp_path: Path) -> None:
    Database(tmp_path / "d").close()
    connection = sqlite3.connect(tmp_path / "d")
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(ConfigurationError, match="newer prefect-runtime"):
        Database(tmp_path / "d")
