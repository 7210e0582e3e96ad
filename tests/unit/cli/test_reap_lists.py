"""Which jobs `prefect-runtime reap` takes for left behind, however many there are."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from prefect_runtime import orphans
from prefect_runtime.cli import reap
from prefect_runtime.wire.errors import RuntimeInvalidStateError
from prefect_runtime.wire.models import TAG, JobDocument

OVER, AT_WORK = str(uuid4()), str(uuid4())


class Account:
    """An account with queued jobs of a flow run that is over; lists by pages what is not final."""

    def __init__(self, count: int) -> None:
        self.client = self
        self.jobs_there = {f"j{number}": "Queued" for number in range(count)}

    def jobs(self, *, limit: int, offset: int, pending: bool, tags: list[str]) -> list[JobDocument]:
        assert (pending, tags) == (True, [TAG])
        queued = [job_id for job_id, word in self.jobs_there.items() if word == "Queued"]
        return [self.document(job_id) for job_id in queued[offset : offset + limit]]

    def document(self, job_id: str) -> JobDocument:
        tags = [TAG, f"prt1-{job_id}", f"prt-run-{OVER}"]
        return JobDocument.parse({"id": job_id, "status": self.jobs_there[job_id], "tags": tags})

    def cancel(self, job_id: str) -> None:
        if self.jobs_there[job_id] != "Queued":
            raise RuntimeInvalidStateError("final already", job_id=job_id)
        self.jobs_there[job_id] = "Cancelled"


class Prefect:
    """Prefect's API: job cards."""

    def __init__(self, **records: dict[str, str]) -> None:
        self.records = records

    def read_artifacts(self, *, artifact_filter: Any) -> list[Any]:
        assert len(artifact_filter.key.any_) <= orphans.AT_ONCE
        keys = {key.removeprefix("prt1-") for key in artifact_filter.key.any_}
        return [
            SimpleNamespace(metadata_={"key": f"prt1-{job_id}", "job_id": job_id, **record})
            for job_id, record in self.records.items()
            if job_id in keys
        ]


@pytest.fixture
def ends() -> reap.Ends:
    known = reap.Ends()
    known._known.update({OVER: "Crashed", AT_WORK: None})
    return known


def left_behind(account: Account, prefect: Prefect, ends: reap.Ends) -> list[str]:
    """Cancel what is found; gives what was."""
    found = []
    for job, flow_run_id, state in reap.orphans(account, prefect, ends):  # type: ignore[arg-type]
        assert (flow_run_id, state) == (OVER, "Crashed")
        found.append(job.id)
        assert reap._cancel(account, job.id) == "cancelled"  # type: ignore[arg-type]
    return found


def test_all_are_found_though_those_that_are_cancelled_leave_the_list(ends: reap.Ends) -> None:
    account = Account(450)
    assert len(left_behind(account, Prefect(), ends)) == 450
    assert set(account.jobs_there.values()) == {"Cancelled"}


def test_a_job_that_another_flow_run_has_asked_for_since_is_not_left_behind(ends: reap.Ends) -> None:
    records = {"j0": {"root_run": AT_WORK}, "j1": {"root_run": OVER}}
    assert left_behind(Account(3), Prefect(**records), ends) == ["j1", "j2"]


def test_a_job_that_a_wait_was_told_to_keep_is_not_left_behind(ends: reap.Ends) -> None:
    assert left_behind(Account(2), Prefect(j0={"root_run": OVER, "on_cancel": "keep"}), ends) == ["j1"]


def test_a_job_that_is_final_meanwhile_is_dealt_with() -> None:
    account = Account(1)
    account.jobs_there["j0"] = "Completed"
    assert reap._cancel(account, "j0") == "final meanwhile"  # type: ignore[arg-type]
