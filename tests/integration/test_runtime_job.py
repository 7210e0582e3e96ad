"""RuntimeJob against its contract, the Qiskit runtime's own: waiting, results, cancelling, logs."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN, INPUTS
from undisturbed import seconds_of, undisturbed

from prefect_runtime.client import Credentials, JobStatus, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import (
    ConfigurationError,
    JobTimeoutError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
)

from .programs import ECHO
from .support import alive, elapsed, eventually, http_server, job_document

Run = Callable[..., RuntimeJob]
Hold = Callable[..., tuple[RuntimeJob, Path]]


def test_result_is_what_the_program_returned(run: Run) -> None:
    given = {**INPUTS, "a": [1, {"b": None}]}
    assert run(inputs={"count": 2, **given}).result() == {"count": 2, "given": given}


def test_status_is_what_the_server_says_from_running_to_done(hold: Hold) -> None:
    job, gate = hold()
    eventually(lambda: job.status() is JobStatus.RUNNING)
    gate.touch()
    eventually(lambda: job.status() is JobStatus.DONE)


def test_status_of_a_failed_job_is_error(run: Run) -> None:
    job = run(inputs={"fail": True})
    eventually(lambda: job.status().is_final)
    assert job.status() is JobStatus.ERROR


@pytest.mark.parametrize("fail", [False, True])
def test_wait_returns_none_and_does_not_raise_for_a_failed_job(run: Run, fail: bool) -> None:
    job = run(inputs={"fail": fail})
    assert job.wait_for_final_state() is None  # type: ignore[func-returns-value]
    assert job.status() is (JobStatus.ERROR if fail else JobStatus.DONE)


@pytest.mark.alone
@pytest.mark.parametrize("wait", [0.1, 5, 60])
def test_timeout_is_exact_whatever_wait_is_and_the_job_goes_on(hold: Hold, wait: float) -> None:
    job, gate = hold()

    def wait_in_vain() -> None:
        with pytest.raises(JobTimeoutError) as caught:
            job.wait_for_final_state(timeout=1, wait=wait)
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.job_id == job.job_id()

    assert 1 <= undisturbed(lambda: seconds_of(wait_in_vain), below=1.2) < 1.2
    assert job.status() is JobStatus.RUNNING
    gate.touch()
    assert job.result(timeout=10, wait=wait) == "held"


@pytest.mark.alone
def test_result_with_a_timeout_gives_up_at_the_timeout(hold: Hold) -> None:
    job, _ = hold()

    def wait_in_vain() -> None:
        with pytest.raises(JobTimeoutError):
            job.result(timeout=0.3, wait=60)

    assert 0.3 <= undisturbed(lambda: seconds_of(wait_in_vain), below=0.5) < 0.5


def test_an_end_wakes_the_waiter_long_before_its_wait_is_over(hold: Hold) -> None:
    job, gate = hold()
    threading.Timer(0.5, gate.touch).start()
    seconds = elapsed()
    job.wait_for_final_state(timeout=20, wait=60)
    assert seconds() < 3


def test_timeout_zero_finds_a_finished_job_with_a_handle_that_never_polled(run: Run, service: RuntimeService) -> None:
    job = run()
    job.wait_for_final_state()
    fresh = service.handle(job.job_id())
    fresh.wait_for_final_state(timeout=0)
    assert fresh.result(timeout=0)["count"] == 3


def test_timeout_zero_on_a_running_job_raises_at_once(hold: Hold) -> None:
    job, _ = hold()
    eventually(lambda: job.status() is JobStatus.RUNNING)
    seconds = elapsed()
    with pytest.raises(JobTimeoutError, match="Running"):
        job.wait_for_final_state(timeout=0)
    assert seconds() < 0.5


def test_timeout_zero_asks_even_if_another_thread_waits_for_the_same_job() -> None:
    word, polled = "Queued", threading.Event()

    def answer(*_: Any) -> tuple[int, Any]:
        polled.set()
        return 200, job_document("j", word)

    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        client = RuntimeClient(credentials)
        first, second = (RuntimeJob(Backend("b"), client, credentials, "j", "p") for _ in range(2))
        other = threading.Thread(target=first.wait_for_final_state, kwargs={"timeout": 5})
        other.start()
        polled.wait(5)
        eventually(lambda: client.monitor._board.watches["j"].answers)  # the answer has been taken in
        word = "Completed"
        second.wait_for_final_state(timeout=0)
        other.join(10)


@pytest.mark.parametrize("bad", [-1, math.nan, math.inf, "1", True])
@pytest.mark.parametrize("name", ["timeout", "wait"])
def test_a_time_that_is_none_is_refused_and_named(run: Run, name: str, bad: Any) -> None:
    job = run()
    for call in (job.wait_for_final_state, job.result):
        with pytest.raises(ConfigurationError, match=f"^{name}:"):
            call(**{name: bad})


def test_the_seeds_own_sample_prints_the_reason_of_a_failure(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    job = run(inputs={"fail": True})
    try:
        job_result = job.result()  # It will block until the job finishes.
        print(f"The job finished with result {job_result}")
    except RuntimeJobFailureError as ex:
        print("Job failed!: {}".format(ex))  # noqa: UP032 - verbatim
    printed = capsys.readouterr().out
    assert printed.startswith("Job failed!: ")
    assert "ValueError: the program failed on purpose" in printed


def test_a_failure_carries_traceback_reason_and_job_id(run: Run) -> None:
    job = run(inputs={"fail": True})
    with pytest.raises(RuntimeJobFailureError) as caught:
        job.result()
    error = caught.value
    assert error.job_id == job.job_id()
    assert job.job_id() in str(error)
    assert error.reason.startswith("Traceback (most recent call last)")
    assert 'File "program.py"' in error.reason
    assert "worker.py" not in error.reason  # the author reads about the program, not about the runtime
    assert error.reason.strip().endswith("ValueError: the program failed on purpose")
    assert error.reason in str(error)
    assert job.error_message() == str(error)


def test_error_message_is_none_for_a_job_that_runs_or_is_done(hold: Hold) -> None:
    job, gate = hold()
    assert job.error_message() is None
    gate.touch()
    job.wait_for_final_state()
    assert job.error_message() is None


def test_cancel_ends_the_process_and_the_status_is_read_back(
    hold: Hold, service: RuntimeService, tmp_path: Path
) -> None:
    job, _ = hold()
    pid_file = tmp_path / "pid-1"
    eventually(pid_file.exists)
    pid = int(pid_file.read_text())
    assert alive([pid])
    assert job.cancel() is None  # type: ignore[func-returns-value]
    assert job.status() is JobStatus.CANCELLED
    assert service.job(job.job_id()).status() is JobStatus.CANCELLED
    assert not alive([pid])


def test_a_queued_job_that_is_cancelled_never_starts(hold: Hold, run: Run) -> None:
    holding = [hold() for _ in range(4)]  # more than there are slots on a small machine
    job = run()
    was = job.status()
    job.cancel()
    for _, gate in holding:
        gate.touch()
    for other, _ in holding:
        other.wait_for_final_state()
    assert job.status() is JobStatus.CANCELLED
    if was is JobStatus.QUEUED:
        assert job.logs() == ""


@pytest.mark.parametrize("polled", [True, False])
def test_cancel_of_a_finished_job_is_an_invalid_state(run: Run, service: RuntimeService, polled: bool) -> None:
    job = run()
    job.wait_for_final_state()
    if not polled:
        job = service.handle(job.job_id())
    with pytest.raises(RuntimeInvalidStateError, match=job.job_id()):
        job.cancel()
    assert job.status() is JobStatus.DONE


def test_a_cancelled_job_has_no_result(hold: Hold) -> None:
    job, _ = hold()
    job.cancel()
    job.wait_for_final_state()
    with pytest.raises(RuntimeInvalidStateError, match="cancelled"):
        job.result()


def test_a_cancel_that_loses_the_race_leaves_the_job_done() -> None:
    word = "Running"

    def answer(request: Any, _: bytes) -> tuple[int, Any]:
        nonlocal word
        if not request.path.endswith("/cancel"):
            return 200, job_document("j", word)
        word = "Completed"  # accepted, and finished all the same
        return 204, ""

    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        job = RuntimeJob(Backend("b"), RuntimeClient(credentials), credentials, "j", "p")
        job.cancel()
        assert job.status() is JobStatus.DONE


def test_a_cancel_whose_answer_was_lost_is_no_invalid_state() -> None:
    word, cancels = "Running", 0

    def answer(request: Any, _: bytes) -> tuple[int, Any] | None:
        nonlocal word, cancels
        if not request.path.endswith("/cancel"):
            return 200, job_document("j", word)
        cancels += 1
        if word == "Cancelled":
            return 409, {"error": {"message": "final already", "code": 409}}
        word = "Cancelled"
        return None  # done, but the answer never comes

    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        job = RuntimeJob(Backend("b"), RuntimeClient(credentials), credentials, "j", "p")
        job.cancel()
        assert job.status() is JobStatus.CANCELLED


def test_logs_have_standard_output_and_error(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    job = run(inputs={"fail": True})
    job.wait_for_final_state()
    with caplog.at_level(logging.WARNING):
        log = job.logs()
    assert "this is standard output\n" in log
    assert "this is standard error\n" in log
    assert "ValueError: the program failed on purpose" in log
    assert not caplog.records


def test_logs_before_the_end_warn_and_give_what_there_is(hold: Hold, caplog: pytest.LogCaptureFixture) -> None:
    job, _ = hold()
    with caplog.at_level(logging.WARNING):
        eventually(lambda: "holding" in job.logs())
    assert {record.levelno for record in caplog.records} == {logging.WARNING}
    assert job.job_id() in caplog.text


def test_result_without_json_form_of_its_own_survives(run: Run) -> None:
    value = {"z": 1 + 2j, "s": {1, 2}, "text": "é λ 🙂"}
    assert run(ECHO, {"value": value}).result() == value
