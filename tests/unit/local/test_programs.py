"""The programs sampler and estimator, on every backend of the catalogue."""

import logging

import numpy as np
import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager, qasm3
from qiskit.circuit import ClassicalRegister, Clbit, Parameter, QuantumRegister
from qiskit.quantum_info import SparsePauliOp

from prefect_runtime.client.backend import Backend
from prefect_runtime.local import backends
from prefect_runtime.local.programs import estimator, sampler
from prefect_runtime.local.programs.memory import CannotSimulateError
from prefect_runtime.wire import codec

NAMES = [spec.name for spec in backends.CATALOGUE]
SEED = {"seed": 42}


class Messenger:
    def __init__(self):
        self.published = []

    def publish(self, value):
        self.published.append(value)


def simulator(name="aer_simulator"):
    return backends.simulator(name, calibration=1)


def run(program, pubs, options=None, *, backend="aer_simulator", **more):
    return program.main(simulator(backend), Messenger(), pubs=pubs, options=options, **more)


def bell(*, measured):
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    if measured:
        circuit.measure_all()
    return circuit


def rotated(*, measured):
    circuit = QuantumCircuit(1)
    circuit.rx(Parameter("theta"), 0)
    if measured:
        circuit.measure_all()
    return circuit


def laid_out(name, circuit):
    target = Backend(name, **backends.describe(name, calibration=1)).target
    return generate_preset_pass_manager(2, target=target, seed_transpiler=7).run(circuit)


@pytest.mark.parametrize("name", NAMES)
def test_a_bell_circuit_gives_equal_bits(name):
    circuit = laid_out(name, bell(measured=True))
    counts = run(sampler, [[circuit, None, 2000]], SEED, backend=name)[0].data.meas.get_counts()
    equal = counts["00"] + counts["11"]
    assert sum(counts.values()) == 2000
    assert counts["00"] == pytest.approx(1000, abs=200)
    assert equal == 2000 if name == "aer_simulator" else 1700 < equal < 2000


@pytest.mark.parametrize("name", NAMES)
def test_a_bell_circuits_qubits_are_correlated(name):
    circuit = laid_out(name, bell(measured=False))
    observables = SparsePauliOp(["ZZ", "XX", "ZI"])
    if circuit.layout is not None:
        observables = observables.apply_layout(circuit.layout)
    parts = [{label: 1.0} for label in observables.paulis.to_labels()]
    result = run(estimator, [[circuit, parts]], SEED, backend=name)[0]
    assert result.data.evs == pytest.approx([1, 1, 0], abs=0.05 if name == "aer_simulator" else 0.15)
    assert (name == "aer_simulator") or (result.data.evs[:2] < 1).all()


def test_a_circuit_may_come_as_qiskit_text_or_through_the_codec():
    circuit = bell(measured=True)
    through = codec.decode(codec.encode_result([circuit, np.empty(0), 100]))
    for pub in ([qasm3.dumps(circuit), None, 100], circuit, [circuit], (circuit, [], 100), through):
        counts = run(sampler, [pub], {"default_shots": 100})[0].data.meas.get_counts()
        assert set(counts) == {"00", "11"}
        assert sum(counts.values()) == 100


def test_openqasm_text_may_hold_parameters_and_control_flow():
    text = """
        OPENQASM 3.0;
        include "stdgates.inc";
        input float theta;
        qubit[2] q;
        bit[2] c;
        rx(theta) q[0];
        c[0] = measure q[0];
        if (c[0]) { x q[1]; }
        c[1] = measure q[1];
    """
    data = run(sampler, [[text, {"theta": [0.0, np.pi]}, 50]])[0].data
    assert [data.c.get_counts(index) for index in (0, 1)] == [{"00": 50}, {"11": 50}]


@pytest.mark.parametrize("name", ["aer_simulator", "generic_5q"])
def test_a_measurement_can_decide_what_happens_next(name):
    circuit = QuantumCircuit(2, 2)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)) as otherwise:
        circuit.x(1)
    with otherwise:
        circuit.id(1)
    circuit.measure(1, 1)
    counts = run(sampler, [[laid_out(name, circuit), None, 1000]], SEED, backend=name)[0].data.c.get_counts()
    assert counts["00"] + counts["11"] > (999 if name == "aer_simulator" else 850)
    assert counts["11"] == pytest.approx(500, abs=100)


