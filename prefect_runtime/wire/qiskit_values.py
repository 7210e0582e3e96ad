"""Qiskit's value types in the runtime's tagged encoding. Only wire/codec.py imports this, and only when one is met.

Layout of the tags as qiskit-ibm-runtime 0.51 writes them; see wire/codec.py for the rules of decoding.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Callable
from typing import Any

from qiskit import QuantumCircuit, qpy
from qiskit.exceptions import QiskitError
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import Pauli, PauliList, SparsePauliOp

from prefect_runtime.wire.codec import MetadataDecoder, RuntimeEncoder, encode_result, pack, unpack
from prefect_runtime.wire.errors import ResultDecodeError

MAX_QPY_VERSION = 17  # what IBM's sampler and estimator accept is 13 to 17 (ibm-quantum-schemas 0.13)
MAX_BITS = 1_000_000  # of a circuit, quantum and classical together
_QPY_FILE_HEADER = 20  # bytes: "!6sBBBBQc", and the type key
_QPY_WITH_TABLE = 16  # the first version with a table of where each circuit begins
_QPY_TABLE_ENTRY = 8  # bytes
_QPY_COUNTS = 5  # bytes of a circuit's header before its numbers of qubits and bits: "!HcH"
MIN_QPY_VERSION = 13  # below 13 loading can execute code (CVE-2025-2000)


def encode(o: Any) -> Any:
    """Return the JSON form of a Qiskit value, or NotImplemented."""
    for kind, encoder in _ENCODERS:
        if isinstance(o, kind):
            return encoder(o)
    return NotImplemented


def _tag(name: str, value: Any) -> dict[str, Any]:
    return {"__type__": name, "__value__": value}


def _encode_circuit(circuit: QuantumCircuit) -> dict[str, Any]:
    buffer = io.BytesIO()
    try:
        qpy.dump(circuit, buffer, RuntimeEncoder, version=min(MAX_QPY_VERSION, qpy.QPY_VERSION))
    except QiskitError as error:
        raise TypeError(f"a circuit that QPY cannot hold ({error})") from None
    return _tag("QuantumCircuit", pack(buffer.getvalue()))


def _encode_operator(operator: Any) -> dict[str, Any]:
    kind = type(operator)
    place = {"__module__": kind.__module__, "__class__": kind.__name__}
    return {"__type__": "settings", **place, "__value__": operator.settings}


def _encode_bindings(bindings: BindingsArray) -> dict[str, Any]:
    data = {encode_result(key): value for key, value in bindings.data.items()}
    return _tag("BindingsArray", {"shape": bindings.shape, "data": data})


def _encode_data_bin(data: DataBin) -> dict[str, Any]:
    return _tag("DataBin", {"field_names": list(data), "shape": data.shape, "fields": dict(data.items())})


def _encode_pub_result(result: PubResult) -> dict[str, Any]:
    name = "SamplerPubResult" if isinstance(result, SamplerPubResult) else "PubResult"
    return _tag(name, {"data": result.data, "metadata": result.metadata})


_ENCODERS: tuple[tuple[type, Callable[[Any], Any]], ...] = (
    (QuantumCircuit, _encode_circuit),
    (SparsePauliOp, _encode_operator),
    (PauliList, _encode_operator),
    (Pauli, _encode_operator),
    (BitArray, lambda o: _tag("BitArray", {"array": o.array, "num_bits": o.num_bits})),
    (DataBin, _encode_data_bin),
    (PubResult, _encode_pub_result),
    (PrimitiveResult, lambda o: _tag("PrimitiveResult", {"pub_results": list(o), "metadata": o.metadata})),
    (BindingsArray, _encode_bindings),
    (ObservablesArray, lambda o: _tag("ObservablesArray", o.tolist())),
    # A PUB is not tagged: its strict tuple form is what the primitives take.
    (SamplerPub, lambda o: (o.circuit, o.parameter_values.as_array(o.circuit.parameters), o.shots)),
    (
        EstimatorPub,
        lambda o: (
            o.circuit,
            o.observables.tolist(),
            o.parameter_values.as_array(o.circuit.parameters),
            o.precision,
        ),
    ),
)


def _revive_circuit(obj: dict[str, Any]) -> QuantumCircuit:
    data = unpack(obj["__value__"])
    # File header: 6 bytes of magic, then one byte of format version.
    if data[:6] != b"QISKIT" or len(data) < 7:
        raise ResultDecodeError("A circuit in the answer is not QPY.")
    if data[6] < MIN_QPY_VERSION:
        raise ResultDecodeError(
            f"A circuit in the answer is QPY version {data[6]}; below {MIN_QPY_VERSION} is refused."
        )
    _check_counts(data)
    circuits = qpy.load(io.BytesIO(data), MetadataDecoder)
    return circuits[0]


def _check_counts(data: bytes) -> None:
    """Refuse a file that promises more circuits or bits than are meant: Qiskit makes room for them before it looks.

    Source: formats of QPY 13 to 17, `qiskit.qpy` 2.6: file header, type key, from 16 on a table, circuit header.
    """
    try:
        (programs,) = struct.unpack_from("!Q", data, 10)
        start = _QPY_FILE_HEADER + (_QPY_TABLE_ENTRY * programs if data[6] >= _QPY_WITH_TABLE else 0)
        qubits, clbits = struct.unpack_from("!II", data, start + _QPY_COUNTS)
    except struct.error:
        raise ResultDecodeError("A circuit in the answer is cut off.") from None
    if programs != 1 or qubits + clbits > MAX_BITS:
        raise ResultDecodeError(
            f"A circuit in the answer is refused: {programs} circuits in one, of {qubits} qubits and {clbits} bits."
        )


def _revive_operator(obj: dict[str, Any]) -> Any:
    """Rebuild one of the operators below from its labels; anything else that `settings` may name stays a dict."""
    value, name = obj["__value__"], obj.get("__class__")
    if not str(obj.get("__module__", "")).startswith("qiskit.quantum_info.operators") or not isinstance(value, dict):
        return obj
    if name == "SparsePauliOp":
        data = value["data"]
        return SparsePauliOp(data if isinstance(data, PauliList) else PauliList(data), value["coeffs"])
    if name == "PauliList":
        return PauliList(value["data"])
    if name == "Pauli":
        return Pauli(value["data"])
    return obj


def _revive_bindings(obj: dict[str, Any]) -> BindingsArray:
    from prefect_runtime.wire.codec import decode

    value = obj["__value__"]
    data = {_binding_key(decode(key)): array for key, array in value["data"].items()}
    return BindingsArray(data, tuple(value["shape"]))


def _binding_key(key: Any) -> Any:
    return tuple(key) if isinstance(key, list) else key


def _revive_data_bin(obj: dict[str, Any]) -> DataBin:
    value = obj["__value__"]
    shape = value["shape"]
    return DataBin(shape=tuple(shape) if isinstance(shape, list) else shape, **value["fields"])


def _value_kwargs(kind: Callable[..., Any]) -> Callable[[dict[str, Any]], Any]:
    return lambda obj: kind(**obj["__value__"])


REVIVERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "QuantumCircuit": _revive_circuit,
    "settings": _revive_operator,
    "BitArray": lambda obj: BitArray(obj["__value__"]["array"], int(obj["__value__"]["num_bits"])),
    "DataBin": _revive_data_bin,
    "PubResult": _value_kwargs(PubResult),
    "SamplerPubResult": _value_kwargs(SamplerPubResult),
    "EstimatorPubResult": _value_kwargs(PubResult),
    "PrimitiveResult": _value_kwargs(PrimitiveResult),
    "BindingsArray": _revive_bindings,
    "ObservablesArray": lambda obj: ObservablesArray(obj["__value__"]),
}
"""Decoders by tag; the argument is the whole tagged object."""
