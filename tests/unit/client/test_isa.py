"""What a backend cannot run is found before it is sent, and named."""

from __future__ import annotations

import math

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.circuit.library import RZZGate
from qiskit.transpiler import Target

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.circuits.isa import is_dynamic, misfit, rzz_fault
from prefect_runtime.client.circuits.target import build_target, without_fractional_gates
from prefect_runtime.local.backends import describe


def target(name: str = "generic_5q") -> Target:
    documents = describe(name, calibration=1)
    return Backend(name, configuration=documents["configuration"], properties=documents["properties"]).target


def circuit(width: int = 5) -> QuantumCircuit:
    return QuantumCircuit(width, 1)


def test_a_gate_that_the_backend_does_not_have_is_named_with_its_qubits() -> None:
    one = circuit()
    one.sx(0)
    one.ecr(0, 1)
    assert misfit(one, target()) == "the backend has no gate 'ecr' (used on qubits (0, 1))"


def test_a_gate_on_qubits_that_are_not_coupled_is_named() -> None:
    one = circuit()
    one.cx(0, 3)
    assert misfit(one, target()) == "the backend has 'cx', but not on qubits (0, 3)"
    one = circuit()
    one.cx(0, 1)
    assert misfit(one, target()) is None


def test_a_circuit_that_is_too_wide_is_told_both_widths() -> None:
    assert misfit(circuit(6), target()) == "it has 6 qubits, the backend has 5"


def test_what_is_inside_of_control_flow_is_looked_at_on_its_real_qubits() -> None:
    one = circuit()
    with one.if_test((one.clbits[0], 1)):
        one.cx(3, 0)
    assert misfit(one, target()) == "the backend has 'cx', but not on qubits (3, 0) (inside 'if_else')"
    plain = Target(num_qubits=5)
    assert misfit(one, plain) == "the backend has no 'if_else'"


def test_a_qubit_that_is_not_operational_has_no_gates() -> None:
    documents = describe("generic_5q", calibration=1)
    documents["properties"]["qubits"][1].append({"name": "operational", "value": 0, "unit": ""})
    one = circuit()
    one.sx(1)
    broken = Backend("generic_5q", configuration=documents["configuration"], properties=documents["properties"])
    assert misfit(one, broken.target) == "the backend has 'sx', but not on qubit 1"


@pytest.mark.parametrize(("angle", "allowed"), [(0.0, True), (math.pi / 2, True), (1.6, False), (-0.1, False)])
def test_rzz_turns_by_what_devices_have(angle: float, allowed: bool) -> None:
    one = circuit()
    one.append(RZZGate(angle), [0, 1])
    assert (rzz_fault(one, np.zeros(0)) is None) is allowed


def test_angles_that_parameters_give_are_looked_at_too_each_of_them() -> None:
    b, a = Parameter("b"), Parameter("a")
    one = circuit()
    one.rz(a, 0)
    with one.if_test((one.clbits[0], 1)):
        one.append(RZZGate(2 * b + a - 9), [0, 1])
    good = np.array([[[9.0, 0.1]], [[9.0, 0.7]]])  # in the order of the parameters: a, b
    assert rzz_fault(one, good) is None
    good[1, 0, 1] = 0.8
    assert rzz_fault(one, good) == "'rzz' turns by 1.6, and devices have it from 0 to pi/2 only"


def test_devices_are_transpiled_to_without_fractional_gates_and_simulators_with_them() -> None:
    device = describe("generic_5q", calibration=1)["configuration"]
    device["basis_gates"] = [*device["basis_gates"], "rzz", "rx"]
    device["gates"] = [*device["gates"], {"name": "rzz", "parameters": ["t"], "coupling_map": [[0, 1]]}]
    assert {"rzz", "rx"} <= set(build_target(device).operation_names)
    assert not {"rzz", "rx"} & set(build_target(without_fractional_gates(device)).operation_names)
    ideal = describe("aer_simulator", calibration=1)["configuration"]
    assert "rzz" in build_target(without_fractional_gates(ideal)).operation_names


def test_a_circuit_with_control_flow_is_dynamic() -> None:
    one = circuit()
    one.measure(0, 0)
    assert not is_dynamic(one)
    with one.if_test((one.clbits[0], 1)):
        one.x(1)
    assert is_dynamic(one)
