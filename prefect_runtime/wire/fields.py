"""Single values of documents that cross the wire, read leniently: what is no such value is not there.

Any room may import it. Times are the exception: a text that is none is an error, because somebody counts with it.
"""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from prefect_runtime.wire.errors import ProtocolError


def texts_of(value: Any) -> tuple[str, ...]:
    """Return the texts in a list; none for what is no list."""
    return tuple(item for item in value if isinstance(item, str)) if isinstance(value, list | tuple) else ()


def text_of(value: Any) -> str:
    """Return a text; an empty one for what is none."""
    return value if isinstance(value, str) else ""


def number_of(value: Any) -> float | None:
    """Return a number that can be counted with: NaN and Infinity say nothing of a time."""
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    try:
        return float(value) if math.isfinite(value) else None
    except OverflowError:
        return None


def whole_number_of(value: Any) -> int | None:
    """Return a whole number, which some servers write as a text; None for what is none."""
    if isinstance(value, str) and value.isdecimal() and len(value) < 10:
        return int(value)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def parse_time(text: str | None) -> datetime | None:
    """Return the moment a server's timestamp names, aware, in UTC; None for no timestamp.

    A text without an offset is UTC (`RuntimeJob`: "Job creation date, in UTC"); offsets are converted, not overwritten;
    nanoseconds are cut to microseconds.

    Raises:
        ProtocolError: The text is not an ISO 8601 timestamp.
    """
    if not text:
        return None
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ProtocolError(f"Not an ISO 8601 timestamp: {text[:40]!r}") from None
    try:
        return moment.replace(tzinfo=UTC) if moment.tzinfo is None else moment.astimezone(UTC)
    except OverflowError:  # the first or last day there is, in another zone
        raise ProtocolError(f"Not a timestamp of this age: {text[:40]!r}") from None
