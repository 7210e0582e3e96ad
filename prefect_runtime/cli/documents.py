"""Jobs as a person or a program reads them: rows, facts, JSON. The same for every channel."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_runtime.cli.output import add_rows, plain, table
from prefect_runtime.client.request import FINGERPRINT_TAG_PREFIX
from prefect_runtime.client.submission import RUN_TAG_PREFIX
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import KEY_PREFIX, TAG, JobDocument, JobStatus
from prefect_runtime.wire.redaction import clean

COLUMNS = ("job", "program", "backend", "status", "created", "seconds", "tags", "flow run")
UNBROKEN = ("job", "status", "created", "seconds", "flow run")
FEW_COLUMNS = 6
FEW_BELOW = 100  # columns of a terminal
_RUN_CHARACTERS = 8  # of a flow run's id, where columns are few: enough to tell one run from another

_STYLES = {
    JobStatus.DONE: "green",
    JobStatus.ERROR: "bold red",
    JobStatus.CANCELLED: "yellow",
    JobStatus.RUNNING: "bold cyan",
}


def status_text(document: JobDocument) -> Text:
    """Return the status, coloured; a word that we do not know as the server wrote it."""
    if document.status is None:
        return plain(document.word, "magenta")
    return Text(document.status.name, style=_STYLES.get(document.status, "blue"))


def listing(documents: Sequence[JobDocument], console: Console) -> Table:
    """Return a table of jobs, of as many columns as a terminal has room for; elsewhere of all, unabridged."""
    narrow = console.is_terminal and console.width < FEW_BELOW
    columns = COLUMNS[:FEW_COLUMNS] if narrow else COLUMNS
    made = table(console, *columns, unbroken=UNBROKEN)
    for name in ("program", "backend"):
        made.columns[columns.index(name)].overflow = "ellipsis"
    made.columns[columns.index("seconds")].justify = "right"
    add_rows(made, (_row(document, short=console.is_terminal)[: len(columns)] for document in documents))
    return made


def _row(document: JobDocument, *, short: bool) -> list[str | Text]:
    """Return a job's cells, as `COLUMNS` names them; `short` leaves out most of the flow run's id."""
    flow_run = flow_run_of(document)
    return [
        document.id,
        document.program_id,
        document.backend,
        status_text(document),
        local_time(document.created, short=short),
        seconds_text(document),
        " ".join(own_tags(document)),
        flow_run[:_RUN_CHARACTERS] if short else flow_run,
    ]


def lines(document: JobDocument, reason: str) -> Iterator[tuple[str, str | Text]]:
    """Give the names and texts of all that is known of a job; `reason` is what the server says of a failure."""
    facts: Sequence[tuple[str, str | Text]] = (
        ("job", document.id),
        ("status", status_text(document)),
        ("program", document.program_id),
        ("backend", document.backend),
        ("created", local_time(document.created)),
        ("started", local_time(document.started)),
        ("ended", local_time(document.ended)),
        ("ran for", f"{seconds_text(document)} s" if seconds_text(document) else ""),
        ("usage", "" if document.usage_seconds is None else f"{document.usage_seconds:.1f} s"),
        ("session", document.session_id or ""),
        ("tags", " ".join(own_tags(document))),
        ("flow run", flow_run_of(document)),
        ("key", next((tag for tag in document.tags if tag.startswith(KEY_PREFIX)), "")),
        ("reason", reason),
    )
    yield from ((name, text) for name, text in facts if text)


def as_json(document: JobDocument, secrets: Sequence[str], reason: str | None = None) -> dict[str, Any]:
    """Return a job's document for programs: the same names on every channel, no inputs, no secrets."""
    value = dataclasses.asdict(document)
    del value["params"]
    value["status"] = document.status.name if document.status else None
    value["tags"] = list(document.tags)
    value["final"] = document.is_final
    value["seconds"] = seconds(document)
    value["flow_run_id"] = flow_run_of(document) or None
    for name, text in (("reason", document.reason if reason is None else reason), ("solution", document.solution)):
        value[name] = clean(text, secrets, limit=len(text))
    return value


def seconds(document: JobDocument) -> float | None:
    """Return how long a job ran, or has been running; None where the server does not say."""
    try:
        started, ended = parse_time(document.started), parse_time(document.ended)
    except ProtocolError:
        return document.usage_seconds
    if started is None:
        return document.usage_seconds if document.is_final else None
    if ended is None and document.is_final:
        return document.usage_seconds
    return max(0.0, ((ended or datetime.now(UTC)) - started).total_seconds())


def seconds_text(document: JobDocument) -> str:
    """Return that with one decimal; empty where it is not known."""
    known = seconds(document)
    return "" if known is None else f"{known:.1f}"


def local_time(text: str | None, *, short: bool = False) -> str:
    """Return a server's timestamp in local time; as it is if it cannot be read.

    `short` is the time for today's, and for others the day and the minute.
    """
    try:
        moment = parse_time(text)
    except ProtocolError:
        return text or ""
    if moment is None:
        return ""
    local = moment.astimezone()
    if not short:
        return f"{local:%Y-%m-%d %H:%M:%S}"
    return f"{local:%H:%M:%S}" if local.date() == datetime.now().astimezone().date() else f"{local:%m-%d %H:%M}"


def flow_run_of(document: JobDocument) -> str:
    """Return the id of the flow run that a job was made for; empty without one."""
    tag = next((tag for tag in document.tags if tag.startswith(RUN_TAG_PREFIX)), "")
    return tag.removeprefix(RUN_TAG_PREFIX)


def own_tags(document: JobDocument) -> list[str]:
    """Return the tags that a person gave, without those that this package writes."""
    ours = (KEY_PREFIX, RUN_TAG_PREFIX, FINGERPRINT_TAG_PREFIX)
    return [tag for tag in document.tags if tag != TAG and not tag.startswith(ours)]
