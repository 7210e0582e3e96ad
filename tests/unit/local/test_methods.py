"""Which method runs a circuit, what it may need, and what is refused."""

import itertools
import logging
import random
import re

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit_aer import AerSimulator
from qiskit_aer.backends import backend_utils
from qiskit_aer.noise import NoiseModel

from prefect_runtime.local import backends
from prefect_runtime.local.device import ExactSimulator
from prefect_runtime.local.programs import anatomy, estimator, memory, methods, sampler
from prefect_runtime.local.programs.bonds import Chain
from prefect_runtime.local.programs.memory import CannotSimulateError
from prefect_runtime.local.programs.methods import Noise

GIB = 1 << 30


class Messenger:
    def publish(self, value):
        pass


def ghz(width):
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for number in range(width - 1):
        circuit.cx(number, number + 1)
    circuit.measure_all()
    return circuit


def row(width, layers):
    """Neighbours entangled, layer by layer, with no Clifford gate."""
    circuit = QuantumCircuit(width)
    for layer in range(layers):
        for number in range(width):
            circuit.rx(0.3 + number, number)
        for number in range(layer % 2, width - 1, 2):
            circuit.cx(number, number + 1)
    circuit.measure_all()
    return circuit


def tangle(width, layers=10):
    """Random pairs entangled, layer by layer: nothing but its state vector holds it."""
    draw = random.Random(width)
    circuit = QuantumCircuit(width)
    for _ in range(layers):
        for number in range(width):
            circuit.rx(draw.uniform(0, 6), number)
        places = draw.sample(range(width), width)
        for pair in zip(places[::2], places[1::2], strict=False):
            circuit.cx(*pair)
    circuit.measure_all()
    return circuit


def within(wide, narrow, places):
    circuit = QuantumCircuit(wide, narrow.num_clbits)
    return circuit.compose(narrow, qubits=places, clbits=range(narrow.num_clbits))


def feed_forward(width, *, wide_branch):
    circuit = QuantumCircuit(width, 2)
    circuit.rx(0.3, 0)
    circuit.measure(0, 0)
    with circuit.if_test((circuit.clbits[0], 1)):
        circuit.cx(0, 1) if wide_branch else circuit.x(1)
    for number in range(width):
        circuit.rx(0.4, number)
    circuit.measure(1, 1)
    return circuit


def chosen(*circuits, shots=1000, noise=Noise.NONE, free=16 * GIB):
    return methods.choose(circuits, shots=shots, noise=noise, memory=lambda: free).method


@pytest.mark.parametrize(
    ("circuit", "method"),
    [
        (ghz(2), "automatic"),
        (ghz(20), "automatic"),
        (ghz(21), "stabilizer"),
        (ghz(127), "stabilizer"),
        (row(100, 3), "matrix_product_state"),
        (row(26, 2), "matrix_product_state"),
        (tangle(22), "statevector"),
        (within(127, tangle(6), [0, 9, 50, 70, 99, 126]), "automatic"),
        (feed_forward(60, wide_branch=False), "matrix_product_state"),
        (feed_forward(25, wide_branch=True), "statevector"),
    ],
)
def test_the_method_follows_from_the_circuit(circuit, method):
    assert chosen(circuit) == method


def test_quarter_turns_are_clifford_gates_and_others_are_not():
    circuits = [ghz(30) for _ in range(3)]
    circuits[0].rz(3 * np.pi / 2, 0)
    circuits[1].rz(0.1, 0)
    circuits[2].rz(Parameter("angle"), 0)
    assert [anatomy.anatomy(circuit).clifford for circuit in circuits] == [True, False, False]


@pytest.mark.parametrize(
    ("circuit", "shots", "noise", "method"),
    [
        (ghz(10), 10**6, Noise.GENERAL, "automatic"),
        (ghz(40), 1000, Noise.CLIFFORD, "stabilizer"),
        (ghz(40), 1000, Noise.GENERAL, "matrix_product_state"),
        (tangle(12), 100_000, Noise.GENERAL, "density_matrix"),
        (tangle(14), 100, Noise.GENERAL, "statevector"),
    ],
)
def test_noise_changes_the_method(circuit, shots, noise, method):
    assert chosen(circuit, shots=shots, noise=noise) == method


