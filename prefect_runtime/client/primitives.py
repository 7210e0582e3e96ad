"""Inputs of the primitives: circuits as written -> PUBs that the chosen backend can run. Used by service.py.

`read` turns files and shorthand into values that have a fingerprint; `Preparation` chooses the backend, transpiles what
is not yet in the backend's terms, and gives every PUB its strict form. Transpiling is not repeatable (a new calibration
gives another circuit), so it happens after the request has its name.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.request import Prepared
from prefect_runtime.client.target import is_isa
from prefect_runtime.wire.codec import encode_inputs
from prefect_runtime.wire.errors import ConfigurationError

PRIMITIVES = ("sampler", "estimator")
DEFAULT_SHOTS = 4096  # IBM's SamplerOptions.default_shots
DEFAULT_PRECISION = 1 / 64  # Qiskit's and IBM's EstimatorOptions.default_precision
TRANSPILER_SEED = 7  # recorded on the card: the same calibration and seed give the same circuit


def is_primitive(program_id: str, inputs: Mapping[str, Any]) -> bool:
    """Tell whether a request is for a primitive with PUBs."""
    return program_id in PRIMITIVES and "pubs" in inputs


def read(program_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a primitive's inputs with every circuit loaded and every PUB a list.

    Args:
        program_id: "sampler" or "estimator".
        inputs: With "pubs": circuits, tuples, Qiskit PUBs, OpenQASM 3 texts, or paths of .qasm and .qpy files.

    Raises:
        ConfigurationError: No PUBs, or one that cannot be read; the message says which.
    """
    pubs = inputs["pubs"]
    if not isinstance(pubs, list | tuple) or not pubs:
        raise ConfigurationError("pubs: must be a list with at least one PUB, such as [(circuit, values, shots)].")
    return {**inputs, "pubs": [_read_pub(program_id, index, pub) for index, pub in enumerate(pubs)]}


def _read_pub(program_id: str, index: int, pub: Any) -> list[Any]:
    place = f"pubs[{index}]"
    if hasattr(pub, "circuit") and hasattr(pub, "parameter_values"):  # Qiskit's SamplerPub or EstimatorPub
        return [pub]
    parts = list(pub) if isinstance(pub, list | tuple) else [pub]
    longest = 3 if program_id == "sampler" else 4
    if not 1 <= len(parts) <= longest:
        raise ConfigurationError(f"{place}: a {program_id} PUB has 1 to {longest} parts, this one has {len(parts)}.")
    if program_id == "estimator" and len(parts) < 2:
        raise ConfigurationError(
            f"{place}: an estimator PUB is (circuit, observables, …); the observables are missing."
        )
    return [_read_circuit(parts[0], place), *parts[1:]]


def _read_circuit(circuit: Any, place: str) -> Any:
    if isinstance(circuit, str) and circuit.lstrip().startswith(("OPENQASM", "//", "include")):
        return _from_qasm(circuit, place)
    if isinstance(circuit, str | Path):
        return _from_file(Path(circuit), place)
    if type(circuit).__module__.startswith("qiskit") or hasattr(circuit, "num_qubits"):
        return circuit
    raise ConfigurationError(
        f"{place}: a circuit is a QuantumCircuit, an OpenQASM 3 text, or the path of a .qasm or .qpy file; "
        f"this is a {type(circuit).__name__}."
    )


