"""What a client knows of a backend: a plain object over the server's documents. Imported within `client` only.

Loads neither Qiskit nor NumPy before somebody asks for the target.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from prefect_runtime.client.circuits.target import build_target
from prefect_runtime.wire.errors import ConfigurationError


@dataclass(frozen=True, slots=True, kw_only=True)
class BackendStatus:
    """How a backend was doing when the server was asked.

    Attributes:
        operational: It takes jobs and runs them.
        message: What the server says about it, e.g. "active" or "maintenance".
        pending_jobs: Jobs waiting for it.
        wait_seconds: How long a new job will wait on average, as the server expects; None where it does not say.
    """

    operational: bool
    message: str = ""
    pending_jobs: int = 0
    wait_seconds: float | None = None

    @property
    def expected_wait(self) -> float | None:
        """Seconds a new job will wait; None if nobody knows. An empty queue is none."""
        if self.wait_seconds is None and self.pending_jobs == 0:
            return 0.0
        return self.wait_seconds


class Backend:
    """A backend and its documents; Qiskit's pass managers take it as ``backend``, or its ``target``.

    Two objects of the same name are equal, whatever their calibration.

    Attributes:
        name: What jobs are sent to.
        num_qubits: Width of the widest circuit it takes; None when no document says.
        status: How it was doing when asked; None when not asked.
        configuration: The configuration document as it came; None when not asked for.
        properties: The properties document as it came; None when not asked for, or when the backend has none.
    """

    def __init__(
        self,
        name: str,
        *,
        num_qubits: int | None = None,
        status: BackendStatus | None = None,
        configuration: Mapping[str, Any] | None = None,
        properties: Mapping[str, Any] | None = None,
    ) -> None:
        documented = None if configuration is None else configuration.get("n_qubits")
        self.name = name
        self.num_qubits: int | None = documented if num_qubits is None else num_qubits
        self.status = status
        self.configuration = configuration
        self.properties = properties
        self._target: Any = None

    @property
    def target(self) -> Any:
        """The `qiskit.transpiler.Target` that the documents describe; built once.

        Raises:
            ConfigurationError: There is no configuration document, or it lacks the number of qubits.
        """
        if self._target is None:
            if self.configuration is None:
                raise ConfigurationError(
                    f"Backend {self.name!r} came without a configuration document: its target is not known."
                )
            self._target = build_target(self.configuration, self.properties)
        return self._target

    # What generate_preset_pass_manager(backend=...) reads besides `target` and `num_qubits`; it asks for no class.
    # Source: qiskit.transpiler.preset_passmanagers and PassManagerConfig.from_backend, Qiskit 2.6.

    @property
    def operation_names(self) -> list[str]:
        """Names of the target's operations."""
        return list(self.target.operation_names)

    @property
    def coupling_map(self) -> Any:
        """The target's `qiskit.transpiler.CouplingMap`; None when all qubits are coupled."""
        return self.target.build_coupling_map()

    @property
    def instruction_durations(self) -> Any:
        """The target's `qiskit.transpiler.InstructionDurations`."""
        return self.target.durations()

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_target": None}  # rebuilt from the documents where it is needed

    def __eq__(self, other: object) -> bool:
        return self.name == other.name if isinstance(other, Backend) else NotImplemented

    def __hash__(self) -> int:
        return hash(self.name)

    def __repr__(self) -> str:
        return f"Backend({self.name!r}, num_qubits={self.num_qubits})"
