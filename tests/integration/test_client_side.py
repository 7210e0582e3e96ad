"""The client-side primitives: IBM's code builds the program, ours sends it, and any process reads the result."""

from __future__ import annotations

import json
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from prefect_runtime.client import RuntimeService
from prefect_runtime.client.circuits.executor_program import split_pubs
from prefect_runtime.wire import codec
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.errors import ConfigurationError, IdempotencyConflictError, ResultDecodeError

ibm = pytest.importorskip("qiskit_ibm_runtime", reason="needs prefect-runtime[ibm]")

pytestmark = [pytest.mark.timeout(180), pytest.mark.filterwarnings("ignore")]  # IBM's own

SHOTS = 1024


class Raw(ResultDecoder):
    """Gives the text of a result."""

    @classmethod
    def decode(cls, data: str) -> str:
        return data


@pytest.fixture(scope="module")
def client_side(runtime: Any) -> Iterator[RuntimeService]:
    with RuntimeService(runtime.credentials, backend="generic_5q", generation="client") as service:
        yield service


def bell(*, measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2, metadata={"mine": 1})
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def sample(service: RuntimeService, options: dict[str, Any], pubs: list[Any] | None = None) -> Any:
    return service.run("sampler", {"pubs": pubs or [[bell(), None, SHOTS]], "options": options})


def agreement(result: Any) -> float:
    counts = result[0].data.meas.get_counts()
    return float((counts.get("00", 0) + counts.get("11", 0)) / sum(counts.values()))


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({}, marks=pytest.mark.pr),
        {"twirling": {"enable_gates": True, "enable_measure": True, "num_randomizations": 8}},
        pytest.param({"dynamical_decoupling": {"enable": True, "sequence_type": "XY4"}}, marks=pytest.mark.pr),
    ],
    ids=["plain", "twirled", "decoupled"],
)
def test_the_sampler_samples(client_side: RuntimeService, options: dict[str, Any]) -> None:
    job = sample(client_side, options)
    result = job.result(timeout=60)
    assert result[0].data.meas.num_shots == SHOTS
    assert agreement(result) > 0.9  # a device's noise
    assert result[0].metadata["circuit_metadata"] == {"mine": 1}
    document = client_side.client.job(job.job_id())
    assert document.program_id == "executor"


@pytest.mark.parametrize(
    "options",
    [
        pytest.param({"resilience_level": 0}, marks=pytest.mark.pr),
        {"resilience_level": 0, "resilience": {"measure_mitigation": True}},
        pytest.param(
            {"resilience_level": 0, "resilience": {"zne_mitigation": True, "zne": {"noise_factors": [1, 3]}}},
            marks=pytest.mark.pr,
        ),
    ],
    ids=["plain", "TREX", "ZNE"],
)
def test_the_estimator_estimates(client_side: RuntimeService, options: dict[str, Any]) -> None:
    angle = Parameter("angle")
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    pubs = [[circuit, [["ZZ"], ["IZ"]], [[0.0], [1.0]], 0.03]]
    (pub,) = client_side.run("estimator", {"pubs": pubs, "options": options}).result(timeout=100)
    assert pub.data.evs.shape == (2, 2)
    assert abs(pub.data.evs - [[1.0, 1.0], [1.0, 0.5403]]).max() < 0.2


