"""Tasks of a user's own around ours: their retry is the same requests once more, not other ones."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from canaries.values import INPUTS
from prefect import flow, task
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import execute, run_program, run_sampler
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import RuntimeJobFailureError

from .support import PUBLISHES, cards, execute_again, jobs_of, run_id

Upload = Callable[..., str]


class LaterStepError(Exception):
    """What went wrong after the jobs were submitted."""


@pytest.mark.pr
def test_a_task_of_ones_own_that_is_retried_finds_its_jobs(bell: QuantumCircuit, service: RuntimeService) -> None:
    tries = []

    @flow(name="within")
    def within() -> str:
        return run_sampler("local", [bell], shots=10)

    @task(retries=2)
    def measure() -> list[str]:
        direct = [run_sampler("local", [bell], shots=10) for _ in range(2)]
        jobs = [*direct, run_sampler.submit("local", [bell], shots=10).result(), within()]
        tries.append(jobs)
        if len(tries) < 3:
            raise LaterStepError
        return jobs

    @flow
    def sample() -> list[str]:
        return measure()

    state = sample(return_state=True)
    assert len(tries) == 3
    assert tries[0] == tries[1] == tries[2] == state.result()
    assert sorted(jobs_of(service, run_id(state))) == sorted(state.result())
    assert len(set(state.result())) == 4


@pytest.mark.pr
@pytest.mark.parametrize("make_runner", [ThreadPoolTaskRunner, ProcessPoolTaskRunner])
def test_equal_tasks_at_once_that_are_all_retried_and_run_again_keep_their_jobs(
    make_runner: Any, bell: QuantumCircuit, service: RuntimeService
) -> None:
    broken = True

    @task(retries=1)
    def measure(number: int) -> str:
        from prefect.runtime import task_run

        job_id = run_sampler("local", [bell], shots=10)
        if task_run.run_count < 2:
            raise LaterStepError
        return job_id

    @flow(task_runner=make_runner(max_workers=2))
    def sample() -> list[str]:
        jobs = measure.map([1, 2, 3, 4]).result()
        if broken:
            raise LaterStepError
        return jobs

    state = sample(return_state=True)
    jobs = jobs_of(service, run_id(state))
    assert len(set(jobs)) == len(jobs) == 4
    broken = False
    assert sorted(execute_again(sample, run_id(state)).result()) == sorted(jobs)
    assert sorted(jobs_of(service, run_id(state))) == sorted(jobs)


@pytest.mark.pr
def test_a_retry_after_a_job_that_failed_makes_another_job(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @task(retries=1)
    def measure() -> Any:
        return execute("local", program, {"fail": True})

    @flow
    def sample() -> Any:
        return measure()

    state = sample(return_state=True)
    with pytest.raises(RuntimeJobFailureError):
        state.result()
    assert len(jobs_of(service, run_id(state))) == 2
    assert {(card.metadata_ or {})["generation"] for card in cards(run_id(state))} == {"0", "1"}


@pytest.mark.pr
def test_a_retry_before_the_failure_was_delivered_finds_the_job_that_failed(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)
    tries = []

    @task(retries=1)
    def measure() -> str:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        tries.append(job_id)
        if len(tries) < 2:
            raise LaterStepError
        return job_id

    @flow
    def sample() -> str:
        return measure()

    state = sample(return_state=True)
    assert tries == [state.result()] * 2
    assert jobs_of(service, run_id(state)) == [state.result()]
