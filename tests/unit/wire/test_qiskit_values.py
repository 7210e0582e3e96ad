"""Qiskit's values on the wire: round trips of real ones, and payloads that would like to run code."""

from __future__ import annotations

import base64
import datetime as dt
import io
import json
import subprocess
import sys
import textwrap
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Instruction, Parameter, ParameterVector
from qiskit.circuit.library import UnitaryGate, efficient_su2
from qiskit.primitives import DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.primitives.containers import BitArray
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Pauli, PauliList, SparsePauliOp
from qiskit_aer.primitives import EstimatorV2, SamplerV2

from prefect_runtime.wire import codec
from prefect_runtime.wire.codec import ResultDecoder, decode, encode_inputs, encode_result
from prefect_runtime.wire.errors import ConfigurationError, ResultDecodeError
from prefect_runtime.wire.plain_values import count_rows


def round_trip(value: Any) -> Any:
    return decode(encode_result(value))


def bell(*, measured: bool = True) -> QuantumCircuit:
    circuit = QuantumCircuit(2, name="bell", metadata={"who": "me"})
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def rotated() -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1, global_phase=0.3)
    angles = ParameterVector("θ", 2)
    circuit.rx(angles[0] + 2 * Parameter("a"), 0)
    circuit.rz(angles[1].sin(), 0)
    circuit.measure(0, 0)
    return circuit


def branching() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)) as otherwise:
        circuit.x(1)
    with otherwise:
        circuit.h(1)
    with circuit.for_loop(range(3)):
        circuit.rx(0.1, 1)
    with circuit.while_loop((1, 0)):
        circuit.measure(1, 1)
    return circuit


def opaque() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.append(UnitaryGate(np.eye(4)[[0, 2, 1, 3]]), [0, 1])
    circuit.append(bell(measured=False).to_gate(label="pair"), [1, 0])
    circuit.delay(100, 0, unit="dt")
    return circuit


@pytest.mark.parametrize("make", [bell, rotated, branching, opaque, lambda: efficient_su2(3), QuantumCircuit])
def test_circuits_survive(make: Any) -> None:
    circuit = make()
    again = round_trip({"pubs": [circuit]})["pubs"][0]
    assert again == circuit
    assert again.name == circuit.name
    assert (again.metadata or {}) == (circuit.metadata or {})


def test_a_circuits_metadata_may_hold_what_the_codec_knows() -> None:
    """As in IBM's encoder, which hands itself to QPY for the metadata."""
    circuit = bell()
    circuit.metadata = {"seed": np.int32(7), "calibrated": dt.datetime(2024, 1, 2)}
    again = round_trip(circuit)
    assert again == circuit
    assert again.metadata["seed"] == 7


def test_a_circuit_that_qpy_has_no_form_for_is_refused_with_its_place() -> None:
    circuit = QuantumCircuit(1)
    circuit.append(Instruction("of_my_own", 1, 0, [{"a": 1}]), [0])
    with pytest.raises(ConfigurationError, match=r"inputs\['circuits'\]\[1\].*QPY"):
        encode_inputs({"circuits": [QuantumCircuit(1), circuit]})
    with pytest.raises(TypeError, match="QPY"):
        encode_result(circuit)


def test_circuits_are_sent_in_a_version_that_ibms_primitives_accept() -> None:
    wire = json.loads(encode_result(bell()))
    assert codec.unpack(wire["__value__"])[6] in range(13, 18)


@pytest.mark.parametrize(
    "operator",
    [
        SparsePauliOp(["XY", "ZI"], [0.5, -1j]),
        SparsePauliOp(["X"]),
        Pauli("-iXYZ"),
        Pauli("I"),
        PauliList(["XX", "-YZ", "iII"]),
    ],
    ids=repr,
)
def test_operators_survive(operator: Any) -> None:
    again = round_trip([operator])[0]
    assert type(again) is type(operator)
    assert again == operator


def test_an_operator_with_parameters_is_refused_with_its_place() -> None:
    operator = SparsePauliOp(["X"], np.array([Parameter("a")]))
    with pytest.raises(ConfigurationError, match=r"inputs\['a'\].*Parameter"):
        encode_inputs({"a": operator})


def test_bindings_survive() -> None:
    bindings = BindingsArray({("a", "b"): np.arange(12.0).reshape(2, 3, 2), "c": np.ones((2, 3))})
    again = round_trip(bindings)
    assert isinstance(again, BindingsArray)
    assert again.shape == (2, 3)
    assert {key: value.tolist() for key, value in again.data.items()} == {
        key: value.tolist() for key, value in bindings.data.items()
    }


