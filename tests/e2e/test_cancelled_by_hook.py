"""`cancel_jobs`, the hook: it runs in another process, and finds the jobs of a flow run by what is written down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from typing import Any
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from pydantic import SecretStr

from prefect_runtime import (
    RuntimeCredentials,
    cancel_jobs,
    iter_results,
    run_program,
    stream_results,
    wait_for_final_state,
    wait_for_jobs,
)
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import JobTimeoutError

from .proxy import Proxy
from .support import card_fields, cards, eventually, jobs_of, log_lines, nothing_is_written, run_id, shown
from .ways import SLEEPS

Upload = Callable[..., str]


def read(flow_run_id: UUID) -> FlowRun:
    with get_client(sync_client=True) as client:
        return client.read_flow_run(flow_run_id)


def hook(of: Any, flow_run_id: UUID) -> None:
    """Call the hook as Prefect's runner does."""
    flow_run = read(flow_run_id)
    assert flow_run.state is not None
    cancel_jobs(of, flow_run, flow_run.state)


def test_the_hook_cancels_the_jobs_of_a_flow_run_and_its_subflows_and_no_others(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(SLEEPS)

    @flow
    def child() -> UUID:
        run_program("local", program, {})
        from prefect.runtime import flow_run

        return UUID(flow_run.id)

    @flow
    def parent() -> UUID:
        run_program("local", program, {})
        return child()

    state = parent(return_state=True)
    own, below = jobs_of(service, run_id(state))
    other = service.run(program, {})
    eventually(nothing_is_written)  # the hook is of another process: this one has ended by then
    try:
        hook(child, state.result())
        assert service.job(below).status() is JobStatus.CANCELLED
        assert not service.job(own).status().is_final, "the subflow's hook is for the subflow"
        hook(parent, run_id(state))
        assert service.job(own).status() is JobStatus.CANCELLED
        assert log_lines(run_id(state), until=f"Job {own}: its flow run is over, now ")
        (card,) = cards(run_id(state))
        assert shown(card)["Status"].endswith("CANCELLED")
        assert card_fields(run_id(state))["failure_delivered"], "who runs it again wants another job"
        hook(parent, run_id(state))  # again: nothing is left to do
        assert not other.status().is_final
    finally:
        other.cancel()


@pytest.mark.pr
@pytest.mark.parametrize("missing", ["the job's id", "the card"])
def test_the_hook_finds_a_job_whose_id_no_card_has_by_its_tag(
    missing: str, upload: Upload, service: RuntimeService, proxy: Proxy, embedded: DiscoveryDocument
) -> None:
    program = upload(SLEEPS)
    there: dict[str, Any] = {"url": embedded.url, "token": SecretStr(embedded.token), "backend": "aer_simulator"}
    RuntimeCredentials(channel="classic", **there).save("of-the-hook", overwrite=True)
    without_card = missing == "the card"

    @flow
    def leaves_its_job() -> str:
        return run_program("local" if without_card else "of-the-hook", program, {})

    proxy.refuse("POST /api/artifacts/$" if without_card else "PATCH /api/artifacts/")
    state = leaves_its_job(return_state=True)
    eventually(nothing_is_written, seconds=30)
    proxy.pass_all()
    assert [(card.metadata_ or {}).get("job_id") for card in cards(run_id(state))] == ([] if without_card else [None])
    hook(leaves_its_job, run_id(state))
    assert service.job(state.result()).status() is JobStatus.CANCELLED


def test_a_job_to_be_kept_is_kept_though_two_blocks_are_of_its_server(
    upload: Upload, service: RuntimeService, embedded: DiscoveryDocument
) -> None:
    program = upload(SLEEPS)
    RuntimeCredentials(url=embedded.url, token=SecretStr(embedded.token)).save("same-server", overwrite=True)

    @flow
    def keeps() -> str:
        job_id = run_program("same-server", program, {})
        with pytest.raises(JobTimeoutError):
            wait_for_final_state("same-server", job_id, timeout=0.5, on_cancel="keep")
        return job_id

    state = keeps(return_state=True)
    job = service.job(state.result())
    try:
        hook(keeps, run_id(state))
        assert not job.status().is_final
    finally:
        job.cancel()


@pytest.mark.pr
@pytest.mark.parametrize("waits", ["for many", "for interim results", "for the first one"])
def test_a_job_to_be_kept_is_kept_whatever_waits_for_it(waits: str, upload: Upload, service: RuntimeService) -> None:
    program = upload(SLEEPS)

    @flow
    def keeps() -> str:
        job_id = run_program("local", program, {})
        with pytest.raises(JobTimeoutError):
            if waits == "for many":
                wait_for_jobs("local", [job_id], timeout=0.5, on_cancel="keep")
            elif waits == "for interim results":
                stream_results("local", job_id, timeout=0.5, on_cancel="keep")
            else:
                next(iter_results("local", job_id, timeout=0.5, on_cancel="keep"))
        return job_id

    state = keeps(return_state=True)
    job = service.job(state.result())
    try:
        hook(keeps, run_id(state))
        assert not job.status().is_final
    finally:
        job.cancel()


def test_the_hook_leaves_a_job_alone_that_another_flow_run_has_asked_for_since(
    upload: Upload, service: RuntimeService
) -> None:
    program, name = upload(SLEEPS), f"shared-{time.time_ns()}"

    @flow
    def asks() -> str:
        return run_program("local", program, {}, idempotency_key=name)

    first, second = asks(return_state=True), asks(return_state=True)
    assert first.result() == second.result()
    job = service.job(first.result())
    try:
        hook(asks, run_id(first))
        assert not job.status().is_final
        assert log_lines(run_id(first), until="another flow run has asked for it since")
    finally:
        job.cancel()


@pytest.mark.pr
def test_the_hook_uses_the_saved_block_and_names_the_jobs_of_credentials_that_never_were(
    upload: Upload, service: RuntimeService, embedded: DiscoveryDocument, caplog: pytest.LogCaptureFixture
) -> None:
    program = upload(SLEEPS)
    there: dict[str, Any] = {"url": embedded.url, "token": SecretStr(embedded.token), "backend": "aer_simulator"}
    RuntimeCredentials(channel="classic", **there).save("of-the-hook", overwrite=True)
    unsaved = RuntimeCredentials(channel="classic", **there)

    @flow
    def leaves_its_jobs() -> tuple[str, str]:
        return run_program("of-the-hook", program, {"number": 1}), run_program(unsaved, program, {"number": 2})

    state = leaves_its_jobs(return_state=True)
    known, unknown = state.result()
    try:
        names = {(card.metadata_ or {}).get("credentials") for card in cards(run_id(state))}
        assert names == {"of-the-hook", None}
        with caplog.at_level(logging.WARNING):
            hook(leaves_its_jobs, run_id(state))
        assert service.job(known).status() is JobStatus.CANCELLED
        (line,) = log_lines_with(run_id(state), "never saved as a block")
        assert unknown in line
        assert known not in line
        assert embedded.token not in str([card.model_dump() for card in cards(run_id(state))])
    finally:
        job = service.job(unknown)
        if not job.status().is_final:
            job.cancel()


def log_lines_with(flow_run_id: UUID, text: str) -> list[str]:
    return [line for line in log_lines(flow_run_id, until=text) if text in line]
