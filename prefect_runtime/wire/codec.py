"""Values <-> JSON text: the runtime's tagged encoding, and `ResultDecoder`. Imported by client and local.

A value that JSON has no word for becomes ``{"__type__": T, "__value__": V}``; the tags are those of Qiskit's
RuntimeEncoder (qiskit-ibmq-provider 0.20.2, qiskit-ibm-runtime 0.51). Decoding knows a fixed table of tags and never
imports or calls anything that a payload names; a tag outside the table stays the plain dict it is.

NumPy and Qiskit are imported when a value of theirs is met, not before: a value can only be NumPy's if NumPy is loaded.
"""

from __future__ import annotations

import base64
import binascii
import datetime as dt
import json
import math
import sys
import zlib
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from typing import Any, ClassVar

from prefect_runtime.wire import arrays
from prefect_runtime.wire.errors import ConfigurationError, ResultDecodeError
from prefect_runtime.wire.json_text import read_json
from prefect_runtime.wire.plain_values import PLAIN_REVIVERS
from prefect_runtime.wire.spans import SPAN_TAGS, ExecutionSpan, ExecutionSpans, encode_span, read_span

MAX_DECODED_BYTES = 512 * 1024 * 1024
"""Most bytes that the compressed values of one text may unpack to, all together: one zlib string can hide any size."""

MAX_RATIO = 200
"""So many times their size they may unpack to, all together, once that is more than `FREE_DECODED_BYTES`."""

FREE_DECODED_BYTES = 64 * 1024 * 1024
"""Shots of which all are alike compress a thousandfold: up to here, the ratio says nothing."""

_CLIENT_SIDE = ("sampler_v2", "estimator_v2")
"""What the result of a program of a client-side primitive says it is the answer to (qiskit-ibm-runtime 0.51)."""


class _Budget:
    """How much the compressed values of one text may still unpack to.

    Args:
        max_bytes: What somebody has said that they may; None for our limits.
    """

    def __init__(self, max_bytes: int | None = None) -> None:
        self._most = MAX_DECODED_BYTES if max_bytes is None else max_bytes
        self._ratio = MAX_RATIO if max_bytes is None else math.inf
        self._packed = self._unpacked = 0

    def left(self, more_packed: int = 0) -> int:
        """Return what may still be unpacked, once so many compressed bytes more have come."""
        self._packed += more_packed
        most = min(self._most, max(FREE_DECODED_BYTES, self._ratio * self._packed))
        return max(0, int(most) - self._unpacked)

    def take(self, unpacked: int) -> None:
        """Say that so much was."""
        self._unpacked += unpacked


_left: ContextVar[_Budget | None] = ContextVar("bytes that may still be unpacked", default=None)


class RuntimeEncoder(json.JSONEncoder):
    """JSON encoder for the runtime's value types; `encode_inputs` names the field when a value cannot be encoded."""

    def default(self, o: Any) -> Any:
        """Return the JSON form of a value that JSON has no word for.

        Raises:
            TypeError: No encoding is known for this type.
        """
        if isinstance(o, dt.date):  # datetime is a date
            return _tagged("datetime", o.isoformat())
        if isinstance(o, complex):
            return _tagged("complex", [o.real, o.imag])
        if isinstance(o, set | frozenset):
            return _tagged("set", list(o))
        if isinstance(o, ExecutionSpan):
            return _tagged(o.kind, encode_span(o))
        if isinstance(o, ExecutionSpans):
            return _tagged("ExecutionSpans", {"spans": list(o)})
        if isinstance(o, Mapping):
            return dict(o)
        if "numpy" in sys.modules:
            encoded = _encode_numpy(o)
            if encoded is not NotImplemented:
                return encoded
        if "qiskit" in sys.modules:
            from prefect_runtime.wire import qiskit_values

            encoded = qiskit_values.encode(o)
            if encoded is not NotImplemented:
                return encoded
        raise TypeError(f"a value of type {type(o).__name__} has no JSON form")


