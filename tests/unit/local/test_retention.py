"""Which final jobs are kept."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.retention import PAUSE_SECONDS, Keep, Retention
from prefect_runtime.local.store import COMPLETED, RUNNING, Job, Store

KILOBYTE = 1e-6  # in gigabytes


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "runtime.sqlite", lambda job: None)
    yield store
    store.close()


@pytest.fixture
def root(store: Store, tmp_path: Path) -> Path:
    """A folder with three jobs that ended, a kilobyte each, one that is running and one that is queued."""
    for name in ("first", "second", "third", "running", "queued"):
        store.add_job(Job(id=name, program_id="p", backend="b"))
        folder = JobFolder(tmp_path / name)
        folder.create()
        folder.result.write_bytes(b"x" * 1000)
        if name != "queued":
            store.move(name, RUNNING)
        if name not in ("running", "queued"):
            store.move(name, COMPLETED)
    return tmp_path


def pruned(store: Store, root: Path, keep: Keep, *, days_later: float) -> list[str]:
    today = datetime.now(UTC) + timedelta(days=days_later)
    gone = Retention(store, root, keep, today=lambda: today).prune()
    assert all(not (root / job_id).exists() and store.job(job_id) is None for job_id in gone)
    return gone


def test_what_ended_longer_ago_than_days_is_pruned_and_the_unfinished_never(store: Store, root: Path) -> None:
    keep = Keep(days=30, gigabytes=None)
    assert pruned(store, root, keep, days_later=29) == []
    assert pruned(store, root, keep, days_later=31) == ["first", "second", "third"]
    assert store.count_pending() == 2
    assert (root / "running").exists()


def test_beyond_the_size_the_oldest_are_pruned(store: Store, root: Path) -> None:
    assert pruned(store, root, Keep(days=None, gigabytes=4 * KILOBYTE), days_later=1) == []
    assert pruned(store, root, Keep(days=None, gigabytes=2.5 * KILOBYTE), days_later=1) == ["first"]
    assert pruned(store, root, Keep(days=None, gigabytes=0.1 * KILOBYTE), days_later=1) == ["second", "third"]


def test_what_has_just_ended_is_kept_however_large(store: Store, root: Path) -> None:
    assert pruned(store, root, Keep(days=None, gigabytes=0.1 * KILOBYTE), days_later=0) == []


def test_it_looks_at_its_start_and_then_once_a_minute(store: Store, root: Path) -> None:
    clock, looks = [0.0], []

    def today() -> datetime:
        looks.append(clock[0])
        return datetime.now(UTC)

    retention = Retention(store, root, Keep(days=1, gigabytes=None), monotonic=lambda: clock[0], today=today)
    for moment in (0.0, 1.0, PAUSE_SECONDS - 1, PAUSE_SECONDS + 1):
        clock[0] = moment
        retention.prune_if_due()
    assert looks == [0.0, PAUSE_SECONDS + 1]
