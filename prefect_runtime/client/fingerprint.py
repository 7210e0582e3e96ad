"""The same request has the same name in every process: fingerprints of logical requests, and the key made from them.

The successor of a crashed process must find the job its predecessor started, so a request's name is derived from what
is asked for and from nothing that one process happens to have: no uuid, address, automatic circuit name, hash order or
exporter's rounding. Used by submission.py and the task `choose_backend`; knows no I/O.

What counts as a difference is what may change the execution:

- Numbers are written with all their bits. ``1`` and ``1.0`` differ, and so do ``0.0`` and ``-0.0``: a program may
  divide by them. A NumPy scalar is the Python number it equals. A NaN is a NaN.
- A list equals a tuple; mappings and sets have no order; the keys ``1`` and ``"1"`` differ.
- An array is its dtype, shape and elements, whatever its layout in memory.
- Classes (of dataclasses, enums, instructions) count by their qualified name without the module: one file is
  ``__main__`` in one process and an imported module in the next.
- A path is its text. What the file holds is not looked at: load a circuit before taking its fingerprint.
- For circuits see client/circuits/fingerprint.py.

Every item is written as tag, length, content, so that two structures never give the same bytes. A value of a type that
is not known here is refused, because a guess (repr, pickle) would make two names for one request, and two jobs.

NumPy and Qiskit are imported when a value of theirs is met, not before: a value can only be NumPy's if NumPy is loaded.
"""

from __future__ import annotations

import base64
import dataclasses
import datetime as dt
import enum
import hashlib
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from pathlib import PurePath
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.models import KEY_PREFIX
from prefect_runtime.wire.spans import ExecutionSpans

MAX_DEPTH = 100
"""Containers (or gate definitions) inside one another; the codec refuses to send anything deeper, too."""

KEY_CHARACTERS = 26
"""Base32 characters of a key: 130 bits, and short enough for a tag next to its prefix."""


class UnfitValueError(Exception):
    """A value that has no fingerprint; collects where it stands on its way up. Never leaves `fingerprint`.

    Attributes:
        path: Steps from the outermost value to this one, innermost first.
    """

    def __init__(self, why: str) -> None:
        super().__init__(why)
        self.path: list[str] = []


def fingerprint(value: Any, *, place: str = "inputs") -> str:
    """Return the hex SHA-256 of a logical request, equal in two processes for equal requests.

    Args:
        value: Nested plain values, arrays, circuits, observables and PUBs.
        place: What error messages call the value.

    Raises:
        ConfigurationError: Some value is of a type that is not known, or nested more than `MAX_DEPTH` levels deep;
            the message names its place and type.
    """
    try:
        return hashlib.sha256(encode(value, 0)).hexdigest()
    except UnfitValueError as error:
        where = place + "".join(reversed(error.path))
        raise ConfigurationError(f"No fingerprint of {where}: {error}. Nothing was sent.") from None
    except RecursionError:
        raise ConfigurationError(f"No fingerprint of {place}: it is nested too deeply. Nothing was sent.") from None


def request_key(
    *,
    scope: str,
    program_id: str,
    backend: str | Sequence[str] | None,
    instance: str | None,
    fingerprint: str,
    occurrence: int,
    generation: int,
) -> str:
    """Return the name under which the job of one request is known, here and at the server.

    Args:
        scope: The caller's idempotency key, or the execution that the request belongs to.
        program_id: The program to run.
        backend: As asked for: a name, names in order of preference, ``least_busy`` or None.
        instance: CRN or hub/group/project.
        fingerprint: What `fingerprint` returned; empty with an explicit idempotency key.
        occurrence: Number among identical requests of one execution, from 0.
        generation: How often the request was finished by a delivered failure, from 0.
    """
    # The fields in this order are the key: another order, or another field, needs another prefix.
    fields = (scope, program_id, backend, instance, fingerprint, occurrence, generation)
    digest = hashlib.sha256(encode(fields, 0)).digest()
    return KEY_PREFIX + base64.b32encode(digest).decode("ascii")[:KEY_CHARACTERS].lower()


def atom(tag: str, content: bytes) -> bytes:
    """Return one item of the byte stream; `tag` must not end in a digit, or it would run into the length."""
    return b"%b%d:%b" % (tag.encode("ascii"), len(content), content)


def text(tag: str, content: str) -> bytes:
    """Return one item that holds text."""
    return atom(tag, content.encode("utf-8", "surrogatepass"))


def digest(tag: str, parts: Iterable[bytes]) -> bytes:
    """Return one item of fixed length that stands for many, so that large values are not copied at every level."""
    sha = hashlib.sha256()
    for part in parts:
        sha.update(part)
    return atom(tag, sha.digest())


def encode(value: Any, depth: int) -> bytes:
    """Return the bytes of one value; no value's bytes are the beginning of another's.

    Args:
        value: What to encode.
        depth: How many containers it stands in.

    Raises:
        UnfitValueError: The type is not known, or `depth` is above `MAX_DEPTH`.
    """
    writer = _WRITERS.get(type(value)) or _writer_by_nature(value)
    return writer(value, depth)


def encode_class(value: Any) -> bytes:
    """Return the bytes that stand for the class of `value` (or for the class `value`)."""
    kind = value if isinstance(value, type) else type(value)
    return text("class", kind.__qualname__)


