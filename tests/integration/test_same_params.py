"""The same PUBs through IBM's client and through ours: the same parameters on the wire, and equal results.

Between the clients and the embedded runtime's platform dialect stands a recorder, which passes every request on and
keeps the bodies of those that ask for a job: what is compared are bytes as they were sent.
"""

from __future__ import annotations

import base64
import http.client
import io
import json
import re
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister, qpy
from qiskit.circuit import Parameter, ParameterVector
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.local.platform import instance_crn

from .support import Answer, http_server

pytestmark = [
    pytest.mark.timeout(300),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # IBM's client deprecates its own primitives
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # its sessions stay open
]

Fit = Callable[[QuantumCircuit], QuantumCircuit]


@dataclass
class Recorder:
    """Passes requests on to a server, and keeps the bodies of those that ask for a job."""

    host: str
    bodies: list[bytes] = field(default_factory=list)

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        if request.command == "POST" and request.path.endswith("/jobs"):
            self.bodies.append(body)
        onward = http.client.HTTPConnection(self.host, timeout=60)
        kept = {name: value for name, value in request.headers.items() if name.lower() not in ("host", "connection")}
        onward.request(request.command, request.path, body or None, {**kept, "Host": self.host})
        answer = onward.getresponse()
        data = answer.read()
        onward.close()
        head = f"HTTP/1.1 {answer.status} {answer.reason}\r\nContent-Length: {len(data)}\r\nConnection: close\r\n"
        kind = answer.getheader("Content-Type")
        return (head + (f"Content-Type: {kind}\r\n" if kind else "") + "\r\n").encode() + data

    def params(self) -> bytes:
        """Return the parameters of the last job that was asked for, as they stand in its body, and forget it."""
        (body,) = self.bodies
        self.bodies.clear()
        text = body.decode()
        start = text.index('"params": ') + len('"params": ')
        value, end = json.JSONDecoder().raw_decode(text[start:])
        assert isinstance(value, dict)
        return text[start : start + end].encode()


@pytest.fixture(scope="module")
def recorder(runtime: Any) -> Iterator[Recorder]:
    recorder = Recorder(urlsplit(runtime.found.url).netloc)
    with http_server(recorder) as url:
        recorder.url = url  # type: ignore[attr-defined]
        yield recorder


@pytest.fixture(scope="module")
def ibm(runtime: Any, recorder: Any) -> Iterator[Any]:
    """IBM's client, unmodified, signed in through the recorder."""
    client = pytest.importorskip("qiskit_ibm_runtime")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IAM_URL", recorder.url)
        patch.setenv("GLOBAL_SEARCH_URL", recorder.url)
        patch.setenv("GLOBAL_CATALOG_URL", f"{recorder.url}/api/v1")
        client.service = client.QiskitRuntimeService(
            channel="ibm_quantum_platform",
            token=runtime.found.token,
            instance="auto",
            url=recorder.url,
            url_resolver=lambda given, *_: given + "/api/v1",
        )
        yield client
        del client.service


@pytest.fixture(scope="module")
def ours(runtime: Any, recorder: Any) -> Iterator[RuntimeService]:
    """Our client, as an account of the platform."""
    credentials = Credentials(
        channel="ibm_quantum_platform",
        token=runtime.found.token,
        url=f"{recorder.url}/api/v1",
        auth_url=recorder.url,
        instance=instance_crn(runtime.found.token),
    )
    with RuntimeService(credentials) as service:
        yield service


@dataclass
class PubSet:
    """PUBs for one of the primitives, made for a backend.

    Attributes:
        make: Returns the PUBs; its argument puts a circuit into the backend's terms.
        run: What is given to IBM's ``run()`` besides.
        options: The primitive's options, the same for both.
    """

    program: str
    backend: str
    make: Callable[[Fit], list[Any]]
    run: dict[str, Any] = field(default_factory=dict)
    options: dict[str, Any] = field(default_factory=dict)


def bell(fit: Fit) -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell")
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return fit(circuit)