def _from_file(path: Path, place: str) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot read the circuit file {path} ({error.strerror}).") from None
    if path.suffix == ".qasm":
        return _from_qasm(data.decode(errors="replace"), place)
    if path.suffix != ".qpy":
        raise ConfigurationError(f"{place}: a circuit file ends in .qasm or .qpy, not {path.suffix!r}.")
    _require_qiskit(place)
    from qiskit import qpy

    try:
        circuits = qpy.load(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - Qiskit's reader raises what its parts raise
        raise ConfigurationError(f"{place}: {path.name} is not a QPY file ({type(error).__name__}).") from None
    if len(circuits) != 1:
        raise ConfigurationError(f"{place}: {path.name} holds {len(circuits)} circuits; give one file a circuit.")
    return circuits[0]


def _from_qasm(text: str, place: str) -> Any:
    _require_qiskit(place)
    from qiskit import qasm3

    try:
        return qasm3.loads(text)
    except ImportError as error:
        raise ConfigurationError(f"{place}: {error}. Install 'prefect-runtime[local]' to read OpenQASM 3.") from None
    except Exception as error:  # noqa: BLE001 - the parser raises what its parts raise
        raise ConfigurationError(f"{place}: not OpenQASM 3 that Qiskit can read ({type(error).__name__}).") from None


def _require_qiskit(place: str) -> None:
    try:
        import qiskit  # noqa: F401
    except ImportError:
        raise ConfigurationError(f"{place}: circuits need Qiskit: pip install 'prefect-runtime[local]'.") from None


class Preparation:
    """Makes a request ready to be sent, when and if it is sent.

    Args:
        program_id: "sampler" or "estimator".
        inputs: From `read`.
        optimization_level: For transpiling, 0 to 3.
        choose_backend: Returns the backend to run on, with its documents.
    """

    def __init__(
        self,
        program_id: str,
        inputs: Mapping[str, Any],
        optimization_level: int,
        choose_backend: Callable[[], Backend],
    ) -> None:
        self._program_id = program_id
        self._inputs = inputs
        self._level = optimization_level
        self._choose_backend = choose_backend
        self._pass_manager: Any = None

    def __call__(self) -> Prepared:
        """Return the request, ready.

        Raises:
            ConfigurationError: A PUB that cannot be coerced or that does not fit the backend.
        """
        backend = self._choose_backend()
        inputs = {**self._inputs, "pubs": self._pubs(backend), "version": 2, "support_qiskit": True}
        inputs.setdefault("options", {})
        notes = {"transpiled": "no: the circuits fit the backend as written"}
        if self._pass_manager is not None:
            notes = {"transpiled": f"optimization level {self._level}, seed {TRANSPILER_SEED}"}
        return Prepared(backend=backend.name, params=encode_inputs(inputs), notes=notes)

    def _pubs(self, backend: Backend) -> list[Any]:
        options = self._inputs.get("options") or {}
        shots = options.get("default_shots") or DEFAULT_SHOTS
        precision = options.get("default_precision") or DEFAULT_PRECISION
        pubs = []
        for index, parts in enumerate(self._inputs["pubs"]):
            place = f"pubs[{index}]"
            try:
                pub = self._coerce(parts, shots, precision)
                pubs.append(self._fit(pub, backend, place))
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - Qiskit refuses a PUB with many kinds of errors
                raise ConfigurationError(f"{place}: {type(error).__name__}: {error} Nothing was sent.") from None
        return pubs

    def _coerce(self, parts: Sequence[Any], shots: int, precision: float) -> Any:
        """Return Qiskit's PUB object, checked by Qiskit's own rules."""
        from qiskit.primitives.containers.estimator_pub import EstimatorPub
        from qiskit.primitives.containers.sampler_pub import SamplerPub

        pub = parts[0] if len(parts) == 1 and hasattr(parts[0], "parameter_values") else tuple(parts)
        if self._program_id == "sampler":
            return SamplerPub.coerce(pub, shots)
        return EstimatorPub.coerce(pub, precision)

    def _fit(self, pub: Any, backend: Backend, place: str) -> Any:
        """Return the PUB with its circuit in the backend's terms; unchanged if it is."""
        circuit = pub.circuit
        if self._program_id == "sampler" and not circuit.cregs:
            raise ConfigurationError(f"{place}: the circuit measures nothing; add measurements, e.g. measure_all().")
        if backend.num_qubits is not None and circuit.num_qubits > backend.num_qubits:
            raise ConfigurationError(
                f"{place}: the circuit needs {circuit.num_qubits} qubits, {backend.name} has {backend.num_qubits}."
            )
        if backend.configuration is None or is_isa(circuit, backend.target):
            return pub
        fitted = self._transpile(circuit, backend)
        kind = type(pub)
        if self._program_id == "sampler":
            return kind(fitted, pub.parameter_values, pub.shots)
        observables = pub.observables.apply_layout(fitted.layout)
        return kind(fitted, observables, pub.parameter_values, pub.precision)

    def _transpile(self, circuit: Any, backend: Backend) -> Any:
        from qiskit.transpiler import generate_preset_pass_manager

        if self._pass_manager is None:
            self._pass_manager = generate_preset_pass_manager(
                optimization_level=self._level, target=backend.target, seed_transpiler=TRANSPILER_SEED
            )
        return self._pass_manager.run(circuit)
