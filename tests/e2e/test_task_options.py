"""Options that people give to our tasks, and what they put around them: effects counted at the runtime.

Elsewhere: retries with `retry_if_safe` (test_tasks_failing.py), `.submit` and `.map` (test_tasks_mapped.py), thread,
process and Dask runners (test_same_request_many_times.py), tasks of one's own around ours (test_tasks_around.py).
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from prefect import flow, task
from prefect.cache_policies import INPUTS
from prefect.task_runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner
from prefect.transactions import atransaction, transaction
from prefect_dask import DaskTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import (
    aopen_jobs,
    arun_program,
    await_for_final_state,
    cancel_on_rollback,
    execute,
    fetch_result,
    open_jobs,
    run_program,
    run_sampler,
    wait_for_final_state,
)
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.errors import ConfigurationError, RuntimeJobFailureError

from .support import PUBLISHES, eventually, jobs_of, log_lines, run_async, run_id, task_runs

Upload = Callable[..., str]


class LaterStepError(Exception):
    """What went wrong after the job was submitted."""


def test_the_state_can_be_had_instead_of_the_result(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def states() -> tuple[str, str, type]:
        submitted = run_program("local", program, {"fail": True}, return_state=True)
        failed = fetch_result("local", submitted.result(), return_state=True)
        return submitted.name, failed.name, type(failed.result(raise_on_failure=False))

    state = states(return_state=True)
    assert state.result() == ("Completed", "Failed", RuntimeJobFailureError)
    assert len(jobs_of(service, run_id(state))) == 1


def test_a_job_or_a_backend_of_the_wrong_type_is_refused_in_words(bell: QuantumCircuit) -> None:
    ids: Any = ["d1234567890123456789"]
    number: Any = 5

    @flow
    def mistaken() -> list[Any]:
        states = [
            wait_for_final_state("local", ids, return_state=True),
            fetch_result("local", ids, return_state=True),
            run_sampler("local", [bell], backend=number, return_state=True),
        ]
        return [state.result(raise_on_failure=False) for state in states]

    *waits, submission = mistaken()
    for error in waits:
        assert isinstance(error, ConfigurationError) and "Not the id of a job: ['d12345" in str(error)
    assert isinstance(submission, ConfigurationError) and str(submission).startswith("backend: must be a name")


def test_a_submission_that_a_user_caches_is_one_job_for_all_flow_runs(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)
    cached = run_program.with_options(cache_policy=INPUTS, persist_result=True)
    unique = time.time_ns()

    @flow
    def nightly() -> str:
        return cached("local", program, {"count": 1, "unique": unique})

    states = [nightly(return_state=True) for _ in range(2)]
    assert states[0].result() == states[1].result()
    assert [len(jobs_of(service, run_id(state))) for state in states] == [1, 0]
    assert task_runs(run_id(states[1]), count=1)[0].state_name == "Cached"


def dask() -> Any:
    """Return Dask's task runner, on a local cluster of processes."""
    return DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"})


@pytest.mark.pr
@pytest.mark.parametrize("make_runner", [ThreadPoolTaskRunner, ProcessPoolTaskRunner, dask])
def test_options_go_with_a_task_to_every_runner(
    make_runner: Any, bell: QuantumCircuit, service: RuntimeService
) -> None:
    @flow(task_runner=make_runner())
    def sample() -> tuple[list[int], list[Any]]:
        ids = run_sampler.with_options(name="mine", retries=1, tags=["chosen"]).map("local", [[bell]] * 3, shots=10)
        results = fetch_result.with_options(name="theirs").map("local", ids).result()
        waits = [wait_for_final_state.submit("local", job_id, return_state=False) for job_id in ids]
        return [sum(one[0].data.meas.get_counts().values()) for one in results], [wait.result() for wait in waits]

    state = sample(return_state=True)
    assert state.result() == ([10] * 3, [JobStatus.DONE] * 3)
    assert len(jobs_of(service, run_id(state))) == 3
    assert {"chosen"} in [set(run.tags) for run in task_runs(run_id(state), count=9)]


# Transactions


