"""How a result looks on a job card: counts with bars, expectation values. Pure text; knows no Prefect client."""

from __future__ import annotations

from typing import Any

from prefect_runtime.markdown import bar, table
from prefect_runtime.wire.plain_values import count_rows

HEADING = "### Result"
MAX_PUBS, MAX_ROWS, BAR_CHARACTERS = 4, 16, 24


def render_result(value: Any) -> str:
    """Return the card's section on a result: counts with bars, expectation values, or just what kind of thing it is.

    A result of a program of somebody's own is not shown: it may hold anything.
    """
    pubs = _pub_results(value)
    if not pubs:
        return f"{HEADING}\n\n{_describe(value)}"
    sections = [_render_pub(index, pub) for index, pub in enumerate(pubs[:MAX_PUBS])]
    if len(pubs) > MAX_PUBS:
        sections.append(f"… and {len(pubs) - MAX_PUBS} more PUBs.")
    return "\n\n".join([HEADING, *sections])


def _pub_results(value: Any) -> list[Any]:
    """Return the parts of a Qiskit PrimitiveResult, recognised by its shape so that Qiskit need not be here."""
    if type(value).__name__ != "PrimitiveResult":
        return []
    return list(value)


def _describe(value: Any) -> str:
    size = f" with {len(value)} entries" if isinstance(value, dict | list | set) else ""
    return f"A {type(value).__name__}{size}."


def _render_pub(index: int, pub: Any) -> str:
    parts = [_render_field(name, field) for name, field in pub.data.items() if name not in ("stds", "ensemble_stds")]
    if hasattr(pub.data, "evs"):
        parts = [_render_values(pub.data)]
    return "\n\n".join([f"**PUB {index}**", *parts])


def counts_of(field: Any) -> dict[str, int] | None:
    """Return the counts of a register, all its sets of parameter values together; None for what is no register."""
    if not hasattr(field, "get_counts"):
        return None
    return count_rows(field.array, field.num_bits)


def _render_field(name: str, field: Any) -> str:
    counts = counts_of(field)
    if counts is None:
        return f"`{name}`: {_describe(field)}"
    total = sum(counts.values())
    highest = max(counts.values(), default=1)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ROWS]
    rows = (
        (f"`{outcome}`", str(count), f"{100 * count / total:.1f} %", bar(count / highest, BAR_CHARACTERS))
        for outcome, count in top
    )
    more = f"\n\n… and {len(counts) - MAX_ROWS} more outcomes." if len(counts) > MAX_ROWS else ""
    return f"Register `{name}`, {total} shots\n\n{table(('outcome', 'counts', 'share', ''), rows)}{more}"


def _render_values(data: Any) -> str:
    values = data.evs.reshape(-1).tolist() if hasattr(data.evs, "reshape") else [data.evs]
    spread = getattr(data, "stds", None)
    errors: list[Any] = [spread] * len(values) if not hasattr(spread, "reshape") else spread.reshape(-1).tolist()  # type: ignore[union-attr]
    rows = (
        (str(index), f"{value:+.4f}", "" if error is None else f"± {error:.4f}")
        for index, (value, error) in enumerate(zip(values[:MAX_ROWS], errors, strict=False))
    )
    more = f"\n\n… and {len(values) - MAX_ROWS} more values." if len(values) > MAX_ROWS else ""
    return table(("#", "expectation value", "standard error"), rows) + more
