"""What runs circuits: exact simulators, and noisy devices from their documents.

Loads Qiskit and Aer: only `backends.simulator` imports this, when one is run.

Aer's own noise model of a 127-qubit device takes 2 s to build and 0.5 s to hand over with every run (measured, Aer
0.18.2), although a gate's error depends on the gate's own qubits alone. So a model is made per set of active qubits.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
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
from prefect_runtime.local.programs.anatomy import active_qubits
from prefect_runtime.local.programs.memory import available
from prefect_runtime.local.programs.methods import (
    AUTOMATIC,
    CHAIN,
    NARROW,
    Choice,
    Noise,
    check_results,
    choose,
    for_chain,
    is_narrow,
)
from prefect_runtime.wire.logs import get_logger

logger = get_logger(__name__)

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


class ExactSimulator(AerSimulator):  # type: ignore[misc]
    """An `AerSimulator` that runs each circuit with a method that is exact and fits into the memory there is.

    Attributes:
        free_memory: Returns how many bytes a simulation may take.
        method_used: What the last run was simulated with; several methods are joined with commas.
    """

    free_memory: Callable[[], int] = staticmethod(available)
    method_used = ""

    def run(self, circuits: Any, parameter_binds: Any = None, **run_options: Any) -> Any:
        """Run circuits, as `AerSimulator.run`; a ``method`` given here is left alone.

        Raises:
            CannotSimulateError: No exact method can run them in the memory there is, or hold their results.
        """
        circuits = [circuits] if isinstance(circuits, QuantumCircuit) else list(circuits)
        noise = self.noise_of(circuits, run_options.get("noise_model", self.options.noise_model))
        shots = run_options.get("shots") or self.options.shots
        sets = sum(max(map(len, binds.values()), default=1) for binds in parameter_binds or [{}] * len(circuits))
        self.check_results(circuits, shots=shots * sets)
        if run_options.get("method", self.options.method) == AUTOMATIC:
            choice = self.choose(circuits, shots=shots, noise=noise)
            if choice.method != AUTOMATIC:
                logger.info("Simulating as %s: %s.", choice.method, choice.reason)
                run_options["method"] = choice.method
            if choice.method == CHAIN:
                circuits = [for_chain(circuit) for circuit in circuits]
            if choice.free:
                run_options["max_memory_mb"] = max(1, choice.free >> 20)  # what Aer's parallel shots share
        return super().run(circuits, parameter_binds=parameter_binds, **run_options)

    def choose(self, circuits: Sequence[QuantumCircuit], *, shots: int, noise: Noise | None = None) -> Choice:
        """Return the method that circuits would be run with; with this backend's own noise, if no other is given.

        Raises:
            CannotSimulateError: There is none.
        """
        if all(is_narrow(circuit.num_qubits, noise or Noise.GENERAL) for circuit in circuits):
            return NARROW
        return choose(circuits, shots=shots, noise=noise or self.noise_of(circuits), memory=self.free_memory)

    def check_results(self, circuits: Sequence[QuantumCircuit], *, shots: int) -> None:
        """Refuse more shots, over all circuits and sets of values, than there is memory for.

        Raises:
            CannotSimulateError: There is not enough.
        """
        check_results(bits=max(circuit.num_clbits for circuit in circuits), shots=shots, memory=self.free_memory)

    def noise_of(self, circuits: Sequence[QuantumCircuit], model: NoiseModel | None = None) -> Noise:  # noqa: ARG002
        """Return what the errors are made of that these circuits meet; `model` is one of the caller's."""
        return Noise.NONE if model is None or model.is_ideal() else Noise.GENERAL

    def _execute_circuits(self, aer_circuits: Any, noise_model: Any, config: Any) -> Any:
        """Say which methods it was: Aer names them circuit by circuit, where the primitives do not look."""
        output = super()._execute_circuits(aer_circuits, noise_model, config)
        if isinstance(output, dict):
            used = {result.get("metadata", {}).get("method", "") for result in output["results"]}
            self.method_used = ", ".join(sorted(used - {""}))
            output["metadata"]["method"] = self.method_used
            logger.info("Simulated as %s.", self.method_used)
        return output


class DeviceSimulator(ExactSimulator):
    """An `ExactSimulator` with a device's noise, restricted in each run to the qubits that the circuits touch."""

    @classmethod
    def of(cls, backend: BackendV2) -> DeviceSimulator:
        """Return the simulator of a device."""
        # Not None would be Aer's whole model; run() adds ours.
        simulator: DeviceSimulator = cls.from_backend(backend, noise_model=None)
        simulator.name = backend.name
        return simulator

    def run(self, circuits: Any, parameter_binds: Any = None, **run_options: Any) -> Any:
        """Run circuits, as `AerSimulator.run`; a ``noise_model`` given here takes the place of the device's.

        Raises:
            CannotSimulateError: No exact method can run them in the memory there is, or hold their results.
        """
        circuits = [circuits] if isinstance(circuits, QuantumCircuit) else list(circuits)
        if "noise_model" not in run_options:
            run_options["noise_model"] = _noise(self, frozenset(active_qubits(circuits)))
        return super().run(circuits, parameter_binds=parameter_binds, **run_options)

    def noise_of(self, circuits: Sequence[QuantumCircuit], model: NoiseModel | None = None) -> Noise:
        """Return what the errors are made of that these circuits meet; `model` is one of the caller's, if any.

        Relaxation is a mixture of resets and phase flips where T2 is at most T1, and needs Kraus operators elsewhere.

        Source: `qiskit_aer.noise.thermal_relaxation_error`, Qiskit Aer 0.18.
        """
        active = active_qubits(circuits)
        if model is not None and model is not _noise(self, frozenset(active)):
            return super().noise_of(circuits, model)
        qubits = self.target.qubit_properties
        return Noise.GENERAL if any(qubits[number].t2 > qubits[number].t1 for number in active) else Noise.CLIFFORD


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
        raise NotImplementedError("circuits are only transpiled to a part of a device")
