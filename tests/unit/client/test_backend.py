"""`Backend` and its target: what documents say is what the transpiler gets."""

import pickle
import subprocess
import sys

import pytest
from qiskit import QuantumCircuit, generate_preset_pass_manager
from qiskit.circuit import Parameter
from qiskit.circuit.library import UnitaryGate, get_standard_gate_name_mapping

from prefect_runtime.client.backend import Backend, BackendStatus
from prefect_runtime.client.circuits.isa import misfit
from prefect_runtime.local import backends
from prefect_runtime.local.device import device
from prefect_runtime.wire.errors import ConfigurationError

NAMES = [spec.name for spec in backends.CATALOGUE]
NOISY = [spec.name for spec in backends.CATALOGUE if spec.noisy]


def made(name, calibration=1):
    return Backend(name, **backends.describe(name, calibration=calibration))


def small(**changes):
    configuration = {
        "backend_name": "small",
        "n_qubits": 3,
        "basis_gates": ["cz", "sx", "rz", "warp"],
        "coupling_map": [[0, 1], [1, 2]],
        "dt": 0.5,
    }
    return configuration | changes


def value(name, number, unit=""):
    return {"name": name, "value": number, "unit": unit, "date": "2025-01-01T00:00:00Z"}


def standard(target):
    return {name for name in target.operation_names if name in get_standard_gate_name_mapping()}


@pytest.mark.parametrize("name", NOISY)
def test_the_target_is_that_of_the_device_behind_the_documents(name):
    documents = backends.describe(name, calibration=4)
    ours = Backend(name, **documents).target
    theirs = device(backends.spec_of(name), documents["properties"]).target
    assert ours.num_qubits == theirs.num_qubits
    assert ours.dt == pytest.approx(theirs.dt)
    assert standard(ours) == standard(theirs)
    assert set(ours.build_coupling_map()) == set(theirs.build_coupling_map())
    for operation in standard(ours) - {"delay"}:
        assert set(ours[operation]) == set(theirs[operation])
        for qubits, expected in theirs[operation].items():
            found = ours[operation][qubits]
            assert (found.error, found.duration) == pytest.approx((expected.error, expected.duration))
    for found, expected in zip(ours.qubit_properties, theirs.qubit_properties, strict=True):
        assert (found.t1, found.t2) == pytest.approx((expected.t1, expected.t2))


def test_the_ideal_target_couples_all_qubits():
    target = made("aer_simulator").target
    assert target.build_coupling_map() is None
    assert target.instruction_supported("cx", (999, 3))
    assert not target.instruction_supported("cx", (1000, 3))
    assert {"ccx", "u", "measure", "reset", "delay", "if_else", "while_loop"} <= set(target.operation_names)


@pytest.mark.parametrize("name", NAMES)
def test_pass_managers_take_the_backend_or_its_target(name):
    backend = made(name)
    circuit = QuantumCircuit(3)
    circuit.h(0)
    circuit.ccx(0, 1, 2)
    circuit.measure_all()
    by_backend, by_target = (
        generate_preset_pass_manager(optimization_level=2, seed_transpiler=1, **device).run(circuit)
        for device in ({"backend": backend}, {"target": backend.target})
    )
    assert by_backend == by_target
    assert misfit(by_backend, backend.target) is None
    assert (misfit(circuit, backend.target) is None) == (name == "aer_simulator")


def test_a_backend_without_documents_knows_no_target():
    backend = Backend("ibm_somewhere", num_qubits=5)
    assert (backend.num_qubits, backend.status, backend.configuration, backend.properties) == (5, None, None, None)
    with pytest.raises(ConfigurationError, match="'ibm_somewhere'"):
        _ = backend.target


def test_a_configuration_without_a_width_is_refused_by_name():
    with pytest.raises(ConfigurationError, match=r"'small'.*n_qubits"):
        _ = Backend("small", configuration={"backend_name": "small", "basis_gates": ["x"]}).target


def test_a_configuration_alone_gives_places_without_errors():
    target = Backend("small", configuration=small()).target
    assert set(target.operation_names) == {"cz", "sx", "rz", "measure", "reset", "delay"}  # "warp" is no known gate
    assert target["cz"] == {(0, 1): None, (1, 2): None}
    assert target.qubit_properties is None
    assert target.dt == pytest.approx(0.5e-9)


