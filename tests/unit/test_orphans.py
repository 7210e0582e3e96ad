"""Which jobs are cancelled because somebody has cancelled their flow run while it was suspended, and which are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest

from prefect_runtime.orphans import cancel_orphans, unfinished
from prefect_runtime.wire.errors import ServerError
from prefect_runtime.wire.models import TAG, JobDocument

CANCELLED_RUN, SUSPENDED_RUN = uuid4(), uuid4()
KEY = "prt1-" + "a" * 26


class Runtime:
    """Jobs, and which of them were cancelled; gives at most 200 with one answer, newest first."""

    def __init__(self, *jobs: JobDocument, knows_pending: bool = True) -> None:
        self.list = list(jobs)
        self.cancelled: list[str] = []
        self.refuses: set[str] = set()
        self.client = self
        self._knows_pending = knows_pending

    def jobs(self, *, limit: int, offset: int, pending: bool, tags: list[str]) -> list[JobDocument]:
        shown = [job for job in self.list if not (self._knows_pending and pending and job.is_final)]
        return shown[offset : offset + limit]

    def job(self, job_id: str) -> JobDocument:
        word = "Cancelled" if job_id in self.cancelled else "Queued"
        return JobDocument.parse({"id": job_id, "status": word})

    def cancel(self, job_id: str) -> None:
        if job_id in self.refuses:
            raise ServerError("busy", status_code=503)
        self.cancelled.append(job_id)


class Prefect:
    """Knows which flow runs were cancelled, and the records of the cards."""

    def __init__(self, *records: dict[str, str]) -> None:
        self._records = records

    def read_flow_runs(self, *, flow_run_filter: Any, limit: int) -> list[Any]:
        found = set(flow_run_filter.id.any_) & {CANCELLED_RUN}
        return [SimpleNamespace(id=run_id) for run_id in found][:limit]

    def read_artifacts(self, *, artifact_filter: Any) -> list[Any]:
        keys = set(artifact_filter.key.any_)
        return [SimpleNamespace(metadata_=record) for record in self._records if record["key"] in keys]


def job(job_id: str, run: UUID = CANCELLED_RUN, *, status: str = "Queued", key: str = KEY) -> JobDocument:
    return JobDocument.parse({"id": job_id, "status": status, "tags": [TAG, f"prt-run-{run}", key]})


def cancelled_in(runtime: Any, prefect: Any) -> list[str]:
    list(cancel_orphans(runtime, prefect, list(unfinished(runtime))))
    done: list[str] = runtime.cancelled
    return done


def test_a_job_whose_flow_run_was_cancelled_is_cancelled_and_given_as_it_is_then() -> None:
    runtime = Runtime(job("orphan"), job("waited-for", SUSPENDED_RUN))
    given = list(cancel_orphans(runtime, Prefect(), list(unfinished(runtime))))  # type: ignore[arg-type]
    assert [(document.id, document.word) for document in given] == [("orphan", "Cancelled")]
    assert runtime.cancelled == ["orphan"]


@pytest.mark.parametrize("told", ["keep", ""])
def test_a_job_that_a_person_asked_to_keep_goes_on(told: str) -> None:
    card = {"key": KEY, "job_id": "kept", "on_cancel": told}
    assert cancelled_in(Runtime(job("kept")), Prefect(card)) == ([] if told else ["kept"])


def test_a_job_that_another_flow_run_has_asked_for_since_goes_on() -> None:
    cards = [{"key": KEY, "job_id": "shared", "root_run": str(SUSPENDED_RUN)}]
    assert cancelled_in(Runtime(job("shared")), Prefect(*cards)) == []
    cards = [{"key": KEY, "job_id": "own", "root_run": str(CANCELLED_RUN)}]
    assert cancelled_in(Runtime(job("own")), Prefect(*cards)) == ["own"]


def test_a_card_keeps_its_own_job_only() -> None:
    card = {"key": KEY, "job_id": "kept", "on_cancel": "keep"}
    assert cancelled_in(Runtime(job("kept"), job("a-duplicate")), Prefect(card)) == ["a-duplicate"]


@pytest.mark.parametrize("knows_pending", [True, False])
def test_an_orphan_behind_many_newer_jobs_is_found(knows_pending: bool) -> None:
    newer = [job(f"queued-{number}", SUSPENDED_RUN) for number in range(450)]
    final = [job(f"done-{number}", status="Completed") for number in range(450)]
    runtime = Runtime(*newer, *final, job("orphan"), knows_pending=knows_pending)
    assert cancelled_in(runtime, Prefect()) == ["orphan"]


def test_one_that_cannot_be_cancelled_keeps_no_other_from_it() -> None:
    runtime = Runtime(job("first"), job("second"))
    runtime.refuses = {"first"}
    assert cancelled_in(runtime, Prefect()) == ["second"]
