"""Fingerprints: equal in two processes for equal requests, different for all that changes what is executed.

Run as a program (with a number of circuits to make first), this file prints the fingerprint of each request below.
"""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
import math
import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import PurePosixPath
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from qiskit.circuit import (
    AnnotatedOperation,
    CircuitError,
    ClassicalRegister,
    Clbit,
    ControlledGate,
    ControlModifier,
    Duration,
    ForLoopOp,
    Gate,
    IfElseOp,
    Instruction,
    InverseModifier,
    Parameter,
    ParameterVector,
    QuantumCircuit,
    QuantumRegister,
    Qubit,
)
from qiskit.circuit.classical import expr, types
from qiskit.circuit.library import (
    CXGate,
    Initialize,
    PauliEvolutionGate,
    QFTGate,
    RXGate,
    UnitaryGate,
    XGate,
    efficient_su2,
)
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Clifford, Pauli, PauliList, SparseObservable, SparsePauliOp
from qiskit.synthesis import LieTrotter, SuzukiTrotter

from prefect_runtime.client.fingerprint import fingerprint, request_key
from prefect_runtime.wire.codec import decode, encode_result
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.spans import ExecutionSpan, ExecutionSpans, Slice

few = settings(deadline=None, max_examples=40, derandomize=True, database=None)
angles = st.floats(-1e300, 1e300)


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


@dataclasses.dataclass
class Options:
    seed: int = 7
    level: Level = Level.LOW


class SaveState(Instruction):
    """Opaque, as a simulator's save instructions: its label and attributes say what comes back."""

    def __init__(self, label: str, subtype: str = "single") -> None:
        super().__init__("save_state", 1, 0, [], label=label)
        self.subtype = subtype


# --- Requests that every process can build -----------------------------------------------------------------------


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure([0, 1], [0, 1])
    return circuit


def parameterised() -> QuantumCircuit:
    # So many that an order by uuid or hash would show.
    p = [Parameter(f"p{n}") for n in range(8)]
    circuit = QuantumCircuit(2, global_phase=p[0] / 3)
    circuit.rx(p[3] + p[1] * p[2] - p[0] ** 2, 0)
    circuit.rz(sum(p[4:], start=0.1 + 0.2), 1)
    circuit.ry((p[5].sin() / (1 - p[6])).exp(), 1)
    return circuit


def with_vector() -> QuantumCircuit:
    vector = ParameterVector("v", 12)
    circuit = QuantumCircuit(1)
    for element in vector:
        circuit.rx(2 * element, 0)
    return circuit


def initialised() -> QuantumCircuit:
    circuit = QuantumCircuit(3)
    circuit.initialize(np.array([1, 1j, 0, -1]) / math.sqrt(3), [0, 1])
    circuit.initialize("+", 2)
    circuit.initialize(5, [0, 1, 2])
    circuit.unitary(np.array([[0, 1j], [1, 0]]), [1])
    return circuit


def branching() -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(5), ClassicalRegister(3, "a"), ClassicalRegister(2, "b"))
    with circuit.if_test((circuit.clbits[0], True)) as otherwise:
        circuit.cx(4, 2)
        circuit.x(0)
    with otherwise:
        circuit.h(1)
        circuit.z(3)
    with circuit.while_loop((circuit.cregs[1], 3)):
        circuit.h(3)
        circuit.measure(3, 4)
        circuit.measure(1, 3)
        with circuit.if_test((circuit.clbits[2], 1)):
            circuit.x(2)
            circuit.break_loop()
    return circuit


def looping() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    with circuit.for_loop(range(3)) as i:
        circuit.rx(i * 0.1, 0)
        with circuit.for_loop((0, 4, 2)) as j:
            circuit.rx(j + i, 1)
            circuit.rz(i - j, 1)
            circuit.append(RXGate(i / 2), [0])
    return circuit


def switching() -> QuantumCircuit:
    circuit = QuantumCircuit(3, 3)
    with circuit.switch(circuit.cregs[0]) as case:
        with case(0, 3):
            circuit.x(2)
            circuit.y(0)
        with case(1):
            circuit.z(1)
        with case(case.DEFAULT):
            circuit.h(0)
    return circuit


def with_expressions() -> QuantumCircuit:
    circuit = QuantumCircuit(3, 4)
    flag = circuit.add_var("flag", expr.lift(True))
    count = circuit.add_var("count", expr.lift(3, types.Uint(8)))
    with circuit.if_test(expr.logic_and(flag, expr.less(circuit.cregs[0], 5))):
        circuit.x(2)
        circuit.y(0)
        circuit.store(count, expr.bit_xor(count, 7))
    with circuit.while_loop(expr.logic_not(expr.bit_or(circuit.clbits[0], flag))):
        inner = circuit.add_var("inner", expr.cast(circuit.clbits[1], types.Bool()))
        circuit.store(flag, inner)
    with circuit.switch(expr.bit_and(circuit.cregs[0], 3)) as case, case(2):
        circuit.z(1)
    circuit.measure_all()
    return circuit


def stretching() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    gap = circuit.add_stretch("gap")
    circuit.delay(gap, 0)
    circuit.delay(expr.add(gap, Duration.ns(3.5)), 1)
    return circuit


def rotation() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.rx(Parameter("theta"), 0)
    circuit.cx(0, 1)
    return circuit