def _encode_numpy(value: Any) -> Any:
    """Return the JSON form of a value of NumPy's; NotImplemented where it has none."""
    if arrays.is_array(value):
        if value.dtype == object and value.ndim == 0:
            return value.item()  # a text in it would be taken for a packed array
        return _tagged("ndarray", value.tolist() if value.dtype == object else _pack_array(value))
    return arrays.item_of(value)


def _tagged(tag: str, value: Any) -> dict[str, Any]:
    return {"__type__": tag, "__value__": value}


def encode_inputs(inputs: Mapping[str, Any]) -> str:
    """Return the JSON text of a program's inputs.

    Raises:
        ConfigurationError: Some value cannot be encoded; the message says where it stands and of what type it is.
    """
    try:
        return json.dumps(inputs, cls=RuntimeEncoder)
    except (TypeError, ValueError, RecursionError) as error:
        place, why = _find_fault("inputs", inputs, depth=0) or ("inputs", _reason(error))
        raise ConfigurationError(f"Cannot encode {place}: {why}. Nothing was sent.") from None


def _find_fault(place: str, value: Any, *, depth: int) -> tuple[str, str] | None:
    """Return where the first value stands that cannot be encoded, and why; None if all can."""
    if depth > 100:
        return place, "nested more than 100 levels deep (or contains itself)"
    if isinstance(value, Mapping):
        for key, item in value.items():
            if not isinstance(key, str | int | float | bool | None):
                return place, f"a key of type {type(key).__name__} (keys must be text or numbers)"
            if fault := _find_fault(f"{place}[{key!r}]", item, depth=depth + 1):
                return fault
        return None
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            if fault := _find_fault(f"{place}[{index}]", item, depth=depth + 1):
                return fault
        return None
    try:
        json.dumps(value, cls=RuntimeEncoder)
    except (TypeError, ValueError, RecursionError) as error:
        return place, _reason(error)
    return None


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, TypeError) else type(error).__name__


def encode_result(value: Any) -> str:
    """Return the JSON text of a result or interim result.

    Raises:
        TypeError: Some value cannot be encoded.
        ValueError: The value contains itself.
    """
    return json.dumps(value, cls=RuntimeEncoder)


def decode(text: str, *, max_bytes: int | None = None) -> Any:
    """Return the value a tagged JSON text stands for.

    Args:
        text: The text.
        max_bytes: Most bytes that its compressed values may unpack to, all together; None for `MAX_DECODED_BYTES`.

    Raises:
        json.JSONDecodeError: Not JSON.
        ResultDecodeError: JSON, but a tag in it holds something else than it promises, or too much.
    """
    if _left.get() is not None:  # a text within a text
        return _read(text)
    token = _left.set(_Budget(max_bytes))
    try:
        value = _read(text)
        if isinstance(value, dict) and value.get("semantic_role") in _CLIENT_SIDE and "passthrough_data" in value:
            from prefect_runtime.wire import client_side

            return client_side.read(text, value, unpack)
        return value
    finally:
        _left.reset(token)


def _read(text: str) -> Any:
    try:
        return read_json(text, object_hook=_revive)
    except (json.JSONDecodeError, ResultDecodeError):
        raise
    except (RecursionError, ValueError) as error:  # too deep, too much, a number with thousands of digits
        raise ResultDecodeError(f"The result cannot be read ({type(error).__name__}).") from None


class MetadataDecoder(json.JSONDecoder):
    """Reads the metadata of a circuit, which is JSON text of its own within QPY."""

    def decode(self, s: str, _w: Any = None) -> Any:
        """Return its value, within the limits that any text has."""
        return read_json(s, object_hook=_revive)


