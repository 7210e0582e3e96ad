"""Each task in a flow against a real server and a real runtime, when nothing goes wrong."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from canaries.values import INPUTS
from prefect import flow
from qiskit import QuantumCircuit, qasm3, qpy
from qiskit.quantum_info import SparsePauliOp

from prefect_runtime import (
    RuntimeCredentials,
    cancel_job,
    execute,
    fetch_logs,
    fetch_result,
    job_status,
    run_estimator,
    run_program,
    run_sampler,
    stream_results,
    wait_for_final_state,
)
from prefect_runtime.client import JobStatus, ResultDecoder, RuntimeService

from .support import PUBLISHES, cards, eventually, jobs_of, run_id, task_runs

Upload = Callable[..., str]


class OnlyCount(ResultDecoder):
    """Decodes to one entry of the result."""

    @classmethod
    def decode(cls, data: str) -> Any:
        """Return the entry."""
        return ("only", super().decode(data)["count"])


def counts_of(result: Any) -> dict[str, int]:
    return dict(result[0].data.meas.get_counts())


def test_a_program_runs_with_one_task_per_verb(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow
    def every_verb() -> dict[str, Any]:
        job_id = run_program("local", program, {**INPUTS, "count": 2, "text": "ü"}, tags=["mine"])
        return {
            "id": job_id,
            "waited": wait_for_final_state("local", job_id),
            "status": job_status("local", job_id),
            "result": fetch_result("local", job_id),
            "log": fetch_logs("local", job_id),
        }

    state = every_verb(return_state=True)
    got = state.result()
    assert got["waited"] is got["status"] is JobStatus.DONE
    assert got["result"] == {"count": 2, "given": {"text": "ü"}}
    assert "hello from the program" in got["log"]
    assert jobs_of(service, run_id(state)) == [got["id"]]
    assert [job.job_id() for job in service.jobs(limit=None, tags=["mine"])] == [got["id"]]


@pytest.mark.pr
def test_task_run_names_say_which_job(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def named() -> str:
        job_id = run_program("local", program, {**INPUTS, "count": 1})
        stream_results("local", job_id)
        wait_for_final_state("local", job_id)
        fetch_result("local", job_id)
        fetch_logs("local", job_id)
        job_status("local", job_id)
        cancel_job("local", job_id)
        return job_id

    state = named(return_state=True)
    names = {run.name for run in task_runs(run_id(state), count=7)}
    where = f"{state.result()} on aer_simulator"
    verbs = ("Stream results of job", "Wait for job", "Fetch result of job", "Fetch log of job", "Status of job")
    assert names == {f"Run {program}", f"Cancel job {where}", *(f"{verb} {where}" for verb in verbs)}


def test_a_circuit_may_come_as_object_text_or_file(bell: QuantumCircuit, tmp_path: Path) -> None:
    text = qasm3.dumps(bell)
    (tmp_path / "bell.qasm").write_text(text)
    with (tmp_path / "bell.qpy").open("wb") as file:
        qpy.dump(bell, file)
    forms = [bell, text, str(tmp_path / "bell.qasm"), str(tmp_path / "bell.qpy")]

    @flow
    def sample() -> Any:
        return fetch_result("local", run_sampler("local", forms, shots=200))

    result = sample()
    assert len(result) == len(forms)
    for pub in result:
        counts = pub.data.meas.get_counts()
        assert set(counts) == {"00", "11"}
        assert sum(counts.values()) == 200


def test_the_estimator_estimates(bell: QuantumCircuit) -> None:
    bell.remove_final_measurements()
    observables = [SparsePauliOp("ZZ"), SparsePauliOp("XX"), SparsePauliOp("ZI")]

    @flow
    def estimate() -> Any:
        return fetch_result("local", run_estimator("local", [(bell, observables)], precision=0.02))

    assert estimate()[0].data.evs.tolist() == pytest.approx([1, 1, 0], abs=0.15)


def test_noisy_backends_get_a_transpiled_circuit_and_the_card_says_how(bell: QuantumCircuit) -> None:
    @flow
    def sample() -> Any:
        return fetch_result("local", run_sampler("local", [bell], shots=500, backend="generic_5q"))

    state = sample(return_state=True)
    counts = counts_of(state.result())
    assert counts.get("00", 0) + counts.get("11", 0) > 400
    (card,) = cards(run_id(state))
    fields = card.metadata_ or {}
    assert fields["requested_backend"] == fields["backend"] == "generic_5q"
    assert fields["transpiled"]


@pytest.mark.pr
def test_least_busy_is_chosen_and_written_down(bell: QuantumCircuit) -> None:
    @flow
    def sample() -> Any:
        return fetch_result("local", run_sampler("local", [bell], shots=10, backend="least_busy"))

    state = sample(return_state=True)
    assert sum(counts_of(state.result()).values()) == 10
    (card,) = cards(run_id(state))
    fields = card.metadata_ or {}
    assert (fields["requested_backend"], fields["backend"]) == ("least_busy", "aer_simulator")


def test_a_decoder_can_be_named(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def decode() -> tuple[Any, Any]:
        job_id = run_program("local", program, {**INPUTS, "count": 3})
        named = fetch_result("local", job_id, decoder=f"{__name__}:OnlyCount")
        return named, fetch_result("local", job_id, decoder=OnlyCount)

    assert decode() == (("only", 3), ("only", 3))


def test_every_interim_result_comes_once_and_in_order_also_after_the_end(upload: Upload) -> None:
    program = upload(PUBLISHES)

    @flow
    def stream() -> tuple[Any, JobStatus, Any]:
        job_id = run_program("local", program, {**INPUTS, "count": 20, "pause": 0.02})
        live = stream_results("local", job_id)
        return live, job_status("local", job_id), stream_results("local", job_id)

    live, status, late = stream()
    assert live == late == [{"number": number} for number in range(20)]
    assert status is JobStatus.DONE


def test_a_job_can_be_cancelled_and_its_status_is_what_the_runtime_says(
    upload: Upload, service: RuntimeService
) -> None:
    program = upload(PUBLISHES)

    @flow(persist_result=True)
    def cancel() -> tuple[str, list[JobStatus]]:
        job_id = run_program("local", program, {**INPUTS, "count": 100, "pause": 0.1})
        before = job_status("local", job_id)
        # Asked twice with the same arguments: a cache, which persist_result turns on, would say the same again.
        return job_id, [before, cancel_job("local", job_id), job_status("local", job_id), cancel_job("local", job_id)]

    job_id, statuses = cancel()
    assert not statuses[0].is_final
    assert statuses[1:] == [JobStatus.CANCELLED] * 3
    assert service.job(job_id).status() is JobStatus.CANCELLED


def test_execute_runs_waits_and_fetches_as_tasks_of_their_own(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def short() -> Any:
        return execute("local", "sampler", [bell], shots=100, backend="aer_simulator")

    state = short(return_state=True)
    assert sum(counts_of(state.result()).values()) == 100
    (job_id,) = jobs_of(service, run_id(state))
    names = [run.name for run in task_runs(run_id(state), count=4)]
    verbs = ("Wait for job", "Fetch result of job", "Fetch log of job")
    assert set(names) == {"Run sampler on aer_simulator", *(f"{verb} {job_id} on aer_simulator" for verb in verbs)}


def test_nothing_is_cached_where_a_flow_persists_results(upload: Upload, service: RuntimeService) -> None:
    program = upload(PUBLISHES)

    @flow(persist_result=True)
    def twice() -> list[str]:
        ids = [run_program("local", program, {**INPUTS, "count": 1}) for _ in range(2)]
        for _ in range(2):
            wait_for_final_state("local", ids[0])
            fetch_result("local", ids[0])
        return ids

    state = twice(return_state=True)
    first, second = state.result()
    assert jobs_of(service, run_id(state)) == [first, second]
    runs = task_runs(run_id(state), count=6)
    assert {run.state.name for run in runs if run.state} == {"Completed"}  # not "Cached"


@pytest.fixture(scope="module")
def saved_block(prefect_settings: None) -> str:
    """The name of a saved block that carries a tag."""
    RuntimeCredentials(tags=["from-the-saved-block"]).save("e2e-tasks", overwrite=True)
    return "e2e-tasks"


@pytest.mark.parametrize("form", ["object", "name"])
def test_credentials_may_be_a_block_or_its_name(
    form: str, saved_block: str, bell: QuantumCircuit, service: RuntimeService
) -> None:
    credentials = saved_block if form == "name" else RuntimeCredentials.load(saved_block)

    @flow
    def sample() -> tuple[str, Any]:
        job_id = run_sampler(credentials, [bell], shots=10)
        return job_id, fetch_result(credentials, job_id)

    job_id, result = sample()
    assert sum(counts_of(result).values()) == 10
    assert job_id in [job.job_id() for job in service.jobs(limit=None, tags=["from-the-saved-block"])]


# Prefect itself warns about each line of the log of a task without a flow.
@pytest.mark.filterwarnings("ignore:Logger .* attempted to send logs to the API without a flow run id:UserWarning")
def test_tasks_work_outside_of_a_flow_without_a_card(bell: QuantumCircuit, service: RuntimeService) -> None:
    job_id = run_sampler("local", [bell], shots=32, tags=["no-flow"])
    assert wait_for_final_state("local", job_id) is JobStatus.DONE
    assert sum(counts_of(fetch_result("local", job_id)).values()) == 32
    assert isinstance(fetch_logs("local", job_id), str)
    assert len(stream_results("local", job_id)) == 1
    assert [job.job_id() for job in service.jobs(limit=None, tags=["no-flow"])] == [job_id]
    assert not [tag for tag in eventually(lambda: service.client.job(job_id).tags) if tag.startswith("prt-run-")]
