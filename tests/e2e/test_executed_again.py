"""A flow run executed again finds its jobs: after a failure, a crash, a lost answer, a suspension."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from canaries.values import INPUTS, PROXIES
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.exceptions import Pause
from prefect.flow_engine import run_flow
from prefect.flow_runs import suspend_flow_run
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, fetch_result, run_program, run_sampler, wait_for_final_state
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import RuntimeJobFailureError

from .proxy import Proxy
from .support import PUBLISHES, card_fields, cards, execute_again, jobs_of, log_lines, run_id, shown

Upload = Callable[..., str]


class LaterStepError(Exception):
    """What went wrong in the flow after the job was submitted."""


def test_a_flow_run_executed_again_attaches_to_its_job(bell: QuantumCircuit, service: RuntimeService) -> None:
    broken = True

    @flow
    def sample() -> Any:
        job_id = run_sampler("local", [bell], shots=10)
        if broken:
            raise LaterStepError
        return job_id, fetch_result("local", job_id)

    state = sample(return_state=True)
    assert state.is_failed()
    (job_id,) = jobs_of(service, run_id(state))
    broken = False
    again = execute_again(sample, run_id(state))
    assert run_id(again) == run_id(state)
    assert again.result()[0] == job_id
    assert jobs_of(service, run_id(state)) == [job_id]
    assert len(cards(run_id(state))) == 1
    assert log_lines(run_id(state), until=f"Job {job_id}: found on its card")


@pytest.mark.pr
def test_flow_retries_attach_too(bell: QuantumCircuit, service: RuntimeService) -> None:
    executions = []

    @flow(retries=2)
    def sample() -> str:
        executions.append(run_sampler("local", [bell], shots=10))
        if len(executions) < 3:
            raise LaterStepError
        return executions[-1]

    state = sample(return_state=True)
    assert executions == [state.result()] * 3
    assert jobs_of(service, run_id(state)) == [state.result()]


@pytest.mark.pr
def test_equal_requests_find_their_jobs_again_in_order_and_new_ones_come_after(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    count = 2

    @flow
    def sample() -> list[str]:
        ids = [run_sampler("local", [bell], shots=10) for _ in range(count)]
        if count == 2:
            raise LaterStepError
        return ids

    state = sample(return_state=True)
    first, second = jobs_of(service, run_id(state))
    count = 3
    again = execute_again(sample, run_id(state)).result()
    assert again[:2] == [first, second]
    assert jobs_of(service, run_id(state)) == [first, second, again[2]]


def test_on_existing_new_makes_another_job(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def sample() -> str:
        return run_sampler("local", [bell], shots=10, on_existing="new")

    state = sample(return_state=True)
    again = execute_again(sample, run_id(state))
    assert again.result() != state.result()
    assert jobs_of(service, run_id(state)) == [state.result(), again.result()]


CRASHES = """
import os, sys
from uuid import UUID
from prefect import flow
from prefect.runtime import flow_run
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from prefect_runtime import run_sampler
from e2e.support import execute_again

angle = Parameter("angle")
circuit = QuantumCircuit(1)
circuit.rx(angle, 0)
circuit.measure_all()

@flow
def sample():
    job_id = run_sampler("local", [(circuit, [0.1])], shots=10)
    print(flow_run.id, job_id, flush=True)
    if sys.argv[1] == "crash":
        os._exit(7)

if sys.argv[1] == "crash":
    sample()
else:
    execute_again(sample, UUID(sys.argv[2])).result()
