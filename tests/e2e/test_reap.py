"""`prefect-runtime reap` finds jobs that go on after their flow run, and leaves all others alone."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import VariableCreate
from prefect.client.schemas.objects import State, StateType
from prefect.events import emit_event
from prefect.states import Crashed, Running

from prefect_runtime import run_program
from prefect_runtime.client import JobStatus, RuntimeService

from .support import PUBLISHES, card_fields, cards, claims, eventually, free_port, jobs_of, run_id

Upload = Callable[..., str]
LONG = {"count": 600, "pause": 0.1}


def reap(*arguments: str) -> tuple[int, str]:
    """Run the command; gives its exit code and what it printed."""
    command = [sys.executable, "-m", "prefect_runtime.cli", "reap", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, done.stdout + done.stderr


def test_a_job_whose_flow_run_is_over_is_listed_then_cancelled_and_others_are_left_alone(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def leaves_its_job() -> str:
        return run_program("local", program, LONG)

    state = leaves_its_job(return_state=True)
    orphan = state.result()
    unowned = service.run(program, LONG)  # submitted without a flow
    with get_client(sync_client=True) as client:
        running = client.create_flow_run(leaves_its_job)
    at_work = service.run(program, LONG, tags=[f"prt-run-{running.id}"])
    try:
        code, said = reap()
        assert code == 4
        assert orphan in said.replace("\n", "")
        assert unowned.job_id() not in said
        assert at_work.job_id() not in said
        assert service.job(orphan).status() is JobStatus.RUNNING or not service.job(orphan).status().is_final

        assert reap("--cancel")[0] == 0
        assert service.job(orphan).status() is JobStatus.CANCELLED
        assert not unowned.status().is_final
        assert not at_work.status().is_final
        assert reap()[0] == 0
        assert jobs_of(service, run_id(state)) == [orphan]
    finally:
        unowned.cancel()
        at_work.cancel()


def test_a_job_that_a_running_flow_run_has_attached_to_is_left_alone(upload: Upload, service: RuntimeService) -> None:
    program, name, said = upload(PUBLISHES), f"shared-{time.time_ns()}", []

    @flow
    def asks(*, look: bool) -> str:
        job_id = run_program("local", program, LONG, idempotency_key=name)
        if look:
            said.append(reap()[1])
        return job_id

    first, second = (asks(look=look, return_state=True) for look in (False, True))
    assert first.result() == second.result()
    assert first.result() not in said[0]
    try:
        assert first.result() in reap()[1].replace("\n", ""), "both are over now"
    finally:
        service.job(first.result()).cancel()


@pytest.mark.pr
def test_an_adopted_job_goes_on_and_its_card_says_so(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def leaves_its_job() -> str:
        return run_program("local", program, LONG)

    state = leaves_its_job(return_state=True)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id(state), Crashed(), force=True)
    orphan = service.job(state.result())
    try:
        assert reap("--adopt")[0] == 0
        assert not orphan.status().is_final
        assert card_fields(run_id(state))["job_id"] == orphan.job_id()
        (card,) = cards(run_id(state))
        assert "QUEUED" in str(card.data) or "RUNNING" in str(card.data)
    finally:
        orphan.cancel()


@pytest.mark.pr
def test_a_run_whose_worker_was_stopped_hard_and_the_claims_it_left_are_found(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def left_running() -> None:
        return None

    with get_client(sync_client=True) as client:
        silent, at_work, cancelling = (client.create_flow_run(left_running, state=Running()) for _ in range(3))
        client.set_flow_run_state(cancelling.id, State(type=StateType.CANCELLING), force=True)
        runs = {"silent": silent, "at work": at_work, "cancelling": cancelling}
        jobs = {name: service.run(program, LONG, tags=[f"prt-run-{run.id}"]) for name, run in runs.items()}
        for run, minutes in ((silent, 30), (at_work, 1)):
            said = {"prefect.resource.id": f"prefect.flow-run.{run.id}"}
            occurred = datetime.now(UTC) - timedelta(minutes=minutes)
            emit_event("prefect.flow-run.heartbeat", said, occurred=occurred)
        for run in (cancelling, at_work):
            value = {"claim": "a:1:1|b", "root_run": str(run.id)}
            client.create_variable(
                VariableCreate(name=f"prt1-of-{str(run.id)[:8]}", value=value, tags=["prefect-runtime"])
            )
    try:
        eventually(lambda: jobs["silent"].job_id() in reap("--silent-minutes", "10")[1], seconds=60)
        code, said_then = reap()
        assert code == 4
        assert jobs["silent"].job_id() not in said_then, "a run that is running is believed unless one asks"
        assert jobs["cancelling"].job_id() in said_then
        assert reap("--silent-minutes", "10", "--cancel")[0] == 0
        assert jobs["silent"].status() is JobStatus.CANCELLED
        assert jobs["cancelling"].status() is JobStatus.CANCELLED
        assert not jobs["at work"].status().is_final
        assert claims(cancelling.id) == []
        assert len(claims(at_work.id)) == 1
    finally:
        jobs["at work"].cancel()


@pytest.mark.pr
def test_a_block_that_is_not_there_and_an_api_that_does_not_answer_are_said_in_a_line(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code, said = reap("--block", "nobody-saved-this")
    assert code == 1
    assert "there is no saved block 'nobody-saved-this'" in said
    assert "Traceback" not in said
    monkeypatch.setenv("PREFECT_API_URL", f"http://127.0.0.1:{free_port()}/api")
    monkeypatch.setenv("PREFECT_CLIENT_MAX_RETRIES", "0")
    code, said = reap()
    assert code == 1
    assert "Prefect's API cannot be asked" in said
    assert "Traceback" not in said