def encode_at(step: str, value: Any, depth: int) -> bytes:
    """Return the bytes of a value that stands at `step` inside another, one level below `depth`."""
    if depth >= MAX_DEPTH:
        raise UnfitValueError(f"nested more than {MAX_DEPTH} levels deep (or contains itself)")
    try:
        return encode(value, depth + 1)
    except UnfitValueError as error:
        error.path.append(step)
        raise


def unknown(value: Any) -> UnfitValueError:
    """Return the error for a value of a type that is not known here."""
    return UnfitValueError(f"a value of type {type(value).__module__}.{type(value).__qualname__} is not known")


def _number(value: float, _: int) -> bytes:
    return text("float", float.hex(value))


def _complex(value: complex, _: int) -> bytes:
    return text("complex", f"{value.real.hex()},{value.imag.hex()}")


def _integer(value: int, _: int) -> bytes:
    return text("int", format(int(value), "x"))  # decimal text is refused above 4300 digits


def _sequence(value: Sequence[Any], depth: int) -> bytes:
    if depth >= MAX_DEPTH:
        raise UnfitValueError(f"nested more than {MAX_DEPTH} levels deep (or contains itself)")
    parts = []
    for index, item in enumerate(value):
        try:
            parts.append(encode(item, depth + 1))
        except UnfitValueError as error:
            error.path.append(f"[{index}]")
            raise
    return atom("list", b"".join(parts))


def _mapping(value: Mapping[Any, Any], depth: int) -> bytes:
    items = []
    for key, item in value.items():
        step = f"[{key!r}]"
        items.append(encode_at(f"{step} (the key)", key, depth) + encode_at(step, item, depth))
    return atom("map", b"".join(sorted(items)))


def _set(value: Set[Any], depth: int) -> bytes:
    return atom("set", b"".join(sorted(encode_at("{…}", item, depth) for item in value)))


def _enum(value: enum.Enum, depth: int) -> bytes:
    # The value, too: of an IntEnum it is what the codec sends.
    return atom("enum", encode_class(value) + encode(value.name, depth) + encode_at(".value", value.value, depth))


def _dataclass(value: Any, depth: int) -> bytes:
    fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    parts = [text("str", name) + encode_at(f".{name}", item, depth) for name, item in fields.items()]
    return atom("dataclass", encode_class(value) + b"".join(parts))


def _range(value: range, _: int) -> bytes:
    return text("range", f"{value.start:x},{value.stop:x},{value.step:x}")


def _array(value: Any, depth: int) -> bytes:
    import numpy as np

    # A mask is not among the elements' bytes; other kinds hold pointers or padding where bytes should be.
    if isinstance(value, np.ma.MaskedArray) or value.dtype.char in "gG" or value.dtype.kind not in "biufcSUmMO":
        raise UnfitValueError(f"a {type(value).__name__} of dtype {value.dtype} is not known")
    shape = text("shape", ",".join(map(str, value.shape)))
    if value.dtype.kind == "O":
        return atom("objects", shape + encode(value.ravel().tolist(), depth))
    return digest("array", (text("dtype", value.dtype.str), shape, value.tobytes(order="C")))


def _scalar(value: Any, depth: int) -> bytes:
    item = value.item()
    if type(item) is type(value):  # longdouble has no Python number
        raise unknown(value)
    return encode(item, depth)


_Writer = Callable[[Any, int], bytes]

_WRITERS: dict[type, _Writer] = {
    type(None): lambda _value, _depth: atom("none", b""),
    bool: lambda value, _: atom("bool", b"1" if value else b"0"),
    int: _integer,
    float: _number,
    complex: _complex,
    str: lambda value, _: text("str", value),
    bytes: lambda value, _: atom("bytes", value),
    list: _sequence,
    tuple: _sequence,
    dict: _mapping,
    set: _set,
    frozenset: _set,
    dt.datetime: lambda value, _: text("datetime", value.isoformat()),
    dt.date: lambda value, _: text("date", value.isoformat()),
    range: _range,
}
"""By exact type, for speed; other types are looked up by nature below."""

_NATURES: tuple[tuple[type | tuple[type, ...], _Writer], ...] = (
    (enum.Enum, _enum),  # first: an IntEnum is also an int
    (str, _WRITERS[str]),
    (int, _integer),
    (float, _number),  # numpy.float64, too
    (complex, _complex),
    ((bytes, bytearray, memoryview), lambda value, _: atom("bytes", bytes(value))),
    (Mapping, _mapping),
    ((list, tuple, ExecutionSpans), _sequence),
    (Set, _set),
    (dt.datetime, _WRITERS[dt.datetime]),  # before date, which it is
    (dt.date, _WRITERS[dt.date]),
    (PurePath, lambda value, _: text("path", value.as_posix())),
)


def _writer_by_nature(value: Any) -> _Writer:
    for kind, writer in _NATURES:
        if isinstance(value, kind):
            return writer
    numpy = sys.modules.get("numpy")
    if numpy is not None:
        if isinstance(value, numpy.ndarray):
            return _array
        if isinstance(value, numpy.generic):
            return _scalar
    if "qiskit" in sys.modules:
        from prefect_runtime.client.circuits import fingerprint as circuit_fingerprint

        if found := circuit_fingerprint.writer_of(value):
            return found
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _dataclass
    raise unknown(value)