"""


@pytest.mark.pr  # two processes; tests/reliability has more of this kind
def test_a_flow_run_whose_process_died_finds_its_job_in_another_process(
    tmp_path: Path, service: RuntimeService
) -> None:
    script = tmp_path / "crashes.py"
    script.write_text(CRASHES)
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])}

    def run(*arguments: str) -> tuple[int, list[str]]:
        command = [sys.executable, str(script), *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=60, check=False)
        return done.returncode, done.stdout.split()

    code, (flow_run_id, job_id) = run("crash")
    assert code == 7
    assert jobs_of(service, UUID(flow_run_id)) == [job_id]
    assert run("again", flow_run_id) == (0, [flow_run_id, job_id])
    assert jobs_of(service, UUID(flow_run_id)) == [job_id]


@pytest.mark.pr
def test_a_job_whose_id_could_not_be_written_down_is_found_by_its_tag(
    bell: QuantumCircuit, proxy: Proxy, service: RuntimeService, embedded: DiscoveryDocument
) -> None:
    # On the local channel the card comes with the id: see test_journal.py.
    there: dict[str, Any] = {"url": embedded.url, "token": SecretStr(embedded.token), "backend": "aer_simulator"}
    block = RuntimeCredentials(channel="classic", proxies=PROXIES, **there)

    @flow
    def sample() -> str:
        return run_sampler(block, [bell], shots=10)

    proxy.refuse("PATCH /api/artifacts/")
    state = sample(return_state=True)
    job_id = state.result()  # what the card says is nothing to fail for
    assert "job_id" not in card_fields(run_id(state))
    assert jobs_of(service, run_id(state)) == [job_id]
    proxy.pass_all()
    began = time.monotonic()
    again = execute_again(sample, run_id(state))
    assert again.result() == job_id
    assert time.monotonic() - began < 10
    assert jobs_of(service, run_id(state)) == [job_id]
    assert card_fields(run_id(state))["job_id"] == job_id


@pytest.mark.pr
def test_who_asks_for_something_else_when_executed_again_is_told_of_the_job_that_is_left(
    bell: QuantumCircuit, upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)
    executions = []

    @flow
    def forgetful() -> None:
        executions.append(1)
        done = run_sampler("local", [bell], shots=10)
        fetch_result("local", done)
        run_program("local", program, {**INPUTS, "count": 1, "pause": 30, "execution": len(executions)})
        raise LaterStepError

    state = forgetful(return_state=True)
    done, left = jobs_of(service, run_id(state))
    again = execute_again(forgetful, run_id(state))
    lines = log_lines(run_id(state), until="have not been asked for so far")
    warning = next(line for line in lines if "have not been asked for so far" in line)
    assert left in warning
    assert done not in warning
    for job_id in jobs_of(service, run_id(again))[1:]:
        service.job(job_id).cancel()


def test_a_failure_that_was_delivered_is_a_finished_request_and_the_next_execution_makes_a_new_job(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow
    def sample() -> Any:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        return fetch_result("local", job_id)

    state = sample(return_state=True)
    (first,) = jobs_of(service, run_id(state))
    assert card_fields(run_id(state))["failure_delivered"]
    again = execute_again(sample, run_id(state))
    with pytest.raises(RuntimeJobFailureError):
        again.result()
    assert len(jobs_of(service, run_id(state))) == 2
    execute_again(sample, run_id(state))
    jobs = jobs_of(service, run_id(state))
    assert len(jobs) == 3
    assert jobs[0] == first
    fields = [card.metadata_ or {} for card in cards(run_id(state))]
    assert {each["generation"]: each["job_id"] for each in fields} == {"0": jobs[0], "1": jobs[1], "2": jobs[2]}
    assert all(shown(card)["Status"].endswith("ERROR") for card in cards(run_id(state)))


@pytest.mark.pr
def test_a_failure_that_was_delivered_while_prefects_api_was_away_is_a_finished_request_for_a_retry(
    upload: Upload, proxy: Proxy, service: RuntimeService
) -> None:
    tries: list[str] = []

    @flow(retries=1)
    def fails() -> Any:
        tries.append("try")
        if len(tries) > 1:
            proxy.pass_all()
        job_id = run_program("local", upload(PUBLISHES), {**INPUTS, "count": 1, "fail": True})
        if len(tries) == 1:
            proxy.refuse("PATCH /api/artifacts")
        return fetch_result("local", job_id)

    state = fails(return_state=True)
    assert len(tries) == 2
    assert len(jobs_of(service, run_id(state))) == 2


@pytest.mark.parametrize("verb", [wait_for_final_state, fetch_result])
def test_a_job_that_was_cancelled_at_its_timeout_is_a_finished_request_for_a_retry(
    verb: Any, upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow(retries=1)
    def strict() -> None:
        job_id = run_program("local", program, {**INPUTS, "count": 100, "pause": 0.1})
        verb("local", job_id, timeout=0.5, on_timeout="cancel")

    state = strict(return_state=True)
    jobs = jobs_of(service, run_id(state))
    assert len(jobs) == 2
    assert all(service.job(job_id).status() is JobStatus.CANCELLED for job_id in jobs)


@pytest.mark.pr
def test_a_failure_that_nobody_was_told_is_what_the_next_execution_gets(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)
    broken = True

    @flow
    def sample() -> JobStatus:
        job_id = run_program("local", program, {**INPUTS, "fail": True})
        if broken:
            raise LaterStepError
        return wait_for_final_state("local", job_id, raise_on_failure=False)

    state = sample(return_state=True)
    (job_id,) = jobs_of(service, run_id(state))
    service.wait([job_id], timeout=20)
    broken = False
    assert execute_again(sample, run_id(state)).result() is JobStatus.ERROR
    assert jobs_of(service, run_id(state)) == [job_id]


@pytest.mark.parametrize(
    "child_fails",
    [pytest.param(False, id="after the subflow", marks=pytest.mark.pr), pytest.param(True, id="in the subflow")],
)
def test_a_subflows_job_is_found_when_the_parent_is_executed_again(
    child_fails: bool, bell: QuantumCircuit, service: RuntimeService
) -> None:
    broken = True

    @flow
    def child() -> str:
        job_id = run_sampler("local", [bell], shots=10)
        if broken and child_fails:
            raise LaterStepError
        return job_id

    @flow
    def parent() -> str:
        job_id = child()
        if broken:
            raise LaterStepError
        return job_id

    state = parent(return_state=True)
    (job_id,) = jobs_of(service, run_id(state))
    broken = False
    again = execute_again(parent, run_id(state))
    assert again.result() == job_id
    assert jobs_of(service, run_id(state)) == [job_id]


def test_a_flow_run_that_is_resumed_finds_its_job(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def suspends() -> str:
        job_id = run_sampler("local", [bell], shots=10)
        suspend_flow_run(timeout=None, key="once")
        return job_id

    with get_client(sync_client=True) as client:
        flow_id = client.create_flow(suspends)
        deployment_id = client.create_deployment(flow_id, "e2e-suspends")
        flow_run = client.create_flow_run_from_deployment(deployment_id)
        with pytest.raises(Pause):
            run_flow(suspends, flow_run=flow_run, return_type="state")
        (job_id,) = jobs_of(service, flow_run.id)
        client.resume_flow_run(flow_run.id)
        flow_run = client.read_flow_run(flow_run.id)
    state: Any = run_flow(suspends, flow_run=flow_run, return_type="state")
    assert jobs_of(service, flow_run.id) == [job_id]
    assert state.result() == job_id
