"""`prefect-runtime reap` finds jobs that go on after their flow run, and leaves all others alone."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.states import Cancelled

from prefect_runtime import run_program
from prefect_runtime.client import JobStatus, RuntimeService

from .support import PUBLISHES, card_fields, cards, free_port, jobs_of, run_id

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


@pytest.mark.pr
def test_an_adopted_job_goes_on_and_its_card_says_so(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def leaves_its_job() -> str:
        return run_program("local", program, LONG)

    state = leaves_its_job(return_state=True)
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(run_id(state), Cancelled(), force=True)
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
