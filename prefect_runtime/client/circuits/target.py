"""From a backend's documents to Qiskit's `Target`. Imported within `client` only.

Qiskit is imported when a target is built, not before.

Source of the field names: ``GET /backends/{name}/configuration`` and ``/properties``, IBM's REST API 0.45.3.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError

Qubits = tuple[int, ...]

_SECONDS = {"s": 1.0, "ms": 1e-3, "us": 1e-6, "µs": 1e-6, "ns": 1e-9, "": 1.0}
_HERTZ = {"GHz": 1e9, "MHz": 1e6, "kHz": 1e3, "Hz": 1.0, "": 1.0}
_TIMES = frozenset({"T1", "T2", "readout_length", "gate_length"})
TRANSPILER_SEED = 7  # recorded on the card: the same calibration and seed give the same circuit
FRACTIONAL_GATES = frozenset({"rx", "rzz"})
"""Gates of a device that take any angle. Source: `is_fractional_gate`, qiskit-ibm-runtime 0.51."""

_TIMING_CONSTRAINTS = ("granularity", "min_length", "pulse_alignment", "acquire_alignment")


def build_target(configuration: Mapping[str, Any], properties: Mapping[str, Any] | None = None) -> Any:
    """Return the `qiskit.transpiler.Target` that two documents describe.

    Gates that Qiskit has no standard gate for are left out, unless they have a signature; so are gates and qubits that
    the properties call not operational. Without a coupling map every gate is allowed on all qubits.

    Args:
        configuration: The configuration document.
        properties: The properties document; without it the target knows no errors and durations.

    Raises:
        ConfigurationError: The configuration document lacks what a target needs.
    """
    from qiskit.transpiler import QubitProperties, Target

    num_qubits = configuration.get("n_qubits")
    if not isinstance(num_qubits, int):
        name = configuration.get("backend_name", "")
        raise ConfigurationError(f"The configuration document of backend {name!r} lacks `n_qubits`: no target.")
    qubits = [_numbers(qubit) for qubit in (properties or {}).get("qubits", ())]
    step = configuration.get("dt")
    target = Target(
        num_qubits=num_qubits,
        dt=None if step is None else step * 1e-9,  # the document has nanoseconds
        qubit_properties=[
            QubitProperties(t1=qubit.get("T1"), t2=qubit.get("T2"), frequency=qubit.get("frequency"))
            for qubit in qubits
        ]
        or None,
        concurrent_measurements=configuration.get("meas_map"),
        **_timing_constraints(configuration),
    )
    places = _places(configuration, num_qubits)
    done = {**_measured(qubits), **_performed((properties or {}).get("gates", ()))}
    broken = {number for number, qubit in enumerate(qubits) if qubit.get("operational") == 0}
    for name, operation in _operations(configuration):
        if isinstance(operation, type):  # control flow has a class, and no place
            target.add_instruction(operation, name=name)
            continue
        found = _properties_of(name, operation, places, done, broken)
        if found != {}:  # a gate without a place would still count as one of the target's
            target.add_instruction(operation, found, name=name)
    return target


def _timing_constraints(configuration: Mapping[str, Any]) -> dict[str, int]:
    constraints = configuration.get("timing_constraints") or {}
    return {name: constraints[name] for name in _TIMING_CONSTRAINTS if name in constraints}


def _operations(configuration: Mapping[str, Any]) -> list[tuple[str, Any]]:
    """Return the operations a configuration names, as Qiskit's gates, instructions and control-flow classes."""
    from qiskit.circuit import BreakLoopOp, ContinueLoopOp, library
    from qiskit.circuit.controlflow import get_control_flow_name_mapping

    control_flow = {
        **get_control_flow_name_mapping(),
        "break_loop": BreakLoopOp,
        "continue_loop": ContinueLoopOp,
    }
    known = {**library.get_standard_gate_name_mapping(), **control_flow}
    # Servers that do not list their instructions take these three.
    instructions = configuration.get("supported_instructions") or ["measure", "reset", "delay"]
    # `supported_instructions` also names what is no gate of the backend ("u3", "play"): only these are taken from it.
    extra = {"reset", *control_flow}.intersection(instructions)
    gates = [gate["name"] for gate in configuration.get("gates") or ()]
    names = [*(configuration.get("basis_gates") or ()), *gates, "measure", "delay", *sorted(extra)]
    standard = {name: known[name] for name in names if name in known}
    return list({**_signed(configuration), **standard}.items())