@pytest.mark.parametrize("observables", ["XX", [["XX"], ["ZZ"]], {"XX": 0.5, "ZI": 2}, [{"XX": 1}, {"YY": -0.1}]])
def test_observables_survive(observables: Any) -> None:
    value = ObservablesArray(observables)
    again = round_trip(value)
    assert isinstance(again, ObservablesArray)
    assert again.shape == value.shape
    assert again.tolist() == value.tolist()


def test_pubs_become_the_strict_tuples_that_the_primitives_take() -> None:
    circuit = rotated()
    values = np.arange(6.0).reshape(2, 3)
    sent = round_trip(SamplerPub.coerce((circuit, values), shots=7))
    assert sent[0] == circuit
    np.testing.assert_array_equal(sent[1], values)
    assert sent[2:] == [7]
    bare = circuit.remove_final_measurements(inplace=False)
    sent = round_trip(EstimatorPub.coerce((bare, {"Z": 0.5}, values), precision=0.25))
    assert sent[0] == bare
    assert sent[1] == {"Z": 0.5}
    np.testing.assert_array_equal(sent[2], values)
    assert sent[3:] == [0.25]


def test_bit_arrays_survive() -> None:
    for bits in (BitArray.from_samples([3, 0, 1], num_bits=9), BitArray(np.zeros((2, 0, 5, 1), np.uint8), 3)):
        again = round_trip(bits)
        assert again == bits
        assert (again.num_bits, again.shape, again.num_shots) == (bits.num_bits, bits.shape, bits.num_shots)


def test_data_bins_keep_their_fields_in_order() -> None:
    value = DataBin(zz=np.ones(3), aa=BitArray.from_samples([1], num_bits=1).reshape(1), shape=())
    again = round_trip(value)
    assert list(again) == ["zz", "aa"]
    assert again.shape == ()
    assert round_trip(DataBin(evs=np.ones((2, 2)), shape=(2, 2))).shape == (2, 2)


def test_results_of_a_real_sampler_survive() -> None:
    result = SamplerV2(seed=1).run([bell(), (rotated(), np.ones((2, 3)))], shots=50).result()
    again = round_trip({"result": result})["result"]
    assert type(again) is PrimitiveResult
    assert [type(pub) for pub in again] == [SamplerPubResult, SamplerPubResult]
    assert again[0].data.meas.get_counts() == result[0].data.meas.get_counts()
    assert again[1].data.c == result[1].data.c
    assert again[1].data.shape == (2,)
    assert (again.metadata, again[0].metadata) == (result.metadata, result[0].metadata)


def test_results_of_a_real_estimator_survive() -> None:
    result = EstimatorV2().run([(bell(measured=False), ["ZZ", "XX", "IZ"])]).result()
    again = round_trip(result)
    assert type(again[0]) is PubResult
    np.testing.assert_array_equal(again[0].data.evs, result[0].data.evs)
    assert again[0].metadata == result[0].metadata


def test_what_newer_servers_add_to_a_data_bin_is_no_matter() -> None:
    wire = json.loads(encode_result(DataBin(evs=np.ones(2), shape=(2,))))
    wire["__value__"]["field_types"] = ["ndarray"]
    assert decode(json.dumps(wire)).shape == (2,)


# What would like to run code


@pytest.mark.parametrize("version", [1, 9, 12])
def test_qpy_of_versions_that_can_execute_code_is_refused(version: int) -> None:
    wire = json.loads(encode_result(bell()))
    data = bytearray(codec.unpack(wire["__value__"]))
    data[6] = version
    wire["__value__"] = codec.pack(bytes(data))
    with pytest.raises(ResultDecodeError, match=f"version {version}; below 13"):
        ResultDecoder.decode(json.dumps(wire))


def test_qpy_that_is_damaged_or_newer_than_we_know_is_a_decode_error() -> None:
    wire = json.loads(encode_result(bell()))
    data = codec.unpack(wire["__value__"])
    for damaged in (data[:7], data[:-5], data[:6] + b"\xff" + data[7:], b"QISKIT", b"x" + data[1:]):
        wire["__value__"] = codec.pack(damaged)
        with pytest.raises(ResultDecodeError):
            ResultDecoder.decode(json.dumps(wire))


@pytest.mark.parametrize("data", [b"", b"QISKI", b"QISKIT", b"TAXTEA\x11" + bytes(60)])
def test_what_is_no_qpy_is_called_that(data: bytes) -> None:
    with pytest.raises(ResultDecodeError, match="is not QPY"):
        ResultDecoder.decode(json.dumps({"__type__": "QuantumCircuit", "__value__": codec.pack(data)}))


def test_a_circuits_metadata_has_the_limits_of_any_text() -> None:
    circuit = bell()
    circuit.metadata = {"deep": json.loads("[" * 300 + "]" * 300)}
    with pytest.raises(ResultDecodeError):
        round_trip(circuit)


