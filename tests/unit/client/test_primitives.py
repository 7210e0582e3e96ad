"""From PUBs as written to the parameters of IBM's sampler and estimator."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Instruction, Parameter

from prefect_runtime.client import primitives
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.request import Prepared
from prefect_runtime.local.backends import describe
from prefect_runtime.wire.codec import decode
from prefect_runtime.wire.errors import ConfigurationError

BELL = 'OPENQASM 3.0;\ninclude "stdgates.inc";\nqubit[2] q;\nbit[2] c;\nh q[0];\ncx q[0], q[1];\nc = measure q;\n'


def backend(name: str = "aer_simulator", **changes: Any) -> Backend:
    documents = describe(name, calibration=1)
    return Backend(name, configuration={**documents["configuration"], **changes}, properties=documents["properties"])


def prepare(
    program: str,
    pubs: list[Any],
    options: dict[str, Any] | None = None,
    *,
    on: Backend | None = None,
    level: int | None = 1,
    **inputs: Any,
) -> Prepared:
    read = primitives.read(program, {"pubs": pubs, "options": options or {}, **inputs})
    return primitives.Preparation(program, read, level, lambda: on or backend())()


def sent(*arguments: Any, **options: Any) -> Any:
    return decode(prepare(*arguments, **options).params)


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def rotated() -> QuantumCircuit:
    circuit = QuantumCircuit(1)
    circuit.ry(Parameter("a"), 0)
    circuit.measure_all()
    return circuit


def test_parameters_have_the_names_and_the_order_of_ibms_client() -> None:
    params = sent("sampler", [bell()])
    assert list(params) == ["pubs", "options", "version", "support_qiskit"]
    assert (params["version"], params["support_qiskit"]) == (2, True)
    params = sent("estimator", [(bell().remove_final_measurements(inplace=False), "ZZ")], {"resilience_level": 2})
    assert list(params) == ["pubs", "options", "version", "support_qiskit", "resilience_level"]
    assert params["resilience_level"] == 2
    assert params["options"] == {}


def test_options_go_through_as_they_are_also_those_we_have_never_heard_of() -> None:
    given = {"execution": {"rep_delay": 1e-4}, "experimental": {"new": [1]}, "twirling": {"enable_gates": True}}
    assert sent("sampler", [bell()], given)["options"] == given
    assert list(sent("sampler", [bell()], given)["options"]) == ["twirling", "execution", "experimental"]


@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64, np.int8, np.int32, np.int64, np.uint16, np.bool_])
def test_numbers_of_every_width_are_taken(kind: Any) -> None:
    pubs = [(rotated(), [kind(1)], np.int32(7)), (rotated(), np.ones((2, 1), dtype=kind), 8)]
    params = sent("sampler", pubs, {"experimental": {"number": kind(1)}})
    values = [pub[1] for pub in params["pubs"]]
    assert [value.dtype for value in values] == [np.float64, np.float64]
    assert [pub[2] for pub in params["pubs"]] == [7, 8]
    assert params["options"]["experimental"]["number"] == 1
    (pub,) = sent("estimator", [(rotated().remove_final_measurements(inplace=False), "Z", [1], np.float32(0.5))])[
        "pubs"
    ]
    assert pub[3] == 0.5


def test_a_circuit_that_does_not_fit_is_refused_by_its_pub_when_nothing_is_to_be_transpiled() -> None:
    fits = QuantumCircuit(5)
    fits.cx(0, 1)
    fits.measure_all()
    ahead = QuantumCircuit(5)
    ahead.cx(0, 4)
    ahead.measure_all()
    with pytest.raises(ConfigurationError) as caught:
        prepare("sampler", [fits, ahead], on=backend("generic_5q"), level=None)
    assert str(caught.value).startswith(
        "pubs[1]: generic_5q cannot run this circuit: the backend has 'cx', but not on qubits (0, 4). Nothing was sent."
    )
    assert prepare("sampler", [fits, ahead], on=backend("generic_5q")).notes["transpiled"].startswith("optimization")
    assert prepare("sampler", [fits], on=backend("generic_5q"), level=None).notes["transpiled"].startswith("no:")


def test_an_angle_that_a_device_does_not_have_is_transpiled_away_and_never_made_by_transpiling() -> None:
    document = describe("generic_5q", calibration=1)["configuration"]
    rzz = {"name": "rzz", "parameters": ["theta"], "coupling_map": [[0, 1]]}
    on = backend("generic_5q", basis_gates=[*document["basis_gates"], "rzz"], gates=[*document["gates"], rzz])
    circuit = QuantumCircuit(5)
    circuit.rzz(3.0, 0, 1)
    circuit.measure_all()
    with pytest.raises(ConfigurationError, match=r"pubs\[0\].*'rzz' turns by 3"):
        prepare("sampler", [circuit], on=on, level=None)
    prepared = prepare("sampler", [circuit], on=on)
    assert prepared.notes["transpiled"].startswith("optimization level 1")
    assert "rzz" not in prepared.pubs[0].circuit.count_ops()
    circuit.h(0)
    assert "rzz" not in prepare("sampler", [circuit], on=on).pubs[0].circuit.count_ops()
    turned = QuantumCircuit(5)
    turned.rzz(Parameter("a"), 0, 1)
    turned.measure_all()
    fits, ahead = prepare("sampler", [(turned, [[0.5], [1.5]]), (turned, [[0.5], [-0.5]])], on=on).pubs
    assert [("rzz" in pub.circuit.count_ops(), pub.shape) for pub in (fits, ahead)] == [(True, (2,)), (False, (2,))]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
@pytest.mark.parametrize("shape", [(), (5,), (2, 3)], ids=str)
def test_values_of_parameters_that_transpiling_takes_away_go_with_them(shape: tuple[int, ...], level: int) -> None:
    a, b, c = Parameter("a"), Parameter("b"), Parameter("c")
    circuit = QuantumCircuit(1, 1)
    circuit.rz(c, 0)  # of a qubit that is 0
    circuit.ry(b, 0)
    circuit.rz(a, 0)  # and measured: without effect
    circuit.measure(0, 0)
    values = np.arange(3.0 * np.prod(shape, dtype=int)).reshape(*shape, 3)
    on = backend("generic_5q")
    (pub,) = prepare("sampler", [(circuit, values)], on=on, level=level).pubs
    left = [parameter.name for parameter in pub.circuit.parameters]
    assert "b" in left
    assert pub.shape == shape
    sent_values = pub.parameter_values.as_array(pub.circuit.parameters)
    assert (sent_values == values[..., ["abc".index(name) for name in left]]).all()
    circuit = QuantumCircuit(1, 1)
    circuit.h(0)
    circuit.rz(a, 0)
    circuit.measure(0, 0)
    (pub,) = prepare("sampler", [(circuit, values[..., :1])], on=on, level=level).pubs
    assert (pub.shape, pub.parameter_values.num_parameters) == (shape, len(pub.circuit.parameters))


@pytest.mark.parametrize("level", [None, 1, 2])
def test_an_instruction_that_only_its_signature_describes_is_sent_as_it_is(level: int | None) -> None:
    """IBM's way of measuring in the middle of a circuit."""
    signature = {"name": "measure_2", "num_qubits": 1, "num_clbits": 1, "parameters": []}
    circuit = QuantumCircuit(5, 2)
    circuit.sx(0)
    circuit.append(Instruction("measure_2", 1, 1, []), [0], [0])
    circuit.measure(0, 1)
    on = backend("generic_5q", instruction_signatures=[signature])
    ((sent_circuit, *_),) = sent("sampler", [circuit], on=on, level=level)["pubs"]
    assert sent_circuit.count_ops() == {"sx": 1, "measure_2": 1, "measure": 1}
    with pytest.raises(ConfigurationError, match="no gate 'measure_2'"):
        prepare("sampler", [circuit], on=backend("generic_5q"), level=None)
    circuit.h(1)  # now it has to be transpiled
    if level is not None:
        assert prepare("sampler", [circuit], on=on, level=level).pubs[0].circuit.count_ops()["measure_2"] == 1


