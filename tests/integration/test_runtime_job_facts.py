"""RuntimeJob against its contract, the Qiskit runtime's own: signature, attributes, decoders, and what it refuses."""

from __future__ import annotations

import datetime as dt
import inspect
import pickle
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN
from qiskit import QuantumCircuit
from qiskit.transpiler import generate_preset_pass_manager

from prefect_runtime.client import Credentials, ResultDecoder, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.wire.errors import (
    ResultLostError,
    RuntimeJobNotFound,
)

from .programs import ECHO
from .support import http_server, job_document

Run = Callable[..., RuntimeJob]
EMPTY = inspect.Parameter.empty


# Signatures


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (
            RuntimeJob.__init__,
            [
                ("backend", EMPTY),
                ("api_client", EMPTY),
                ("credentials", EMPTY),
                ("job_id", EMPTY),
                ("program_id", EMPTY),
                ("params", None),
                ("creation_date", None),
                ("user_callback", None),
                ("result_decoder", ResultDecoder),
            ],
        ),
        (RuntimeJob.result, [("timeout", None), ("wait", 5), ("decoder", None)]),
        (RuntimeJob.wait_for_final_state, [("timeout", None), ("wait", 5)]),
        (RuntimeJob.stream_results, [("callback", EMPTY), ("decoder", None)]),
        (RuntimeJob.cancel, []),
        (RuntimeJob.cancel_result_streaming, []),
        (RuntimeJob.logs, []),
        (RuntimeJob.status, []),
        (RuntimeJob.job_id, []),
        (RuntimeJob.backend, []),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_signature_is_the_seeds(method: Callable[..., Any], expected: list[tuple[str, Any]]) -> None:
    positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD,)
    parameters = list(inspect.signature(method).parameters.values())[1:]
    assert [(p.name, p.default) for p in parameters if p.kind in positional] == expected
    assert all(p.kind is p.KEYWORD_ONLY and p.default is not EMPTY for p in parameters[len(expected) :])


@pytest.mark.parametrize("name", ["creation_date", "inputs", "program_id"])
def test_attribute_is_a_read_only_property(name: str, service: RuntimeService) -> None:
    assert isinstance(getattr(RuntimeJob, name), property)
    with pytest.raises(AttributeError):
        setattr(service.handle("any"), name, "other")


# What it is


def test_a_job_found_by_its_id_has_inputs_program_and_backend_back(run: Run, service: RuntimeService) -> None:
    inputs = {"value": {"z": 3 - 1j, "list": [1, 2.5, None], "text": "é"}}
    made = run(ECHO, inputs, backend="generic_5q")
    found = service.job(made.job_id())
    assert found.job_id() == made.job_id()
    assert found.inputs == made.inputs == inputs
    assert found.program_id == made.program_id
    assert found.backend().name == made.backend().name == "generic_5q"
    assert found.result() == inputs["value"]


def test_a_circuit_among_the_inputs_comes_back_as_a_circuit(run: Run, service: RuntimeService) -> None:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    job = run(ECHO, {"value": circuit})
    assert service.job(job.job_id()).inputs["value"] == circuit
    assert job.result() == circuit


def test_inputs_are_empty_when_params_is_none(service: RuntimeService) -> None:
    job = RuntimeJob(Backend("b"), service.client, service.credentials, "j", "p", params=None)
    assert job.inputs == {}


def test_backend_has_a_target_that_a_pass_manager_takes(run: Run, service: RuntimeService) -> None:
    backend = service.job(run(ECHO, {}, backend="generic_5q").job_id()).backend()
    assert isinstance(backend, Backend)
    circuit = QuantumCircuit(3)
    circuit.ccx(0, 1, 2)
    fitted = generate_preset_pass_manager(optimization_level=1, target=backend.target).run(circuit)
    assert fitted.num_qubits == 5
    assert set(fitted.count_ops()) <= set(backend.target.operation_names)


def test_a_job_nobody_made_is_not_found(service: RuntimeService) -> None:
    with pytest.raises(RuntimeJobNotFound, match="no-such-job") as caught:
        service.job("no-such-job")
    assert caught.value.job_id == "no-such-job"


@pytest.fixture
def other_zone(monkeypatch: pytest.MonkeyPatch) -> Iterator[dt.timezone]:
    """A local time 5 h 30 min ahead of UTC."""
    monkeypatch.setenv("TZ", "<+0530>-5:30")  # POSIX counts west of Greenwich as positive
    time.tzset()
    yield dt.timezone(dt.timedelta(hours=5, minutes=30))
    monkeypatch.undo()
    time.tzset()


