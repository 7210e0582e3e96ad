"""Inputs of the primitives: circuits as written -> PUBs that the chosen backend can run. Used by preparing.py.

`read` turns files and shorthand into values that have a fingerprint; `Preparation` chooses the backend, transpiles what
is not yet in the backend's terms, refuses what the backend could not run, and gives every PUB its strict form.
Transpiling is not repeatable (a new calibration gives another circuit), so it happens after the request has its name.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.circuits import executor_program, plain_pubs
from prefect_runtime.client.circuits.isa import is_dynamic, misfit, rzz_fault
from prefect_runtime.client.circuits.sources import has_qiskit, read_circuit
from prefect_runtime.client.circuits.target import TRANSPILER_SEED, pass_manager
from prefect_runtime.client.request import Prepared
from prefect_runtime.wire.codec import encode_inputs
from prefect_runtime.wire.errors import ConfigurationError

PRIMITIVES = ("sampler", "estimator")
DEFAULT_SHOTS = 4096  # IBM's SamplerOptions.default_shots
DEFAULT_PRECISION = 1 / 64  # Qiskit's and IBM's EstimatorOptions.default_precision
OPTIONS = (
    *("default_precision", "default_shots", "seed_estimator", "dynamical_decoupling", "resilience", "twirling"),
    *("simulator", "execution"),
)
"""The primitives' options in the order in which IBM's client sends them (qiskit-ibm-runtime 0.51)."""


def is_primitive(program_id: str, inputs: Mapping[str, Any]) -> bool:
    """Tell whether a request is for a primitive with PUBs."""
    return program_id in PRIMITIVES and "pubs" in inputs


def read(program_id: str, inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a primitive's inputs with every circuit loaded and every PUB a list.

    Args:
        program_id: "sampler" or "estimator".
        inputs: With "pubs": circuits, tuples, Qiskit PUBs, OpenQASM 3 texts, or paths of .qasm and .qpy files. Without
            Qiskit, OpenQASM 3 stays the text it is.

    Raises:
        ConfigurationError: No PUBs, or one that cannot be read; the message says which.
    """
    pubs = inputs["pubs"]
    if not isinstance(pubs, list | tuple) or not pubs:
        raise ConfigurationError("pubs: must be a list with at least one PUB, such as [(circuit, values, shots)].")
    options = inputs.get("options") or {}
    if not isinstance(options, Mapping):
        raise ConfigurationError("options: must be a mapping from the primitive's options to values.")
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
    return [read_circuit(parts[0], place, keep_text=not has_qiskit()), *parts[1:]]


