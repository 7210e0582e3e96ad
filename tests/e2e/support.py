"""What the end-to-end tests share besides fixtures: a Prefect server, and reading what runs have left in it."""

from __future__ import annotations

import asyncio
import gc
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID

from canaries import sinks
from prefect import Flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterId,
    LogFilter,
    LogFilterFlowRunId,
)
from prefect.client.schemas.objects import Artifact, FlowRun, Log, TaskRun
from prefect.flow_engine import run_flow
from prefect.states import Scheduled, State

from prefect_runtime.client import RuntimeService

T = TypeVar("T")

PROJECT = Path(__file__).parents[2]
START_SECONDS = 90.0

PUBLISHES = '''
import time

def main(backend, user_messenger, *, count=5, pause=0.0, fail=False, one=None, two=None, three=None, **kwargs):
    """Publish numbers, write to the log, then end: with a result or an error."""
    print("hello from the program")
    for number in range(count):
        user_messenger.publish({"number": number})
        time.sleep(pause)
    if fail:
        raise ValueError("the program failed on purpose")
    return {"count": count, "given": kwargs}
'''
"""Publishes `count` numbers with a pause after each, prints one line, returns or fails.

The canaries' inputs are not returned: Prefect keeps results.
"""


def eventually(look: Callable[[], T], *, seconds: float = 60.0, what: str = "the condition") -> T:
    """Return the first true value of `look`; for effects at the far end that take a moment."""
    deadline = time.monotonic() + seconds
    while not (value := look()):
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.05)
    return value


def nobody_watches() -> bool:
    """True when no thread of this process looks whether a flow run was cancelled."""
    return not any(thread.name.startswith("flow-watch") for thread in threading.enumerate())


def nothing_is_written() -> bool:
    """True when all job cards of this process are as they are to be, and no claim of it is left."""
    return not any(thread.name == "card-writer" for thread in threading.enumerate())


# The Prefect server


def free_port() -> int:
    """Return a port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def running_server(home: Path, *, database: str | None = None) -> Iterator[str]:
    """Run a Prefect server of our own, on SQLite or with the database of that URL; gives the URL of its API."""
    port = free_port()
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment |= {"PREFECT_HOME": str(home), "PREFECT_SERVER_ANALYTICS_ENABLED": "false"}
    environment["PREFECT_SERVER_UI_API_URL"] = f"http://127.0.0.1:{port}/api"  # else the pages ask port 4200
    if database is not None:
        environment["PREFECT_SERVER_DATABASE_CONNECTION_URL"] = database
    with (home / "server.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "prefect", "server", "start", "--host", "127.0.0.1", "--port", str(port)],
            env=environment,
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            url = f"http://127.0.0.1:{port}/api"
            _wait_for_health(url, process, home / "server.log")
            yield url
        finally:
            process.send_signal(signal.SIGINT)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        # Its database, its log, and what flows have kept: nothing of ours is to be anywhere in there.
        sinks.assert_clean(sinks.folder(home, "Prefect"))


def _wait_for_health(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        assert process.poll() is None, f"the Prefect server ended:\n{log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(f"{url}/health", timeout=2) as answer:
                if answer.status == 200:
                    return
        except (urllib.error.URLError, OSError):
            time.sleep(0.1)
    raise AssertionError(f"no Prefect server after {START_SECONDS:g} s:\n{log.read_text()[-3000:]}")


# What a run left in Prefect


def run_id(state: State[Any]) -> UUID:
    """Return the id of the flow run that a state, got with ``return_state=True``, belongs to."""
    assert state.state_details.flow_run_id is not None
    return state.state_details.flow_run_id


def written_down() -> None:
    """Wait until no job card is being written in the background, as the interpreter does at its end."""
    for thread in threading.enumerate():
        if thread.name == "card-writer":
            thread.join(30)


def artifacts(flow_run_id: UUID) -> list[Artifact]:
    """Return the artifacts of a flow run, once this process has written all that it has to write."""
    written_down()
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:
        return client.read_artifacts(artifact_filter=chosen)


def cards(flow_run_id: UUID) -> list[Artifact]:
    """Return the job cards of a flow run: Prefect itself keeps a failed run's exception as an artifact without key."""
    return [artifact for artifact in artifacts(flow_run_id) if artifact.key is not None]