def with_custom_gates() -> QuantumCircuit:
    block = rotation()
    gate, bound = block.to_gate(), block.assign_parameters([0.25])
    outer = QuantumCircuit(3)
    outer.append(gate, [0, 1])
    outer.append(bound.to_gate().control(1, ctrl_state=0, annotated=False), [2, 0, 1])
    circuit = QuantumCircuit(4)
    circuit.append(outer.to_instruction(), [3, 1, 0])
    circuit.append(bound.inverse().to_gate(), [0, 1])
    circuit.append(bound.repeat(2).to_gate(), [0, 1])
    circuit.append(bound.to_gate().power(0.5), [1, 2])
    circuit.append(Gate("secret", 1, [Parameter("phi"), 2]), [3])
    circuit.append(AnnotatedOperation(gate, [InverseModifier(), ControlModifier(2, 1)]), [0, 1, 2, 3])
    circuit.append(Clifford.from_label("X"), [0])
    circuit.append(QFTGate(3), [0, 1, 2])
    circuit.append(CXGate(ctrl_state=0), [0, 1])
    circuit.append(PauliEvolutionGate(SparsePauliOp(["XX", "ZI"], [0.5, 1.5]), time=Parameter("t")), [0, 1])
    circuit.append(SaveState("mine"), [0])
    return circuit


REQUESTS: dict[str, Callable[[], Any]] = {
    "automatic names": bell,
    "parameters": parameterised,
    "parameter vector": with_vector,
    "initialize": initialised,
    "if and while": branching,
    "for": looping,
    "switch": switching,
    "expressions": with_expressions,
    "stretches": stretching,
    "custom gates": with_custom_gates,
    "library circuit": lambda: efficient_su2(3, reps=2),
    "mapping": lambda: {"b": {"y": 1, "x": [2.5, None]}, "a": {"set of text": {"p", "q", "r", "s"}}},
    "arrays": lambda: [np.arange(6.0).reshape(2, 3), np.array(["x", None, 3], dtype=object), np.float32(0.1)],
    "observables": lambda: [
        SparsePauliOp(["XX", "ZI"], [0.5, Parameter("c") * 2]),
        PauliList(["-iXY", "ZZ"]),
        Pauli("YZ"),
        SparseObservable.from_list([("0r", 1.0), ("XZ", 0.5)]),
        ObservablesArray([["XX", {"ZZ": 0.5, "IX": 1}]]),
    ],
    "pubs": lambda: [
        SamplerPub.coerce((with_vector(), np.linspace(0, 1, 24).reshape(2, 12), 100)),
        EstimatorPub.coerce((rotation(), ["ZZ", "XX"], {"theta": [0.1, 0.2]}, 0.01)),
    ],
    "plain types": lambda: [
        Options(),
        Level.HIGH,
        PurePosixPath("a/b"),
        1 + 2j,
        b"\x00",
        dt.datetime(2025, 1, 2, tzinfo=dt.UTC),
        {Parameter("theta"): 0.1},
        10**5000,
    ],
}


def print_fingerprints(circuits_before: int) -> None:
    for _ in range(circuits_before):
        circuit = QuantumCircuit(QuantumRegister(1))
        with circuit.for_loop(range(2)):
            circuit.x(0)
    print(json.dumps({name: fingerprint(build()) for name, build in REQUESTS.items()}))


@pytest.fixture(scope="module")
def in_other_processes() -> list[dict[str, str]]:
    processes = [
        subprocess.Popen(
            [sys.executable, __file__, circuits_before],
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.pathsep.join(sys.path)},
            stdout=subprocess.PIPE,
            text=True,
        )
        # Counters of loops go from 9 to 10 and from 99 to 100, where their order as text turns round.
        for seed, circuits_before in (("1", "9"), ("2", "99"))
    ]
    outputs = [process.communicate(timeout=60)[0] for process in processes]
    assert [process.returncode for process in processes] == [0, 0]
    return [json.loads(output) for output in outputs]


@pytest.mark.parametrize("name", REQUESTS)
def test_equal_requests_have_equal_fingerprints_in_every_process(
    name: str, in_other_processes: list[dict[str, str]]
) -> None:
    here = fingerprint(REQUESTS[name]())
    assert [there[name] for there in in_other_processes] == [here, here]
    assert fingerprint(REQUESTS[name]()) == here
    assert re.fullmatch("[0-9a-f]{64}", here)


def test_all_these_requests_differ() -> None:
    assert len({fingerprint(build()) for build in REQUESTS.values()}) == len(REQUESTS)