def test_a_register_has_its_own_bits_wherever_they_lie_in_the_circuit():
    bits = [Clbit() for _ in range(3)]
    circuit = QuantumCircuit(QuantumRegister(3), bits)
    picked = {"last_first": [2, 0], "side_by_side": [0, 1], "shared": [1, 0], "every_bit": [0]}
    for name, places in picked.items():
        circuit.add_register(ClassicalRegister(bits=[bits[place] for place in places], name=name))
    circuit.rx(Parameter("theta"), 0)
    circuit.measure(range(3), bits)
    with circuit.if_test((circuit.cregs[0], 2)):  # its second bit, the first of the circuit
        circuit.x(2)
    circuit.measure(2, bits[2])
    data = run(sampler, [[circuit, [[0.0], [np.pi]], 10]])[0].data
    assert list(data) == list(picked)
    counts = {name: [data[name].get_counts(index) for index in (0, 1)] for name in picked}
    assert counts == {
        "last_first": [{"00": 10}, {"11": 10}],
        "side_by_side": [{"00": 10}, {"01": 10}],
        "shared": [{"00": 10}, {"10": 10}],
        "every_bit": [{"0": 10}, {"1": 10}],
    }


@pytest.mark.parametrize(
    "values",
    [np.array([[0.0], [np.pi]]), [[0.0], [np.pi]], {"theta": [0.0, np.pi]}, {("theta",): [[0.0], [np.pi]]}],
    ids=["array", "list", "by name", "by names"],
)
def test_parameter_values_of_every_shape_are_broadcast(values):
    sampled = run(sampler, [[rotated(measured=True), values, 20]])[0].data.meas
    assert sampled.shape == (2,)
    assert [sampled.get_counts(index) for index in (0, 1)] == [{"0": 20}, {"1": 20}]
    estimated = run(estimator, [[rotated(measured=False), {"Z": 1}, values, 1e-6]])[0].data.evs
    assert estimated == pytest.approx([1, -1], abs=1e-4)


def test_observables_are_broadcast_against_values():
    observables = [[{"Z": 1.0}], [{"Z": 2.0, "I": 1.0}], ["X"]]
    evs = run(estimator, [[rotated(measured=False), observables, [[0.0], [np.pi]], 1e-6]])[0].data.evs
    assert evs == pytest.approx(np.array([[1, -1], [3, -1], [0, 0]]), abs=1e-4)


@pytest.mark.parametrize("observables", [{"ZZ": 1.0}, "ZZ", SparsePauliOp("ZZ")], ids=["dict", "label", "operator"])
def test_one_observable_gives_one_number(observables):
    evs = run(estimator, [[bell(measured=False), observables]], SEED)[0].data.evs
    assert evs.shape == ()
    assert evs == pytest.approx(1, abs=0.1)


def test_shots_come_from_the_pub_then_the_options_then_ibms_default():
    circuit = bell(measured=True)
    result = run(sampler, [[circuit, None, 10], [circuit, None, None]], {"default_shots": 20})
    assert [pub.metadata["shots"] for pub in result] == [10, 20]
    assert run(sampler, [circuit])[0].metadata["shots"] == 4096


@pytest.mark.parametrize("precision", [0.0, 1e-200, float("nan"), float("inf")])
def test_a_precision_that_no_shots_reach_is_refused_where_it_is_measured(precision):
    with pytest.raises(CannotSimulateError, match=r"^PUB 1: a noisy backend measures"):
        run(estimator, [[QuantumCircuit(1), "Z"], [QuantumCircuit(1), "Z", None, precision]], backend="generic_5q")


def measured_midway():
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    circuit.cx(0, 1)
    return circuit


def decided_midway():
    circuit = QuantumCircuit(2, 1)
    circuit.h(0)
    circuit.measure(0, 0)
    with circuit.if_test((0, 1)):
        circuit.x(1)
    return circuit


def reset_midway():
    circuit = bell(measured=False)
    circuit.reset(0)
    circuit.cx(1, 0)
    return circuit


@pytest.mark.parametrize("circuit", [measured_midway(), decided_midway(), reset_midway()])
@pytest.mark.parametrize("precision", [0.2, 0.004])
def test_a_circuit_that_collapses_on_its_way_is_averaged_over_as_many_runs_as_its_precision_takes(circuit, precision):
    data = run(estimator, [[circuit, ["ZZ", {"ZI": 2.0, "II": 1.0}], None, precision]], SEED)[0].data
    assert data.stds == pytest.approx([precision, 2 * precision])
    assert (abs(data.evs - [1.0, 1.0]) <= 5 * data.stds).all()


