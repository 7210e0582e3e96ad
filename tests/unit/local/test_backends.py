"""The catalogue, its documents, and the simulators behind them."""

import json
import subprocess
import sys
from itertools import chain

import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.transpiler import CouplingMap
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from prefect_runtime.local import backends
from prefect_runtime.local.device import DeviceSimulator, device
from prefect_runtime.wire.errors import ConfigurationError

NOISY = [spec for spec in backends.CATALOGUE if spec.noisy]


def by_name(spec):
    return spec.name


def test_the_ideal_simulator_is_listed_first():
    names = [spec.name for spec in backends.CATALOGUE]
    assert names == ["aer_simulator", "generic_5q", "generic_27q", "generic_127q"]


@pytest.mark.parametrize(("spec", "edges"), list(zip(NOISY, (4, 28, 144), strict=True)))
def test_a_device_is_coupled_as_the_one_it_stands_for(spec, edges):
    couplings = CouplingMap(spec.edges)
    assert len(set(map(frozenset, spec.edges))) == edges
    assert couplings.size() == spec.num_qubits
    assert couplings.is_connected()
    assert max(couplings.graph.to_undirected().degree(n) for n in range(spec.num_qubits)) == 3


def test_the_eagle_has_its_bridges_where_ibm_put_them():
    edges = set(backends.spec_of("generic_127q").edges)
    assert {(0, 14), (14, 18), (20, 33), (33, 39), (37, 52), (52, 56), (96, 109), (109, 114), (112, 126)} <= edges


@pytest.mark.parametrize("spec", backends.CATALOGUE, ids=by_name)
def test_documents_are_json_and_repeatable(spec):
    documents = backends.describe(spec.name, calibration=7)
    assert json.loads(json.dumps(documents)) == documents == backends.describe(spec.name, calibration=7)
    assert documents["configuration"]["n_qubits"] == spec.num_qubits
    assert (documents["properties"] is not None) == spec.noisy


@pytest.mark.parametrize("spec", NOISY, ids=by_name)
def test_another_calibration_has_other_errors_and_the_same_configuration(spec):
    one, two = (backends.describe(spec.name, calibration=number) for number in (1, 2))
    assert one["configuration"] == two["configuration"]
    for part in ("qubits", "gates", "last_update_date"):
        assert one["properties"][part] != two["properties"][part]


@pytest.mark.parametrize("spec", NOISY, ids=by_name)
def test_every_duration_is_a_multiple_of_the_time_step(spec):
    properties = backends.describe(spec.name, calibration=3)["properties"]
    entries = chain(*(gate["parameters"] for gate in properties["gates"]), *properties["qubits"])
    steps = [entry["value"] / backends.DT_NS for entry in entries if entry["unit"] == "ns"]
    assert len(steps) > spec.num_qubits
    assert steps == pytest.approx([round(step) for step in steps])


def test_an_unknown_name_is_refused_with_the_known_ones():
    for ask in (backends.describe, backends.simulator):
        with pytest.raises(ConfigurationError, match=r"'ibm_fez'.*aer_simulator, generic_5q"):
            ask("ibm_fez", calibration=1)


def test_a_process_makes_one_simulator_for_each_calibration():
    assert backends.simulator("generic_5q", calibration=1) is backends.simulator("generic_5q", calibration=1)
    assert backends.simulator("generic_5q", calibration=1) is not backends.simulator("generic_5q", calibration=2)


def test_the_documents_cost_no_qiskit():
    script = (
        "import sys; from prefect_runtime.local import backends as b;"
        "[b.describe(spec.name, calibration=1) for spec in b.CATALOGUE];"
        "sys.exit(sorted({'qiskit', 'qiskit_aer', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "[]\n")


def entangled(target):
    circuit = QuantumCircuit(4)
    circuit.h(0)
    for number in range(3):
        circuit.cx(number, number + 1)
        circuit.delay(3000, number + 1, unit="ns")
    circuit.reset(2)
    circuit.measure_all()
    layout = [4, 3, 1, 0]
    return generate_preset_pass_manager(1, target=target, initial_layout=layout, seed_transpiler=1).run(circuit)


@pytest.fixture(scope="module")
def generic_5q():
    documents = backends.describe("generic_5q", calibration=5)
    return device(backends.spec_of("generic_5q"), documents["properties"])


def test_noise_of_the_touched_qubits_is_the_whole_devices_noise(generic_5q):
    """Leaving out what a circuit does not touch must not change one shot; qubit 2 is idle here."""
    ours = backends.simulator("generic_5q", calibration=5)
    aers = AerSimulator.from_backend(generic_5q)
    circuit = entangled(generic_5q.target)
    counts = [backend.run(circuit, shots=4000, seed_simulator=11).result().get_counts() for backend in (ours, aers)]
    assert counts[0] == counts[1]
    assert len(counts[0]) > 4  # there is noise at all


def test_noise_follows_the_physical_qubit():
    """A readout error of one qubit only shows where that qubit is measured, whatever its place in the circuit."""
    spec = backends.spec_of("generic_127q")
    properties = backends.describe(spec.name, calibration=5)["properties"]
    for entry in chain(*properties["qubits"]):
        if entry["name"] == "readout_error":
            entry["value"] = 0.0
    next(entry for entry in properties["qubits"][93] if entry["name"] == "readout_error")["value"] = 0.5
    simulator = DeviceSimulator.of(device(spec, properties))
    circuit = QuantumCircuit(127, 2)
    circuit.measure([87, 93], [0, 1])
    counts = simulator.run(circuit, shots=2000, seed_simulator=1).result().get_counts()
    assert set(counts) == {"00", "10"}
    assert counts["10"] == pytest.approx(1000, abs=150)


@pytest.mark.parametrize(("prepared", "name"), [(0, "prob_meas1_prep0"), (1, "prob_meas0_prep1")])
def test_a_bit_is_misread_as_often_as_the_properties_say(prepared, name):
    """Who mitigates by them must get what is simulated."""
    qubit = backends.describe("generic_5q", calibration=1)["properties"]["qubits"][0]
    (stated,) = (entry["value"] for entry in qubit if entry["name"] == name)
    circuit = QuantumCircuit(5, 1)
    circuit.initialize(prepared, 0)
    circuit.measure(0, 0)
    counts = backends.simulator("generic_5q", calibration=1).run(circuit, shots=100_000, seed_simulator=1).result()
    misread = counts.get_counts()[str(1 - prepared)] / 100_000
    assert misread == pytest.approx(stated, abs=0.0015)  # four standard deviations


def test_a_noise_model_of_the_callers_own_is_respected():
    circuit = QuantumCircuit(5)
    circuit.measure_all()
    simulator = backends.simulator("generic_5q", calibration=5)
    noisy, ideal = (
        simulator.run(circuit, shots=4000, seed_simulator=1, **options).result().get_counts()
        for options in ({}, {"noise_model": NoiseModel()})
    )
    assert set(ideal) == {"00000"}
    assert len(noisy) > 1
