"""What Prefect learns of a job from the tasks: its card, and events. Used by the tasks and deferral.py."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from prefect.exceptions import MissingContextError
from prefect.logging import get_run_logger
from prefect.runtime import flow_run as current_flow_run

from prefect_runtime import cards, events, journal
from prefect_runtime.artifacts import render_changes
from prefect_runtime.client import RuntimeJob, RuntimeService
from prefect_runtime.client.duplicates import sweep
from prefect_runtime.client.endpoints.line import check_job_id
from prefect_runtime.memory import Memory
from prefect_runtime.result_page import render_result
from prefect_runtime.tasks.names import remember
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument, JobStatus, charged_seconds

_log = get_logger(__name__)

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

LEVEL_CHARACTERS = 80  # of a line, in which its level stands
_NONE = object()  # no result, which None may be


def run_logger() -> Logger:
    """Return the run's logger; a plain one in a thread of a user's own, which Prefect knows nothing of."""
    try:
        return get_run_logger()
    except MissingContextError:
        return _log


def note(
    service: RuntimeService,
    document: JobDocument,
    *,
    result: Any = _NONE,
    log: str | None = None,
    delivered: bool = False,
    kept: bool = False,
) -> None:
    """Bring the job's card up to date, and look once more for a duplicate where an answer was lost on the way.

    The card is for people: what goes wrong with it must not cost a result, or hide a failure.
    """
    memory = Memory(service.memory)
    try:
        changes = heard(service, document)
        shown = {"changes": render_changes(changes)} | ({} if log is None else {"log": _summary(log)})
        document = _with_charge(service, document)
        section = "" if result is _NONE else render_result(result)
        secrets = service.client.secrets
        card = cards.note_job(
            document, memory, secrets=secrets, shown=shown, result=section, delivered=delivered, kept=kept
        )
        if card is not None and (card.attached or card.posts > 1):
            sweep(service.client, journal.current_journal(memory), card)
    except Exception as error:  # noqa: BLE001 - see above
        name = type(error).__name__
        run_logger().warning("Job %s: its card could not be brought up to date (%s)", document.id, name)


def heard(service: RuntimeService, document: JobDocument) -> dict[str, datetime]:
    """Note when a job's status was first seen, with an event for what is new; return all that was seen of it here."""
    seen = Memory(service.memory).job(document.id)
    word = document.status.name if document.status else document.word
    if word not in seen.words:
        remember(document.id, document.backend)
        seen.words[word] = datetime.now(UTC)
        flow_run_id = current_flow_run.id
        if document.is_final:
            seen.final = document
            events.tell_end(document, flow_run_id=flow_run_id)
        elif document.status is JobStatus.RUNNING:
            events.tell("running", document, flow_run_id=flow_run_id)
    return seen.words


def handle_of(service: RuntimeService, job_id: str) -> RuntimeJob:
    """Return a job to wait for or to fetch from; what a task of this process has seen final is not asked for again.

    Raises:
        ConfigurationError: That is not the id of a job.
    """
    check_job_id(job_id)  # what is none, such as a list of ids, cannot be looked up here either
    return service.handle(job_id, known=Memory(service.memory).job(job_id).final)


def _summary(log: str) -> str:
    """Return how long a log is, without a word of what is in it."""
    lines = log.splitlines()
    parts = [f"{len(lines)} line{'s' if len(lines) != 1 else ''}"]
    for level in ("WARNING", "ERROR"):
        count = sum(level in line[:LEVEL_CHARACTERS] for line in lines)
        parts += [f"{count} × {level}"] if count else []
    return ", ".join(parts)


def _with_charge(service: RuntimeService, document: JobDocument) -> JobDocument:
    """Return a final job's document with the seconds it was charged, where jobs are, and say them in the log, once."""
    if not (document.is_final and service.client.counts_usage):
        return document
    if document.usage_seconds is None:  # IBM's lists and older versions leave it to the metrics
        try:
            charged = charged_seconds(service.client.metrics(document.id).get("usage"))
        except QiskitRuntimeError:  # a price that is not known must not cost the card its result
            return document
        document = replace(document, usage_seconds=charged)
    seen = Memory(service.memory).job(document.id)
    if document.usage_seconds is not None and not seen.charge_said:
        seen.charge_said = True
        run_logger().info("Job %s: charged %.1f s of QPU time", document.id, document.usage_seconds)
    return document


def note_if_final(service: RuntimeService, job: RuntimeJob) -> None:
    """Show on the card what a timeout has led to: the job may have been cancelled.

    Who is told of the timeout is told of that as well: a retry is to make a new job, not to fail with this one.
    """
    document = job.known_document
    if document is not None and document.is_final:
        note(service, document, delivered=document.status is JobStatus.CANCELLED)