def test_a_density_matrix_that_does_not_fit_is_not_taken():
    """Aer's own choice is, from 2^13 shots on, one of 1 GiB."""
    assert chosen(tangle(13), shots=100_000, noise=Noise.GENERAL, free=2 * GIB) == "density_matrix"
    assert chosen(tangle(13), shots=100_000, noise=Noise.GENERAL, free=GIB // 2) != "density_matrix"


@pytest.mark.parametrize(
    ("circuits", "method"),
    [
        ([ghz(127), ghz(3)], "stabilizer"),
        ([ghz(127), row(5, 2)], "automatic"),
        ([row(100, 3), row(5, 2)], "matrix_product_state"),
        ([row(26, 2), tangle(22)], "statevector"),
    ],
)
def test_circuits_of_one_run_get_one_method_that_suits_all(circuits, method):
    assert chosen(*circuits) == method


@pytest.mark.parametrize(
    ("circuit", "parts"),
    [
        (tangle(40), ["40 qubits", "16 TiB as statevector", "as matrix_product_state", "8 GiB free", "no Clifford"]),
        (tangle(200, 60), ["200 qubits", "more than any computer has as statevector"]),
        (tangle(30), ["30 qubits", "16 GiB as statevector"]),
    ],
)
def test_what_fits_nowhere_is_refused_with_what_it_needs_and_what_there_is(circuit, parts):
    with pytest.raises(CannotSimulateError) as caught:
        chosen(circuit, free=8 * GIB)
    for part in parts:
        assert part in str(caught.value)


def test_the_same_circuit_is_refused_or_run_as_memory_allows():
    assert chosen(tangle(30), free=17 * GIB) == "statevector"
    with pytest.raises(CannotSimulateError):
        chosen(tangle(30), free=15 * GIB)


@pytest.mark.parametrize("program", [sampler, estimator])
def test_a_pub_that_does_not_fit_is_named_before_anything_runs(program):
    simulator = ExactSimulator()
    simulator.free_memory = lambda: 8 * GIB
    messenger = Messenger()
    messenger.publish = lambda _: pytest.fail("a PUB was run")
    small, large = ghz(2), tangle(40)
    pubs = [[small], [large]]
    if program is estimator:
        small.remove_final_measurements()
        large.remove_final_measurements()
        pubs = [[small, "ZZ"], [large, "Z" * 40]]
    with pytest.raises(CannotSimulateError, match=r"^PUB 1: .* 40 qubits"):
        program.main(simulator, messenger, pubs=pubs)


def test_results_that_do_not_fit_are_refused():
    simulator = ExactSimulator()
    simulator.free_memory = lambda: 8 * GIB
    messenger = Messenger()
    messenger.publish = lambda _: pytest.fail("a PUB was run")
    with pytest.raises(CannotSimulateError, match=r"PUB 1: the results .* 100,000,000 shots of 2 bits"):
        sampler.main(simulator, messenger, pubs=[[ghz(2), None, 10], [ghz(2), None, 10**8]])
    with pytest.raises(CannotSimulateError, match="the results"):
        simulator.run(ghz(2), shots=10**8)


def test_a_run_says_its_method_in_the_result_and_in_the_log(caplog):
    simulator = backends.simulator("aer_simulator", calibration=1)
    with caplog.at_level(logging.INFO, logger="prefect_runtime"):
        result = sampler.main(simulator, Messenger(), pubs=[[ghz(2)], [row(60, 2), None, 10], [ghz(60), None, 10]])
    methods_used = [pub.metadata["simulator_metadata"]["method"] for pub in result]
    assert methods_used == ["stabilizer", "matrix_product_state", "stabilizer"]
    assert "matrix_product_state: its 60 qubits are little entangled" in caplog.text
    assert len([record for record in caplog.records if record.message.startswith("Simulated as")]) == 3


def test_an_estimate_on_a_noisy_backend_says_its_method_too():
    circuit = QuantumCircuit(5)
    circuit.sx(0)
    result = estimator.main(backends.simulator("generic_5q", calibration=1), Messenger(), pubs=[[circuit, "IIIIZ"]])
    assert result[0].metadata["simulator_metadata"]["method"] in ("density_matrix", "stabilizer", "statevector")


def test_wide_results_are_right():
    simulator = backends.simulator("aer_simulator", calibration=1)
    measured, plain = ghz(127), ghz(127)
    plain.remove_final_measurements()
    counts = sampler.main(simulator, Messenger(), pubs=[[measured, None, 200]])[0].data.meas.get_counts()
    assert set(counts) == {"0" * 127, "1" * 127}
    labels = ["Z" * 126 + "I", "X" * 127, "I" * 126 + "Z"]
    evs = estimator.main(simulator, Messenger(), pubs=[[plain, labels, None, 1e-9]])[0].data.evs
    assert evs == pytest.approx([1, 1, 0], abs=1e-6)


def test_a_wide_circuit_and_its_narrow_twin_give_the_same_numbers():
    """Through a matrix product state, with gates that one does not know, against a state vector."""
    simulator = backends.simulator("aer_simulator", calibration=1)
    narrow = QuantumCircuit(4)
    for number in range(3):
        narrow.ry(0.4 + number, number)
        narrow.crz(1.1, number, number + 1)
        narrow.cry(0.7, number + 1, number)
    narrow.ccz(0, 1, 2)
    narrow.cu(0.1, 0.2, 0.3, 0.4, 0, 3)
    rest = row(40, 2)
    rest.remove_final_measurements()
    wide = rest.tensor(narrow)  # narrow is on the low qubits
    labels = ["XZYZ", "ZIIZ", "IXXI", "YIZX", "IIIZ"]
    evs = [
        estimator.main(simulator, Messenger(), pubs=[[circuit, observables, None, 1e-9]])[0].data.evs
        for circuit, observables in ((narrow, labels), (wide, ["I" * 40 + label for label in labels]))
    ]
    assert simulator.method_used == "matrix_product_state"
    assert evs[1] == pytest.approx(evs[0], abs=1e-6)
    assert max(abs(evs[0])) > 0.2


def test_idle_qubits_cost_an_estimate_nothing():
    circuit = QuantumCircuit(127)
    angle = Parameter("angle")
    circuit.rx(angle, 5)
    circuit.barrier()
    label = "I" * 121 + "Z" + "I" * 5
    observables = [[{label: 1.0}], [{label: 2.0, "Z" + "I" * 126: 3.0}]]
    simulator = backends.simulator("aer_simulator", calibration=1)
    result = estimator.main(simulator, Messenger(), pubs=[[circuit, observables, [0.0, np.pi], 1e-9]])[0]
    assert result.data.evs == pytest.approx(np.array([[1, -1], [5, 1]]), abs=1e-6)
    assert simulator.method_used == "statevector"  # of two qubits


def test_a_method_of_the_callers_own_is_left_alone():
    result = ExactSimulator().run(row(22, 2), shots=10, method="matrix_product_state").result()
    assert result.metadata["method"] == "matrix_product_state"


def test_noise_of_the_callers_own_counts_as_noise():
    simulator = ExactSimulator()
    assert simulator.noise_of([], NoiseModel()) is Noise.NONE
    assert simulator.noise_of([], NoiseModel.from_backend(AerSimulator().from_backend(device()))) is Noise.GENERAL


def device():
    from prefect_runtime.local.device import device as build

    return build(backends.spec_of("generic_5q"), backends.describe("generic_5q", calibration=5)["properties"])


def test_the_kind_of_a_devices_noise_is_that_of_its_model():
    """By T1 and T2 we say where the model has Kraus operators; here it is asked itself."""
    for calibration in range(1, 7):
        simulator = backends.simulator("generic_5q", calibration=calibration)
        for number in range(5):
            circuit = QuantumCircuit(5)
            circuit.x(number)
            circuit.id(number)
            said = simulator.noise_of([circuit])
            errors = noise_model(simulator, number).to_dict()["errors"]
            ways = itertools.chain.from_iterable(error.get("instructions", ()) for error in errors)
            kraus = any(step["name"] == "kraus" for way in ways for step in way)
            assert (said is Noise.GENERAL) == kraus


def noise_model(simulator, number):
    from prefect_runtime.local import device as module

    return module._noise(simulator, frozenset([number]))


def test_our_lists_of_gates_are_aers():
    known = backend_utils.BASIS_GATES
    assert not methods._CHAIN_GATES - set(known["matrix_product_state"])
    assert not methods._DENSITY_MATRIX_GATES - set(known["density_matrix"])
    assert set(known["stabilizer"]) - {"rz", "store"} == anatomy._CLIFFORD


TWO = ("cx", "cy", "cz", "swap", "ecr", "csx", "cp", "rzz", "rxx")


def random_circuit(draw, width):
    circuit = QuantumCircuit(width)
    for _ in range(draw.randint(1, 30)):
        places = draw.sample(range(width), 3)
        name = draw.choice([*TWO, "u", "u", "u", "u", "ccx", "cswap"])
        if name == "u":
            circuit.u(draw.uniform(0, 6), draw.uniform(0, 6), draw.uniform(0, 6), places[0])
        elif name in ("ccx", "cswap"):
            getattr(circuit, name)(*places)
        elif name in ("cp", "rzz", "rxx"):
            getattr(circuit, name)(draw.uniform(0, 6), *places[:2])
        else:
            getattr(circuit, name)(*places[:2])
    return circuit


class CountingChain(Chain):
    """Counts the swaps it makes, each of which Aer writes a line about."""

    moves = 0

    def _move(self, place, to):
        self.moves += abs(place - to)
        super()._move(place, to)


def test_no_bond_ever_gets_wider_than_its_bound(seed):
    draw = random.Random(seed)
    simulator = AerSimulator(method="matrix_product_state")
    compared = 0
    for _ in range(60):
        width = draw.randint(3, 9)
        circuit = random_circuit(draw, width)
        chain = CountingChain(width)
        gates = [gate for gate in anatomy_of_all(circuit) if len(gate.qubits) > 1]
        if not gates:
            continue
        for gate in gates:
            chain.apply(gate.name, gate.qubits)
        circuit.measure_all()
        done = simulator.run(circuit, shots=1, mps_log_data=True).result()
        lines = re.findall(r"BD=\[([\d ]*)\]", done.results[0].metadata["MPS_log_data"])
        widths = np.array([line.split() for line in lines[-chain.moves - len(gates) :]], dtype=int).max(axis=0)
        assert (widths <= [1 << bits for bits in chain.bits[1:-1]]).all(), circuit.draw()
        compared += 1
    assert compared > 30


def anatomy_of_all(circuit):
    """Its gates by the qubits' own numbers: idle ones keep their place, as the measurement at the end has them."""
    measured = circuit.copy()
    measured.measure_all()
    return anatomy.anatomy(measured).gates


@pytest.mark.parametrize(
    ("files", "left"),
    [
        ({"memory.max": "max", "memory.current": "5", "memory.stat": "anon 1\n"}, []),
        ({"memory.max": "1000", "memory.current": "600", "memory.stat": "anon 1\ninactive_file 100\n"}, [500]),
        ({"memory.max": "1000", "memory.current": "1200", "memory.stat": ""}, [0]),
        ({}, []),
    ],
)
def test_the_limit_of_a_control_group_is_respected(tmp_path, files, left):
    own = tmp_path / "cgroup"
    own.write_text("0::/user/ours\n")
    group = tmp_path / "fs" / "user"
    (group / "ours").mkdir(parents=True)
    for name, text in files.items():
        (group / name).write_text(text)  # the outer group's limit holds for ours
    assert memory.free_in_groups(tmp_path / "fs", own) == left


def test_there_is_some_memory_here():
    assert 0 < memory.available() < 1 << 50
