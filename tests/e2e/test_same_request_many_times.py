"""Equal requests of one execution are as many jobs, however they run at once; also when the flow run is run again."""

from __future__ import annotations

from typing import Any

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.runtime import flow_run as current_flow_run
from prefect.states import Paused
from prefect.task_runners import ProcessPoolTaskRunner, TaskRunner, ThreadPoolTaskRunner
from prefect_dask import DaskTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import run_sampler
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import IdempotencyConflictError

from .support import claims, execute_again, jobs_of, run_id


class LaterStepError(Exception):
    """What went wrong in the flow after the jobs were submitted."""


def dask(_: int) -> TaskRunner[Any]:
    """Return Dask's task runner, on a local cluster of processes."""
    return DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"})


@pytest.mark.parametrize(
    ("make_runner", "count"),
    [
        pytest.param(ThreadPoolTaskRunner, 5, id="threads"),
        pytest.param(ThreadPoolTaskRunner, 20, id="threads-pr", marks=pytest.mark.pr),
        # Its processes import Prefect one after another.
        pytest.param(ProcessPoolTaskRunner, 20, id="processes-pr", marks=[pytest.mark.pr, pytest.mark.timeout(900)]),
        pytest.param(dask, 20, id="dask-pr", marks=pytest.mark.pr),
    ],
)
@pytest.mark.timeout(300)
def test_the_same_circuit_mapped_many_times_is_as_many_jobs_also_when_run_again(
    make_runner: Any, count: int, bell: QuantumCircuit, service: RuntimeService
) -> None:
    broken = True

    @flow(task_runner=make_runner(4))
    def sample() -> list[str]:
        futures = [run_sampler.submit("local", [bell], shots=10) for _ in range(count)]
        ids = [future.result() for future in futures]
        if broken:
            raise LaterStepError
        return ids

    state = sample(return_state=True)
    jobs = jobs_of(service, run_id(state))
    assert len(set(jobs)) == count

    broken = False
    again = execute_again(sample, run_id(state)).result()
    assert sorted(again) == sorted(jobs)
    assert sorted(jobs_of(service, run_id(state))) == sorted(jobs)
    assert claims(run_id(state)) == []


@pytest.mark.parametrize(
    ("count", "times"),
    [
        pytest.param(4, 1, id="small"),
        pytest.param(20, 10, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(900)]),
        pytest.param(20, 500, id="long", marks=[pytest.mark.long, pytest.mark.timeout(7200)]),
    ],
)
def test_of_different_circuits_under_one_key_one_is_a_job_and_the_others_are_refused(
    count: int, times: int, service: RuntimeService
) -> None:
    def circuit(angle: float) -> QuantumCircuit:
        made = QuantumCircuit(1)
        made.rx(angle, 0)
        made.measure_all()
        return made

    @flow
    def sample(key: str) -> list[Any]:
        pubs = [[circuit(0.1 * n)] for n in range(count)]
        futures = [run_sampler.submit("local", pub, shots=10, idempotency_key=key) for pub in pubs]
        return [future.result(raise_on_failure=False) for future in futures]

    for number in range(times):
        state = sample(f"one-{count}-{times}-{number}", return_state=True)
        outcomes = state.result(raise_on_failure=False)
        (job_id,) = jobs_of(service, run_id(state))
        assert outcomes.count(job_id) == 1
        assert [type(outcome) for outcome in outcomes].count(IdempotencyConflictError) == count - 1
        assert claims(run_id(state)) == []


@pytest.mark.pr
def test_two_equal_requests_of_a_subflow_are_two_jobs_though_its_parent_was_paused_in_between(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    @flow
    def within() -> list[str]:
        first = run_sampler("local", [bell], shots=10)
        with get_client(sync_client=True) as client:  # as a person does, on the parent's page
            parent = client.read_flow_run(current_flow_run.root_flow_run_id).id
            client.set_flow_run_state(parent, Paused(timeout_seconds=60))
            client.resume_flow_run(parent)
        return [first, run_sampler("local", [bell], shots=10)]

    @flow
    def sample() -> list[str]:
        return within()

    state = sample(return_state=True)
    assert jobs_of(service, run_id(state)) == state.result()
    assert len(set(state.result())) == 2