def test_a_circuit_that_collapses_on_its_way_has_no_exact_value():
    with pytest.raises(CannotSimulateError, match=r"^PUB 1: .*a precision of 0 takes no number of shots"):
        run(estimator, [[bell(measured=False), "ZZ", None, 0], [measured_midway(), "ZZ", None, 0]])


def test_resets_before_everything_else_cost_no_exactness():
    circuit = QuantumCircuit(2)
    circuit.reset([0, 1])
    circuit.h(0)
    assert run(estimator, [[circuit, "IX", None, 0]])[0].data.evs == pytest.approx(1)


def test_precision_comes_from_the_pub_then_the_options_then_qiskits_default():
    pub = [bell(measured=False), {"ZZ": 1}, None]

    def asked(pubs, options=None):
        return [part.metadata["target_precision"] for part in run(estimator, pubs, options)]

    assert asked([[*pub, 0.1], pub], {"default_precision": 0.2}) == [0.1, 0.2]
    assert asked([pub], {"default_shots": 100}) == [0.1]
    assert asked([pub], {"default_shots": 100, "default_precision": 0.2}) == [0.1]
    assert asked([pub]) == [1 / 64]


@pytest.mark.parametrize("name", ["aer_simulator", "generic_5q"])
@pytest.mark.parametrize("options", [{"seed": 5}, {"simulator": {"seed_simulator": 5}}], ids=["seed", "as IBM"])
def test_a_seed_makes_results_repeatable_but_equal_pubs_differ(name, options):
    measured, plain = laid_out(name, bell(measured=True)), laid_out(name, bell(measured=False))
    observable = SparsePauliOp("XZ") if plain.layout is None else SparsePauliOp("XZ").apply_layout(plain.layout)

    def once():
        sampled = run(sampler, [[measured, None, 500]] * 2, options, backend=name)
        estimated = run(estimator, [[plain, observable]] * 2, options, backend=name)
        return [pub.data.meas.array.tobytes() for pub in sampled] + [float(pub.data.evs) for pub in estimated]

    first = once()
    assert first == once()
    assert len(set(first)) == 4


@pytest.mark.parametrize("program", [sampler, estimator])
def test_progress_is_published_after_each_pub(program):
    measured = program is sampler
    pubs = [[bell(measured=measured)] + ([] if measured else [{"ZZ": 1}])] * 3
    messenger = Messenger()
    result = program.main(simulator(), messenger, pubs=pubs)
    assert len(result) == 3
    assert result.metadata == {"version": 2}
    assert [(message["pub"], message["pubs"]) for message in messenger.published] == [(0, 3), (1, 3), (2, 3)]
    assert all(isinstance(message["seconds"], float) and message["seconds"] > 0 for message in messenger.published)


@pytest.mark.parametrize("program", [sampler, estimator])
@pytest.mark.parametrize("pubs", [[], None, "OPENQASM 3.0;", {}])
def test_no_pubs_are_refused(program, pubs):
    with pytest.raises(ValueError, match="at least one PUB"):
        run(program, pubs)


@pytest.mark.parametrize(
    ("pub", "why"),
    [
        ([], "PUB 1 is empty"),
        ([None], "PUB 1: a circuit must be"),
        (["OPENQASM 3.0; qubit q; spin q;"], "PUB 1:"),
        ([rotated(measured=True), {"phi": 1.0}], "PUB 1: .*phi"),
        ([rotated(measured=True)], "PUB 1:"),
        ([rotated(measured=True), None, -1], "PUB 1:"),
        ([bell(measured=True), None, 10, 11], "PUB 1:"),
    ],
)
def test_a_broken_pub_is_named_before_anything_runs(pub, why):
    messenger = Messenger()
    with pytest.raises(ValueError, match=why):
        sampler.main(simulator(), messenger, pubs=[bell(measured=True), pub])
    assert messenger.published == []


@pytest.mark.parametrize("program", [sampler, estimator])
def test_options_without_effect_are_named_in_the_log(program, caplog):
    options = {"seed": 1, "dynamical_decoupling": {"enable": True}, "twirling": {"enable_gates": False}}
    pub = [bell(measured=program is sampler)] + ([] if program is sampler else [{"ZZ": 1}])
    with caplog.at_level(logging.WARNING, logger=program.__name__):
        run(program, [pub], options, version=2, support_qiskit=True, resilience_level=1)
    assert [record.name for record in caplog.records] == [program.__name__]
    assert "dynamical_decoupling.enable, twirling.enable_gates" in caplog.text