def test_dynamical_decoupling_is_refused_for_dynamic_circuits() -> None:
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.x(1)
    decoupled = {"dynamical_decoupling": {"enable": True}}
    with pytest.raises(ConfigurationError, match=r"pubs\[1\].*dynamical decoupling"):
        prepare("sampler", [bell(), circuit], decoupled)
    assert prepare("sampler", [bell()], decoupled)
    assert prepare("sampler", [circuit])


def test_circuits_are_sent_as_text_to_programs_that_are_to_load_no_qiskit() -> None:
    params = sent("sampler", [(rotated(), [[0.5]], 9)], support_qiskit=False)
    ((text, values, shots),) = params["pubs"]
    assert params["support_qiskit"] is False
    assert text.startswith("OPENQASM 3.0;")
    assert (values.tolist(), shots) == ([[0.5]], 9)
    ((text, observables, values, precision),) = sent(
        "estimator", [(rotated().remove_final_measurements(inplace=False), "Z", [0.5])], support_qiskit=False
    )["pubs"]
    assert (observables, values.tolist(), precision) == ({"Z": 1.0}, [0.5], 1 / 64)


@pytest.mark.parametrize(
    ("options", "precision"),
    [
        ({}, 1 / 64),
        ({"default_precision": 0.25}, 0.25),
        ({"default_shots": 100_000}, None),
        ({"default_shots": 100_000, "default_precision": 0.25}, None),
    ],
    ids=str,
)
@pytest.mark.parametrize("support_qiskit", [True, False])
def test_an_estimators_default_shots_are_left_to_the_options(
    options: dict[str, Any], precision: float | None, support_qiskit: bool
) -> None:
    circuit = rotated().remove_final_measurements(inplace=False)
    pubs = [(circuit, "Z", [0.5]), (circuit, "Z", [0.5], 0.125)]
    params = sent("estimator", pubs, options, support_qiskit=support_qiskit)
    assert [pub[3] for pub in params["pubs"]] == [precision, 0.125]
    assert params["options"] == options


