"""Which backend is best for a piece of work: the shortest wait, or the best calibration.

Used by service_backends.py and the task `choose_backend`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from prefect_runtime.client import primitives
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.circuits.fidelity import expected_fidelity
from prefect_runtime.client.request import check_backend
from prefect_runtime.client.retry import check_seconds, is_whole_number
from prefect_runtime.wire.errors import BackendNotFoundError, ConfigurationError, ProtocolError

Prefer = Literal["wait", "fidelity"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a backend is wanted for.

    Attributes:
        names: Those to choose from, the dearest first; None for all the account has.
        min_num_qubits: Qubits it must have; the circuits' own width counts as well.
        circuits: What is to be run on it, as `run_sampler` takes circuits.
        prefer: "wait", or "fidelity" for the best calibration of the qubits that the circuits would use.
        max_wait_seconds: The longest a new job may be expected to wait.

    Raises:
        ConfigurationError: Something that cannot work; the message names the field.
    """

    names: tuple[str, ...] | None = None
    min_num_qubits: int | None = None
    circuits: tuple[Any, ...] = ()
    prefer: Prefer = "wait"
    max_wait_seconds: float | None = None

    def __post_init__(self) -> None:
        check_seconds("max_wait_seconds", self.max_wait_seconds)
        if self.names is not None and not self.names:
            raise ConfigurationError("names: the list is empty; None is for all that the account has.")
        check_backend(self.names)
        width = self.min_num_qubits
        if width is not None and (not is_whole_number(width) or width < 1):
            raise ConfigurationError(f"min_num_qubits: must be a whole number, 1 or more; got {width!r}.")
        if self.prefer not in ("wait", "fidelity"):
            raise ConfigurationError(f"prefer: {self.prefer!r} is none of 'wait', 'fidelity'.")
        if any(isinstance(circuit, str) for circuit in self.circuits):
            raise ConfigurationError(
                "circuits: looking at them needs Qiskit: pip install 'prefect-runtime[local]'; or give min_num_qubits."
            )
        if self.prefer == "fidelity" and not self.circuits:
            raise ConfigurationError("circuits: needed for prefer='fidelity': which qubits count depends on them.")

    @property
    def width(self) -> int:
        """Qubits a backend must have."""
        widths: list[int] = [circuit.num_qubits for circuit in self.circuits]
        return max([self.min_num_qubits or 1, *widths])


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    """The backend that was chosen, and what spoke for it.

    Attributes:
        name: The backend.
        wait_seconds: How long a job was expected to wait there; None if that is not known.
        fidelity: Probability that the circuits run without an error; None where wait was preferred.
        others: Why each of the others was not chosen, by name.
    """

    name: str
    wait_seconds: float | None
    fidelity: float | None
    others: dict[str, str]


def read_circuits(circuits: Sequence[Any] | None) -> tuple[Any, ...]:
    """Return circuits as Qiskit's, from whatever `run_sampler` takes.

    Raises:
        ConfigurationError: One that cannot be read.
    """
    if isinstance(circuits, str) or hasattr(circuits, "num_qubits"):  # both can be walked through, in pieces
        raise ConfigurationError("circuits: must be a list of circuits, such as [circuit].")
    if not circuits:
        return ()
    pubs = primitives.read("sampler", {"pubs": list(circuits)})["pubs"]
    return tuple(getattr(parts[0], "circuit", parts[0]) for parts in pubs)


def choose(wish: Wish, backends: Sequence[Backend], load: Callable[[str], Backend]) -> Choice:
    """Return the best one.

    Args:
        wish: What it is wanted for.
        backends: What the server lists now.
        load: Returns a backend with its documents.

    Raises:
        BackendNotFoundError: None will do; the message says why not, for each.
    """
    listed = {backend.name: backend for backend in backends}
    names = wish.names or tuple(listed)
    refused = {name: why for name in names if (why := _why_not(listed.get(name), wish))}
    left = [listed[name] for name in names if name not in refused]
    if left and wish.prefer == "wait":
        best = min(left, key=lambda backend: (_wait(backend), _queue(backend)))
        others = {one.name: f"longer wait ({_seconds(one)})" for one in left if one is not best}
        return Choice(name=best.name, wait_seconds=_known_wait(best), fidelity=None, others=refused | others)
    fidelities = {one.name: _fidelity(wish, one.name, load) for one in left}
    refused |= {name: said for name, said in fidelities.items() if isinstance(said, str)}
    judged = {name: said for name, said in fidelities.items() if not isinstance(said, str)}
    if not judged:
        reasons = "; ".join(f"{name}: {why}" for name, why in refused.items()) or "the account has none"
        raise BackendNotFoundError(f"No backend will do. {reasons}.", status_code=404)
    name = max(judged, key=judged.__getitem__)  # of equal ones the first
    others = {other: f"fidelity {judged[other]:.3g}" for other in judged if other != name}
    return Choice(name=name, wait_seconds=_known_wait(listed[name]), fidelity=judged[name], others=refused | others)


def _fidelity(wish: Wish, name: str, load: Callable[[str], Backend]) -> float | str:
    """Return how well a backend would run the circuits, or why it cannot."""
    try:
        backend = load(name)
    except (BackendNotFoundError, ProtocolError) as error:  # not the line's: they say nothing of this backend
        return f"nothing is known of it ({error})"
    try:
        return expected_fidelity(wish.circuits, backend)
    except Exception as error:  # noqa: BLE001 - Qiskit refuses a circuit with many kinds of errors
        return f"cannot run the circuits ({type(error).__name__}: {error})"


def _why_not(backend: Backend | None, wish: Wish) -> str:
    """Return what speaks against a backend; empty if nothing does."""
    if backend is None:
        return "not one of this account's"
    if backend.status is not None and not backend.status.operational:
        return f"takes no jobs now ({backend.status.message})" if backend.status.message else "takes no jobs now"
    if backend.num_qubits is not None and backend.num_qubits < wish.width:
        return f"has {backend.num_qubits} of {wish.width} qubits"
    if wish.max_wait_seconds is not None and _wait(backend) > wish.max_wait_seconds:
        return f"longer wait than {wish.max_wait_seconds:g} s ({_seconds(backend)})"
    return ""


def _known_wait(backend: Backend) -> float | None:
    return backend.status.expected_wait if backend.status else None


def _wait(backend: Backend) -> float:
    known = _known_wait(backend)
    return math.inf if known is None else known


def _queue(backend: Backend) -> int:
    return backend.status.pending_jobs if backend.status else 0


def _seconds(backend: Backend) -> str:
    known = _known_wait(backend)
    return f"{_queue(backend)} jobs waiting" if known is None else f"{known:.0f} s"
