"""``prefect-runtime serve | status | stop``: the embedded runtime as a server that one looks after by hand."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter
from rich.console import Console

from prefect_runtime.cli import app
from prefect_runtime.client import discovery
from prefect_runtime.client.retry import Deadline

STOP_SECONDS = 15.0

DataDir = Annotated[
    Path | None, Parameter(help="The runtime's folder; the one that flows use by themselves if left out.")
]
IdleSeconds = Annotated[float | None, Parameter(help="End after that long without request or job; never if left out.")]


@app.command
def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    data_dir: DataDir = None,
    idle_seconds: IdleSeconds = None,
) -> None:
    """Serve the embedded runtime until stopped; prints READY and its address once it answers.

    Parameters
    ----------
    host
        Address to listen on; loopback only.
    port
        Port to listen on; 0 takes a free one.
    """
    from prefect_runtime.local.launcher import Settings, require_simulators
    from prefect_runtime.local.launcher import serve as serve_runtime

    require_simulators()
    folder = (data_dir or discovery.home()).absolute()
    serve_runtime(Settings(data_dir=folder, host=host, port=port, idle_seconds=idle_seconds))


@app.command
def status(*, data_dir: DataDir = None) -> int:
    """Say whether the embedded runtime is running, and where. Exit code 3 if it is not."""
    folder = (data_dir or discovery.home()).absolute()
    found = discovery.find(folder)
    console = Console()
    if found is None:
        console.print(f"Not running. A flow starts it when it needs it. Folder: {folder}", soft_wrap=True)
        return 3
    console.print(f"Running at {found.url}, pid {found.pid}. Folder: {folder}", soft_wrap=True)
    return 0


@app.command
def stop(*, data_dir: DataDir = None) -> int:
    """Stop the embedded runtime. Queued jobs stay queued for its next start. Exit code 3 if it was not running."""
    folder = (data_dir or discovery.home()).absolute()
    found = discovery.find(folder)
    console = Console()
    if found is None:
        console.print("Not running.")
        return 3
    os.kill(found.pid, signal.SIGTERM)
    deadline = Deadline(STOP_SECONDS)
    while discovery.find(folder) is not None:
        if deadline.expired:
            console.print(f"Still running after {STOP_SECONDS:g} s: pid {found.pid}.")
            return 1
        deadline.clock.sleep(0.05)
    console.print("Stopped.")
    return 0