@pytest.mark.parametrize("inside", [True, False], ids=["in the options", "beside them"])
def test_the_resilience_level_counts_wherever_it_stands(inside: bool) -> None:
    pytest.importorskip("qiskit_ibm_runtime")
    circuit = rotated().remove_final_measurements(inplace=False)
    level = {"resilience_level": 0}
    inputs = {"pubs": [(circuit, "Z", [0.5], 0.1)], "options": level if inside else {}, **({} if inside else level)}
    given = primitives.read("estimator", inputs)
    there = primitives.Preparation("estimator", given, 1, backend)()
    assert decode(there.params)["resilience_level"] == 0
    assert decode(there.params)["options"] == {}
    here = primitives.Preparation("estimator", given, 1, lambda: backend("generic_5q"), client_side=True)()
    items = json.loads(here.params)["quantum_program"]["items"]
    assert len(items) == 1  # at level 1, the default, another one calibrates the read-out


_WITHOUT_QISKIT = """
import json, sys

sys.modules["qiskit"] = None  # an import of it fails
from prefect_runtime.client import primitives
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import ConfigurationError

def make(program, pubs, client_side=False):
    try:
        read = primitives.read(program, {"pubs": pubs, "options": {}})
        backend = Backend("far", configuration={"n_qubits": 5})
        made = primitives.Preparation(program, read, 2, lambda: backend, client_side=client_side)()
        return {"params": json.loads(made.params), "note": made.notes["transpiled"]}
    except ConfigurationError as error:
        return {"error": str(error)}

print(json.dumps([make(*request) for request in json.load(sys.stdin)]))
assert sys.modules["qiskit"] is None
"""


