"""A server that writes times in a way of its own, no ISO 8601, costs no wait and no flow run anything."""

from __future__ import annotations

from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from prefect.logging import disable_run_logger
from prefect.settings import PREFECT_API_URL, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE, temporary_settings

from prefect_runtime import deferral, events
from prefect_runtime.artifacts import render_card
from prefect_runtime.tasks.note import heard
from prefect_runtime.wire.models import TAG, JobDocument

ODD = "Mon, 04 Oct 2021 13:52:09 GMT"


@pytest.fixture(autouse=True)
def no_prefect() -> Iterator[None]:
    """Events go nowhere."""
    nowhere = {PREFECT_API_URL: None, PREFECT_SERVER_ALLOW_EPHEMERAL_MODE: False}
    with temporary_settings(nowhere), disable_run_logger():
        yield


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What Prefect is told, as it would be sent."""
    sent: list[dict[str, Any]] = []
    monkeypatch.setattr(events, "emit_event", lambda **event: sent.append(event))
    return sent


def done(job_id: str, created: str = ODD) -> JobDocument:
    times = {"created": created, "started": created, "ended": created}
    return JobDocument.parse({"id": job_id, "status": "Completed", "tags": [TAG], **times})


def test_a_wait_hears_of_the_end_all_the_same(told: list[dict[str, Any]]) -> None:
    seen = heard(SimpleNamespace(memory={}), done("j"))  # type: ignore[arg-type]
    assert list(seen) == ["DONE"]
    assert [event["event"] for event in told] == ["prefect-runtime.job.finished"]
    assert "queued_seconds" not in told[0]["payload"]


def test_its_card_shows_them_as_they_are() -> None:
    """A card that cannot be made would leave a failure undelivered: a retry of the flow run finds the same job then."""
    page = render_card({"program": "p", "job_id": "j", "status": "ERROR", "created": ODD, "started": ODD, "ended": ODD})
    assert page.count(ODD) == 3
    assert "In the queue" not in page


class Runtime:
    """Jobs that are all done."""

    def __init__(self, *jobs: JobDocument) -> None:
        self.list = jobs
        self.memory: dict[str, object] = {}
        self.client = self
        self.counts_usage = False
        self.secrets = ()

    def jobs(self, *, pending: bool | None = None, **_: Any) -> list[JobDocument]:
        return [] if pending else list(self.list)


class Prefect:
    """Flow runs that are suspended, each for a job."""

    def __init__(self, *job_ids: str) -> None:
        self.runs = [
            SimpleNamespace(id=f"run-of-{job_id}", state=SimpleNamespace(state_details=SimpleNamespace(pause_key=key)))
            for job_id in job_ids
            for key in [deferral.Suspension(block="local", job_id=job_id).key]
        ]

    def read_flow_runs(self, **_: Any) -> list[Any]:
        return self.runs


@pytest.mark.parametrize("prefect_stumbles", [False, True])
def test_flow_runs_suspended_for_other_jobs_go_on(
    prefect_stumbles: bool, told: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one job: the others' flow runs are told."""

    def note(_: Any, document: JobDocument) -> None:
        if prefect_stumbles and document.id == "odd":
            raise RuntimeError("nobody has thought of this")

    monkeypatch.setattr(deferral, "note", note)
    runtime: Any = Runtime(done("odd"), done("plain", "2026-01-01T00:00:00Z"))
    prefect: Any = Prefect("odd", "plain")
    assert deferral._pass("local", runtime, prefect) == 2 - prefect_stumbles
    jobs = [event["payload"]["job_id"] for event in told if event["related"]]
    assert jobs == (["plain"] if prefect_stumbles else ["odd", "plain"])


def test_a_timeout_counts_from_the_first_start_where_the_creation_cannot_be_read() -> None:
    assert deferral._until(done("j"), 60, begun=1000.0) == 1060.0
    assert deferral._until(None, 60, begun=1000.0) == 1060.0
    assert deferral._until(done("j", "1970-01-01T00:00:10Z"), 60, begun=1000.0) == 70.0