# --- Plain values ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([["a"], "b"], [["a", "b"]]),
        ([["a", "b"]], ["a", ["b"]]),
        (["ab", "c"], ["a", "bc"]),
        (["a", ""], ["a"]),
        ([], [[]]),
        ([], {}),
        ({}, set()),
        ([], None),
        ("", None),
        ("", b""),
        ("a", b"a"),
        ("a", PurePosixPath("a")),
        ({"1": 0}, {1: 0}),
        ({1: 0}, {True: 0}),
        ({"a": "b"}, {"b": "a"}),
        ({"a": 1, "b": 2}, {"a": 2, "b": 1}),
        ({"a": 1}, [["a", 1]]),
        ([1, 2], [2, 1]),
        ([1, 2], {1, 2}),
        (1, True),
        (0, False),
        (1, 1.0),
        (1, "1"),
        (0.0, -0.0),
        (1.0, 1 + 0j),
        (1, -1),
        (10, 16),
        (1e-320, 0.0),
        (math.inf, -math.inf),
        (dt.date(2025, 1, 2), dt.datetime(2025, 1, 2)),
        (dt.datetime(2025, 1, 2), dt.datetime(2025, 1, 2, tzinfo=dt.UTC)),
        (Level.LOW, Level.HIGH),
        (Level.LOW, 1),
        (Options(seed=7), Options(seed=8)),
        (Options(), {"seed": 7, "level": Level.LOW}),
        ("least_busy", ["least_busy"]),
    ],
)
def test_different_values_differ(one: Any, other: Any) -> None:
    assert fingerprint(one) != fingerprint(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([1, "a"], (1, "a")),
        ({"a": 1, "b": 2}, {"b": 2, "a": 1}),
        ({"x", "y"}, frozenset({"y", "x"})),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.float64(0.1), 0.1),
        (np.int16(3), 3),
        (np.bool_(True), True),
        (np.complex64(1 + 2j), 1 + 2j),
        (np.str_("a"), "a"),
        (bytearray(b"a"), b"a"),
        (float("nan"), -float("nan")),
        (np.arange(6).reshape(2, 3), np.asfortranarray(np.arange(6).reshape(2, 3))),
        (np.arange(6)[::2], np.array([0, 2, 4])),
    ],
)
def test_values_that_execute_alike_are_equal(one: Any, other: Any) -> None:
    assert fingerprint(one) == fingerprint(other)


@pytest.mark.parametrize(
    "other",
    [
        np.array([[1.0, 2.0], [3.0, math.nextafter(4.0, 5.0)]]),
        np.array([1.0, 2.0, 3.0, 4.0]),
        np.array([[1.0, 2.0], [3.0, 4.0]], dtype=np.float32),
        np.array([[1.0, 3.0], [2.0, 4.0]]),
        np.array([[1, 2], [3, 4]]),
        np.array([[1.0, 2.0], [3.0, 4.0]], dtype=object),
        [[1.0, 2.0], [3.0, 4.0]],
    ],
)
def test_arrays_differ_in_dtype_shape_and_every_bit(other: Any) -> None:
    assert fingerprint(np.zeros(2)) != fingerprint(np.zeros(2, dtype=np.int64))
    assert fingerprint(np.array([[1.0, 2.0], [3.0, 4.0]])) != fingerprint(other)


json_like = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=2), inner, max_size=3),
    max_leaves=6,
)


@few
@given(one=json_like, other=json_like)
@example(one=[[], []], other=[[[]]])
def test_fingerprints_are_equal_exactly_for_equal_structures(one: Any, other: Any) -> None:
    same = json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)
    assert (fingerprint(one) == fingerprint(other)) == same
    assert fingerprint(json.loads(json.dumps(one))) == fingerprint(one)


# --- Refusals ----------------------------------------------------------------------------------------------------


class Stranger:
    pass


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({"a": [1, Stranger()]}, "inputs['a'][1]"),
        (Stranger(), "inputs"),
        ([(1, {2: Stranger()})], "inputs[0][1][2]"),
        (np.array([1, Stranger()], dtype=object), "inputs[1]"),
        (Options(seed=Stranger()), "inputs.seed"),  # type: ignore[arg-type]
        ({Stranger(): 1}, "(the key)"),
        ({"f": lambda: 0}, "inputs['f']"),
        ({"t": Options}, "inputs['t']"),
        ([iter([])], "inputs[0]"),
    ],
)
def test_unknown_types_are_refused_with_their_place(value: Any, place: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        fingerprint(value)
    assert place + ":" in str(caught.value)
    assert "0x" not in str(caught.value).replace(place, "") or "the key" in place


def test_the_type_of_an_unknown_value_is_named_and_the_place_can_be() -> None:
    with pytest.raises(ConfigurationError, match=r"options\['x'\]: a value of type .*Stranger"):
        fingerprint({"x": Stranger()}, place="options")


class Accepting(Instruction):
    def validate_parameter(self, parameter: Any) -> Any:
        return parameter


def test_an_unknown_value_in_a_gate_is_refused_with_its_place() -> None:
    circuit = QuantumCircuit(1)
    circuit.h(0)
    circuit.append(Accepting("custom", 1, 0, [Stranger()]), [0])
    outer = QuantumCircuit(1)
    outer.append(circuit.to_instruction(), [0])
    with pytest.raises(ConfigurationError, match=r"inputs\[0\]\.data\[0\]\.definition\.data\[1\]\.params: .*Stranger"):
        fingerprint([outer])


@pytest.mark.parametrize(
    "array",
    [
        np.ma.masked_array([1, 2], mask=[True, False]),
        np.zeros(2, dtype=[("a", "i4")]),
        np.zeros(2, dtype=np.longdouble),  # padding bytes
        np.longdouble(1),
    ],
)
def test_arrays_whose_bytes_do_not_say_everything_are_refused(array: Any) -> None:
    with pytest.raises(ConfigurationError, match="is not known"):
        fingerprint(array)


def test_a_value_that_contains_itself_is_refused() -> None:
    cyclic_list: list[Any] = []
    cyclic_list.append(cyclic_list)
    cyclic_dict: dict[str, Any] = {}
    cyclic_dict["self"] = cyclic_dict
    for value in (cyclic_list, cyclic_dict):
        with pytest.raises(ConfigurationError, match="nested"):
            fingerprint(value)


def test_a_gate_that_contains_itself_is_refused() -> None:
    gate = Gate("loop", 1, [])
    definition = QuantumCircuit(1)
    gate.definition = definition
    definition.append(gate, [0], copy=False)
    with pytest.raises(ConfigurationError, match="nested"):
        fingerprint(definition)


def test_deep_nesting_is_refused_and_moderate_nesting_is_not() -> None:
    def nest(depth: int) -> Any:
        return [nest(depth - 1)] if depth else 0

    assert fingerprint(nest(90))
    with pytest.raises(ConfigurationError, match="nested"):
        fingerprint(nest(110))


# --- Circuits ----------------------------------------------------------------------------------------------------


@few
@given(angle=angles)
@example(angle=0.0)
@example(angle=math.pi)
def test_the_last_bit_of_an_angle_counts(angle: float) -> None:
    next_one = math.nextafter(angle, math.inf)

    def standard(x: float) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        circuit.rx(x, 0)
        return circuit

    def in_expression(x: float) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        circuit.rx(Parameter("a").sin() + x, 0)
        return circuit

    def in_custom_gate(x: float) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        circuit.append(standard(x).to_gate(), [0])
        return circuit

    def in_body(x: float) -> QuantumCircuit:
        circuit = QuantumCircuit(1, 1)
        circuit.if_test((0, 1), standard(x), [0], [])
        return circuit

    for build in (standard, in_expression, in_custom_gate, in_body):
        assert fingerprint(build(angle)) == fingerprint(build(angle))
        if build is not in_expression or abs(angle) > 1e-3:  # Qiskit drops a summand next to nothing
            assert fingerprint(build(angle)) != fingerprint(build(next_one))


def base() -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(3, "q"), ClassicalRegister(2, "left"), ClassicalRegister(1, "right"))
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.rx(Parameter("theta") * 2, 2)
    circuit.delay(100, 1, unit="ns")
    circuit.barrier()
    circuit.measure([0, 1, 2], [0, 1, 2])
    return circuit