@pytest.mark.pr
def test_another_process_reads_the_result(runtime: Any, client_side: RuntimeService) -> None:
    job = sample(client_side, {"twirling": {"enable_gates": True, "num_randomizations": 4}})
    job.wait_for_final_state(timeout=60)
    code = (
        "import sys, json, warnings; warnings.simplefilter('ignore')\n"
        "from prefect_runtime.client import Credentials, RuntimeService\n"
        "url, token, job = json.load(sys.stdin)\n"
        "with RuntimeService(Credentials(url=url, token=token)) as service:\n"
        "    print(json.dumps(service.handle(job).result()[0].data.meas.get_counts()))\n"
    )
    given = json.dumps([runtime.found.url, runtime.found.token, job.job_id()])
    done = subprocess.run([sys.executable, "-c", code], input=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == job.result()[0].data.meas.get_counts()


@pytest.mark.pr
def test_what_is_sent_is_valid_under_ibms_schema_and_so_is_what_the_embedded_runtime_answers(
    client_side: RuntimeService,
) -> None:
    schema = pytest.importorskip("ibm_quantum_schemas.executor.version_2_0")
    job = sample(client_side, {})
    params = client_side.client.job(job.job_id(), with_params=True).inputs_json()
    model = schema.ParamsModel.model_validate_json(params)
    assert (model.quantum_program.shots, model.quantum_program.semantic_role) == (SHOTS, "sampler_v2")
    answer = schema.QuantumProgramResultModel.model_validate_json(job.result(timeout=60, decoder=Raw))
    (chunk,) = answer.metadata.chunk_timing
    assert [(part.idx_item, part.size) for part in chunk.parts] == [(0, 1)]


@pytest.mark.pr
def test_ibms_own_decoders_read_the_same(client_side: RuntimeService) -> None:
    from qiskit_ibm_runtime.decoders.defaults import DEFAULT_DECODERS

    job = sample(client_side, {})
    value: Any = job.result(timeout=60, decoder=Raw)
    for decoder in DEFAULT_DECODERS["executor"]:
        if decoder.is_applicable(value):
            value = decoder.decode(value)
    assert value[0].data.meas == job.result()[0].data.meas


def test_a_result_that_lies_about_itself_or_unpacks_to_too_much_is_a_decode_error(client_side: RuntimeService) -> None:
    text: str = sample(client_side, {}).result(timeout=60, decoder=Raw)
    value = json.loads(text)
    for broken in ({**value, "data": 5}, {**value, "passthrough_data": {}}, {**value, "schema_version": "v9"}):
        with pytest.raises(ResultDecodeError, match="cannot be put together"):
            ResultDecoder.decode(json.dumps(broken))
    value["data"][0]["results"]["meas"]["data"] = codec.pack(b"\0" * 2_000_000)

    class Small(ResultDecoder):
        max_bytes = 1_000_000

    with pytest.raises(ResultDecodeError, match="larger than"):
        Small.decode(json.dumps(value))


@pytest.mark.pr
def test_mixed_shots_are_refused_and_split_pubs_makes_groups_of_them(client_side: RuntimeService) -> None:
    pubs: list[Any] = [[bell(), None, 10], [bell(), None, 20], [bell(), None, 10], bell()]
    with pytest.raises(ConfigurationError, match=r"one number of shots a job, these have \[10, 20\]"):
        sample(client_side, {}, pubs[:3])
    groups = split_pubs("sampler", pubs, default=20)
    assert {shots: [place for place, _ in group] for shots, group in groups.items()} == {10: [0, 2], 20: [1, 3]}
    for shots, group in groups.items():
        options = {"default_shots": shots}
        result = sample(client_side, options, [pub for _, pub in group]).result(timeout=60)
        assert [pub.data.meas.num_shots for pub in result] == [shots] * 2
    estimator = [[bell(measured=False), "ZZ", None, 0.1], [bell(measured=False), "ZZ"]]
    assert list(split_pubs("estimator", estimator)) == [0.1, None]


def test_what_ibms_client_refuses_is_refused_without_the_value(client_side: RuntimeService) -> None:
    with pytest.raises(ConfigurationError, match=r"IBM's client refuses.*twirling") as caught:
        sample(client_side, {"twirling": {"enable_gates": "secret-value"}})
    assert "secret-value" not in str(caught.value)
    with pytest.raises(ConfigurationError, match="Extra inputs"):
        sample(client_side, {"no_such_option": 1})


def test_the_two_generations_are_two_requests_and_an_unknown_one_is_refused(
    runtime: Any, client_side: RuntimeService
) -> None:
    with pytest.raises(ConfigurationError, match="primitives"):
        RuntimeService(runtime.credentials, generation="third")  # type: ignore[arg-type]
    with RuntimeService(runtime.credentials, backend="generic_5q") as server_side:
        asked: dict[str, Any] = {"pubs": [bell()], "options": {}}
        server_side.run("sampler", asked, idempotency_key="one name for both")
        with pytest.raises(IdempotencyConflictError):
            client_side.run("sampler", asked, idempotency_key="one name for both")


def test_the_other_generation_is_not_yet_the_default_of_ibms_client() -> None:
    """When this fails, IBM's top-level primitives are the client-side ones: make `client` the default here too."""
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.executor_sampler import Sampler

    assert ibm.Sampler is ibm.SamplerV2 is not Sampler, "make primitives='client' the default, and widen the bound"
    assert ibm.Estimator is ibm.EstimatorV2 is not Estimator, (
        "make primitives='client' the default, and widen the bound"
    )


def test_the_version_of_ibms_package_is_bounded_by_the_minor_version_that_was_tried() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    minor = ".".join(ibm.__version__.split(".")[:2])
    (bound,) = project["optional-dependencies"]["ibm"]
    assert bound == f"qiskit-ibm-runtime>={minor},<0.{int(minor.split('.')[1]) + 1}"