def without_qiskit(*requests: tuple[Any, ...]) -> list[Any]:
    """Prepare requests (program, PUBs, whether IBM's client builds it) in a process where importing Qiskit fails."""
    given = json.dumps(requests)
    done = subprocess.run(
        [sys.executable, "-c", _WITHOUT_QISKIT], input=given, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    made: list[Any] = json.loads(done.stdout)
    return made


def test_a_worker_without_qiskit_sends_the_same_parameters_as_one_that_has_it(tmp_path: Path) -> None:
    file = tmp_path / "bell.qasm"
    file.write_text(BELL)
    pubs = [[BELL, None, 10], [str(file), [], 20], BELL]
    (made,) = without_qiskit(("sampler", pubs))
    assert made["note"] == "no: without Qiskit, circuits are sent as written, unchecked"
    assert [pub[0] for pub in made["params"]["pubs"]] == [BELL] * 3
    assert made["params"]["support_qiskit"] is False
    mine = json.loads(prepare("sampler", pubs, support_qiskit=False).params)
    assert [pub[1:] for pub in made["params"]["pubs"]] == [pub[1:] for pub in mine["pubs"]]
    assert {name: made["params"][name] for name in mine if name != "pubs"} == {
        name: value for name, value in mine.items() if name != "pubs"
    }
    pytest.importorskip("ibm_quantum_schemas.sampler.version_0_1.params").ParamsModel.model_validate(made["params"])


def test_a_worker_without_qiskit_sends_observables_too() -> None:
    (made,) = without_qiskit(("estimator", [[BELL, ["ZZ", {"XX": 2, "II": 1}], [], 0.5], [BELL, "ZI"]]))
    assert [[pub[1], pub[3]] for pub in made["params"]["pubs"]] == [
        [[{"ZZ": 1.0}, {"XX": 2.0, "II": 1.0}], 0.5],
        [{"ZI": 1.0}, 1 / 64],
    ]
    pytest.importorskip("ibm_quantum_schemas.estimator.version_0_1.params").ParamsModel.model_validate(made["params"])


def test_a_file_may_begin_with_the_mark_that_some_editors_write(tmp_path: Path) -> None:
    file = tmp_path / "bell.qasm"
    file.write_text(BELL, encoding="utf-8-sig")
    assert prepare("sampler", [file]).pubs[0].circuit.num_qubits == 2


def test_a_path_may_begin_like_openqasm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "include").mkdir()
    (tmp_path / "include" / "bell.qasm").write_text(BELL)
    without_version = BELL.removeprefix("OPENQASM 3.0;\n")
    commented = (f"// a comment\n{BELL}", f"/* a\ncomment */ {BELL}")
    for given in ("include/bell.qasm", BELL, f"\n{without_version}", *commented):
        assert prepare("sampler", [given]).pubs[0].circuit.num_qubits == 2


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (BELL.replace("h q[0]", "hh q[0]"), "5,0: gate 'hh' is not defined"),
        (BELL.replace("h q[0];", "h $$ q[0];"), "L5:C"),
        (BELL.replace("stdgates.inc", "qelib1.inc"), "2,0: non-stdgates imports"),
    ],
)
def test_what_is_wrong_with_an_openqasm_text_is_said_with_its_place(text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^pubs\[0\]: not OpenQASM 3 that Qiskit can read") as caught:
        prepare("sampler", [text])
    assert said in str(caught.value)


@pytest.mark.parametrize("program", ["sampler", "estimator"])
def test_values_of_a_parameter_that_the_circuit_does_not_have_are_refused_by_name(program: str) -> None:
    circuit = rotated()
    values = {"b": 0.1}
    pub = [circuit, values] if program == "sampler" else [circuit.remove_final_measurements(inplace=False), "Z", values]
    with pytest.raises(ConfigurationError, match=r"^pubs\[0\]: .*parameter 'b'\. Nothing was sent\.$"):
        prepare(program, [pub])


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
@pytest.mark.parametrize("program", ["sampler", "estimator"])
def test_a_value_that_is_no_angle_is_refused_where_a_simulator_would_count_on(program: str, value: float) -> None:
    circuit = rotated()
    pub: list[Any] = [circuit, [[0.1], [value]]]
    if program == "estimator":
        pub = [circuit.remove_final_measurements(inplace=False), "Z", [[0.1], [value]]]
    with pytest.raises(ConfigurationError, match=r"^pubs\[0\]: .*is nan or infinite\. Nothing was sent\.$"):
        prepare(program, [pub])


def test_what_qiskit_says_of_a_pub_stays_a_sentence() -> None:
    with pytest.raises(ConfigurationError, match=r"shots must be positive\. Nothing was sent\.$"):
        prepare("sampler", [(bell(), None, 0)])


def test_a_worker_without_qiskit_is_told_what_it_cannot_send() -> None:
    refused: list[tuple[str, list[Any], str]] = [
        ("sampler", ["bell.qpy"], "cannot read the circuit file"),
        ("sampler", [__file__.replace(".py", ".qpy")], "cannot read the circuit file"),
        ("sampler", [BELL, {"a": 1}], "an array in the order"),
        ("sampler", [BELL, "many"], "no array of numbers"),
        ("sampler", [BELL, [float("inf")]], "is nan or infinite"),
        ("sampler", [BELL, None, 0], "shots must be"),
        ("sampler", [BELL, None, True], "shots must be"),
        ("estimator", [BELL, 7], "an observable is"),
        ("estimator", [BELL, {}], "an observable is"),
        ("estimator", [BELL, "Z", None, -1], "precision must be"),
    ]
    good = {"sampler": BELL, "estimator": [BELL, "Z"]}
    made = without_qiskit(*((program, [good[program], pub]) for program, pub, _ in refused))
    for (_, _, said), answer in zip(refused, made, strict=True):
        assert answer["error"].startswith("pubs[1]: ")
        assert said in answer["error"]


def test_a_worker_without_qiskit_does_not_send_the_servers_primitive_for_the_clients() -> None:
    (made,) = without_qiskit(("sampler", [BELL], True))
    assert made == {"error": "primitives: 'client' needs the extra ibm: pip install 'prefect-runtime[ibm]'."}


@pytest.mark.parametrize("name", ["shape", "items", "values", "size", "self"])
@pytest.mark.parametrize("level", [1, None])
def test_a_register_that_no_result_can_have_is_refused_before_the_job_waits_its_turn(
    level: int | None, name: str
) -> None:
    circuit = QuantumCircuit(QuantumRegister(1, "q"), ClassicalRegister(1, name))
    circuit.measure(0, 0)
    with pytest.raises(ConfigurationError, match=rf"pubs\[1\]: .*'{name}'; give .* Nothing was sent"):
        prepare("sampler", [bell(), circuit], level=level)
    estimated = QuantumCircuit(QuantumRegister(1, "q"), ClassicalRegister(1, name))
    assert prepare("estimator", [(estimated, "Z")], level=level).pubs  # whose result has none