def replaced(index: int, change: Callable[[QuantumCircuit], object]) -> Callable[[], QuantumCircuit]:
    """Return a builder of `base` with the instruction at `index` replaced by what `change` appends."""

    def build() -> QuantumCircuit:
        whole = base()
        circuit = whole.copy_empty_like()
        for position, instruction in enumerate(whole.data):
            if position == index:
                change(circuit)
            else:
                circuit.append(instruction)
        return circuit

    return build


def swapped() -> QuantumCircuit:
    circuit = base()
    circuit.data[0], circuit.data[1] = circuit.data[1], circuit.data[0]
    return circuit


def with_registers(*registers: Any, qubits: Any = None) -> Callable[[], QuantumCircuit]:
    def build() -> QuantumCircuit:
        circuit = QuantumCircuit(qubits or QuantumRegister(3, "q"), *registers)
        return circuit.compose(base(), qubits=circuit.qubits, clbits=circuit.clbits)

    return build


LEFT, RIGHT = ClassicalRegister(2, "left"), ClassicalRegister(1, "right")


def wider(bit: Any) -> QuantumCircuit:
    circuit = base()
    circuit.add_bits([bit])
    return circuit


def reordered() -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(3, "q"))
    circuit.add_bits([*LEFT, *RIGHT])
    circuit.add_register(RIGHT)
    circuit.add_register(LEFT)
    return circuit.compose(base(), qubits=range(3), clbits=range(3))


CHANGES: dict[str, Callable[[], QuantumCircuit]] = {
    "gate": replaced(0, lambda c: c.x(0)),
    "qubit": replaced(0, lambda c: c.h(1)),
    "operands' order": replaced(1, lambda c: c.cx(1, 0)),
    "control state": replaced(1, lambda c: c.cx(0, 1, ctrl_state=0)),
    "label": replaced(1, lambda c: c.append(CXGate(label="noisy"), [0, 1])),
    "gate left out": replaced(0, lambda c: None),
    "gate doubled": replaced(0, lambda c: (c.h(0), c.h(0))),
    "order": swapped,
    "parameter's name": replaced(2, lambda c: c.rx(Parameter("phi") * 2, 2)),
    "parameter's factor": replaced(2, lambda c: c.rx(Parameter("theta") * 3, 2)),
    "parameter's operation": replaced(2, lambda c: c.rx(Parameter("theta") + 2, 2)),
    "parameter bound": lambda: base().assign_parameters({"theta": 0.5}),
    "a parameter named like an expression": replaced(2, lambda c: c.rx(Parameter("2*theta"), 2)),
    "delay": replaced(3, lambda c: c.delay(101, 1, unit="ns")),
    "unit of the delay": replaced(3, lambda c: c.delay(100, 1, unit="us")),
    "barrier": replaced(4, lambda c: c.barrier(0, 1)),
    "measured bit": replaced(5, lambda c: c.measure(0, 2)),
    "global phase": lambda: base().compose(QuantumCircuit(3, global_phase=0.1), range(3)),
    "one more qubit": lambda: wider(Qubit()),
    "one more classical bit": lambda: wider(Clbit()),
    "name of a classical register": with_registers(LEFT, ClassicalRegister(1, "other")),
    "sizes of the classical registers": with_registers(ClassicalRegister(1, "left"), ClassicalRegister(2, "right")),
    "order of the classical registers": reordered,
}