def test_a_transaction_that_fails_takes_its_job_with_it(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def reserve(fails: bool) -> None:
        with transaction():
            job_id = run_program("local", program, {"count": 100, "pause": 0.1, "fails": fails})
            cancel_on_rollback("local", job_id)
            if fails:
                raise LaterStepError

    statuses = []
    for fails in (True, False):
        state = reserve(fails, return_state=True)
        (job_id,) = jobs_of(service, run_id(state))
        statuses.append(service.job(job_id).status())
        assert isinstance(state.result(raise_on_failure=False), LaterStepError) is fails
    assert statuses[0] is JobStatus.CANCELLED
    assert statuses[1] is not JobStatus.CANCELLED
    service.job(job_id).cancel()


def test_a_job_that_is_final_stays_so_and_the_error_is_what_is_raised(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    async def reserve() -> None:
        async with atransaction():
            job_id = await arun_program("local", program, {"count": 1})
            cancel_on_rollback("local", job_id)
            await await_for_final_state("local", job_id)
            raise LaterStepError

    state = run_async(reserve(return_state=True))
    assert isinstance(state.result(raise_on_failure=False), LaterStepError)
    (job_id,) = jobs_of(service, run_id(state))
    assert service.job(job_id).status() is JobStatus.DONE


def test_a_job_that_cannot_be_cancelled_keeps_no_other_from_being_so(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def reserve() -> None:
        with transaction():
            for number in range(2):
                cancel_on_rollback("local", run_program("local", program, {"count": 600, "pause": 0.1, "n": number}))
            cancel_on_rollback("local", "no-such-job")
            raise LaterStepError

    state = reserve(return_state=True)
    assert isinstance(state.result(raise_on_failure=False), LaterStepError)
    statuses = [service.job(job_id).status() for job_id in jobs_of(service, run_id(state))]
    assert statuses == [JobStatus.CANCELLED] * 2
    (said,) = [line for line in log_lines(run_id(state), until="no-such-job") if "could not be cancelled" in line]
    assert said.startswith("Job no-such-job: could not be cancelled with its transaction")


def test_outside_of_a_transaction_it_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="transaction"):
        cancel_on_rollback("local", "some-job")


# No more than so many


@contextmanager
def most_open(service: RuntimeService, program_id: str) -> Iterator[list[int]]:
    """Count at the runtime how many jobs of a program are not final, again and again."""
    seen, done = list[int](), threading.Event()

    def count() -> None:
        while not done.wait(0.05):
            seen.append(len(service.jobs(limit=None, pending=True, program_id=program_id)))

    thread = threading.Thread(target=count)
    thread.start()
    try:
        yield seen
    finally:
        done.set()
        thread.join()


@pytest.mark.pr
def test_no_more_jobs_are_open_than_there_are_places(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES + "# of the limit\n")

    @task
    def measure(number: int, limit: int) -> Any:
        with open_jobs("e2e-backend", limit):
            return execute("local", program, {"count": 4, "pause": 0.1, "number": number})

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=6))
    def many(limit: int) -> int:
        return len(measure.map(list(range(6)), limit).result())

    with most_open(service, program) as seen:
        state = many(2, return_state=True)
        assert state.result() == len(jobs_of(service, run_id(state))) == 6
        assert 1 <= max(seen) <= 2
        three = [service.run(program, {"count": 100, "pause": 0.1, "number": number}) for number in range(3)]
        eventually(lambda: max(seen) == 3, what="the count of three where nobody asks for a place")
        for job in three:
            job.cancel()


def test_who_waits_for_a_place_too_long_is_told_and_has_made_no_job(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    async def two() -> None:
        async with aopen_jobs("e2e-taken", 1):
            with pytest.raises(TimeoutError):
                async with aopen_jobs("e2e-taken", 1, timeout=1):
                    await arun_program("local", program, {"count": 1})
        async with aopen_jobs("e2e-taken", 1, timeout=30):  # free again
            pass

    state = run_async(two(return_state=True))
    state.result()
    assert jobs_of(service, run_id(state)) == []


@pytest.mark.parametrize("limit", [0, -1, True, 1.5])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigurationError, match="limit"), open_jobs("anywhere", limit):
        pass