def _signed(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return the instructions that Qiskit has no word for, such as ``measure_2``: known by their signatures.

    Source: `convert_to_target`, qiskit-ibm-runtime 0.51: ``instruction_signatures`` of the configuration.
    """
    from qiskit.circuit import Instruction, Parameter

    signed = {}
    for one in configuration.get("instruction_signatures") or ():
        parameters = [Parameter(name) for name in one.get("parameters") or ()]
        signed[one["name"]] = Instruction(one["name"], one["num_qubits"], one.get("num_clbits") or 0, parameters)
    return signed


def _places(configuration: Mapping[str, Any], num_qubits: int) -> dict[str | int, list[Qubits]] | None:
    """Return where gates may stand, by name, else by number of qubits; None when anywhere."""
    coupling_map = configuration.get("coupling_map")
    if not coupling_map:
        return None
    places: dict[str | int, list[Qubits]] = {
        1: [(number,) for number in range(num_qubits)],
        2: [tuple(pair) for pair in coupling_map],
    }
    for gate in configuration.get("gates") or ():
        if gate.get("coupling_map"):
            places[gate["name"]] = [tuple(qubits) for qubits in gate["coupling_map"]]
    return places


def _properties_of(
    name: str,
    operation: Any,
    places: Mapping[str | int, list[Qubits]] | None,
    done: Mapping[tuple[str, Qubits], Mapping[str, float]],
    broken: set[int],
) -> dict[Qubits, Any] | None:
    """Return the places of one operation with what is known of it there; None when it may stand anywhere."""
    from qiskit.transpiler import InstructionProperties

    if places is None:
        return None
    found: dict[Qubits, Any] = {}
    for qubits in places.get(name, places.get(operation.num_qubits, [])):
        numbers = done.get((name, qubits), {})
        if broken.intersection(qubits) or numbers.get("operational") == 0:
            continue
        duration, error = numbers.get("gate_length"), numbers.get("gate_error")
        unknown = duration is None and error is None
        found[qubits] = None if unknown else InstructionProperties(duration=duration, error=error)
    return found


def _measured(qubits: Iterable[Mapping[str, float]]) -> dict[tuple[str, Qubits], dict[str, float]]:
    names = {"readout_length": "gate_length", "readout_error": "gate_error"}
    return {
        ("measure", (number,)): {names[name]: value for name, value in qubit.items() if name in names}
        for number, qubit in enumerate(qubits)
    }


def _performed(gates: Iterable[Mapping[str, Any]]) -> dict[tuple[str, Qubits], dict[str, float]]:
    return {(gate["gate"], tuple(gate["qubits"])): _numbers(gate.get("parameters", ())) for gate in gates}


def _numbers(entries: Iterable[Mapping[str, Any]]) -> dict[str, float]:
    """Return a document's values by name, in seconds, hertz, or as they are."""
    numbers: dict[str, float] = {}
    for entry in entries:
        name, unit = entry["name"], entry.get("unit", "")
        scale = _SECONDS[unit] if name in _TIMES else _HERTZ[unit] if name == "frequency" else 1.0
        numbers[name] = entry["value"] * scale
    return numbers


def pass_manager(configuration: Mapping[str, Any], properties: Mapping[str, Any] | None, level: int) -> Any:
    """Return the passes that put a circuit into a backend's terms; the same documents give the same circuit.

    Args:
        configuration: The configuration document.
        properties: The properties document.
        level: How hard to try, 0 to 3.

    Raises:
        ConfigurationError: The configuration document lacks what a target needs.
    """
    from qiskit.transpiler import generate_preset_pass_manager

    target = build_target(without_fractional_gates(configuration), properties)
    return generate_preset_pass_manager(optimization_level=level, target=target, seed_transpiler=TRANSPILER_SEED)


def without_fractional_gates(configuration: Mapping[str, Any]) -> dict[str, Any]:
    """Return a configuration for transpiling to: of a device, without the gates that take only some of the angles.

    ``rzz`` of a device is calibrated for angles from 0 to pi/2, and no pass of Qiskit's own keeps to that. IBM's client
    leaves these gates out too, unless it is asked for them.
    """
    if configuration.get("simulator"):
        return dict(configuration)
    basis_gates = [name for name in configuration.get("basis_gates") or () if name not in FRACTIONAL_GATES]
    gates = [gate for gate in configuration.get("gates") or () if gate["name"] not in FRACTIONAL_GATES]
    return {**configuration, "basis_gates": basis_gates, "gates": gates}
