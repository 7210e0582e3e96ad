"""How a job card looks: the markdown of the one artifact each job has. Pure text; knows no Prefect client.

The card is for people and holds what they ask first: which job, where, how it is, how long it took, what came out.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from prefect_runtime import result_page
from prefect_runtime.markdown import bar, cell, table
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.fields import parse_time

DETAILS_HEADING = "### How it came about"
BAR_CHARACTERS = 24

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
    "usage_seconds": "Charged",
    "changes": "Seen",
    "reason": "Why",
    "reason_code": "Code",
    "solution": "What to do",
    "log": "Log",
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
    program, backend = shown.get("program", "Job"), shown.get("backend") or "a backend of the runtime"
    title = f"## {cell(program)} on {cell(backend)}"
    first = table(("Job", f"`{shown.get('job_id') or 'not known yet'}`"), _rows(_FIRST, shown))
    details = f"{DETAILS_HEADING}\n\n{table(('Program', cell(shown.get('program', ''))), _rows(_DETAILS, shown))}"
    return "\n\n".join(part for part in (title, first, result, details) if part)


def says_final(markdown: str) -> bool:
    """True if a card that was rendered before shows a final status."""
    return any(f"{_SIGNS[word]} {word}" in markdown for word in ("DONE", "ERROR", "CANCELLED"))


def _rows(labels: Mapping[str, str], shown: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(f"**{label}**", cell(shown[name])) for name, label in labels.items() if shown.get(name)]


def _durations(fields: Mapping[str, str]) -> dict[str, str]:
    """Return how long the job queued and ran, each with its share of the whole as a bar."""
    created, started, ended = (_time(fields.get(name)) for name in ("created", "started", "ended"))
    parts = {"queued_for": _between(created, started), "ran_for": _between(started, ended)}
    known = {name: seconds for name, seconds in parts.items() if seconds is not None}
    whole = sum(known.values())
    bars = {name: bar(seconds / whole, BAR_CHARACTERS) if whole > 0 else "" for name, seconds in known.items()}
    return {name: f"{_duration(seconds)} {bars[name]}".strip() for name, seconds in known.items()}


def _between(first: datetime | None, second: datetime | None) -> float | None:
    return None if first is None or second is None else max(0.0, (second - first).total_seconds())


def _duration(seconds: float) -> str:
    if seconds < 1:
        return f"{1000 * seconds:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    return f"{seconds / 60:.1f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _moment(text: str) -> str:
    moment = _time(text)
    return text if moment is None else f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def _time(text: str | None) -> datetime | None:
    try:
        return parse_time(text)
    except ProtocolError:  # some servers write times in a way of their own
        return None


def render_changes(changes: Mapping[str, datetime]) -> str:
    """Return the changes of a job's status that were seen, with their times of day."""
    return " → ".join(f"{word} {moment:%H:%M:%S}" for word, moment in changes.items()) + (" UTC" if changes else "")


def split_result(markdown: str) -> str:
    """Return the result's section of a card that was rendered before; empty if it has none."""
    _, heading, rest = markdown.partition(f"\n{result_page.HEADING}\n")  # within a line it is a program's word
    section = rest.partition(DETAILS_HEADING)[0].strip()
    return f"{result_page.HEADING}\n\n{section}" if heading else ""
