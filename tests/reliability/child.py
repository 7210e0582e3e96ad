"""What the killed processes run: a flow with one job, and the places in it where a process can be made to die.

Imported by processes forked from a server that has Prefect loaded, so that a kill and a re-run cost a second, not ten.
Dying means SIGKILL from within, at a named place: nothing is flushed, no `finally` runs.
"""

from __future__ import annotations

import os
import signal
import threading
import time
from multiprocessing.connection import Connection
from typing import Any
from uuid import UUID

from prefect import flow
from prefect.client.orchestration import get_client
from prefect.flow_engine import run_flow
from prefect.settings import PREFECT_FLOWS_HEARTBEAT_FREQUENCY, PREFECT_LOGGING_TO_API_ENABLED, temporary_settings
from prefect.states import Scheduled

from prefect_runtime import RuntimeCredentials, card_writer, fetch_result, run_program, wait_for_final_state
from prefect_runtime.client import monitor, rest, service
from prefect_runtime.journal import PrefectJournal
from prefect_runtime.tasks import note, wait

SETTLE_SECONDS = 0.6
REQUEST_SECONDS = 2.0


def credentials_for(url: str) -> RuntimeCredentials:
    """Return credentials for a far end that speaks IBM Quantum Platform's dialect."""
    return RuntimeCredentials(
        channel="ibm_quantum_platform",
        token="api-key",
        instance="crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef:guid::",
        url=f"{url}/api/v1",
        auth_url=url,
        backend="far_end",
        settle_seconds=SETTLE_SECONDS,
        request_timeout_seconds=REQUEST_SECONDS,
    )


@flow(name="one-job")
def one_job(url: str, number: int, backend: str | None = None, key: str | None = None) -> dict[str, Any]:
    """Run one job and return its id and result."""
    credentials = credentials_for(url)
    job_id = run_program(credentials, "echo", {"n": number}, backend=backend, idempotency_key=key)
    die_at("in the flow, job known")
    wait_for_final_state(credentials, job_id, wait=0.1)
    die_at("in the flow, job final")
    return {"job_id": job_id, "result": fetch_result(credentials, job_id)}


_point = ""


def die_at(point: str) -> None:
    """Die here if this is the place."""
    if point == _point:
        os.kill(os.getpid(), signal.SIGKILL)


def _around(owner: Any, name: str, before: str | None, after: str | None) -> None:
    """Put places to die around a function."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if before:
            die_at(before)
        value = original(*args, **kwargs)
        if after:
            die_at(after)
        return value

    setattr(owner, name, wrapped)


def _in_the_middle(owner: Any, name: str, point: str, seconds: float) -> None:
    """Put a place to die some time after a function has begun."""
    original = getattr(owner, name)

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        if point == _point:
            threading.Timer(seconds, lambda: os.kill(os.getpid(), signal.SIGKILL)).start()
        return original(*args, **kwargs)

    setattr(owner, name, wrapped)


PLACES: list[tuple[Any, str, str | None, str | None]] = [
    (PrefectJournal, "look_up", "before the card is looked up", "card looked up, request claimed"),
    (service.submission, "fingerprint", None, "fingerprint taken"),
    (PrefectJournal, "intend", "before the intent", "intent written"),
    (rest.RuntimeClient, "run_job", "before the request", "answer received"),
    (PrefectJournal, "acknowledge", "before the job is written down", "job written down"),
    (card_writer, "remove_claims", "before the claim is removed", "claim removed"),
    (wait, "_wait", "before waiting", "waited"),
    (rest.RuntimeClient, "results", "before the result is fetched", "result fetched"),
    (note, "render_result", None, "before the result is on the card"),
]
MIDDLES: list[tuple[Any, str, str, float]] = [
    (rest.RuntimeClient, "run_job", "request under way", 0.03),
    (monitor.JobMonitor, "wait", "while waiting", 0.05),
]
POINTS = [
    *(point for _, _, *points in PLACES for point in points if point),
    *(point for _, _, point, _ in MIDDLES),
    "in the flow, job known",
    "in the flow, job final",
]
"""All the named places."""


def _prepare(point: str) -> None:
    global _point
    _point = point
    for owner, name, before, after in PLACES:
        _around(owner, name, before, after)
    for owner, name, middle, seconds in MIDDLES:
        _in_the_middle(owner, name, middle, seconds)


def execute(pipe: Connection, flow_run_id: UUID, parameters: dict[str, Any], point: str) -> None:
    """Execute a flow run, once more if it was executed before, and send what it returns or raises."""
    _prepare(point)
    pipe.send(_outcome(flow_run_id, parameters))


def _outcome(flow_run_id: UUID, parameters: dict[str, Any]) -> Any:
    outcome: Any
    # Logs are sent in batches, and a process's end waits up to two seconds for the last.
    quick = {PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None, PREFECT_LOGGING_TO_API_ENABLED: False}
    with temporary_settings(quick), get_client(sync_client=True) as client:
        flow_run = client.read_flow_run(flow_run_id)
        if flow_run.run_count:
            client.set_flow_run_state(flow_run_id, Scheduled(name="AwaitingRetry"), force=True)
            flow_run = client.read_flow_run(flow_run_id)
        try:
            outcome = run_flow(one_job, flow_run=flow_run, parameters=parameters)
        except Exception as error:  # noqa: BLE001 - sent to the test, which judges
            outcome = error
    for thread in threading.enumerate():
        if thread.name == "card-writer":
            thread.join(30)  # it may be about to die there
    return outcome


def new_flow_run() -> UUID:
    """Create a flow run that nobody has executed yet."""
    with get_client(sync_client=True) as client:
        return client.create_flow_run(one_job).id


def race(pipe: Connection) -> None:
    """Execute flow runs of its own, each at a moment that several processes have agreed on, until told to end.

    One process for many: starting Prefect's engine costs more than the race.
    """
    while (given := pipe.recv()) is not None:
        flow_run_id = new_flow_run()
        pipe.send("ready")
        moment = pipe.recv()
        time.sleep(max(0.0, moment - time.time()))
        pipe.send(_outcome(flow_run_id, given))
