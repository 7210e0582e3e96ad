"""How the embedded runtime shows its rows: jobs and programs as the documents of the API."""

from __future__ import annotations

from typing import Any

from prefect_runtime.local.store import CANCELLED, COMPLETED, QUEUED, RAN_TOO_LONG, RUNNING, Job
from prefect_runtime.local.uploads import Program
from prefect_runtime.local.worker import BUILT_IN, UNLISTED
from prefect_runtime.wire.fields import parse_time

NETWORK = ("ibm-q", "open", "main")
"""The one hub, group and project: the names that the classic service had for everybody."""


def job_document(job: Job) -> dict[str, Any]:
    """Return a job as clients of both dialects read it, without its params."""
    # Only the top-level word tells them apart (IBM's REST API 0.45.3); IBM's client waits for ever on another state.
    state: dict[str, Any] = {"status": CANCELLED if job.status == RAN_TOO_LONG else job.status}
    if job.status not in (QUEUED, RUNNING, COMPLETED):
        state["reason"] = job.reason
        if job.reason_code is not None:
            state["reason_code"] = job.reason_code
    hub, group, project = NETWORK  # a classic client looks a job's backend up there
    return {
        "id": job.id,
        "hub": hub,
        "group": group,
        "project": project,
        "backend": job.backend,
        "status": job.status,
        "state": state,
        "program": {"id": job.program_id},
        "created": job.created,
        "started": job.started,
        "ended": job.ended,
        "runtime": job.image,
        "tags": list(job.tags),
        "session_id": job.session_id,
        "private": job.private,
        "cost": job.max_execution_time,
        "usage": {"qpu_charge_time_seconds": _seconds_run(job), "status": "complete" if job.is_final else "pending"},
    }


def _seconds_run(job: Job) -> float:
    started, ended = parse_time(job.started), parse_time(job.ended)
    return (ended - started).total_seconds() if started and ended else 0.0


def program_document(program: Program, *, with_data: bool) -> dict[str, Any]:
    """Return a program as the classic API shows it; the source only when asked for."""
    document: dict[str, Any] = {
        "id": program.id,
        "name": program.name,
        "description": program.description,
        "cost": program.cost,
        "creation_date": program.created,
        "update_date": program.updated,
        "is_public": program.is_public,
        "spec": program.spec,
    }
    if with_data:
        document["data"] = program.data
    return document


_DESCRIPTIONS = {
    "sampler": "Samples the classical registers of circuits: PUBs in, a PrimitiveResult out.",
    "estimator": "Estimates expectation values of observables: PUBs in, a PrimitiveResult out.",
}


def built_in_documents() -> list[dict[str, Any]]:
    """Return the programs that are there without an upload."""
    return [
        {
            "id": name,
            "name": name,
            "description": _DESCRIPTIONS[name],
            "cost": None,
            "creation_date": None,
            "update_date": None,
            "is_public": True,
            "spec": {},
        }
        for name in BUILT_IN
        if name not in UNLISTED
    ]