def options_of(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """Return a primitive's options; the resilience level may stand beside them, as IBM's service has it, or in them."""
    options = dict(inputs.get("options") or {})
    if inputs.get("resilience_level") is not None:
        options.setdefault("resilience_level", inputs["resilience_level"])
    return options


class Preparation:
    """Makes a request ready to be sent, when and if it is sent.

    Args:
        program_id: "sampler" or "estimator".
        inputs: From `read`.
        optimization_level: For transpiling, 0 to 3; None to send circuits as they are, if the backend can run them.
        choose_backend: Returns the backend to run on, with its documents.
        client_side: Have IBM's client build a program for ``executor``, instead of the server's own primitives.
    """

    def __init__(
        self,
        program_id: str,
        inputs: Mapping[str, Any],
        optimization_level: int | None,
        choose_backend: Callable[[], Backend],
        *,
        client_side: bool = False,
    ) -> None:
        self._program_id = program_id
        self._inputs = inputs
        self._options = options_of(inputs)
        self._level = optimization_level
        self._choose_backend = choose_backend
        self._client_side = client_side
        self._pass_manager: Any = None

    def __call__(self) -> Prepared:
        """Return the request, ready.

        Raises:
            ConfigurationError: A PUB that cannot be coerced, or that the backend cannot run.
        """
        backend = self._choose_backend()
        if not has_qiskit():
            if self._client_side:
                raise ConfigurationError(
                    "primitives: 'client' needs the extra ibm: pip install 'prefect-runtime[ibm]'."
                )
            note = "no: without Qiskit, circuits are sent as written, unchecked"
            params = self._params(self._plain_pubs(), support_qiskit=False)
            return Prepared(backend=backend.name, params=encode_inputs(params), notes={"transpiled": note})
        pubs = self.pubs(backend)
        note = "no: the circuits fit the backend as written"
        if self._pass_manager is not None:
            note = f"optimization level {self._level}, seed {TRANSPILER_SEED}"
        if self._client_side:
            return self._built_here(backend, pubs, note)
        support_qiskit = self._inputs.get("support_qiskit", True) is not False
        sent = pubs if support_qiskit else [_as_text(pub) for pub in pubs]
        params = self._params(sent, support_qiskit=support_qiskit)
        return Prepared(backend=backend.name, params=encode_inputs(params), notes={"transpiled": note}, pubs=pubs)

    def _built_here(self, backend: Backend, pubs: list[Any], note: str) -> Prepared:
        params = executor_program.build(self._program_id, pubs, self._options, backend)
        notes = {"transpiled": note, "primitives": f"client side, by qiskit-ibm-runtime {executor_program.version()}"}
        program_id = executor_program.PROGRAM_ID
        return Prepared(
            backend=backend.name, params=encode_inputs(params), notes=notes, pubs=pubs, program_id=program_id
        )

    def _params(self, pubs: list[Any], *, support_qiskit: bool) -> dict[str, Any]:
        """Return the program's parameters, named and in the order in which IBM's client sends them."""
        options = {name: self._options[name] for name in OPTIONS if name in self._options} | self._options
        level = options.pop("resilience_level", None)
        others = {
            name: value
            for name, value in self._inputs.items()
            if name not in ("pubs", "options", "version", "support_qiskit", "resilience_level")
        }
        params = {"pubs": pubs, "options": options, "version": 2, "support_qiskit": support_qiskit, **others}
        return params if level is None else {**params, "resilience_level": level}

    @property
    def _shots(self) -> int:
        return self._options.get("default_shots") or DEFAULT_SHOTS

    @property
    def _precision(self) -> float | None:
        """The precision of PUBs that do not say; None leaves it to the options' shots.

        Source: `EstimatorOptions`, qiskit-ibm-runtime 0.51: ``default_shots`` wins over ``default_precision``.
        """
        if self._options.get("default_shots"):
            return None
        return self._options.get("default_precision") or DEFAULT_PRECISION

    def _plain_pubs(self) -> list[Any]:
        every = enumerate(self._inputs["pubs"])
        if self._program_id == "sampler":
            return [plain_pubs.sampler_pub(parts, self._shots, f"pubs[{index}]") for index, parts in every]
        return [plain_pubs.estimator_pub(parts, self._precision, f"pubs[{index}]") for index, parts in every]

    def pubs(self, backend: Backend) -> list[Any]:
        """Return Qiskit's PUBs, their circuits in the backend's terms.

        Raises:
            ConfigurationError: A PUB that cannot be coerced, or that the backend cannot run; the message says which.
        """
        pubs = []
        for index, parts in enumerate(self._inputs["pubs"]):
            place = f"pubs[{index}]"
            try:
                pub = self._fit(self._coerce(parts), backend, place)
                self._check_runs(pub, backend, place)
                pubs.append(pub)
            except ConfigurationError:
                raise
            except Exception as error:  # noqa: BLE001 - Qiskit refuses a PUB with many kinds of errors
                said = str(error).rstrip(".")  # a few of Qiskit's sentences end so
                raise ConfigurationError(f"{place}: {type(error).__name__}: {said}. Nothing was sent.") from None
        return pubs

    def _coerce(self, parts: Sequence[Any]) -> Any:
        """Return Qiskit's PUB object, checked by Qiskit's own rules and for what they let pass."""
        import numpy as np
        from qiskit.primitives.containers.estimator_pub import EstimatorPub
        from qiskit.primitives.containers.sampler_pub import SamplerPub

        pub = parts[0] if len(parts) == 1 and hasattr(parts[0], "parameter_values") else tuple(parts)
        coerced: Any
        if self._program_id == "sampler":
            coerced = SamplerPub.coerce(pub, self._shots)
        else:
            coerced = EstimatorPub.coerce(pub, self._precision)
        # Qiskit counts the values only; those of a parameter that the circuit does not have are refused here.
        values = coerced.parameter_values.as_array(coerced.circuit.parameters)
        if not np.isfinite(values).all():  # a simulator may turn it into counts that look like others
            raise ValueError("a parameter value is nan or infinite")
        return coerced

    def _fit(self, pub: Any, backend: Backend, place: str) -> Any:
        """Return the PUB with its circuit in the backend's terms; unchanged if it is."""
        circuit = pub.circuit
        if self._program_id == "sampler" and not circuit.cregs:
            raise ConfigurationError(f"{place}: the circuit measures nothing; add measurements, e.g. measure_all().")
        if backend.num_qubits is not None and circuit.num_qubits > backend.num_qubits:
            raise ConfigurationError(
                f"{place}: the circuit needs {circuit.num_qubits} qubits, {backend.name} has {backend.num_qubits}."
            )
        if backend.configuration is None or self._level is None or _fault(pub, backend) is None:
            return pub
        if self._pass_manager is None:
            self._pass_manager = pass_manager(backend.configuration, backend.properties, self._level)
        fitted = self._pass_manager.run(circuit)
        kind, values = type(pub), _values_for(fitted, pub)
        if self._program_id == "sampler":
            return kind(fitted, values, pub.shots)
        observables = pub.observables.apply_layout(fitted.layout)
        return kind(fitted, observables, values, pub.precision)

    def _check_runs(self, pub: Any, backend: Backend, place: str) -> None:
        """Refuse what would be refused, or fail, once the job has waited its turn."""
        if self._program_id == "sampler":
            _check_names(pub.circuit, place)
        fault = _fault(pub, backend)
        decoupling = self._options.get("dynamical_decoupling")
        if isinstance(decoupling, Mapping) and decoupling.get("enable") and is_dynamic(pub.circuit):
            fault = "it is dynamic, and dynamical decoupling cannot be used with dynamic circuits"
        if fault is not None:
            raise ConfigurationError(
                f"{place}: {backend.name} cannot run this circuit: {fault}. Nothing was sent. Leave transpiling to "
                "optimization_level=0 to 3, or transpile for this backend."
            )


def _check_names(circuit: Any, place: str) -> None:
    """Refuse a register that no result can have: its name is that of a part of every result's data."""
    import numpy as np
    from qiskit.primitives.containers import DataBin

    for register in circuit.cregs:
        try:
            DataBin(shape=(), **{register.name: np.zeros(())})
        except (TypeError, ValueError):
            raise ConfigurationError(
                f"{place}: Qiskit's results can have no register of the name {register.name!r}; give the classical "
                "register another one. Nothing was sent."
            ) from None


def _fault(pub: Any, backend: Backend) -> str | None:
    """Return what of a PUB a backend cannot run as it stands, in words; None if it can, or nobody knows."""
    if backend.configuration is None:
        return None
    found = misfit(pub.circuit, backend.target)
    if found is None and not backend.configuration.get("simulator"):
        found = rzz_fault(pub.circuit, pub.parameter_values.as_array(pub.circuit.parameters))
    return found


def _values_for(circuit: Any, pub: Any) -> Any:
    """Return a PUB's parameter values, without those that its transpiled circuit has no use for."""
    from qiskit.primitives.containers.bindings_array import BindingsArray

    names, left = list(pub.circuit.parameters), tuple(circuit.parameters)
    values = pub.parameter_values.as_array(names)[..., [names.index(parameter) for parameter in left]]
    return BindingsArray({left: values} if left else None, shape=pub.parameter_values.shape)


def _as_text(pub: Any) -> list[Any]:
    """Return a PUB in its strict form, its circuit as OpenQASM 3: for programs that are to load no Qiskit."""
    from qiskit import qasm3

    values = pub.parameter_values.as_array(pub.circuit.parameters)
    text = qasm3.dumps(pub.circuit)
    if hasattr(pub, "observables"):
        return [text, pub.observables.tolist(), values, pub.precision]
    return [text, values, pub.shots]
