"""What the table of jobs promises: who may be added, and that nothing comes between the look and the row."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from prefect_runtime.local.sessions import Sessions
from prefect_runtime.local.store import Job, KeyTakenError, Store


class FullError(Exception):
    """There is no room for another job."""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "runtime.sqlite", lambda job: None)
    yield store
    store.close()


def job(name: str, **values: object) -> Job:
    return Job(id=name, program_id="sampler", backend="aer_simulator", **values)  # type: ignore[arg-type]


def test_of_many_jobs_at_once_as_many_are_added_as_there_is_room_for(store: Store) -> None:
    together = threading.Barrier(8)

    def admit() -> None:
        if store.count_pending() >= 5:
            raise FullError

    def add(number: int) -> bool:
        together.wait(10)
        try:
            store.add_job(job(f"j{number}"), admit)
        except FullError:
            return False
        return True

    with ThreadPoolExecutor(8) as pool:
        added = list(pool.map(add, range(40)))
    assert (sum(added), store.count_pending()) == (5, 5)


def test_a_session_that_is_cancelled_while_a_job_is_added_to_it_leaves_no_job_waiting(store: Store) -> None:
    sessions = Sessions(store)
    session = sessions.open(mode="dedicated", backend="aer_simulator", max_ttl=100)
    looked = threading.Event()

    def admit() -> None:
        sessions.check_accepts(session.id)
        looked.set()
        time.sleep(0.2)  # in which the session would be cancelled, and the job come after that

    with ThreadPoolExecutor(1) as pool:
        added = pool.submit(store.add_job, job("j", session_id=session.id), admit)
        looked.wait(10)
        sessions.cancel(session.id)
        added.result(10)
    found = store.job("j")
    assert found is not None
    assert found.status == "Cancelled"


def test_a_request_that_has_its_job_is_told_so_also_where_there_is_no_room(store: Store) -> None:
    def refuse() -> None:
        raise FullError

    store.add_job(job("first", tags=("prt1-key",)))
    with pytest.raises(KeyTakenError) as taken:
        store.add_job(job("second", tags=("prt1-key",)), refuse)
    assert taken.value.job_id == "first"
    assert store.count_pending() == 1
