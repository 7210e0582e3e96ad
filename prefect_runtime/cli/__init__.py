"""The command line, ``prefect-runtime``. One file per group of commands; starts without Prefect and without Qiskit."""

from __future__ import annotations

import sys

from cyclopts import App

from prefect_runtime.wire.errors import QiskitRuntimeError

app = App(
    name="prefect-runtime",
    help="Run and look after the embedded quantum runtime.",
    version_flags=["--version"],
)


def main() -> None:
    """Entry point of the console script; an error of ours is a line on standard error and exit code 1."""
    from prefect_runtime.cli import reap, runtime  # noqa: F401 - they register their commands

    try:
        app()
    except QiskitRuntimeError as error:
        sys.exit(f"prefect-runtime: {error}")
