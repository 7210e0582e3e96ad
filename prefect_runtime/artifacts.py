"""How a job card looks: the markdown of the one artifact each job has. Pure text; knows no Prefect client.

The card is for people and holds what they ask first: which job, where, how it is, how long it took, what came out.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from prefect_runtime.wire.models import parse_time

RESULT_HEADING = "### Result"
DETAILS_HEADING = "### How it came about"
MAX_PUBS, MAX_ROWS, BAR_CHARACTERS = 4, 16, 24

_SIGNS = {"DONE": "✅", "ERROR": "❌", "CANCELLED": "🚫", "RUNNING": "🏃", "QUEUED": "⏳"}
_FIRST = {
    "status": "Status",
    "backend": "Backend",
    "requested_backend": "Backend asked for",
    "created": "Created",
    "started": "Started",
    "ended": "Ended",
    "queued_for": "In the queue",
    "ran_for": "Running",
    "usage_seconds": "Usage",
    "reason": "Why",
}
_DETAILS = {
    "transpiled": "Transpiled",
    "intended_at": "Request written down",
    "acknowledged_at": "Job known",
    "posts": "Requests sent",
    "key": "Request key",
    "credentials": "Credentials",
}
_TIMES = ("created", "started", "ended", "intended_at", "acknowledged_at")


def render_card(fields: Mapping[str, str], result: str = "") -> str:
    """Return the markdown of a card: how the job is, what came out, and how it came about.

    Args:
        fields: The card's record and what is known of the job, all texts.
        result: The section that `render_result` made, if there is a result.
    """
    shown = {**fields, **_durations(fields)}
    status = shown.get("status") or ("submitted" if shown.get("job_id") else "about to be submitted")
    shown["status"] = f"{_SIGNS.get(status, '📨')} {status}"
    shown |= {name: _moment(shown[name]) for name in _TIMES if shown.get(name)}
    if shown.get("usage_seconds"):
        shown["usage_seconds"] = _duration(float(shown["usage_seconds"]))
    if shown.get("requested_backend") == shown.get("backend"):
        shown.pop("requested_backend", None)
    title = f"## {shown.get('program', 'Job')} on {shown.get('backend') or 'a backend of the runtime'}"
    first = _table(("Job", f"`{shown.get('job_id') or 'not known yet'}`"), _rows(_FIRST, shown))
    details = f"{DETAILS_HEADING}\n\n{_table(('Program', _cell(shown.get('program', ''))), _rows(_DETAILS, shown))}"
    return "\n\n".join(part for part in (title, first, result, details) if part)


def says_final(markdown: str) -> bool:
    """True if a card that was rendered before shows a final status."""
    return any(f"{_SIGNS[word]} {word}" in markdown for word in ("DONE", "ERROR", "CANCELLED"))


def _rows(labels: Mapping[str, str], shown: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"**{label}**", _cell(shown[name])) for name, label in labels.items() if shown.get(name)]


def _durations(fields: Mapping[str, str]) -> dict[str, str]:
    created, started, ended = (parse_time(fields.get(name)) for name in ("created", "started", "ended"))
    durations = {"queued_for": _between(created, started), "ran_for": _between(started, ended)}
    return {name: text for name, text in durations.items() if text}


def _between(first: datetime | None, second: datetime | None) -> str:
    return "" if first is None or second is None else _duration((second - first).total_seconds())


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _moment(text: str) -> str:
    moment = parse_time(text)
    return "" if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _cell(text: str) -> str:
    """Return a text that cannot break out of a table's cell."""
    return text.replace("|", "\\|").replace("\n", " ").strip()


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [f"| {' | '.join(columns)} |", f"|{'|'.join(' --- ' for _ in columns)}|"]
    return "\n".join([*lines, *(f"| {' | '.join(row)} |" for row in rows)])


def render_result(value: Any) -> str:
    """Return the card's section on a result: counts with bars, expectation values, or just what kind of thing it is.

    A result of a program of somebody's own is not shown: it may hold anything.
    """
    pubs = _pub_results(value)
    if not pubs:
        return f"{RESULT_HEADING}\n\n{_describe(value)}"
    sections = [_render_pub(index, pub) for index, pub in enumerate(pubs[:MAX_PUBS])]
    if len(pubs) > MAX_PUBS:
        sections.append(f"… and {len(pubs) - MAX_PUBS} more PUBs.")
    return "\n\n".join([RESULT_HEADING, *sections])


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


def _render_field(name: str, field: Any) -> str:
    if not hasattr(field, "get_counts"):
        return f"`{name}`: {_describe(field)}"
    counts: Mapping[str, int] = field.get_counts()
    total = sum(counts.values()) or 1
    highest = max(counts.values(), default=1)
    top = sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:MAX_ROWS]
    rows = (
        (f"`{outcome}`", str(count), f"{100 * count / total:.1f} %", "█" * round(BAR_CHARACTERS * count / highest))
        for outcome, count in top
    )
    more = f"\n\n… and {len(counts) - MAX_ROWS} more outcomes." if len(counts) > MAX_ROWS else ""
    return f"Register `{name}`, {total} shots\n\n{_table(('outcome', 'counts', 'share', ''), rows)}{more}"


def _render_values(data: Any) -> str:
    values = data.evs.reshape(-1).tolist() if hasattr(data.evs, "reshape") else [data.evs]
    spread = getattr(data, "stds", None)
    errors: list[Any] = [spread] * len(values) if not hasattr(spread, "reshape") else spread.reshape(-1).tolist()  # type: ignore[union-attr]
    rows = (
        (str(index), f"{value:+.4f}", "" if error is None else f"± {error:.4f}")
        for index, (value, error) in enumerate(zip(values[:MAX_ROWS], errors, strict=False))
    )
    more = f"\n\n… and {len(values) - MAX_ROWS} more values." if len(values) > MAX_ROWS else ""
    return _table(("#", "expectation value", "standard error"), rows) + more


def split_result(markdown: str) -> str:
    """Return the result's section of a card that was rendered before; empty if it has none."""
    _, heading, rest = markdown.partition(RESULT_HEADING)
    section = rest.partition(DETAILS_HEADING)[0].strip()
    return f"{heading}\n\n{section}" if heading else ""