@pytest.mark.parametrize("change", CHANGES)
def test_every_change_of_a_circuit_counts(change: str) -> None:
    assert fingerprint(CHANGES[change]()) != fingerprint(base())


def test_no_two_changes_of_a_circuit_are_the_same() -> None:
    assert len({fingerprint(build()) for build in CHANGES.values()}) == len(CHANGES)


def test_names_and_metadata_of_a_circuit_and_its_quantum_registers_do_not_count() -> None:
    renamed = base().copy("another name")
    renamed.metadata = {"note": 1}
    assert fingerprint(renamed) == fingerprint(base())
    assert fingerprint(replaced(4, lambda c: c.barrier(label="here"))()) == fingerprint(base())
    registers = with_registers(LEFT, RIGHT, qubits=QuantumRegister(3, "elsewhere"))
    assert fingerprint(registers()) == fingerprint(with_registers(LEFT, RIGHT)()) == fingerprint(base())


@few
@given(
    gates=st.lists(st.tuples(st.sampled_from(["h", "x", "s", "sx", "t"]), st.integers(0, 3)), min_size=1, max_size=8),
    data=st.data(),
)
def test_changing_any_single_gate_of_any_circuit_counts(gates: list[tuple[str, int]], data: st.DataObject) -> None:
    def build(steps: list[tuple[str, int]]) -> QuantumCircuit:
        circuit = QuantumCircuit(4)
        for name, qubit in steps:
            getattr(circuit, name)(qubit)
        return circuit

    index = data.draw(st.integers(0, len(gates) - 1))
    name, qubit = gates[index]
    for other in (("z", qubit), (name, (qubit + 1) % 4)):
        changed = [*gates[:index], other, *gates[index + 1 :]]
        assert fingerprint(build(changed)) != fingerprint(build(gates))


def test_order_of_parameters_counts_because_arrays_are_bound_by_it() -> None:
    def build(make: Callable[[int], Any]) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        for index in range(11):
            circuit.rx(make(index), 0)
        return circuit

    vector = ParameterVector("v", 11)
    elements, names = build(lambda i: vector[i]), build(lambda i: Parameter(f"v[{i}]"))
    assert [p.name for p in elements.parameters] != [p.name for p in names.parameters]
    assert fingerprint(elements) != fingerprint(names)


def test_bracketing_of_an_expression_counts_and_a_bound_one_is_its_number() -> None:
    a, b = Parameter("a"), Parameter("b")
    formulas = [a - b - 1, a - (b - 1), a / b * 2, a / (b * 2), (a**b) ** 2, a ** (b**2), b - a - 1, a.sin(), a.cos()]
    formulas += [a - 1, a - 2, a - b, a**2, a**3, a**b, 2 / a, 3 / a]
    assert len({fingerprint(formula) for formula in formulas}) == len(formulas)
    assert fingerprint((a + b).bind({a: 0.25, b: 0.5})) == fingerprint(0.75)


def one(operation: Any, *operands: int) -> QuantumCircuit:
    circuit = QuantumCircuit(4, 4)
    circuit.append(operation, list(operands or range(operation.num_qubits)))
    return circuit


def gate_of(name: str, angle: float) -> Gate:
    definition = QuantumCircuit(1, name=name)
    definition.rx(angle, 0)
    return definition.to_gate()


def opaque_controlled(base_name: str, controls: int) -> ControlledGate:
    return ControlledGate("guard", 3, [], num_ctrl_qubits=controls, base_gate=Gate(base_name, 1, []))


XX = SparsePauliOp(["XX", "ZZ"], [0.5, 1.5])


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (gate_of("mine", 0.1), gate_of("mine", 0.2)),
        (gate_of("mine", 0.1), gate_of("yours", 0.1)),
        (gate_of("mine", 0.1), RXGate(0.1)),
        (gate_of("mine", 0.1).control(1, annotated=False), gate_of("mine", 0.2).control(1, annotated=False)),
        (
            gate_of("mine", 0.1).control(2, ctrl_state=1, annotated=False),
            gate_of("mine", 0.1).control(2, ctrl_state=2, annotated=False),
        ),
        (Gate("opaque", 1, [1]), Gate("opaque", 1, [2])),
        (Gate("opaque", 1, []), Gate("other", 1, [])),
        (Gate("circuit-1", 1, []), Gate("circuit-2", 1, [])),
        (Gate("opaque", 1, []), Instruction("opaque", 1, 0, [])),
        (Gate("opaque", 2, []), Gate("opaque", 3, [])),
        (opaque_controlled("a", 1), opaque_controlled("b", 1)),
        (opaque_controlled("a", 1), opaque_controlled("a", 2)),
        (SaveState("a"), SaveState("b")),
        (SaveState("a"), SaveState("a", "list")),
        (AnnotatedOperation(XGate(), InverseModifier()), AnnotatedOperation(XGate(), [])),
        (AnnotatedOperation(XGate(), ControlModifier(1, 0)), AnnotatedOperation(XGate(), ControlModifier(1, 1))),
        (AnnotatedOperation(XGate(), ControlModifier(1)), AnnotatedOperation(RXGate(0.1), ControlModifier(1))),
        (Clifford.from_label("X"), Clifford.from_label("Z")),
        (Initialize([1, 0]), Initialize([0, 1])),
        (Initialize("1"), Initialize("0")),
        (Initialize(1, 2), Initialize(2, 2)),
        (UnitaryGate(np.eye(2)), UnitaryGate(np.diag([1, -1]))),
        (UnitaryGate(np.eye(2)), UnitaryGate(np.eye(2), label="noisy")),
        (UnitaryGate(np.eye(2), label="circuit-1"), UnitaryGate(np.eye(2), label="circuit-2")),
        (PauliEvolutionGate(XX, time=1), PauliEvolutionGate(XX, time=2)),
        (PauliEvolutionGate(XX), PauliEvolutionGate(XX * 2)),
        (PauliEvolutionGate(XX, synthesis=LieTrotter(reps=1)), PauliEvolutionGate(XX, synthesis=LieTrotter(reps=2))),
        (PauliEvolutionGate(XX, synthesis=SuzukiTrotter(order=2)), PauliEvolutionGate(XX, synthesis=LieTrotter())),
    ],
)
def test_operations_that_execute_differently_differ(first: Any, second: Any) -> None:
    assert fingerprint(one(first)) != fingerprint(one(second))
    assert fingerprint(one(first)) == fingerprint(one(first))