def turned(fit: Fit, *, measured: bool) -> QuantumCircuit:
    theta = ParameterVector("theta", 2)
    circuit = QuantumCircuit(2, name="turned")
    circuit.ry(theta[0], 0)
    circuit.cx(0, 1)
    circuit.rz(theta[1], 1)
    if measured:
        circuit.measure_all()
    return fit(circuit)


def registers(fit: Fit) -> QuantumCircuit:
    """Three registers, one of them of nine bits: two bytes a shot."""
    low, high, wide = ClassicalRegister(1, "low"), ClassicalRegister(2, "high"), ClassicalRegister(9, "wide")
    circuit = QuantumCircuit(QuantumRegister(3, "q"), low, high, wide, name="registers")
    circuit.x(0)
    circuit.h(1)
    circuit.measure(0, low[0])
    circuit.measure([1, 2], high)
    circuit.measure(0, wide[8])
    return fit(circuit)


def in_the_middle(fit: Fit) -> QuantumCircuit:
    """A bit decides what happens next, and its qubit is used again."""
    circuit = QuantumCircuit(2, 2, name="in the middle")
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    circuit.reset(0)
    circuit.measure(1, 1)
    return fit(circuit)


def chain(fit: Fit, width: int = 127) -> QuantumCircuit:
    """As wide as the backend; what is idle costs nothing to simulate."""
    circuit = QuantumCircuit(width, 8, name="wide")
    circuit.h(0)
    circuit.x(range(7, width, 18))
    circuit.measure([0, *range(7, width, 18)], range(8))
    return fit(circuit)


def laid_out(circuit: QuantumCircuit, *labels: Any) -> list[SparsePauliOp]:
    return [SparsePauliOp(label).apply_layout(circuit.layout) for label in labels]


def with_observables(fit: Fit) -> list[Any]:
    circuit = turned(fit, measured=False)
    one = SparsePauliOp(["ZZ", "XI", "IY"], [0.5, -1.25, 2]).apply_layout(circuit.layout)
    return [(circuit, [one, *laid_out(circuit, "ZI")], [0.3, 0.7])]


def broadcast_observables(fit: Fit) -> list[Any]:
    circuit = turned(fit, measured=False)
    rows = [[one] for one in laid_out(circuit, "ZZ", "ZI", "IX")]
    return [(circuit, rows, np.linspace(0, 1, 8).reshape(4, 2))]


def without_parameters(fit: Fit) -> list[Any]:
    circuit = bell(fit).remove_final_measurements(inplace=False)
    return [(circuit, laid_out(circuit, "ZZ")[0]), (circuit, laid_out(circuit, "XX"), [], 0.05)]


def by_name(fit: Fit) -> list[Any]:
    """Values by name; the names in another order than the alphabet's."""
    b, a = Parameter("b"), Parameter("a")
    circuit = QuantumCircuit(1, name="by name")
    circuit.ry(b, 0)
    circuit.rz(a, 0)
    circuit.measure_all()
    return [(fit(circuit), {"b": np.linspace(0, 3, 6).reshape(2, 3), "a": np.full((2, 3), 0.5)})]


