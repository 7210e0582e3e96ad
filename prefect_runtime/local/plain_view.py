"""What a JSON Schema sees of a job's inputs: values as people passed them, not their encoding. No NumPy, no Qiskit.

An encoded array is a list of (lists of) numbers, a complex number the pair [real, imaginary], a set a list, a date a
text. Circuits, operators and whatever else is encoded stay the JSON objects they are on the wire: type "object"; a
circuit as OpenQASM 3 is a text. An array of more than `MAX_SEEN_BYTES`, or of texts, is a list whose members nobody
looks at. A few bytes can stand for much: only schemas.py imports this, and only its process of its own looks.
"""

from __future__ import annotations

import ast
import base64
import binascii
import math
import sys
import zlib
from collections.abc import Mapping
from typing import Any

MAX_INPUT_DEPTH = 100
MAX_SEEN_BYTES = 1024 * 1024


class TooDeepError(ValueError):
    """The inputs are nested too deep to be looked at."""


class Unseen(list[Any]):
    """An array that is not looked into: whatever else than its type a schema says of it holds."""


def plain(value: Any, *, depth: int = 0) -> Any:
    """Return inputs as a schema sees them.

    Raises:
        TooDeepError: Nested too deep.
    """
    if depth > MAX_INPUT_DEPTH:
        raise TooDeepError(f"inputs: nested more than {MAX_INPUT_DEPTH} levels deep.")
    if isinstance(value, list):
        return [plain(member, depth=depth + 1) for member in value]
    if not isinstance(value, Mapping):
        return value
    tag, content = value.get("__type__"), value.get("__value__")
    if tag == "ndarray":
        return _array(content) if isinstance(content, str) else plain(content, depth=depth + 1)
    if tag in ("set", "complex", "datetime"):
        return plain(content, depth=depth + 1)
    return {name: plain(member, depth=depth + 1) for name, member in value.items()}


_CODES: dict[str, Any] = {
    "f8": "d",
    "f4": "f",
    "i8": "q",
    "i4": "i",
    "i2": "h",
    "i1": "b",
    "u8": "Q",
    "u4": "I",
    "u2": "H",
    "u1": "B",
}
_CODES |= {"b1": "?", "c16": "d", "c8": "f"}


def _array(packed: str) -> Any:
    """Return the nested lists that a packed array (base64 of zlib of npy) stands for; `Unseen` if it cannot be read.

    Source: NEP 1, the npy format: magic and version in 8 bytes, length of the header in 2, the header as a Python dict.
    """
    try:
        stream = zlib.decompressobj()
        data = stream.decompress(base64.b64decode(packed, validate=True), MAX_SEEN_BYTES)
        if stream.unconsumed_tail or data[:7] != b"\x93NUMPY\x01":
            return Unseen()
        end = 10 + int.from_bytes(data[8:10], "little")
        header = ast.literal_eval(data[10:end].decode("latin-1"))
        shape, kind = tuple(header["shape"]), header["descr"]
        code = _CODES[kind[1:]]
        foreign = kind[0] == (">" if sys.byteorder == "little" else "<")
        if foreign or (header["fortran_order"] and len(shape) > 1):
            return Unseen()
        if "c" in kind:
            shape += (2,)
        if 0 in shape:
            return [[] for _ in range(shape[0])]
        numbers = memoryview(data[end:]).cast(code)
        if math.prod(shape) != len(numbers):
            return Unseen()
        return numbers.cast("B").cast(code, shape).tolist() if shape else numbers[0]
    except (ValueError, TypeError, KeyError, IndexError, SyntaxError, zlib.error, binascii.Error, MemoryError):
        return Unseen()