def test_a_gate_made_of_a_circuit_without_a_name_is_equal_to_its_twin() -> None:
    def build() -> QuantumCircuit:
        inner = QuantumCircuit(1)
        inner.rx(0.1, 0)
        return one(inner.to_gate())

    assert build().data[0].name != build().data[0].name
    assert fingerprint(build()) == fingerprint(build())


def test_using_one_gate_twice_is_using_two_equal_gates() -> None:
    gate = gate_of("mine", 0.1)
    shared, apart = one(gate), one(gate)
    shared.append(gate, [1])
    apart.append(gate_of("mine", 0.1), [1])
    assert fingerprint(shared) == fingerprint(apart)


def test_reading_a_lazy_definition_does_not_change_the_fingerprint() -> None:
    circuit = one(QFTGate(3))
    circuit.append(gate_of("mine", 0.1).control(1, ctrl_state=0, annotated=False), [0, 1])
    circuit.append(PauliEvolutionGate(XX), [0, 1])
    before = fingerprint(circuit)
    circuit.decompose(reps=2)
    assert [instruction.operation.definition for instruction in circuit.data]
    assert fingerprint(circuit) == before


# --- Control flow ------------------------------------------------------------------------------------------------


def body(angle: float = 0.1) -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1)
    circuit.rx(angle, 0)
    return circuit


def controlled(build: Callable[[QuantumCircuit], object]) -> QuantumCircuit:
    circuit = QuantumCircuit(QuantumRegister(2, "q"), ClassicalRegister(2, "c"), ClassicalRegister(2, "d"))
    build(circuit)
    return circuit


def loop_over(parameter: Parameter | None, used: Parameter) -> QuantumCircuit:
    inner = QuantumCircuit(1)
    inner.rx(used, 0)
    circuit = QuantumCircuit(1)
    circuit.append(ForLoopOp(range(3), parameter, inner), [0])
    return circuit


FLOWS: dict[str, Callable[[QuantumCircuit], object]] = {
    "if": lambda c: c.if_test((c.clbits[0], 1), body(), [0], [0]),
    "value": lambda c: c.if_test((c.clbits[0], 0), body(), [0], [0]),
    "bit": lambda c: c.if_test((c.clbits[1], 1), body(), [0], [0]),
    "register": lambda c: c.if_test((c.cregs[0], 1), body(), [0], [0]),
    "other register": lambda c: c.if_test((c.cregs[1], 1), body(), [0], [0]),
    "body": lambda c: c.if_test((c.clbits[0], 1), body(0.2), [0], [0]),
    "body's qubit": lambda c: c.if_test((c.clbits[0], 1), body(), [1], [0]),
    "else": lambda c: c.if_else((c.clbits[0], 1), body(), body(), [0], [0]),
    "else's body": lambda c: c.if_else((c.clbits[0], 1), body(), body(0.2), [0], [0]),
    "branches swapped": lambda c: c.if_else((c.clbits[0], 1), body(0.2), body(), [0], [0]),
    "while": lambda c: c.while_loop((c.clbits[0], 1), body(), [0], [0]),
    "for": lambda c: c.for_loop(range(2), None, body(), [0], [0]),
    "for, range": lambda c: c.for_loop(range(3), None, body(), [0], [0]),
    "for, indices": lambda c: c.for_loop((0, 2), None, body(), [0], [0]),
    "switch": lambda c: c.switch(c.cregs[0], [(0, body()), (1, body(0.2))], [0], [0]),
    "switch, cases swapped": lambda c: c.switch(c.cregs[0], [(1, body()), (0, body(0.2))], [0], [0]),
    "switch, one body": lambda c: c.switch(c.cregs[0], [((0, 1), body())], [0], [0]),
    "switch, target": lambda c: c.switch(c.cregs[1], [(0, body()), (1, body(0.2))], [0], [0]),
    "box": lambda c: c.box(body(), [0], [0]),
    "box, duration": lambda c: c.box(body(), [0], [0], duration=100),
    "box, unit": lambda c: c.box(body(), [0], [0], duration=100.0, unit="ns"),
    "less": lambda c: c.if_test(expr.less(c.cregs[0], 2), body(), [0], [0]),
    "less, constant": lambda c: c.if_test(expr.less(c.cregs[0], 3), body(), [0], [0]),
    "less, reversed": lambda c: c.if_test(expr.less(2, c.cregs[0]), body(), [0], [0]),
    "less or equal": lambda c: c.if_test(expr.less_equal(c.cregs[0], 2), body(), [0], [0]),
    "less, register": lambda c: c.if_test(expr.less(c.cregs[1], 2), body(), [0], [0]),
    "not": lambda c: c.if_test(expr.logic_not(c.clbits[0]), body(), [0], [0]),
    "lifted": lambda c: c.if_test(expr.lift(c.clbits[0]), body(), [0], [0]),
    "and or": lambda c: c.if_test(
        expr.logic_or(expr.logic_and(c.clbits[0], c.clbits[1]), c.clbits[2]), body(), [0], [0]
    ),
    "and (or)": lambda c: c.if_test(
        expr.logic_and(c.clbits[0], expr.logic_or(c.clbits[1], c.clbits[2])), body(), [0], [0]
    ),
    "variable": lambda c: c.if_test(c.add_var("v", expr.lift(True)), body_with_capture(c), [0], [0]),
    "variable's value": lambda c: c.if_test(c.add_var("v", expr.lift(False)), body_with_capture(c), [0], [0]),
    "variable's name": lambda c: c.if_test(c.add_var("w", expr.lift(True)), body_with_capture(c), [0], [0]),
}


