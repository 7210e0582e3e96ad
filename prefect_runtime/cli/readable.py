"""A result as a person reads it: tables of counts and of expectation values; any other value as it is.

Knows Qiskit's containers by their shape, not by import: whether a result has any was decided when it was decoded.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator, Mapping
from typing import Any

from rich.console import Console, RenderableType
from rich.pretty import Pretty
from rich.text import Text

from prefect_runtime.cli.output import add_rows, plain, table

MAX_OUTCOMES = 16  # rows of one table of counts
MAX_POINTS = 8  # tables of one register, where a PUB has several sets of parameter values
MAX_VALUES = 64  # rows of one table of expectation values
BAR = 24  # characters


def pages(value: Any, console: Console) -> Iterator[RenderableType]:
    """Give what to print for a decoded result."""
    if type(value).__name__ == "PrimitiveResult":
        for index, pub in enumerate(value):
            yield from _pub_pages(index, pub, console)
    elif isinstance(value, str):
        yield plain(value)
    else:
        yield _value_page(value, console)


def _value_page(value: Any, console: Console) -> RenderableType:
    try:
        return plain(json.dumps(value, indent=2, ensure_ascii=False))
    except (TypeError, ValueError):  # an array, a circuit, …
        return Pretty(value, max_length=None if not console.is_terminal else MAX_VALUES)


def _pub_pages(index: int, pub: Any, console: Console) -> Iterator[RenderableType]:
    """Give the tables of one PUB: a table for each register that was measured, one for all numbers together."""
    numbers: dict[str, Any] = {}
    for name, data in pub.data.items():
        if hasattr(data, "get_counts"):
            yield from _register_pages(f"PUB {index}, register {name}", data, console)
        else:
            numbers[name] = data
    if numbers:
        yield Text(f"PUB {index}", style="bold")
        yield _numbers_page(numbers, console)


def _register_pages(title: str, bits: Any, console: Console) -> Iterator[RenderableType]:
    points = list(itertools.islice(_indices(bits.shape), MAX_POINTS))
    for point in points:
        where = f" at {_index_text(point)}" if point else ""
        yield Text(f"{title}{where}, {bits.num_shots} shots", style="bold")
        yield _counts_page(bits.get_counts(point or None), console)
    left = _count(bits.shape) - len(points)
    if left:
        yield Text(f"… and {left} more sets of parameter values: --json has all.")


def _counts_page(counts: Mapping[str, int], console: Console) -> RenderableType:
    """Return a table of counts, the most frequent outcome first."""
    page = table(console, "outcome", "count", "share")
    page.columns[1].justify = page.columns[2].justify = "right"
    if console.is_terminal:
        page.add_column("")
    shots = sum(counts.values()) or 1
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    for outcome, count in ranked[:MAX_OUTCOMES]:
        bar = [Text("━" * round(BAR * count / shots), style="cyan")] if console.is_terminal else []
        page.add_row(outcome, str(count), f"{100 * count / shots:.1f} %", *bar)
    rest = ranked[MAX_OUTCOMES:]
    if rest:
        count = sum(number for _, number in rest)
        page.add_row(f"{len(rest)} others", str(count), f"{100 * count / shots:.1f} %")
    return page


def _numbers_page(numbers: Mapping[str, Any], console: Console) -> RenderableType:
    """Return a table of arrays of one shape side by side: expectation values and what is known of their errors."""
    shape = max((getattr(array, "shape", ()) for array in numbers.values()), key=len)
    page = table(console, *(["at"] if shape else []), *numbers)
    for column in page.columns[1 if shape else 0 :]:
        column.justify = "right"
    points = list(itertools.islice(_indices(shape), MAX_VALUES))
    add_rows(
        page,
        (
            [*([_index_text(point)] if point else []), *(_number_text(array, point) for array in numbers.values())]
            for point in points
        ),
    )
    left = _count(shape) - len(points)
    if left:
        page.caption = f"… and {left} more: --json has all."
    return page


def _number_text(array: Any, point: tuple[int, ...]) -> str:
    value = array[point] if getattr(array, "shape", ()) and point else array
    try:
        return f"{float(value):.6g}"
    except (TypeError, ValueError):
        return str(value)


def _indices(shape: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
    return itertools.product(*(range(size) for size in shape))


def _count(shape: tuple[int, ...]) -> int:
    total = 1
    for size in shape:
        total *= size
    return total


def _index_text(point: tuple[int, ...]) -> str:
    return ", ".join(str(index) for index in point)