def test_units_of_the_documents_become_seconds_and_hertz():
    properties = {
        "qubits": [
            [value("T1", 0.1, "ms"), value("T2", 80, "us"), value("readout_length", 1.5, "us")],
            [value("T1", 120, "µs"), value("readout_error", 0.02), value("frequency", 5, "GHz")],
            [value("T1", 3e-4, "s")],
        ],
        "gates": [
            {"gate": "cz", "qubits": [0, 1], "parameters": [value("gate_error", 0.01), value("gate_length", 68, "ns")]}
        ],
    }
    target = Backend("small", configuration=small(), properties=properties).target
    assert [qubit.t1 for qubit in target.qubit_properties] == pytest.approx([1e-4, 1.2e-4, 3e-4])
    assert target.qubit_properties[1].frequency == pytest.approx(5e9)
    assert target["measure"][(0,)].duration == pytest.approx(1.5e-6)
    assert target["measure"][(1,)].error == 0.02
    assert target["measure"][(2,)] is None
    assert (target["cz"][(0, 1)].duration, target["cz"][(0, 1)].error) == (pytest.approx(68e-9), 0.01)
    assert target["cz"][(1, 2)] is None


def test_what_is_not_operational_is_left_out():
    properties = {
        "qubits": [[], [], [value("operational", 0)]],
        "gates": [{"gate": "sx", "qubits": [0], "parameters": [value("operational", 0)]}],
    }
    target = Backend("small", configuration=small(), properties=properties).target
    assert set(target["sx"]) == {(1,)}
    assert set(target["cz"]) == {(0, 1)}
    assert set(target["measure"]) == {(0,), (1,)}


def test_timing_constraints_and_places_of_single_gates_are_kept():
    configuration = small(
        timing_constraints={"granularity": 8, "acquire_alignment": 4, "some_day": 1},
        gates=[{"name": "rzz", "parameters": ["theta"], "qasm_def": "", "coupling_map": [[1, 2]]}],
    )
    target = Backend("small", configuration=configuration).target
    assert (target.granularity, target.acquire_alignment) == (8, 4)
    assert set(target["rzz"]) == {(1, 2)}


def test_backends_are_told_apart_by_name():
    one, same, other = made("generic_5q", 1), made("generic_5q", 2), made("generic_27q")
    assert one == same != other
    assert len({one, same, other}) == 2
    assert one != "generic_5q"
    assert repr(one) == "Backend('generic_5q', num_qubits=5)"


def test_a_backend_survives_pickle_and_leaves_its_target_behind():
    backend = made("generic_5q")
    backend.status = BackendStatus(operational=True, message="active", pending_jobs=2)
    before = len(pickle.dumps(backend))
    operations = backend.target.operation_names
    assert len(pickle.dumps(backend)) == before
    copy = pickle.loads(pickle.dumps(backend))
    assert (copy, copy.status, copy.properties) == (backend, backend.status, backend.properties)
    assert copy.target.operation_names == operations


def test_a_backend_costs_no_qiskit_until_its_target_is_asked_for():
    script = (
        "import sys; from prefect_runtime.client.backend import Backend; repr(Backend('a', configuration={}));"
        "sys.exit(sorted({'qiskit', 'numpy', 'prefect'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (1, "[]\n")


def on_five_qubits():
    circuit = QuantumCircuit(5, 2)
    circuit.sx(0)
    circuit.rz(Parameter("a"), 0)
    circuit.cx(0, 1)
    circuit.barrier()
    circuit.delay(160, 0)
    circuit.reset(4)
    circuit.measure(1, 0)
    return circuit


def test_a_circuit_of_the_targets_own_gates_on_coupled_qubits_is_isa():
    assert misfit(on_five_qubits(), made("generic_5q").target) is None


@pytest.mark.parametrize(
    "spoil",
    [
        lambda circuit: circuit.h(0),
        lambda circuit: circuit.cx(0, 4),
        lambda circuit: circuit.append(UnitaryGate([[0, 1], [1, 0]]), [0]),
        lambda circuit: circuit.add_bits(QuantumCircuit(1).qubits),
    ],
    ids=["another gate", "qubits not coupled", "no standard gate", "too wide"],
)
def test_anything_else_is_not_isa(spoil):
    circuit = on_five_qubits()
    spoil(circuit)
    assert misfit(circuit, made("generic_5q").target) is not None


def branched(*qubits):
    """A loop with a branch in it, whose cx is on the first two of these qubits."""
    circuit = QuantumCircuit(5, 1)
    block = QuantumCircuit(2, 1)
    block.cx(0, 1)
    body = QuantumCircuit(2, 1)
    body.if_test((body.clbits[0], 1), block, [0, 1], [0])
    body.break_loop()
    circuit.for_loop(range(3), None, body, qubits, [0])
    return circuit


def test_blocks_of_control_flow_are_looked_at_on_their_physical_qubits():
    target = made("generic_5q").target
    assert misfit(branched(3, 1), target) is None
    assert misfit(branched(0, 3), target) is not None


def test_control_flow_is_not_isa_where_it_is_not_offered():
    target = Backend("small", configuration=small(n_qubits=5, basis_gates=["cx"])).target
    assert misfit(branched(0, 1), target) is not None