def body_with_capture(around: QuantumCircuit) -> QuantumCircuit:
    circuit = QuantumCircuit(1, 1, captures=around.iter_declared_vars())
    circuit.rx(0.1, 0)
    return circuit


def test_every_change_of_control_flow_counts() -> None:
    prints = {name: fingerprint(controlled(build)) for name, build in FLOWS.items()}
    assert prints == {name: fingerprint(controlled(build)) for name, build in FLOWS.items()}
    assert len(set(prints.values())) == len(FLOWS)


def test_the_name_of_a_loop_parameter_does_not_count_but_what_it_is_bound_to_does() -> None:
    i, j = Parameter("i"), Parameter("j")
    assert fingerprint(loop_over(i, i)) == fingerprint(loop_over(j, j))
    assert fingerprint(loop_over(i, i)) != fingerprint(loop_over(None, i))


def test_a_loop_does_not_bind_another_parameter_of_the_same_name() -> None:
    i, other_i = Parameter("i"), Parameter("i")
    with pytest.warns(UserWarning, match="different Parameter of the same name"):
        try:
            unbound = loop_over(i, other_i)
        except CircuitError:
            pytest.skip("this version of Qiskit refuses to build it")
    assert fingerprint(unbound) != fingerprint(loop_over(i, i))


def test_annotations_of_a_box_count() -> None:
    annotation = pytest.importorskip("qiskit.circuit.annotation", reason="new in Qiskit 2.1")

    class Twirled(annotation.Annotation):  # type: ignore[misc, name-defined]
        namespace = "test.twirled"

        def __init__(self, group: str) -> None:
            self.group = group

    def build(*annotations: Any) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        with circuit.box(annotations):
            circuit.x(0)
        return circuit

    assert fingerprint(build(Twirled("pauli"))) == fingerprint(build(Twirled("pauli")))
    boxes = [build(), build(Twirled("pauli")), build(Twirled("local")), build(Twirled("pauli"), Twirled("pauli"))]
    assert len({fingerprint(box) for box in boxes}) == len(boxes)


def test_which_of_two_nested_loop_parameters_is_used_counts() -> None:
    def build(inner_one: bool) -> QuantumCircuit:
        circuit = QuantumCircuit(1)
        with circuit.for_loop(range(3)) as i, circuit.for_loop(range(3)) as j:
            circuit.rx(j if inner_one else i, 0)
            circuit.rx(i + 2 * j, 0)
        return circuit

    assert fingerprint(build(True)) != fingerprint(build(False))


def test_the_order_of_bits_in_a_body_does_not_count() -> None:
    def build(order: list[int]) -> QuantumCircuit:
        circuit = QuantumCircuit(3, 1)
        inner = QuantumCircuit([circuit.qubits[n] for n in order], circuit.clbits)
        inner.cx(circuit.qubits[0], circuit.qubits[2])
        circuit.append(IfElseOp((circuit.clbits[0], True), inner), order, [0])
        return circuit

    assert fingerprint(build([0, 1, 2])) == fingerprint(build([2, 0, 1]))


def test_a_long_parity_has_a_fingerprint() -> None:
    circuit = QuantumCircuit(1, 400)
    parity: Any = expr.lift(circuit.clbits[0])
    for bit in circuit.clbits[1:]:
        parity = expr.bit_xor(parity, bit)
    with circuit.if_test(parity):
        circuit.x(0)
    assert fingerprint(circuit)


