"""NumPy's values <-> what JSON can carry, without a loss and within limits. Used by codec.py only; loads NumPy late."""

from __future__ import annotations

import ast
import datetime as dt
import io
import math
import sys
from collections.abc import Iterator
from typing import Any

from prefect_runtime.wire.errors import ResultDecodeError

MAX_HEADER_BYTES = 64 * 1024
"""Of an array with thousands of named fields; NumPy's own limit, 10000, is reached with a few hundred."""


def is_array(value: Any) -> bool:
    """Tell whether it is an array with all its elements: of a masked one, what is masked would be shown."""
    import numpy as np

    masked = sys.modules.get("numpy.ma")
    return isinstance(value, np.ndarray) and not (masked is not None and isinstance(value, masked.MaskedArray))


def item_of(value: Any) -> Any:
    """Return the Python value that a scalar equals; NotImplemented where there is none, or it is no scalar."""
    import numpy as np

    if not isinstance(value, np.generic):
        return NotImplemented
    item = value.item()
    if isinstance(value, np.datetime64 | np.timedelta64) and not isinstance(item, dt.date | dt.timedelta):
        return NotImplemented  # nanoseconds, years, not a time: a bare number, or None
    return NotImplemented if isinstance(item, np.generic) else item  # a longdouble is its own item


def to_npy(array: Any) -> bytes:
    """Return an array as an npy file.

    Raises:
        ValueError: There are objects in it.
    """
    from numpy.lib import format as npy

    buffer = io.BytesIO()
    try:
        npy.write_array(buffer, array, version=(1, 0), allow_pickle=False)
    except ValueError:  # many fields, or ones with names like θ
        npy.write_array(buffer, array, version=(3, 0), allow_pickle=False)
    return buffer.getvalue()


def from_npy(data: bytes) -> Any:
    """Return the array in an npy file.

    Raises:
        ResultDecodeError: It is shorter than it says, or of an unknown version.
        ValueError: It is no npy file, or holds objects.
    """
    import numpy as np

    buffer = io.BytesIO(data)
    shape, _, dtype = _npy_header(buffer)
    if math.prod(shape) * dtype.itemsize > len(data):  # a header may promise any size: check before allocating
        raise ResultDecodeError("An array in the answer is shorter than its header says.")
    buffer.seek(0)
    return np.load(buffer, allow_pickle=False, max_header_size=len(data))  # what is in the header has been looked at


def _npy_header(buffer: io.BytesIO) -> tuple[tuple[int, ...], bool, Any]:
    from numpy.lib import format as npy

    version = npy.read_magic(buffer)
    if version == (1, 0):
        return npy.read_array_header_1_0(buffer, max_header_size=MAX_HEADER_BYTES)  # which has two bytes for its size
    if version == (2, 0):
        return npy.read_array_header_2_0(buffer, max_header_size=MAX_HEADER_BYTES)
    if version == (3, 0):  # as 2.0, but in UTF-8: fields with names like θ
        size = int.from_bytes(buffer.read(4), "little")
        if size > MAX_HEADER_BYTES:
            raise ResultDecodeError(f"An array in the answer has a header of more than {MAX_HEADER_BYTES} bytes.")
        header = ast.literal_eval(buffer.read(size).decode())
        return header["shape"], header["fortran_order"], npy.descr_to_dtype(header["descr"])
    raise ResultDecodeError(f"An array in the answer has npy version {version}, which is not read.")


def from_list(value: Any) -> Any:
    """Return the array that a list stands for: an array of objects, where it was encoded by us.

    It takes no more room than the list: NumPy would give each text the room of the longest, and would turn the numbers
    of arrays in the list into larger ones, and into texts where there is one.
    """
    import numpy as np

    kinds = set(map(type, _members(value)))
    if kinds <= {bool, int, float, complex}:
        try:
            numbers = np.array(value)
        except ValueError:  # rows of different lengths
            return np.array(value, dtype=object)
        # 2**53 + 1 beside 0.5, or 2**63 beside -1: as floats they would be other numbers.
        rounded = numbers.dtype.kind in "fc" and any(type(one) is int and one != float(one) for one in _members(value))
        return np.array(value, dtype=object) if rounded else numbers
    if kinds <= {bool, int, float, complex, str, type(None), dict}:
        return np.array(value, dtype=object)
    # Whatever else has a length would be taken apart: arrays, circuits.
    shape, members = _unpacked(value)
    array = np.empty(shape, dtype=object)
    for index, member in zip(np.ndindex(shape), members, strict=True):
        array[index] = member
    return array


def _unpacked(value: Any) -> tuple[tuple[int, ...], list[Any]]:
    """Return the shape of lists within lists, as far as those of a level are equally long, and what is in the last."""
    shape, level = list[int](), [value]
    while level and all(isinstance(one, list) for one in level) and len({len(one) for one in level}) == 1:
        shape.append(len(level[0]))
        level = [member for one in level for member in one]
    return tuple(shape), level


def _members(value: Any) -> Iterator[Any]:
    """Yield what is in lists within lists, in any order."""
    rest = [value]
    while rest:
        one = rest.pop()
        if isinstance(one, list):
            rest += one
        else:
            yield one
