"""Tasks when a job fails, takes too long or cannot be had: what the flow run shows, what is left at the runtime."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from canaries.values import INPUTS
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import TaskRun
from prefect.states import State
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import (
    RuntimeCredentials,
    aexecute,
    execute,
    fetch_logs,
    fetch_result,
    job_status,
    retry_if_safe,
    run_program,
    run_sampler,
    stream_results,
    wait_for_final_state,
)
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.deferral import run_deferred
from prefect_runtime.wire.errors import (
    BackendNotFoundError,
    ConfigurationError,
    ConnectFailedError,
    JobTimeoutError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    RuntimeJobMaxTimeoutError,
    RuntimeJobNotFound,
    RuntimeProgramNotFound,
)

from .postgres import prefect_on_postgres
from .support import PUBLISHES, cards, eventually, free_port, jobs_of, run_id, shown, task_runs

Upload = Callable[..., str]


def task_run(flow_run: State[Any], name: str, *, of: int) -> TaskRun:
    """Return the one task run whose name begins so, of so many."""
    (found,) = [run for run in task_runs(run_id(flow_run), count=of) if run.name.startswith(name)]
    return found


def error_of(state: State[Any], kind: type[Exception]) -> Any:
    """Return the error that a flow run failed with."""
    assert state.is_failed()
    with pytest.raises(kind) as caught:
        state.result()
    return caught.value


@pytest.mark.parametrize("verb", [wait_for_final_state, fetch_result])
def test_a_failed_job_fails_the_task_once_with_the_programs_traceback(
    verb: Any, upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def failing() -> Any:
        return verb("local", run_program("local", program, {**INPUTS, "fail": True}))

    state = failing(return_state=True)
    assert state.name == "Failed"
    error = error_of(state, RuntimeJobFailureError)
    assert "ValueError: the program failed on purpose" in str(error)
    assert "Traceback (most recent call last)" in str(error)
    (job_id,) = jobs_of(service, run_id(state))
    assert error.job_id == job_id
    assert service.job(job_id).status() is JobStatus.ERROR
    run = task_run(state, "Wait" if verb is wait_for_final_state else "Fetch result", of=2)
    assert run.state is not None
    assert (run.state.name, run.run_count) == ("Failed", 1)


@pytest.mark.pr
def test_a_failed_job_need_not_raise(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def tolerant() -> tuple[JobStatus, str]:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        return wait_for_final_state("local", job_id, raise_on_failure=False), fetch_logs("local", job_id)

    state = tolerant(return_state=True)
    status, log = state.result()
    assert status is JobStatus.ERROR
    assert "hello from the program" in log
    (card,) = cards(run_id(state))
    assert shown(card)["Status"].endswith("ERROR")
    assert "failure_delivered" not in (card.metadata_ or {})


@pytest.mark.pr
def test_execute_fetches_the_log_of_a_failed_job(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def failing() -> Any:
        return execute("local", program, {"fail": True})

    state = failing(return_state=True)
    error_of(state, RuntimeJobFailureError)
    run = task_run(state, "Fetch log", of=3)
    assert run.state is not None and run.state.is_completed()


NUL = """
def main(backend, user_messenger):
    print("of the log\\x00")
    raise ValueError("the pulse \\x00 is odd")
