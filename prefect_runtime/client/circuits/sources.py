"""Circuits as people have them -> circuits: objects, OpenQASM 3 texts, .qasm and .qpy files. Used by primitives.py."""

from __future__ import annotations

import importlib.util
import io
import re
from pathlib import Path
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError

_QASM = re.compile(r'\s*(OPENQASM|//|/\*|include\s*["\'])')  # how a text begins; include/bell.qasm is a path
MOST_SAID = 100  # characters of what a parser says, which may repeat the text


def has_qiskit() -> bool:
    """Tell whether Qiskit is installed, without loading it."""
    try:
        return importlib.util.find_spec("qiskit") is not None
    except ValueError:  # what stands in for it has no spec
        return False


def read_circuit(circuit: Any, place: str, *, keep_text: bool = False) -> Any:
    """Return the circuit that somebody means.

    Args:
        circuit: A QuantumCircuit, an OpenQASM 3 text, or the path of a .qasm or .qpy file.
        place: Where it stands, for messages.
        keep_text: Leave OpenQASM 3 the text it is.

    Raises:
        ConfigurationError: It is none of these, or cannot be read.
    """
    if isinstance(circuit, str) and _QASM.match(circuit):
        return circuit if keep_text else _from_qasm(circuit, place)
    if isinstance(circuit, str | Path):
        return _from_file(Path(circuit), place, keep_text=keep_text)
    if not keep_text and (type(circuit).__module__.startswith("qiskit") or hasattr(circuit, "num_qubits")):
        return circuit
    raise ConfigurationError(
        f"{place}: a circuit is a QuantumCircuit, an OpenQASM 3 text, or the path of a .qasm or .qpy file; "
        f"this is a {type(circuit).__name__}."
    )


def _from_file(path: Path, place: str, *, keep_text: bool) -> Any:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{place}: cannot read the circuit file {path} ({error.strerror}).") from None
    if path.suffix == ".qasm":
        text = data.decode("utf-8-sig", errors="replace")  # some editors begin a file with a mark
        return text if keep_text else _from_qasm(text, place)
    if path.suffix != ".qpy":
        raise ConfigurationError(f"{place}: a circuit file ends in .qasm or .qpy, not {path.suffix!r}.")
    if not has_qiskit():
        raise ConfigurationError(
            f"{place}: QPY files need Qiskit: pip install 'prefect-runtime[local]', or give OpenQASM 3."
        )
    from qiskit import qpy

    try:
        circuits = qpy.load(io.BytesIO(data))
    except Exception as error:  # noqa: BLE001 - Qiskit's reader raises what its parts raise
        raise ConfigurationError(f"{place}: {path.name} is not a QPY file ({type(error).__name__}).") from None
    if len(circuits) != 1:
        raise ConfigurationError(f"{place}: {path.name} holds {len(circuits)} circuits; give one file a circuit.")
    return circuits[0]


def _from_qasm(text: str, place: str) -> Any:
    from qiskit import qasm3

    try:
        return qasm3.loads(text)
    except ImportError as error:
        raise ConfigurationError(f"{place}: {error}. Install 'prefect-runtime[local]' to read OpenQASM 3.") from None
    except Exception as error:  # noqa: BLE001 - the parser raises what its parts raise
        said = str(error).strip("'\"")[:MOST_SAID]  # line, column and what is wrong there; at times nothing
        what = f"{type(error).__name__}: {said}".removesuffix(": ")
        raise ConfigurationError(f"{place}: not OpenQASM 3 that Qiskit can read ({what}).") from None