class ResultDecoder:
    """Turns the text of a result or interim result into a value. Subclass it and pass the *class* as ``decoder``.

    Attributes:
        max_bytes: Most bytes that the compressed values of one text may unpack to; None for 512 MiB.
    """

    max_bytes: ClassVar[int | None] = None

    @classmethod
    def decode(cls, data: str) -> Any:
        """Return the value; text that is not JSON comes back unchanged.

        Args:
            data: The text as the server sent it.

        Raises:
            ResultDecodeError: JSON, but a tag in it holds something else than it promises, or too much.
        """
        try:
            return decode(data, max_bytes=cls.max_bytes)
        except json.JSONDecodeError:
            return data


def _revive(obj: dict[str, Any]) -> Any:
    tag = obj.get("__type__")
    if not isinstance(tag, str) or ("__value__" not in obj):
        return obj
    reviver = _REVIVERS.get(tag) or _qiskit_reviver(tag)
    if reviver is None:
        return obj
    try:
        return reviver(obj)
    except ResultDecodeError:
        raise
    except Exception as error:  # noqa: BLE001 - a value that lies about itself fails in any way
        raise ResultDecodeError(f"A {tag!r} value in the answer cannot be read ({type(error).__name__}).") from None


def _qiskit_reviver(tag: str) -> Callable[[dict[str, Any]], Any] | None:
    if tag not in QISKIT_TAGS:
        return None
    try:
        from prefect_runtime.wire import qiskit_values
    except ImportError:  # no Qiskit here
        return PLAIN_REVIVERS.get(tag)
    return qiskit_values.REVIVERS.get(tag)


QISKIT_TAGS = frozenset(
    {
        "QuantumCircuit",
        "settings",
        "BitArray",
        "DataBin",
        "PubResult",
        "SamplerPubResult",
        "EstimatorPubResult",
        "PrimitiveResult",
        "BindingsArray",
        "ObservablesArray",
    }
)
"""Tags whose values are Qiskit's; known here so that Qiskit is imported only when one is met."""


def _pack_array(array: Any) -> str:
    return pack(arrays.to_npy(array))


def _revive_array(obj: dict[str, Any]) -> Any:
    value = obj["__value__"]
    return arrays.from_npy(unpack(value)) if isinstance(value, str) else arrays.from_list(value)


def pack(data: bytes) -> str:
    """Return base64(zlib(data)), the form arrays and circuits have on the wire."""
    return base64.standard_b64encode(zlib.compress(data)).decode("ascii")


def unpack(text: str) -> bytes:
    """Undo `pack`, refusing what would unpack to more than may be unpacked.

    Raises:
        ResultDecodeError: Not base64, not zlib, cut off, or too large.
    """
    budget = _left.get() or _Budget()
    try:
        stream = zlib.decompressobj()
        packed = base64.b64decode(text, validate=True)
        left = budget.left(len(packed))
        data = stream.decompress(packed, left + 1)  # 0 would be no limit
    except (binascii.Error, ValueError, zlib.error) as error:
        raise ResultDecodeError(f"A compressed value in the answer cannot be read ({type(error).__name__}).") from None
    if len(data) > left:
        raise ResultDecodeError(
            f"A compressed value in the answer is larger than {left} bytes, which is what may still be unpacked of "
            "all of it. A decoder with a larger max_bytes reads it."
        )
    budget.take(len(data))
    if not stream.eof:
        raise ResultDecodeError("A compressed value in the answer is cut off.")
    return data


def _hashable(value: Any) -> Any:
    """Return a member of a set as it was: JSON has no tuples, and a set within a set cannot be changed."""
    if isinstance(value, list):
        return tuple(map(_hashable, value))
    return frozenset(value) if isinstance(value, set) else value


_REVIVERS: dict[str, Callable[[dict[str, Any]], Any]] = {
    "datetime": lambda obj: dt.datetime.fromisoformat(obj["__value__"]),
    "complex": lambda obj: complex(*obj["__value__"]),
    "set": lambda obj: {_hashable(item) for item in obj["__value__"]},
    "ndarray": _revive_array,
    "ExecutionSpans": lambda obj: ExecutionSpans(obj["__value__"]["spans"]),
    **dict.fromkeys(SPAN_TAGS, read_span),
}
