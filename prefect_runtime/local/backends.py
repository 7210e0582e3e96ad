"""The simulators that the embedded runtime offers as backends: their catalogue, their documents, and what runs them.

Imported by the server (`CATALOGUE`, `describe`) and by the processes that run programs (`simulator`). The server must
never load Qiskit: calibrations are drawn in plain Python, and the simulator of a process is built from the same
documents that clients get, so that both always speak of the same device.
"""

from __future__ import annotations

import datetime as dt
import random
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError

Edge = tuple[int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendSpec:
    """A backend of the catalogue.

    Attributes:
        name: What clients ask for.
        num_qubits: Width of the widest circuit it takes.
        noisy: True when it stands for a device: few gates, few couplings, errors drawn by calibration number.
        description: One line for people.
        edges: Coupled pairs of qubits, each named once (gates go both ways); empty when all qubits are coupled.
    """

    name: str
    num_qubits: int
    noisy: bool
    description: str
    edges: tuple[Edge, ...] = ()


_T_EDGES = ((0, 1), (1, 2), (1, 3), (3, 4))  # the T of IBM's five-qubit Falcon r4T

_FALCON_EDGES = (
    *((0, 1), (1, 2), (1, 4), (2, 3), (3, 5), (4, 7), (5, 8), (6, 7), (7, 10), (8, 9), (8, 11), (10, 12), (11, 14)),
    *((12, 13), (12, 15), (13, 14), (14, 16), (15, 18), (16, 19), (17, 18), (18, 21), (19, 20), (19, 22), (21, 23)),
    *((22, 25), (23, 24), (24, 25), (25, 26)),
)


def _eagle_edges() -> tuple[Edge, ...]:
    """Return the couplings of IBM's 127-qubit Eagle: seven rows, joined by four bridge qubits between each two.

    The rows have columns 0 to 14, but the first lacks column 14 and the last column 0; bridges stand on every fourth
    column, from 0 and from 2 in turn.
    """
    columns = [range(14), *[range(15)] * 5, range(1, 15)]
    edges: list[Edge] = []
    start = 0  # number of the first qubit of the row
    for row, present in enumerate(columns):
        edges += [(start + i, start + i + 1) for i in range(len(present) - 1)]
        bridge = start + len(present)
        if row == len(columns) - 1:
            break
        below = columns[row + 1]
        for i, column in enumerate(range(0 if row % 2 == 0 else 2, 15, 4)):
            edges.append((start + column - present[0], bridge + i))
            edges.append((bridge + i, bridge + 4 + column - below[0]))
        start = bridge + 4
    return tuple(edges)


CATALOGUE: tuple[BackendSpec, ...] = (
    BackendSpec(
        name="aer_simulator",
        num_qubits=1000,  # a stabilizer state or a product of matrices; what does not fit is refused when it runs
        noisy=False,
        description="Ideal simulator: every standard gate, all qubits coupled, no errors.",
    ),
    BackendSpec(
        name="generic_5q",
        num_qubits=5,
        noisy=True,
        description="Simulated noisy device of 5 qubits, coupled as a T.",
        edges=_T_EDGES,
    ),
    BackendSpec(
        name="generic_27q",
        num_qubits=27,
        noisy=True,
        description="Simulated noisy device of 27 qubits in the heavy-hex lattice of IBM's Falcon.",
        edges=_FALCON_EDGES,
    ),
    BackendSpec(
        name="generic_127q",
        num_qubits=127,
        noisy=True,
        description="Simulated noisy device of 127 qubits in the heavy-hex lattice of IBM's Eagle.",
        edges=_eagle_edges(),
    ),
)
"""Every backend, in the order in which clients see them."""

DT_NS = 0.5
"""Time step of the noisy backends, in nanoseconds; every duration is a multiple of it. IBM's Eagles have the same."""

ONLINE_DATE = "2026-08-01T00:00:00Z"  # IBM's client wants one

NOISY_BASIS_GATES = ("cx", "id", "rz", "sx", "x")

CONTROL_FLOW = ("if_else", "for_loop", "while_loop", "switch_case", "break_loop", "continue_loop")

# What Aer runs natively and Qiskit has as a standard gate.
_IDEAL_BASIS_GATES = (
    *("ccx", "ccz", "cp", "crx", "cry", "crz", "cswap", "csx", "cu", "cu1", "cu3", "cx", "cy", "cz", "ecr", "h", "id"),
    *("p", "r", "rx", "rxx", "ry", "ryy", "rz", "rzx", "rzz", "s", "sdg", "swap", "sx", "sxdg", "t", "tdg", "u", "u1"),
    *("u2", "u3", "x", "y", "z"),
)


def spec_of(name: str) -> BackendSpec:
    """Return the catalogue's entry.

    Raises:
        ConfigurationError: No such backend.
    """
    for spec in CATALOGUE:
        if spec.name == name:
            return spec
    raise ConfigurationError(f"No backend {name!r} here; there are {', '.join(spec.name for spec in CATALOGUE)}.")


def describe(name: str, *, calibration: int) -> dict[str, Any]:
    """Return a backend's documents, with the field names of IBM's; does not load Qiskit.

    Args:
        name: A name of the catalogue.
        calibration: Seed of the calibration: the same number draws the same errors and times, another one others.

    Returns:
        ``{"configuration": {...}, "properties": {...}}``; properties are None for an ideal backend.

    Raises:
        ConfigurationError: No such backend.

    Source: answers of ``GET /backends/{name}/configuration`` and ``/properties``, IBM's REST API 0.45.3.
    """
    spec = spec_of(name)
    return {"configuration": _configuration(spec), "properties": _properties(spec, calibration) if spec.noisy else None}


def _configuration(spec: BackendSpec) -> dict[str, Any]:
    pairs = _both_ways(spec)
    singles = [[qubit] for qubit in range(spec.num_qubits)]
    gates: list[dict[str, Any]] = [
        {"name": gate, "parameters": [], "qasm_def": ""}
        for gate in (NOISY_BASIS_GATES if spec.noisy else _IDEAL_BASIS_GATES)
    ]
    for gate in gates if spec.noisy else ():
        gate["parameters"] = ["theta"] if gate["name"] == "rz" else []
        gate["coupling_map"] = pairs if gate["name"] == "cx" else singles
    configuration: dict[str, Any] = {
        "backend_name": spec.name,
        "backend_version": "1.0.0",
        "description": spec.description,
        "n_qubits": spec.num_qubits,
        "basis_gates": [gate["name"] for gate in gates],
        "gates": gates,
        "supported_instructions": [*(gate["name"] for gate in gates), "measure", "reset", "delay", *CONTROL_FLOW],
        "coupling_map": pairs if spec.noisy else None,
        "local": False,
        # IBM's client reads no properties of what calls itself a simulator (qiskit-ibm-runtime, IBMBackend.properties).
        "simulator": not spec.noisy,
        "conditional": False,
        "open_pulse": False,
        "memory": True,
        "max_shots": 1_000_000,
        "max_experiments": 1_000,
        "dynamic_reprate_enabled": False,
        "online_date": ONLINE_DATE,
        "processor_type": {"family": "Embedded", "revision": "1"},
        "sample_name": "embedded",
        "allow_object_storage": False,
    }
    if spec.noisy:
        configuration |= {"dt": DT_NS, "dtm": DT_NS, "meas_map": [list(range(spec.num_qubits))]}
    return configuration


def _both_ways(spec: BackendSpec) -> list[list[int]]:
    return sorted([list(edge) for edge in spec.edges] + [[b, a] for a, b in spec.edges])


def _properties(spec: BackendSpec, calibration: int) -> dict[str, Any]:
    """Draw a calibration: numbers of the size that IBM's devices of the Falcon and Eagle generations report."""
    draw = random.Random(f"{spec.name}/{calibration}")  # noqa: S311 - must be repeatable, protects nothing
    # Repeatable too, and later for a later number.
    date = (dt.datetime(2025, 1, 1, tzinfo=dt.UTC) + dt.timedelta(hours=calibration % 100_000)).isoformat()

    def value(name: str, number: float, unit: str = "") -> dict[str, Any]:
        return {"date": date, "name": name, "unit": unit, "value": number}

    def length(low: int, high: int) -> float:
        return draw.randint(low, high) * DT_NS

    def qubit() -> list[dict[str, Any]]:
        # Both ways as often: that is how Aer reads a device's qubits (`basic_device_readout_errors`, 0.18), and who
        # mitigates by these numbers must get what is simulated.
        misread = (draw.uniform(0.006, 0.024) + draw.uniform(0.002, 0.012)) / 2
        return [
            value("T1", draw.uniform(100, 250), "us"),
            value("T2", draw.uniform(60, 200), "us"),
            value("frequency", draw.uniform(4.8, 5.3), "GHz"),
            value("readout_error", misread),
            value("prob_meas0_prep1", misread),
            value("prob_meas1_prep0", misread),
            value("readout_length", length(1_600, 2_800), "ns"),
        ]

    def gate(name: str, qubits: list[int], *parameters: dict[str, Any]) -> dict[str, Any]:
        label = f"{name}{'_'.join(map(str, qubits))}"
        return {"gate": name, "name": label, "qubits": qubits, "parameters": list(parameters)}

    qubits = [qubit() for _ in range(spec.num_qubits)]
    gates: list[dict[str, Any]] = []
    for number in range(spec.num_qubits):
        error, pulse = value("gate_error", draw.uniform(1e-4, 4e-4)), value("gate_length", length(120, 120), "ns")
        gates += [gate(name, [number], error, pulse) for name in ("id", "sx", "x")]
        gates.append(gate("rz", [number], value("gate_error", 0.0), value("gate_length", 0.0, "ns")))
        gates.append(gate("reset", [number], value("gate_length", length(1_800, 3_200), "ns")))
    for a, b in spec.edges:
        error, pulse = value("gate_error", draw.uniform(3e-3, 1e-2)), value("gate_length", length(500, 1_200), "ns")
        gates += [gate("cx", [a, b], error, pulse), gate("cx", [b, a], error, pulse)]
    return {
        "backend_name": spec.name,
        "backend_version": "1.0.0",
        "last_update_date": date,
        "qubits": qubits,
        "gates": gates,
        "general": [],
    }


@lru_cache(maxsize=8)
def simulator(name: str, *, calibration: int) -> Any:
    """Return the `AerSimulator` that runs a backend's circuits; one per process and calibration. Loads Qiskit.

    It chooses an exact method for each circuit, and refuses one that does not fit into the memory there is.

    The noisy ones apply the errors of exactly those physical qubits that a circuit touches, so that a circuit laid out
    on 127 qubits costs what its active qubits cost.

    Raises:
        ConfigurationError: No such backend, or Qiskit Aer is not installed.
    """
    spec = spec_of(name)
    try:
        from prefect_runtime.local.device import DeviceSimulator, ExactSimulator, device
    except ImportError:
        raise ConfigurationError(
            "Running circuits here needs Qiskit and Qiskit Aer: pip install 'prefect-runtime[local]'."
        ) from None
    if not spec.noisy:
        return ExactSimulator()
    return DeviceSimulator.of(device(spec, describe(name, calibration=calibration)["properties"]))
