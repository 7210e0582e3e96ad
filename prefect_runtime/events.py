"""The events that Prefect hears of a job, for automations and for people who look: ``prefect-runtime.job.*``.

===========  ==========================================================  ===================================
event        when                                                        payload besides status and backend
===========  ==========================================================  ===================================
submitted    a request has its job                                       program, attached (to an older job)
running      a wait has seen that it runs                                queued_seconds
finished     it is DONE                                                  queued_seconds, ran_seconds
failed       it is ERROR                                                 the same, and reason_code
cancelled    it is CANCELLED                                             the same
overdue      a suspended flow run has waited for it as long as it would  -
duplicate    a request had more than one job (journal.py)                kept, cancelled, key
===========  ==========================================================  ===================================

``overdue`` comes also for a job that the runtime does not know any more: there is nothing to wait for.

The resource is the job (``prefect-runtime.job.<job id>``), with its backend, program and status as labels; related is
the flow run, with ``prefect-runtime.flow-run: suspended`` if it is to be resumed. An event may come more than once (two
tasks see the same end); its id is the same then. Events are told and forgotten: none may cost a job anything.
"""

from __future__ import annotations

import contextlib
import threading
from datetime import UTC, datetime
from typing import Any
from uuid import NAMESPACE_URL, UUID, uuid5

from prefect.events import Event, emit_event

from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import JobDocument, JobStatus

PREFIX = "prefect-runtime.job"
SUSPENDED_LABEL, SUSPENDED = "prefect-runtime.flow-run", "suspended"
ENDS = {JobStatus.DONE: "finished", JobStatus.ERROR: "failed", JobStatus.CANCELLED: "cancelled"}
RESUMING = tuple(f"{PREFIX}.{word}" for word in (*ENDS.values(), "overdue"))
"""The events after which a suspended flow run goes on."""


def tell(
    word: str, document: JobDocument, *, flow_run_id: UUID | str | None, suspended: bool = False, **more: Any
) -> None:
    """Emit the event of that word on a job.

    Args:
        word: As in the table above.
        document: What is known of the job.
        flow_run_id: The flow run it belongs to, if any.
        suspended: The flow run waits to be resumed.
        more: More of the payload; plain values, no inputs and no results.
    """
    related = []
    if flow_run_id is not None:
        run = {"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.role": "flow-run"}
        related = [{**run, SUSPENDED_LABEL: SUSPENDED} if suspended else run]
    event: dict[str, Any] = {
        "event": f"{PREFIX}.{word}",
        "resource": {
            "prefect.resource.id": f"{PREFIX}.{document.id}",
            "prefect.resource.name": f"job {document.id}",
            "prefect-runtime.backend": document.backend,
            "prefect-runtime.program": document.program_id,
            "prefect-runtime.status": document.word,
        },
        "related": related,
        "payload": {"job_id": document.id, "status": document.word, "backend": document.backend, **more},
    }
    if not suspended:
        event["id"] = uuid5(NAMESPACE_URL, f"{PREFIX}.{word}:{document.id}:{flow_run_id}")
    if threading.main_thread().is_alive():
        emit_event(**event)
    else:  # the process is ending, and jobs are cancelled on its way: Prefect's thread for events starts no more
        _send_at_once(event)


def _send_at_once(event: dict[str, Any]) -> None:
    """Send an event by a request of its own."""
    with contextlib.suppress(Exception), prefect_client() as client:
        sent = Event(occurred=datetime.now(UTC), **event)  # type: ignore[arg-type]
        client.request("POST", "/events", json=[sent.model_dump(mode="json")])


def tell_end(document: JobDocument, *, flow_run_id: UUID | str | None, suspended: bool = False) -> None:
    """Emit the event of a job's end, with how long it queued and ran; nothing for one that is not final."""
    word = ENDS.get(document.status) if document.status is not None else None
    if word is None:
        return
    more = {
        "queued_seconds": _seconds(document.created, document.started),
        "ran_seconds": _seconds(document.started, document.ended),
        "usage_seconds": document.usage_seconds,
        "reason_code": document.reason_code,
    }
    known = {name: value for name, value in more.items() if value is not None}
    tell(word, document, flow_run_id=flow_run_id, suspended=suspended, **known)


def _seconds(first: str | None, second: str | None) -> float | None:
    try:
        start, end = parse_time(first), parse_time(second)
    except ProtocolError:  # some servers write times in a way of their own
        return None
    return None if start is None or end is None else round((end - start).total_seconds(), 3)
