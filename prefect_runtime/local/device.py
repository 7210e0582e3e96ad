"""Noisy devices from their documents. Loads Qiskit and Aer: only `backends.simulator` imports this, when one is run.

Aer's own noise model of a 127-qubit device takes 2 s to build and 0.5 s to hand over with every run (measured, Aer
0.18.2), although a gate's error depends on the gate's own qubits alone. So a model is made per set of active qubits.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from functools import lru_cache
from typing import Any

from qiskit import QuantumCircuit
from qiskit.circuit import ControlFlowOp
from qiskit.providers import BackendV2, Options
from qiskit.providers.fake_provider import GenericBackendV2
from qiskit.transpiler import InstructionProperties, QubitProperties, Target
from qiskit_aer import AerSimulator
from qiskit_aer.noise import NoiseModel

from prefect_runtime.local.backends import DT_NS, NOISY_BASIS_GATES, BackendSpec

_SECONDS = {"us": 1e-6, "ns": 1e-9}


def device(spec: BackendSpec, properties: Mapping[str, Any]) -> GenericBackendV2:
    """Return Qiskit's generic device with the couplings of the catalogue and the numbers of a properties document."""
    backend = GenericBackendV2(
        spec.num_qubits,
        basis_gates=list(NOISY_BASIS_GATES),
        coupling_map=[list(pair) for a, b in spec.edges for pair in ((a, b), (b, a))],
        control_flow=True,
        dt=DT_NS * 1e-9,
        noise_info=False,
    )
    backend.name = spec.name
    target = backend.target
    qubits = [{entry["name"]: _number(entry) for entry in qubit} for qubit in properties["qubits"]]
    target.qubit_properties = [
        QubitProperties(t1=qubit["T1"], t2=qubit["T2"], frequency=qubit["frequency"]) for qubit in qubits
    ]
    for number, qubit in enumerate(qubits):
        measured = InstructionProperties(duration=qubit["readout_length"], error=qubit["readout_error"])
        target.update_instruction_properties("measure", (number,), measured)
    for gate in properties["gates"]:
        numbers = {entry["name"]: _number(entry) for entry in gate["parameters"]}
        done = InstructionProperties(duration=numbers["gate_length"], error=numbers.get("gate_error"))
        target.update_instruction_properties(gate["gate"], tuple(gate["qubits"]), done)
    return backend


def _number(entry: Mapping[str, Any]) -> float:
    unit = entry["unit"]
    return float(entry["value"] * (1e9 if unit == "GHz" else _SECONDS.get(unit, 1)))


class DeviceSimulator(AerSimulator):  # type: ignore[misc]
    """An `AerSimulator` with a device's noise, restricted in each run to the qubits that the circuits touch."""

    @classmethod
    def of(cls, backend: BackendV2) -> DeviceSimulator:
        """Return the simulator of a device."""
        # Not None would be Aer's whole model; run() adds ours.
        simulator: DeviceSimulator = cls.from_backend(backend, noise_model=None)
        simulator.name = backend.name
        return simulator

    def run(self, circuits: Any, parameter_binds: Any = None, **run_options: Any) -> Any:
        """Run circuits, as `AerSimulator.run`; a ``noise_model`` given here takes the place of the device's."""
        circuits = [circuits] if isinstance(circuits, QuantumCircuit) else list(circuits)
        if "noise_model" not in run_options:
            run_options["noise_model"] = _noise(self, frozenset(_active_qubits(circuits)))
        return super().run(circuits, parameter_binds=parameter_binds, **run_options)


def _active_qubits(circuits: Iterable[QuantumCircuit]) -> Iterator[int]:
    for circuit in circuits:
        number = {qubit: index for index, qubit in enumerate(circuit.qubits)}
        for instruction in circuit.data:
            if instruction.operation.name != "barrier":
                yield from (number[qubit] for qubit in instruction.qubits)


@lru_cache(maxsize=32)
def _noise(simulator: DeviceSimulator, active: frozenset[int]) -> NoiseModel:
    """Return the noise of some of a device's qubits, under their physical numbers."""
    whole = simulator.target
    part = Target(num_qubits=whole.num_qubits, dt=whole.dt, qubit_properties=whole.qubit_properties)
    for name, by_qubits in whole.items():
        operation = whole.operation_from_name(name)
        if isinstance(operation, type) and issubclass(operation, ControlFlowOp):
            continue
        kept = {qubits: value for qubits, value in by_qubits.items() if qubits and active.issuperset(qubits)}
        if kept:
            part.add_instruction(operation, kept, name=name)
    return NoiseModel.from_backend(_Part(part))


class _Part(BackendV2):  # type: ignore[misc]
    """A target in the clothes of a backend, which is what `NoiseModel.from_backend` reads."""

    def __init__(self, target: Target) -> None:
        super().__init__(name="part")
        self._part = target

    @property
    def target(self) -> Target:
        return self._part

    @property
    def max_circuits(self) -> None:
        return None

    @classmethod
    def _default_options(cls) -> Options:
        return Options()

    def run(self, run_input: Any, **options: Any) -> Any:
        raise NotImplementedError
