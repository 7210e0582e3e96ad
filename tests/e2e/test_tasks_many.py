"""Waiting for many jobs in one task or in a flow's body; interim results as an iterator."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from canaries.values import INPUTS
from prefect import flow

from prefect_runtime import as_completed, iter_results, run_program, wait_for_jobs
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, RuntimeJobFailureError

from .support import PUBLISHES, artifacts, jobs_of, log_lines, run_id, task_runs

Upload = Callable[..., str]


def test_many_jobs_are_waited_for_in_one_task_with_one_progress_artifact(upload: Upload) -> None:
    program = upload(PUBLISHES)
    told: list[tuple[int, int, str, JobStatus]] = []

    @flow
    def many() -> dict[str, JobStatus]:
        ids = [run_program("local", program, {**INPUTS, "count": count}) for count in range(4)]
        return wait_for_jobs("local", [*ids, ids[0]], on_progress=lambda *news: told.append(news))

    state = many(return_state=True)
    statuses = state.result()
    assert list(statuses.values()) == [JobStatus.DONE] * 4
    assert [(done, total) for done, total, _, _ in told] == [(1, 4), (2, 4), (3, 4), (4, 4)]
    assert {job_id for _, _, job_id, _ in told} == set(statuses)
    (progress,) = [artifact for artifact in artifacts(run_id(state)) if artifact.type == "progress"]
    assert progress.data == 100.0
    assert progress.description == "4 of 4 jobs are final"
    assert len([run for run in task_runs(run_id(state), count=5) if run.name.startswith("Wait for jobs")]) == 1
    assert any("(4 of 4)" in line for line in log_lines(run_id(state), until="(4 of 4)"))


@pytest.mark.pr
def test_jobs_that_failed_are_named_when_all_are_final_and_a_retry_makes_them_anew(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow(retries=1)
    def many() -> dict[str, JobStatus]:
        ids = [run_program("local", program, {**INPUTS, "count": 1, "fail": fail}) for fail in (False, True)]
        return wait_for_jobs("local", ids)

    state = many(return_state=True)
    with pytest.raises(RuntimeJobFailureError, match="1 of 2 jobs did not end well") as caught:
        state.result()
    jobs = {job: service.job(job).status() for job in jobs_of(service, run_id(state))}
    assert sorted(status.name for status in jobs.values()) == ["DONE", "ERROR", "ERROR"]
    assert jobs[str(caught.value.job_id)] is JobStatus.ERROR


@pytest.mark.pr
def test_jobs_come_in_the_order_in_which_they_end_and_a_timeout_names_those_that_did_not(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def first_ones() -> list[tuple[str, JobStatus]]:
        slow = run_program("local", program, {**INPUTS, "count": 300, "pause": 0.1})
        quick = run_program("local", program, {**INPUTS, "count": 1})
        got: list[tuple[str, JobStatus]] = []
        with pytest.raises(JobTimeoutError, match=slow):
            for job_id, status in as_completed("local", [slow, quick], timeout=3):
                got.append((job_id, status))
        for job_id, status in as_completed("local", [quick]):
            got.append((job_id, status))
        with RuntimeService() as runtime:
            assert not runtime.job(slow).status().is_final
            runtime.job(slow).cancel()
        return got

    got = first_ones()
    assert [status for _, status in got] == [JobStatus.DONE] * 2
    assert got[0][0] == got[1][0]


def test_interim_results_are_iterated_over_while_they_come(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def numbers() -> list[Any]:
        job_id = run_program("local", program, {**INPUTS, "count": 5, "pause": 0.02})
        return [*iter_results("local", job_id, timeout=30)]

    assert numbers() == [{"number": number} for number in range(5)]


@pytest.mark.parametrize("wrong", ["an-id", [""], [1]])
def test_what_is_no_list_of_ids_is_refused(wrong: Any) -> None:
    with pytest.raises(ConfigurationError, match="job_ids"):
        next(as_completed("local", wrong))


def test_jobs_may_be_waited_for_in_a_thread_of_ones_own(upload: Upload) -> None:
    program, came = upload(PUBLISHES), list[tuple[str, JobStatus]]()

    @flow
    def beside() -> str:
        job_id = run_program("local", program, {**INPUTS, "count": 1})
        thread = threading.Thread(target=lambda: came.extend(as_completed("local", [job_id])))
        thread.start()
        thread.join()
        return job_id

    assert came == [(beside(), JobStatus.DONE)]
