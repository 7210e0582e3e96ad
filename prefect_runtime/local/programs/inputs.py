"""What sampler and estimator share: reading PUBs and options as they come from the wire. Only programs import this."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from prefect_runtime.local.programs.memory import CannotSimulateError


def read_pubs(pubs: Any, coerce: Callable[[list[Any]], Any]) -> list[Any]:
    """Return Qiskit's PUBs for PUBs as JSON has them.

    Args:
        pubs: A list of PUBs: a circuit, or a list that begins with one; a circuit may be OpenQASM 3 text.
        coerce: Makes one PUB of a list, with Qiskit's own rules.

    Raises:
        ValueError: No PUBs, or one that is not a PUB; the message names its number.
    """
    if not isinstance(pubs, Sequence) or isinstance(pubs, str) or not pubs:
        raise ValueError("`pubs` must be a list with at least one PUB: [circuit, ...].")
    return [_read_pub(number, pub, coerce) for number, pub in enumerate(pubs)]


def _read_pub(number: int, pub: Any, coerce: Callable[[list[Any]], Any]) -> Any:
    parts = list(pub) if isinstance(pub, Sequence) and not isinstance(pub, str) else [pub]
    if not parts:
        raise ValueError(f"PUB {number} is empty; it must begin with a circuit.")
    from qiskit.exceptions import QiskitError

    try:
        read = coerce([_circuit(parts[0]), *parts[1:]])
        read.parameter_values.as_array(read.circuit.parameters)  # Qiskit checks names only here: not halfway, please
    except (ValueError, TypeError, QiskitError) as error:
        raise ValueError(f"PUB {number}: {error}") from error
    return read


@contextmanager
def naming_pub(number: int) -> Iterator[None]:
    """Put a PUB's number before the reason why it cannot be simulated."""
    try:
        yield
    except CannotSimulateError as error:
        raise CannotSimulateError(f"PUB {number}: {error}") from None


def _circuit(value: Any) -> Any:
    from qiskit import QuantumCircuit, qasm3

    if isinstance(value, str):
        return qasm3.loads(value)
    if not isinstance(value, QuantumCircuit):
        raise TypeError(f"a circuit must be a QuantumCircuit or OpenQASM 3 text, not {type(value).__name__}")
    return value


def read_options(options: Mapping[str, Any] | None, known: Iterable[str], logger: logging.Logger) -> dict[str, Any]:
    """Return the options that a program knows, by dotted name; warn of the others, which have no effect here."""
    given = dict(_flat(options or {}))
    taken = {name: given.pop(name) for name in known if name in given}
    if given:
        logger.warning("These options have no effect on the embedded runtime: %s", ", ".join(sorted(given)))
    return {name: value for name, value in taken.items() if value is not None}


def _flat(options: Mapping[str, Any], prefix: str = "") -> Iterable[tuple[str, Any]]:
    for name, value in options.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value


def read_seed(options: Mapping[str, Any]) -> int | None:
    """Return the seed that options give under either of its names; None for a fresh one."""
    seed = options.get("seed", options.get("simulator.seed_simulator"))
    return None if seed is None else int(seed)
