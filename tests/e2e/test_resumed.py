"""A flow run that is suspended after its job failed, and resumed, has that one job: a resume is no retry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from canaries.values import INPUTS
from prefect import Flow, flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import suspend_flow_run

from prefect_runtime import fetch_result, run_program, wait_for_final_state
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.errors import RuntimeJobFailureError

from .support import PUBLISHES, card_fields, execute_again, jobs_of

Upload = Callable[..., str]

SIZES = pytest.mark.parametrize(
    "times",
    [
        pytest.param(2, id="pr", marks=pytest.mark.pr),
        pytest.param(20, id="long", marks=[pytest.mark.long, pytest.mark.timeout(600)]),
    ],
)


def execute(suspends: Flow[..., Any], flow_run: FlowRun) -> Any:
    """Execute a flow run that is scheduled or resumed; gives what it returns."""
    return run_flow(suspends, flow_run=flow_run, return_type="state").result()


def until_suspended(suspends: Flow[..., Any]) -> UUID:
    """Execute a new flow run until it is suspended: only one with a deployment can be."""
    with get_client(sync_client=True) as client:
        deployment_id = client.create_deployment(client.create_flow(suspends), "e2e-resumed")
        flow_run = client.create_flow_run_from_deployment(deployment_id)
        with pytest.raises(Pause):
            execute(suspends, flow_run)
    return flow_run.id


def resumed(suspends: Flow[..., Any], flow_run_id: UUID) -> Any:
    """Resume a flow run and execute it, as a worker does then; gives what it returns."""
    with get_client(sync_client=True) as client:
        client.resume_flow_run(flow_run_id)
        value = execute(suspends, client.read_flow_run(flow_run_id))
        assert client.read_flow_run(flow_run_id).run_count == 1
    return value


@SIZES
def test_a_failure_that_nobody_was_told_before_the_suspension_is_told_after_the_resume(
    times: int, upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def suspends() -> tuple[str, JobStatus]:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        suspend_flow_run(timeout=None, key="once")
        with pytest.raises(RuntimeJobFailureError, match="failed on purpose"):
            fetch_result("local", job_id)
        return job_id, wait_for_final_state("local", job_id, raise_on_failure=False)

    for _ in range(times):
        flow_run_id = until_suspended(suspends)
        (job_id,) = jobs_of(service, flow_run_id)
        service.wait([job_id], timeout=20)
        assert resumed(suspends, flow_run_id) == (job_id, JobStatus.ERROR)
        assert jobs_of(service, flow_run_id) == [job_id]
        assert card_fields(flow_run_id)["job_id"] == job_id


@SIZES
def test_a_failure_that_was_caught_before_the_suspension_makes_no_new_job_at_the_resume(
    times: int, upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def suspends() -> tuple[str, str]:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        with pytest.raises(RuntimeJobFailureError) as caught:
            wait_for_final_state("local", job_id)
        suspend_flow_run(timeout=None, key="once")
        return job_id, caught.value.message

    for _ in range(times):
        flow_run_id = until_suspended(suspends)
        (job_id,) = jobs_of(service, flow_run_id)
        assert card_fields(flow_run_id)["failure_delivered"]
        found, message = resumed(suspends, flow_run_id)
        assert jobs_of(service, flow_run_id) == [job_id]
        assert found == job_id
        assert "failed on purpose" in message
        # A retry is what asks for another job.
        execute_again(suspends, flow_run_id)
        assert len(jobs_of(service, flow_run_id)) == 2
