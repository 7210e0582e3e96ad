"""What all commands print with: tables or JSON, colours on a terminal only, exit codes that mean something.

Facts go to standard output, and nothing else does; what passes (a wait, a warning) goes to standard error.
"""

from __future__ import annotations

import enum
import json
import re
import sys
from collections.abc import Collection, Iterable
from typing import Annotated, Any

from cyclopts import Parameter
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text

from prefect_runtime.wire.errors import (
    IBMQError,
    JobTimeoutError,
    QiskitRuntimeError,
    RuntimeJobFailureError,
    RuntimeJobNotFound,
    RuntimeProgramNotFound,
)
from prefect_runtime.wire.models import JobDocument, JobStatus

UNFOLDED = 4000  # columns: a line a row, for who reads it with grep or awk

Job = Annotated[str, Parameter(help="The job's id.")]
Timeout = Annotated[float | None, Parameter(help="Seconds to wait at most; as long as it takes if left out.")]
AsJson = Annotated[bool, Parameter(name="--json", negative=(), show_default=False, help="Print JSON, for programs.")]


class Exit(enum.IntEnum):
    """Exit codes; `EXIT_HELP` says in the help what they mean. Of `reap`, 4 and 5 mean something else."""

    OK = 0
    ERROR = 1
    USAGE = 2
    NOT_THERE = 3
    JOB_FAILED = 4
    JOB_CANCELLED = 5
    TIMEOUT = 124


EXIT_HELP = (
    "Exit codes: 0 all went well; 1 an error, said in one line; 2 wrong usage; 3 the runtime is not running, or there "
    "is no such job or program; 4 the job failed and 5 it was cancelled, of commands that wait for it; 124 it was not "
    "final in time."
)


class NotRunningError(QiskitRuntimeError):
    """There is no embedded runtime in the folder that was named."""


_EXITS: tuple[tuple[type[IBMQError], Exit], ...] = (
    (NotRunningError, Exit.NOT_THERE),
    (RuntimeJobNotFound, Exit.NOT_THERE),
    (RuntimeProgramNotFound, Exit.NOT_THERE),
    (RuntimeJobFailureError, Exit.JOB_FAILED),
    (JobTimeoutError, Exit.TIMEOUT),
)


def exit_for(error: IBMQError) -> Exit:
    """Return the exit code that an error stands for."""
    return next((code for kind, code in _EXITS if isinstance(error, kind)), Exit.ERROR)


def exit_of(document: JobDocument) -> Exit:
    """Return the exit code for how a job ended, where the command waited for that."""
    if document.status is JobStatus.ERROR:
        return Exit.JOB_FAILED
    return Exit.JOB_CANCELLED if document.status is JobStatus.CANCELLED else Exit.OK


def facts() -> Console:
    """Return the console for standard output."""
    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=UNFOLDED)


def asides() -> Console:
    """Return the console for standard error."""
    console = Console(stderr=True, highlight=False)
    return console if console.is_terminal else Console(stderr=True, highlight=False, width=UNFOLDED)


def say(text: str) -> None:
    """Print a line on standard error."""
    asides().print(plain(text), soft_wrap=True)


def print_json(value: Any) -> None:
    """Print a value as JSON, indented for who looks at it all the same."""
    write(json.dumps(value, indent=2) + "\n")


def write(text: str) -> None:
    """Print a text as it is, at once."""
    sys.stdout.write(text)
    sys.stdout.flush()


def table(console: Console, *columns: str, unbroken: Collection[str] = ()) -> Table:
    """Return a table; without lines where no person looks.

    Args:
        console: Where it will be printed.
        columns: Names of the columns.
        unbroken: Those that are shown whole, however narrow the terminal: an id is there to be copied.
    """
    box = SIMPLE_HEAD if console.is_terminal else None
    made = Table(box=box, padding=(0, 1, 0, 0) if box else (0, 2, 0, 0), show_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, no_wrap=name in unbroken)
    return made


def add_rows(to: Table, rows: Iterable[Iterable[str | Text]]) -> None:
    """Add rows whose texts come from a server or a program: they are shown, never obeyed, and stay on their line."""
    for row in rows:
        to.add_row(*(cell if isinstance(cell, Text) else plain(" ".join(cell.splitlines())) for cell in row))


def plain(text: str, style: str = "") -> Text:
    """Return a text without markup in it, and without the control characters that could rewrite a terminal."""
    return Text(_CONTROLS.sub("�", text), style=style)


_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tab and line feed
