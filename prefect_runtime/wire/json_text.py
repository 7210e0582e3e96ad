"""Reads JSON text that somebody else wrote: no deeper, and with no more in it, than anything that is meant.

Python's own reader stops at a depth that depends on its version and on how deep the caller stands already, and what it
reads can be too deep for whoever writes or compares it later. Any room may import it.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable
from itertools import accumulate
from typing import Any

MAX_DEPTH = 200
"""A primitive's result with its tags is about 20 levels deep."""

MAX_CONTAINERS = 5_000_000
"""Lists and objects in one text. A small one takes 60 to 190 bytes and can be written with a few."""

MAX_DIGITS = 4300
"""Of an integer. Python's own limit, which an environment may take away; reading many more takes hours."""

# One without an end goes to the end of the text, and nothing is tried twice: else each quote in it would begin another
# search of all that follows.
_STRINGS = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKETS = bytes(byte for byte in range(256) if byte not in b"[]{}")
_STEPS = bytes.maketrans(b"[{]}", b"\x01\x01\xff\xff")  # one level down, one level up (-1)


def read_json(text: str | bytes, *, object_hook: Callable[[dict[str, Any]], Any] | None = None) -> Any:
    """Return the value of a JSON text; NaN and Infinity are read, as NumPy and Qiskit write them.

    Raises:
        json.JSONDecodeError: Not JSON.
        ValueError: Nested too deeply, too many lists and objects, or a number of thousands of digits.
        RecursionError: No room is left on the stack.
    """
    _check_shape(text)
    limited = 0 < sys.get_int_max_str_digits() <= MAX_DIGITS  # reading numbers is twice as slow where we have to look
    return json.loads(text, object_hook=object_hook, parse_int=None if limited else _integer)


def _integer(digits: str) -> int:
    if len(digits) > MAX_DIGITS:
        raise ValueError(f"an integer of more than {MAX_DIGITS} digits")
    return int(digits)


def _check_shape(text: str | bytes) -> None:
    opened = text.count("[") + text.count("{") if isinstance(text, str) else text.count(b"[") + text.count(b"{")
    if opened <= MAX_DEPTH:
        return
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if b"\0" in raw[:4]:  # UTF-16 or UTF-32, which json.loads takes: nobody means that
        raise ValueError("not UTF-8")
    steps = _STRINGS.sub(b"", raw).translate(_STEPS, _NO_BRACKETS)
    if steps.count(1) > MAX_CONTAINERS:
        raise ValueError(f"more than {MAX_CONTAINERS} lists and objects")
    if max(accumulate(memoryview(steps).cast("b")), default=0) > MAX_DEPTH:
        raise ValueError(f"nested more than {MAX_DEPTH} levels deep")
