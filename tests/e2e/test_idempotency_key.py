"""A name of the caller's own for a request: one job, whichever flow run asks for it."""

from __future__ import annotations

import time

import pytest
from prefect import flow
from qiskit import QuantumCircuit

from prefect_runtime import run_sampler
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import IdempotencyConflictError

from .support import card_fields, run_id


@pytest.fixture
def unique() -> str:
    """A text that no other test has used."""
    return f"e2e-{time.time_ns()}"


def test_an_idempotency_key_gives_two_flow_runs_one_job(
    bell: QuantumCircuit, unique: str, service: RuntimeService
) -> None:
    @flow
    def sample() -> str:
        return run_sampler("local", [bell], shots=10, idempotency_key=unique, tags=[unique])

    first, second = sample(return_state=True), sample(return_state=True)
    assert run_id(first) != run_id(second)
    assert first.result() == second.result()
    assert [job.job_id() for job in service.jobs(limit=None, tags=[unique])] == [first.result()]


@pytest.mark.pr
def test_an_idempotency_key_finds_its_job_at_the_runtime_where_prefect_has_no_card(
    bell: QuantumCircuit, unique: str, service: RuntimeService
) -> None:
    # A client without any Prefect, asking for what `run_sampler` asks for: its job has no card.
    inputs = {"pubs": [bell], "options": {"default_shots": 10}}
    job = service.run("sampler", inputs, idempotency_key=unique, tags=[unique])

    @flow
    def sample() -> str:
        return run_sampler("local", [bell], shots=10, idempotency_key=unique, tags=[unique])

    state = sample(return_state=True)
    assert state.result() == job.job_id()
    assert card_fields(run_id(state))["job_id"] == job.job_id()
    assert [job.job_id() for job in service.jobs(limit=None, tags=[unique])] == [state.result()]


def test_an_idempotency_key_for_another_request_is_a_conflict_and_nothing_is_sent(
    bell: QuantumCircuit, unique: str, service: RuntimeService
) -> None:
    @flow
    def sample(shots: int) -> str:
        return run_sampler("local", [bell], shots=shots, idempotency_key=unique, tags=[unique])

    first = sample(shots=10)
    with pytest.raises(IdempotencyConflictError, match=first):
        sample(shots=20)
    assert [job.job_id() for job in service.jobs(limit=None, tags=[unique])] == [first]