# --- Observables and PUBs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (SparsePauliOp(["XX"], [1.0]), SparsePauliOp(["XX"], [math.nextafter(1.0, 2)])),
        (SparsePauliOp(["XX"], [1.0]), SparsePauliOp(["XY"], [1.0])),
        (SparsePauliOp(["XX"], [1.0]), SparsePauliOp(["XXI"], [1.0])),
        (Pauli("X"), Pauli("-X")),
        (Pauli("X"), PauliList(["X"])),
        (PauliList(["X"]), PauliList(["-X"])),
        (Pauli("XI"), Pauli("IX")),
        (SparseObservable.from_list([("X0", 1)]), SparseObservable.from_list([("X1", 1)])),
        (SparseObservable.from_list([("XI", 1)]), SparseObservable.from_list([("IX", 1)])),
        (SparseObservable.from_list([("X", 1)]), SparseObservable.from_list([("X", 2)])),
        (ObservablesArray(["X", "Z"]), ObservablesArray(["Z", "X"])),
        (ObservablesArray(["X", "Z"]), ObservablesArray([["X", "Z"]])),
        (ObservablesArray([{"X": 1.0}]), ObservablesArray([{"X": 1.5}])),
        (BindingsArray({"a": [1.0, 2.0]}), BindingsArray({"b": [1.0, 2.0]})),
        (BindingsArray({"a": [1.0, 2.0]}), BindingsArray({"a": [2.0, 1.0]})),
        (BindingsArray({}, shape=(2,)), BindingsArray({}, shape=(3,))),
        (SamplerPub.coerce((bell(),), 100), SamplerPub.coerce((bell(),), 101)),
        (SamplerPub.coerce((bell(),), 100), SamplerPub.coerce((base(), [0.1]), 100)),
        (
            EstimatorPub.coerce((rotation(), "ZZ", [0.1], 0.01)),
            EstimatorPub.coerce((rotation(), "ZZ", [0.1], 0.02)),
        ),
        (
            EstimatorPub.coerce((rotation(), "ZZ", [0.1], 0.01)),
            EstimatorPub.coerce((rotation(), "ZX", [0.1], 0.01)),
        ),
    ],
)
def test_different_observables_and_pubs_differ(first: Any, second: Any) -> None:
    assert fingerprint(first) != fingerprint(second)


def result(sample: str = "01", *, angle: float = 0.5, **metadata: Any) -> PrimitiveResult[PubResult]:
    data = DataBin(c=BitArray.from_samples([sample, "11"]).reshape(1, 2), evs=np.array([angle]), shape=(1,))
    span = Slice(shape=(1, 2), elements=(0, 1), shots=(0, 2))
    start = dt.datetime(2026, 8, 1, tzinfo=dt.UTC)
    spans = ExecutionSpans([ExecutionSpan(kind="DoubleSliceSpan", start=start, stop=start, slices={0: span})])
    return PrimitiveResult(
        [SamplerPubResult(data, {"shots": 2})], {"execution": {"execution_spans": spans}, **metadata}
    )


def test_a_result_may_be_an_input_and_is_the_same_one_however_it_was_had() -> None:
    again = decode(encode_result(result()))
    assert fingerprint(again) == fingerprint(result())
    others = [result("10"), result(angle=0.25), result(more=1), result()[0], result()[0].data, result()[0].data["c"]]
    assert len({fingerprint(value) for value in (result(), *others)}) == 7


def test_how_values_are_split_over_bindings_does_not_count() -> None:
    together = BindingsArray({("a", "b"): [[1.0, 2.0], [3.0, 4.0]]})
    apart = BindingsArray({"b": [2.0, 4.0], "a": [1.0, 3.0]})
    assert fingerprint(together) == fingerprint(apart)


# --- Keys --------------------------------------------------------------------------------------------------------

FIELDS: dict[str, Any] = {
    "scope": "run",
    "program_id": "sampler",
    "backend": "least_busy",
    "instance": None,
    "fingerprint": "0" * 64,
    "occurrence": 0,
    "generation": 0,
}


def test_a_key_is_a_short_lower_case_tag_that_stays_the_same_in_all_versions() -> None:
    key = request_key(**FIELDS)
    assert re.fullmatch("prt1-[a-z2-7]{26}", key)
    assert key == "prt1-6nbxz6sj6nh2h22lgb3ejmmdbn"


@pytest.mark.parametrize(
    "change",
    [
        {"scope": "run2"},
        {"program_id": "estimator"},
        {"backend": None},
        {"backend": ["least_busy"]},
        {"backend": ["a", "b"]},
        {"backend": ["b", "a"]},
        {"instance": ""},
        {"instance": "crn"},
        {"fingerprint": "1" + "0" * 63},
        {"occurrence": 1},
        {"generation": 1},
        {"scope": "runs", "program_id": "ampler"},
    ],
)
def test_every_field_changes_the_key(change: dict[str, Any]) -> None:
    assert request_key(**{**FIELDS, **change}) != request_key(**FIELDS)


def test_backends_in_a_tuple_and_in_a_list_are_the_same_request() -> None:
    assert request_key(**{**FIELDS, "backend": ("a", "b")}) == request_key(**{**FIELDS, "backend": ["a", "b"]})


def test_neither_numpy_nor_qiskit_is_loaded_for_plain_values() -> None:
    program = (
        "import sys; from prefect_runtime.client.fingerprint import fingerprint as f; f({'a': [1, 2.0]});"
        "sys.exit(any(name in sys.modules for name in ('numpy', 'qiskit')))"
    )
    path = os.pathsep.join(sys.path)
    subprocess.run([sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": path}, check=True, timeout=60)


if __name__ == "__main__":
    print_fingerprints(int(sys.argv[1]))