@pytest.mark.parametrize(
    ("text", "utc"),
    [
        ("2021-10-04T13:52:09.456851Z", (13, 52, 9, 456851)),
        ("2021-10-04T13:52:09.456851", (13, 52, 9, 456851)),  # its documentation: "Job creation date, in UTC"
        ("2021-10-04T13:52:09+02:00", (11, 52, 9, 0)),
        ("2021-10-04T13:52:09.123456789Z", (13, 52, 9, 123456)),
    ],
)
def test_creation_date_is_aware_and_in_local_time(
    service: RuntimeService, other_zone: dt.timezone, text: str, utc: tuple[int, int, int, int]
) -> None:
    date = RuntimeJob(Backend("b"), service.client, service.credentials, "j", "p", creation_date=text).creation_date
    assert date is not None
    assert date == dt.datetime(2021, 10, 4, *utc, tzinfo=dt.UTC)
    assert date.utcoffset() == other_zone.utcoffset(None)


def test_creation_date_is_asked_for_when_it_was_not_given(run: Run, service: RuntimeService) -> None:
    before = dt.datetime.now(dt.UTC)
    job = service.handle(run().job_id())
    assert job.creation_date is not None
    assert abs(job.creation_date - before) < dt.timedelta(seconds=5)


def test_creation_date_is_none_if_the_server_has_none() -> None:
    with http_server(lambda *_: (200, job_document("j", "Queued", created=None))) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        job = RuntimeJob(Backend("b"), RuntimeClient(credentials), credentials, "j", "p")
        assert job.creation_date is None


def test_metrics_have_the_jobs_times_and_usage(run: Run) -> None:
    job = run()
    job.wait_for_final_state()
    times = job.metrics()["timestamps"]
    assert times["created"] <= times["running"] <= times["finished"]
    assert job.metrics()["usage"]["status"] == "complete"


def test_interim_results_stay_after_the_end_in_order(run: Run) -> None:
    job = run(inputs={"count": 4})
    job.wait_for_final_state()
    assert job.interim_results() == [{"number": number} for number in range(4)]
    assert job.interim_results(decoder=Upper)[0] == '{"NUMBER": 0}'


@pytest.mark.parametrize("kind", ["job", "service"])
def test_a_live_handle_cannot_be_pickled_and_says_what_to_hand_on(service: RuntimeService, kind: str) -> None:
    handle, hint = (service.handle("j"), "job_id()") if kind == "job" else (service, "block's name")
    with pytest.raises(TypeError) as caught:
        pickle.dumps(handle)
    assert hint in str(caught.value)


# Decoders


class Upper(ResultDecoder):
    """The text in capitals."""

    @classmethod
    def decode(cls, data: str) -> Any:
        return data.upper()


class Length(ResultDecoder):
    """How long the text is."""

    @classmethod
    def decode(cls, data: str) -> Any:
        return len(data)


class CountingTransport(Transport):
    """Counts requests by the last part of their path."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.counts: Counter[str] = Counter()

    def exchange(self, method: str, url: str, **options: Any) -> Answer:
        self.counts[url.rpartition("/")[2]] += 1
        return super().exchange(method, url, **options)


@pytest.fixture
def counted(run: Run, service: RuntimeService) -> Iterator[Callable[..., tuple[RuntimeJob, Counter[str]]]]:
    """Another handle of a job of ECHO, whose requests are counted."""
    transports: list[CountingTransport] = []

    def counted(value: Any, **arguments: Any) -> tuple[RuntimeJob, Counter[str]]:
        transports.append(CountingTransport(service.credentials))
        client = RuntimeClient(service.credentials, transport=transports[-1])
        job_id = run(ECHO, {"value": value}).job_id()
        job = RuntimeJob(Backend("b"), client, service.credentials, job_id, "p", **arguments)
        return job, transports[-1].counts

    yield counted
    for transport in transports:
        transport.close()


def test_the_argument_beats_the_constructor_and_that_the_default(
    counted: Callable[..., tuple[RuntimeJob, Counter[str]]],
) -> None:
    job, _ = counted("abc", result_decoder=Upper)
    assert job.result() == '"ABC"'
    assert job.result(decoder=Length) == 5
    assert job.result(decoder=ResultDecoder) == "abc"
    assert job.result() == '"ABC"'


@pytest.mark.parametrize("value", ["abc", None, [], 0])
def test_each_decoder_decodes_right_and_the_text_is_fetched_once(
    counted: Callable[..., tuple[RuntimeJob, Counter[str]]], value: Any
) -> None:
    job, counts = counted(value)
    assert isinstance(job.result(decoder=Upper), str)
    assert isinstance(job.result(decoder=Length), int)
    for _ in range(3):
        assert job.result() == value
    assert counts["results"] == 1


def test_run_hands_its_decoder_to_the_job(run: Run) -> None:
    assert run(ECHO, {"value": "abc"}, result_decoder=Upper).result() == '"ABC"'


def test_a_result_deleted_meanwhile_is_said_to_be_lost_or_not_found(run: Run, service: RuntimeService) -> None:
    job = run()
    job.wait_for_final_state()
    service.delete_job(job.job_id())
    with pytest.raises((RuntimeJobNotFound, ResultLostError), match=job.job_id()):
        job.result()