def payload(module: str, name: str, **settings: Any) -> dict[str, Any]:
    return {"__type__": "settings", "__module__": module, "__class__": name, "__value__": settings}


@pytest.mark.parametrize(
    "document",
    [
        payload("subprocess", "Popen", args=["touch", "x"]),
        payload("qiskit.quantum_info.operators.symplectic", "Clifford", data=[[1]]),
        payload("qiskit.quantum_info.operators.symplectic", "__builtins__", data=["X"]),
        payload("evil", "SparsePauliOp", data=["X"], coeffs=[1]),
    ],
    ids=lambda document: document["__class__"],
)
def test_settings_of_a_class_that_is_not_in_the_table_stay_a_dict(document: dict[str, Any]) -> None:
    assert ResultDecoder.decode(json.dumps([document])) == [document]


def test_no_payload_makes_us_import_or_start_anything() -> None:
    """In a process of its own, with an audit hook: an import or a subprocess would be seen there, whatever hides it."""
    documents = [
        payload(module, name, args=["true"], data=["X"], coeffs=[1])
        for module in ("subprocess", "os", "antigravity", "qiskit.quantum_info.operators.antigravity", "../evil")
        for name in ("Popen", "system", "SparsePauliOp", "__import__")
    ]
    documents += [{**document, "__type__": tag} for document in documents for tag in ("_json", "Result", "to_json")]
    script = """
        import base64, json, sys
        from prefect_runtime.wire import qiskit_values
        from prefect_runtime.wire.codec import ResultDecoder
        from prefect_runtime.wire.errors import ResultDecodeError
        good = {"__type__": "settings", "__module__": "qiskit.quantum_info.operators", "__class__": "SparsePauliOp",
                "__value__": {"data": ["X"], "coeffs": [1]}}
        ResultDecoder.decode(json.dumps(good))  # what Qiskit itself loads lazily is loaded
        seen = []
        sys.addaudithook(lambda event, args: seen.append((event, str(args)[:80])))
        for document in json.loads(base64.b64decode(sys.argv[1])):
            try:
                ResultDecoder.decode(json.dumps({"a": document}))
            except ResultDecodeError:
                pass
        bad = [s for s in seen if s[0] in ("import", "exec", "compile", "subprocess.Popen", "os.system", "open")]
        assert not bad, bad
        import this  # so that we know that the hook sees
        assert any(s[0] == "import" for s in seen), "the hook sees nothing"
    """
    argument = base64.b64encode(json.dumps(documents).encode()).decode()
    command = [sys.executable, "-c", textwrap.dedent(script), argument]
    run = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert run.returncode == 0, run.stderr


# Circuits that lie about their size


@pytest.mark.parametrize("version", [13, 15, 16, 17])
@pytest.mark.parametrize(("offset", "size"), [("circuits", 8), ("qubits", 4), ("clbits", 4)])
def test_a_circuit_that_promises_too_much_is_refused_before_room_is_made(version: int, offset: str, size: int) -> None:
    """Qiskit takes minutes and many GB for 400 bytes that say 67 million bits, or ends the process."""
    circuit = QuantumCircuit(2, 2)
    circuit.measure([0, 1], [0, 1])
    buffer = io.BytesIO()
    qpy.dump(circuit, buffer, version=version)
    data = bytearray(buffer.getvalue())
    assert (
        ResultDecoder.decode(json.dumps({"__type__": "QuantumCircuit", "__value__": codec.pack(bytes(data))}))
        == circuit
    )
    start = {"circuits": 10, "qubits": 25, "clbits": 29}[offset] + (8 if version >= 16 and offset != "circuits" else 0)
    assert int.from_bytes(data[start : start + size], "big") == (1 if offset == "circuits" else 2)
    data[start : start + size] = (2**26).to_bytes(size, "big")
    with pytest.raises(ResultDecodeError, match="cut off" if offset == "circuits" and version >= 16 else "refused"):
        ResultDecoder.decode(json.dumps({"__type__": "QuantumCircuit", "__value__": codec.pack(bytes(data))}))


@pytest.mark.parametrize(("shape", "shots", "bits"), [((), 500, 1), ((3, 2), 40, 9), ((2,), 30, 127), ((), 0, 5)])
def test_samples_are_counted_as_qiskit_counts_them(shape: tuple[int, ...], shots: int, bits: int) -> None:
    samples = np.random.default_rng(bits).integers(0, 2, (*shape, shots, bits), dtype=np.uint8)
    register = BitArray.from_bool_array(samples.astype(bool))
    assert count_rows(register.array, register.num_bits) == register.get_counts()


def test_a_register_of_no_bits_has_one_outcome() -> None:
    assert count_rows(np.zeros((4, 0), np.uint8), 0) == {"0": 4}
    assert count_rows(np.zeros((0, 0), np.uint8), 0) == {}