def card_fields(flow_run_id: UUID) -> dict[str, Any]:
    """Return the metadata of a flow run's one job card."""
    (card,) = cards(flow_run_id)
    return dict(card.metadata_ or {})


def shown(card: Artifact) -> dict[str, str]:
    """Return what a person reads on a card: the values of its tables of facts, by label."""
    rows = re.findall(r"^\| (?:\*\*)?([A-Z][^|*]*?)(?:\*\*)? \| (.+?) \|$", str(card.data), re.MULTILINE)
    return {label: value.strip("`") for label, value in rows}


def task_runs(flow_run_id: UUID, *, count: int) -> list[TaskRun]:
    """Return the task runs of a flow run, once the server has that many that are final (it writes them later)."""
    chosen = FlowRunFilter(id=FlowRunFilterId(any_=[flow_run_id]))
    with get_client(sync_client=True) as client:

        def final() -> list[TaskRun]:
            runs = client.read_task_runs(flow_run_filter=chosen)
            done = [run for run in runs if run.state is not None and run.state.is_final()]
            return done if len(done) >= count else []

        # After many runs the server has a backlog to write down.
        return eventually(final, seconds=60, what=f"{count} final task runs")


def log_lines(flow_run_id: UUID, *, until: str) -> list[str]:
    """Return a flow run's log once it has a line with that text in it (lines are sent in batches)."""
    with get_client(sync_client=True) as client:

        def lines() -> list[str]:
            wanted, logs = LogFilter(flow_run_id=LogFilterFlowRunId(any_=[flow_run_id])), list[Log]()
            while page := client.read_logs(wanted, limit=200, offset=len(logs)):
                logs += page
            messages = [log.message for log in sorted(logs, key=lambda log: log.timestamp)]
            return messages if any(until in message for message in messages) else []

        return eventually(lines, what=f"a log line with {until!r}")


def job_events(flow_run_id: UUID) -> list[str]:
    """Return the words of the events of a flow run's jobs, oldest first."""
    wanted = {
        "filter": {
            "event": {"prefix": ["prefect-runtime.job."]},
            "related": {"id": [f"prefect.flow-run.{flow_run_id}"]},
            "order": "ASC",
        },
        "limit": 50,
    }
    with get_client(sync_client=True) as client:
        answer = client.request("POST", "/events/filter", json=wanted).json()
    return [event["event"].rpartition(".")[2] for event in answer["events"]]


def claims(flow_run_id: UUID | None = None) -> list[str]:
    """Return the names of a flow run's claims, or of all: Prefect variables named after a request or a session."""
    written_down()
    with get_client(sync_client=True) as client:
        there = [variable for variable in client.read_variables() if variable.name.startswith(("prt1-", "prts1-"))]
    wanted = None if flow_run_id is None else str(flow_run_id)
    return [claim.name for claim in there if wanted in (None, dict(claim.value).get("root_run"))]  # type: ignore[call-overload]


def execute_again(flow: Flow[..., Any], flow_run_id: UUID, parameters: Mapping[str, Any] | None = None) -> State[Any]:
    """Execute a flow run once more under the same id, as a retry from the UI does; gives its new final state."""
    with get_client(sync_client=True) as client:
        client.set_flow_run_state(flow_run_id, Scheduled(name="AwaitingRetry"), force=True)
        flow_run: FlowRun = client.read_flow_run(flow_run_id)
    state: State[Any] = run_flow(flow, flow_run=flow_run, parameters=dict(parameters or {}), return_type="state")
    return state


def jobs_of(service: RuntimeService, flow_run_id: UUID) -> list[str]:
    """Return the ids of a flow run's jobs, as the runtime itself lists them, oldest first."""
    return [job.job_id() for job in reversed(service.jobs(limit=None, tags=[f"prt-run-{flow_run_id}"]))]


# Async flows


def run_async(flow_run: Any) -> Any:
    """Run an async flow to its end.

    Prefect 3.8.8 leaves a connection to its API open at the end of an async flow run, also of an empty one: it is
    collected here, where nobody minds.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        outcome = asyncio.run(flow_run)
        gc.collect()
    return outcome