"""


@pytest.mark.pr
def test_a_reason_that_postgresql_cannot_keep_fails_the_flow_run_all_the_same(upload: Upload, tmp_path: Path) -> None:
    @flow
    def fails() -> Any:
        return execute("local", upload(NUL), {})

    with prefect_on_postgres(tmp_path):
        state = fails(return_state=True)
        with get_client(sync_client=True) as client:
            kept = client.read_flow_run(run_id(state)).state
        (card,) = cards(run_id(state))
    assert kept is not None
    assert kept.is_failed()
    assert "the pulse \ufffd is odd" in str(kept.message)
    assert "the pulse \ufffd is odd" in shown(card)["Why"]
    assert "failure_delivered" in dict(card.metadata_ or {})


def test_a_wait_that_times_out_leaves_the_job_for_the_next_flow_run(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)
    took = []

    @flow
    def impatient() -> None:
        job_id = run_program("local", program, {**INPUTS, "count": 10, "pause": 0.5})
        began = time.monotonic()
        try:
            wait_for_final_state("local", job_id, timeout=1)
        finally:
            took.append(time.monotonic() - began)

    state = impatient(return_state=True)
    error = error_of(state, JobTimeoutError)
    assert 1 <= took[0] < 3, "the deadline, and what Prefect needs for a task; the job, below, is not yet over"
    run = task_run(state, "Wait", of=2)
    assert run.state is not None and run.state.is_failed()
    assert run.state.name == "TimedOut"
    (job_id,) = jobs_of(service, run_id(state))
    assert error.job_id == job_id
    assert not service.job(job_id).status().is_final

    @flow
    def patient() -> Any:
        wait_for_final_state("local", job_id)
        return fetch_result("local", job_id)

    assert patient()["count"] == 10
    assert jobs_of(service, run_id(state)) == [job_id]


@pytest.mark.parametrize("verb", [wait_for_final_state, fetch_result])
def test_a_timeout_cancels_the_job_if_asked_to(verb: Any, upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def strict() -> None:
        verb(
            "local",
            run_program("local", program, {**INPUTS, "count": 100, "pause": 0.1}),
            timeout=0.5,
            on_timeout="cancel",
        )

    state = strict(return_state=True)
    error = error_of(state, JobTimeoutError)
    (job_id,) = jobs_of(service, run_id(state))
    assert service.job(job_id).status() is JobStatus.CANCELLED
    (card,) = cards(run_id(state))
    assert shown(card)["Status"].endswith("CANCELLED")
    assert "left alone" not in str(error)


def test_streaming_that_times_out_leaves_the_job_alone(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def impatient() -> None:
        stream_results("local", run_program("local", program, {**INPUTS, "count": 100, "pause": 0.05}), timeout=0.5)

    state = impatient(return_state=True)
    error_of(state, JobTimeoutError)
    (job_id,) = jobs_of(service, run_id(state))
    job = service.job(job_id)
    assert not job.status().is_final
    job.cancel()


@pytest.mark.pr
def test_a_job_that_ran_too_long_says_so(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def slow() -> Any:
        job_id = run_program("local", program, {**INPUTS, "count": 100, "pause": 0.1}, max_execution_time=1)
        return fetch_result("local", job_id)

    error_of(slow(return_state=True), RuntimeJobMaxTimeoutError)


def test_a_cancelled_job_has_no_result(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def cancelled() -> Any:
        job_id = run_program("local", program, {**INPUTS, "count": 100, "pause": 0.1})
        service.job(job_id).cancel()  # somebody else
        return fetch_result("local", job_id)

    error_of(cancelled(return_state=True), RuntimeInvalidStateError)


def test_a_job_nobody_knows_is_an_error_of_every_task_that_asks() -> None:
    @flow
    def lost() -> list[str]:
        unbounded: list[Any] = [fetch_logs, job_status]
        bounded: list[Any] = [stream_results, wait_for_final_state, fetch_result]
        states = [task("local", "no-such-job", return_state=True) for task in unbounded]
        states += [task("local", "no-such-job", timeout=3, return_state=True) for task in bounded]
        return [type(state.result(raise_on_failure=False)).__name__ for state in states]

    assert lost() == [RuntimeJobNotFound.__name__] * 5


def test_what_cannot_work_is_refused_before_a_job_exists(bell: QuantumCircuit, service: RuntimeService) -> None:
    calls: list[tuple[Callable[[], Any], type[Exception], str]] = [
        (lambda: run_program("local", "no-such-program", {}), RuntimeProgramNotFound, "no-such-program"),
        (lambda: run_sampler("local", [bell], backend="nowhere"), BackendNotFoundError, "nowhere"),
        (lambda: run_sampler("local", []), ConfigurationError, "pubs"),
        (lambda: run_sampler("local", [bell], shots=0), ConfigurationError, "shots"),
        (lambda: run_sampler("local", [bell], tags=["x"] * 5), ConfigurationError, "tags"),
        (lambda: run_sampler("local", [bell], on_existing="retry"), ConfigurationError, "on_existing"),  # type: ignore[arg-type]
        (lambda: run_program("local", "sampler", {}, options={"colour": 1}), ConfigurationError, "options"),
        (lambda: wait_for_final_state("local", "x", on_timeout="stop"), ConfigurationError, "on_timeout"),  # type: ignore[arg-type]
        (lambda: wait_for_final_state("local", "x", timeout=-1), ConfigurationError, "timeout"),
        (lambda: fetch_result("local", "x", decoder="no_such_module:Class"), ConfigurationError, "decoder"),
        # What could not be waited for, or not be fetched then: known before the job is, not hours after it.
        (lambda: execute("local", "sampler", [bell], on_timeout="stop"), ConfigurationError, "on_timeout"),  # type: ignore[arg-type]
        (lambda: execute("local", "sampler", [bell], timeout=-1), ConfigurationError, "timeout"),
        (lambda: execute("local", "sampler", [bell], decoder="no_such_module:Class"), ConfigurationError, "decoder"),
        (lambda: execute("local", "sampler", [bell], decoder=object), ConfigurationError, "decoder"),  # type: ignore[arg-type]
        (lambda: asyncio.run(aexecute("local", "sampler", [bell], decoder=5)), ConfigurationError, "decoder"),  # type: ignore[arg-type]
        (lambda: asyncio.run(aexecute("local", "sampler", [bell], wait=-1)), ConfigurationError, "wait"),
        (lambda: asyncio.run(aexecute("local", "sampler", [bell], decoder="nowhere")), ConfigurationError, "decoder"),
        (lambda: run_deferred("local", "sampler", [bell], decoder="nowhere"), ConfigurationError, "decoder"),
    ]

    @flow
    def refused() -> None:
        for call, kind, named in calls:
            with pytest.raises(kind, match=named):
                call()

    state = refused(return_state=True)
    state.result()
    assert jobs_of(service, run_id(state)) == []


def test_a_task_retry_does_not_repeat_a_job_that_failed(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)
    retries: dict[str, Any] = {"retries": 2, "retry_condition_fn": retry_if_safe}

    @flow
    def failing() -> None:
        job_id = run_program.with_options(**retries)("local", program, {**INPUTS, "fail": True})
        fetch_result.with_options(**retries)("local", job_id)

    state = failing(return_state=True)
    error_of(state, RuntimeJobFailureError)
    assert len(jobs_of(service, run_id(state))) == 1
    assert task_run(state, "Fetch result", of=2).run_count == 1


@pytest.mark.pr
def test_a_task_retry_repeats_what_is_safe_to_repeat(bell: QuantumCircuit) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    block = RuntimeCredentials(url=nobody, token=SecretStr("a-token"), request_timeout_seconds=0.5)

    @flow
    def unreachable() -> None:
        run_sampler.with_options(retries=1, retry_condition_fn=retry_if_safe)(block, [bell])

    state = unreachable(return_state=True)
    error_of(state, ConnectFailedError)
    assert task_run(state, "Run sampler", of=1).run_count == 2


@pytest.mark.pr
def test_a_run_task_that_is_retried_attaches_to_the_job_it_has_made(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    class FullDisk(logging.Filter):
        """Fails the first time that a job is said to be known: it is made, and nothing else has been done."""

        failed = False

        def filter(self, record: logging.LogRecord) -> bool:
            if "submitted" in record.getMessage() and not self.failed:
                self.failed = True
                raise OSError("no space left")
            return True

    @flow
    def forgetful() -> str:
        return run_sampler.with_options(retries=1)("local", [bell], shots=10)

    logger, fault = logging.getLogger("prefect.task_runs"), FullDisk()
    logger.addFilter(fault)
    try:
        state = forgetful(return_state=True)
    finally:
        logger.removeFilter(fault)
    assert jobs_of(service, run_id(state)) == [state.result()]
    assert eventually(lambda: task_run(state, "Run sampler", of=1)).run_count == 2
    (card,) = cards(run_id(state))
    assert (card.metadata_ or {})["job_id"] == state.result()
    assert (card.metadata_ or {})["attached"] == "yes"


def test_two_equal_calls_under_two_keys_are_two_jobs(bell: QuantumCircuit, service: RuntimeService) -> None:
    unique = str(time.time_ns())

    @flow
    def twice() -> list[str]:
        return [
            run_sampler("local", [bell], shots=10, idempotency_key=f"{name}-{unique}") for name in ("first", "second")
        ]

    state = twice(return_state=True)
    assert len(set(state.result())) == 2
    assert jobs_of(service, run_id(state)) == state.result()