SETS: dict[str, PubSet] = {
    "one circuit": PubSet("sampler", "aer_simulator", lambda fit: [bell(fit)], {"shots": 200}),
    "own shots": PubSet("sampler", "generic_5q", lambda fit: [(bell(fit), None, 100), (bell(fit), None, 100)]),
    "parameterised": PubSet(
        "sampler", "generic_5q", lambda fit: [(turned(fit, measured=True), [0.25, 0.5])], {"shots": 100}
    ),
    "broadcast": PubSet(
        "sampler",
        "aer_simulator",
        lambda fit: [(turned(fit, measured=True), np.arange(24.0).reshape(3, 4, 2) / 10)],
        {"shots": 50},
    ),
    "values by name": PubSet("sampler", "aer_simulator", by_name, {"shots": 50}),
    "several registers": PubSet("sampler", "generic_5q", lambda fit: [registers(fit)], {"shots": 100}),
    "measured in the middle": PubSet("sampler", "generic_5q", lambda fit: [in_the_middle(fit)], {"shots": 100}),
    "empty parameters": PubSet(
        "sampler", "aer_simulator", lambda fit: [(bell(fit), [[], [], []]), (bell(fit), [])], {"shots": 50}
    ),
    "127 qubits": PubSet("sampler", "generic_127q", lambda fit: [chain(fit)], {"shots": 100}),
    "several observables": PubSet(
        "estimator", "aer_simulator", with_observables, {"precision": 0.02}, {"resilience_level": 1}
    ),
    "broadcast observables": PubSet(
        "estimator",
        "aer_simulator",
        broadcast_observables,
        {"precision": 0.05},
        {"twirling": {"enable_gates": False}, "resilience": {"measure_mitigation": True}},
    ),
    "estimates without parameters": PubSet("estimator", "generic_5q", without_parameters, {"precision": 0.05}),
}
"""The seeds are the same for both, so that results can be compared as they are."""

UNSTEADY = "QPY lists the registers of a circuit's layout in any order, as a set has them"
DIFFERS: dict[str, str] = dict.fromkeys(
    ["own shots", "parameterised", "several registers", "measured in the middle", "estimates without parameters"],
    UNSTEADY,
)
"""Sets whose parameters need not be IBM's byte for byte, and why. All but the circuits' bytes must be the same."""


def but_for_circuits(params: bytes) -> bytes:
    """Return parameters without the QPY in them."""
    return re.sub(rb'("QuantumCircuit", "__value__": ")[^"]*', rb"\1", params)


def circuits(params: bytes) -> list[QuantumCircuit]:
    """Return the circuits in parameters, as Qiskit reads them; equal ones have the same parameters, by their uuids."""
    texts = re.findall(rb'"QuantumCircuit", "__value__": "([^"]*)', params)
    assert texts
    return [qpy.load(io.BytesIO(zlib.decompress(base64.b64decode(text))))[0] for text in texts]


def bits(result: Any) -> list[Any]:
    """Return everything in a result that was measured or computed."""
    return [
        {
            name: value.array.tolist() if hasattr(value, "num_bits") else np.asarray(value).tolist()
            for name, value in pub.data.items()
        }
        for pub in result
    ]


QUICK = ("one circuit", "several registers", "broadcast observables")
"""Sets that are compared in every run of the tests; CI compares all."""


@pytest.mark.parametrize("name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.pr) for name in SETS])
def test_both_clients_send_the_same_bytes_and_read_equal_results(
    name: str, ibm: Any, ours: RuntimeService, recorder: Recorder
) -> None:
    chosen = SETS[name]
    backend = ibm.service.backend(chosen.backend)
    fit = generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=1).run
    pubs = chosen.make(fit)
    options = {**chosen.options, "simulator": {"seed_simulator": 11}}
    primitive = ibm.SamplerV2 if chosen.program == "sampler" else ibm.EstimatorV2
    theirs = primitive(mode=backend, options=options).run(pubs, **chosen.run)
    their_params = recorder.params()

    # What IBM's run() takes as an argument of its own, ours takes within the PUBs or the options.
    given = [_with(pub, chosen) for pub in pubs]
    job = ours.run(chosen.program, {"pubs": given, "options": options}, backend=chosen.backend)
    our_params = recorder.params()
    if name not in DIFFERS:
        assert our_params == their_params
    assert but_for_circuits(our_params) == but_for_circuits(their_params)
    assert circuits(our_params) == circuits(their_params)
    assert bits(job.result(timeout=60)) == bits(theirs.result())
    assert bits(ours.job(theirs.job_id()).result(timeout=60)) == bits(theirs.result())
    _check_schema(chosen.program, our_params)


def _with(pub: Any, chosen: PubSet) -> Any:
    parts = list(pub) if isinstance(pub, tuple) else [pub]
    longest = 3 if chosen.program == "sampler" else 4
    parts += [None] * (longest - len(parts))
    if parts[-1] is None:
        parts[-1] = next(iter(chosen.run.values()), None)
    return parts


