"""What tasks write on a job's card. Used by the tasks only."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prefect.logging import get_run_logger

from prefect_runtime import cards, journal
from prefect_runtime.cards import Memory
from prefect_runtime.client import RuntimeJob, RuntimeService
from prefect_runtime.client.duplicates import sweep
from prefect_runtime.result_page import render_result
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.models import JobDocument, charged_seconds

_NONE = object()  # no result, which None may be


def note(service: RuntimeService, document: JobDocument, *, result: Any = _NONE, delivered: bool = False) -> None:
    """Bring the job's card up to date, and look once more for a duplicate where an answer was lost on the way.

    The card is for people: what goes wrong with it must not cost a result, or hide a failure.
    """
    memory = Memory(service.memory)
    try:
        document = _with_charge(service, document)
        section = "" if result is _NONE else render_result(result)
        card = cards.note_job(document, memory, secrets=service.client.secrets, result=section, delivered=delivered)
        if card is not None and (card.attached or card.posts > 1):
            sweep(service.client, journal.current_journal(memory), card)
    except Exception as error:  # noqa: BLE001 - see above
        name = type(error).__name__
        get_run_logger().warning("Job %s: its card could not be brought up to date (%s)", document.id, name)


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
    said = f"charged {document.id}"
    if document.usage_seconds is not None and said not in service.memory:
        service.memory[said] = True
        get_run_logger().info("Job %s: charged %.1f s of QPU time", document.id, document.usage_seconds)
    return document


def note_if_final(service: RuntimeService, job: RuntimeJob) -> None:
    """Show on the card what a timeout has led to: the job may have been cancelled."""
    document = job.known_document
    if document is not None and document.is_final:
        note(service, document)
