"""What a flow run is suspended for, as it stands in the key of its suspension."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from uuid import UUID, uuid4

import pytest
from prefect.logging import disable_run_logger

from prefect_runtime import deferral, events
from prefect_runtime.deferral import Suspension
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeJobNotFound, ServerError
from prefect_runtime.wire.models import JobDocument


@pytest.mark.parametrize("block", ["local", "my block/with ünusual names", "a%2Fb"])
@pytest.mark.parametrize("until", [0.0, 1_795_377_142.0])
def test_a_key_says_what_it_was_made_of(block: str, until: float) -> None:
    made = Suspension(block=block, job_id="c3f0-11", until=until)
    assert Suspension.of(made.key) == made


def test_no_two_suspensions_share_a_key() -> None:
    made = Suspension(block="local", job_id="c3f0")
    assert made.key != made.key, "Prefect suspends only once for each key"


@pytest.mark.parametrize("key", [None, "", "1", "prefect-runtime", "a/b/c/d/e", "prefect-runtime/local/j/soon/x"])
def test_keys_of_others_are_left_alone(key: str | None) -> None:
    assert Suspension.of(key) is None


def test_a_flow_run_resumed_long_after_its_time_takes_the_result_of_a_job_that_is_final(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It ended in time, and the worker came late: what is known to be final is waited for no more."""
    document = JobDocument.parse({"id": "j", "status": "Completed", "created": "2026-01-01T00:00:00Z"})
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr(deferral, "run_by_name", lambda *_: "j")
    monkeypatch.setattr(deferral, "_look", lambda *_: document)
    monkeypatch.setattr(deferral, "outcome", lambda _, job_id, **given: asked.append({"job_id": job_id, **given}))
    deferral.run_deferred("local", "sampler", [], timeout=3600)
    assert [(each["job_id"], each["timeout"]) for each in asked] == [("j", None)]


@pytest.mark.parametrize(("timeout", "looked"), [(None, 10.0), (3600, 10.0), (2.0, 2.0)])
def test_the_look_before_a_suspension_takes_no_longer_than_the_timeout(
    timeout: float | None, looked: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    document = JobDocument.parse({"id": "j", "status": "Completed"})
    asked: list[float] = []

    def look(_: str, __: str, seconds: float) -> JobDocument:
        asked.append(seconds)
        return document

    monkeypatch.setattr(deferral, "run_by_name", lambda *_: "j")
    monkeypatch.setattr(deferral, "_look", look)
    monkeypatch.setattr(deferral, "outcome", lambda *_, **__: None)
    deferral.run_deferred("local", "sampler", [], timeout=timeout)
    assert asked == [looked]


class WithoutJobs:
    """A runtime that lists none, and what it says when it is asked for one."""

    def __init__(self, error: QiskitRuntimeError) -> None:
        self._error = error
        self.client = self

    def jobs(self, **_: Any) -> list[JobDocument]:
        return []

    def job(self, job_id: str) -> JobDocument:
        raise self._error


@pytest.mark.parametrize(
    ("error", "until", "told"),
    [
        (RuntimeJobNotFound("deleted"), 0.0, ["overdue"]),
        (ServerError("away"), 1.0, ["overdue"]),
        (ServerError("away"), 0.0, []),
    ],
    ids=["its job was deleted", "its time is over and the runtime away", "the runtime is away"],
)
def test_a_flow_run_suspended_for_a_job_that_cannot_be_looked_at_is_not_so_for_ever(
    error: QiskitRuntimeError, until: float, told: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, words = uuid4(), list[str]()

    def tell(word: str, document: JobDocument, *, flow_run_id: UUID, suspended: bool) -> None:
        assert (document.id, flow_run_id, suspended) == ("j", run, True)
        words.append(word)

    key = Suspension(block="local", job_id="j", until=until).key
    state = SimpleNamespace(state_details=SimpleNamespace(pause_key=key))
    prefect: Any = SimpleNamespace(read_flow_runs=lambda **_: [SimpleNamespace(id=run, state=state)])
    monkeypatch.setattr(events, "tell", tell)
    runtime: Any = WithoutJobs(error)
    with disable_run_logger():
        assert deferral._pass("local", runtime, prefect) == len(told)
    assert words == told


def test_those_that_are_suspended_are_all_found_however_many_there_are() -> None:
    def suspended(number: int) -> Any:
        key = Suspension(block="local", job_id=f"j{number}").key
        return SimpleNamespace(id=number, state=SimpleNamespace(state_details=SimpleNamespace(pause_key=key)))

    runs = [suspended(number) for number in range(2_500)]
    prefect: Any = SimpleNamespace(read_flow_runs=lambda *, limit, offset, **_: runs[offset : offset + limit])
    assert [reason.job_id for _, reason in deferral._suspended(prefect)] == [f"j{number}" for number in range(2_500)]