def _check_schema(program: str, params: bytes) -> None:
    """Hold parameters against IBM's own published models."""
    module = pytest.importorskip(f"ibm_quantum_schemas.{program}.version_0_1.params")
    value = json.loads(params)
    if (
        program == "estimator"
    ):  # its model (0.13) knows flat lists of observables only, and IBM's client sends nested ones
        for pub in value["pubs"]:
            pub[1] = list(_flat(pub[1]))
    module.ParamsModel.model_validate(value)


def _flat(observables: Any) -> Iterator[Any]:
    if isinstance(observables, dict):
        yield observables
        return
    for one in observables:
        yield from _flat(one)


def test_ibms_own_encoder_does_not_repeat_itself_where_ours_is_excused(ibm: Any) -> None:
    backend = ibm.service.backend("generic_5q")
    circuit = bell(generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=1).run)
    assert len(circuit.layout.initial_layout.get_registers()) == 2
    assert len({json.dumps(circuit, cls=ibm.RuntimeEncoder) for _ in range(60)}) > 1


@pytest.mark.pr
@pytest.mark.parametrize("name", ["one circuit", "127 qubits", "estimates without parameters"])
def test_both_clients_build_the_same_program_for_client_side_primitives(
    name: str, ibm: Any, ours: RuntimeService, recorder: Recorder
) -> None:
    from qiskit_ibm_runtime.executor_estimator import Estimator
    from qiskit_ibm_runtime.executor_sampler import Sampler

    chosen = SETS[name]
    backend = ibm.service.backend(chosen.backend)
    pubs = chosen.make(generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=1).run)
    primitive = (Sampler if chosen.program == "sampler" else Estimator)(mode=backend)
    theirs = primitive.run(pubs[:1], **chosen.run)
    their_params = json.loads(recorder.params())
    with RuntimeService(ours.credentials, backend=chosen.backend, generation="client") as client_side:
        job = client_side.run(chosen.program, {"pubs": [_with(pubs[0], chosen)], "options": {}})
    our_params = json.loads(recorder.params())
    for params in (our_params, their_params):
        blob = params["quantum_program"]["circuits"].pop("b64_data")  # QPY: see UNSTEADY
        (circuit,) = qpy.load(io.BytesIO(zlib.decompress(base64.b64decode(blob))))[:1]
        params["circuit"] = circuit
        if chosen.program == "estimator":  # PUBs that say their precision are told so, and those of run() too
            params["quantum_program"]["passthrough_data"]["post_processor"].pop("precision", None)
    if chosen.program == "sampler":  # an estimator's circuits are boxed, with names drawn at random
        assert our_params == their_params
    assert our_params.keys() == their_params.keys()
    assert our_params["quantum_program"]["shots"] == their_params["quantum_program"]["shots"]
    mine, other = job.result(timeout=100), theirs.result()
    assert [list(pub.data) for pub in mine] == [list(pub.data) for pub in other]
    assert mine[0].data.shape == other[0].data.shape


def test_an_estimator_runs_the_shots_that_the_options_say(ibm: Any, ours: RuntimeService, recorder: Recorder) -> None:
    backend = ibm.service.backend("aer_simulator")
    circuit = generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=1).run(
        bell(lambda circuit: circuit).remove_final_measurements(inplace=False)
    )
    options = {"default_shots": 400}
    ibm.EstimatorV2(mode=backend, options=options).run([(circuit, "ZZ")])
    their_params = recorder.params()
    job = ours.run("estimator", {"pubs": [(circuit, "ZZ")], "options": options}, backend="aer_simulator")
    assert but_for_circuits(recorder.params()) == but_for_circuits(their_params)
    assert job.result(timeout=60)[0].metadata["target_precision"] == 1 / 20


def test_twelve_sets_are_compared() -> None:
    assert len(SETS) == 12
    assert set(DIFFERS) <= set(SETS)
