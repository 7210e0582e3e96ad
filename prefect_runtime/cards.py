"""Job cards as Prefect keeps them: one artifact a request, its metadata the record, its markdown what people see.

Used by journal.py (the record, while a request is being submitted), by the tasks (what people see, afterwards), and by
whoever looks for jobs that were left behind (orphans.py, hooks.py, the command line).
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import replace

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact

from prefect_runtime.artifacts import render_card, split_result
from prefect_runtime.card_writer import Place, Write, write_card
from prefect_runtime.client.request import Card
from prefect_runtime.execution import Execution, current_execution, is_elsewhere, root_of
from prefect_runtime.memory import Known, Memory
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.models import KEY_PREFIX, JobDocument
from prefect_runtime.wire.redaction import clean

ACKNOWLEDGED_PAUSES = (0.2, 0.5, 1.0, 2.0, 4.0)  # seconds
NO_FLOW_RUN = "none:0:0"
"""Stands for the execution when a failure was delivered outside of any flow run."""

REASON_CHARACTERS = 400


def read_all_cards(client: SyncPrefectClient, keys: list[str]) -> list[Artifact]:
    """Return all cards of these requests; one that was taken over may have two."""
    return client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)))


def read_cards(client: SyncPrefectClient, keys: list[str]) -> dict[str, Artifact]:
    """Return the cards of these requests, by key; of two that a takeover has left, the one that knows more."""

    def knows(card: Artifact) -> tuple[bool, bool, str]:
        fields = record_of(card)
        return bool(fields.get("job_id")), bool(fields.get("intended_at")), str(card.created)

    return {card.key: card for card in sorted(read_all_cards(client, keys), key=knows) if card.key}


def record_of(artifact: Artifact | None) -> dict[str, str]:
    """Return a card's record, to be changed freely; empty if there is no card."""
    return dict(artifact.metadata_ or {}) if artifact is not None else {}


def owner_fields(execution: Execution, writer: str) -> dict[str, str]:
    """Return what a record says of whose it is: the task run, who acts for it, and the outermost flow run."""
    return {"claim": execution.claim, "writer": writer, "root_run": execution.root_run_id}


def to_fields(card: Card) -> dict[str, str]:
    """Return a card as the record that an artifact's metadata holds: texts, and only what is known."""
    fields = {
        "key": card.key,
        "fingerprint": card.fingerprint,
        "program": card.program_id,
        "requested_backend": card.requested_backend,
        "backend": card.backend,
        "occurrence": str(card.occurrence),
        "generation": str(card.generation),
        "intended_at": card.intended_at,
        "job_id": card.job_id,
        "acknowledged_at": card.acknowledged_at,
        "attached": "yes" if card.attached else "",
        "posts": str(card.posts),
        **card.notes,
    }
    return {name: value for name, value in fields.items() if value}


def to_card(fields: Mapping[str, str], blank: Card) -> Card:
    """Return the card that a record tells of; what the record does not know is as in `blank`."""
    return replace(
        blank,
        backend=fields.get("backend", ""),
        intended_at=fields.get("intended_at", ""),
        job_id=fields.get("job_id", ""),
        acknowledged_at=fields.get("acknowledged_at", ""),
        attached=bool(fields.get("attached")),
        posts=int(fields.get("posts", "0")),
        notes={"transpiled": fields["transpiled"]} if "transpiled" in fields else {},
    )


def note_job(
    document: JobDocument,
    memory: Memory,
    *,
    secrets: Sequence[str] = (),
    shown: Mapping[str, str] | None = None,
    result: str = "",
    delivered: bool = False,
    delivered_to: str = "",
    kept: bool = False,
) -> Card | None:
    """Show on a job's card how the job is, and return the card; None for a job without one.

    The record (the artifact's metadata) belongs to the submission; here only what people see is written anew, unless
    another process has to know: the next execution of a failure that is being delivered, a hook of a job to be kept.

    Args:
        document: What the server says of the job.
        memory: The cards this process knows.
        secrets: What must not be on the card.
        shown: What else people are to see, by the names of artifacts.py.
        result: The section that `render_result` made, if there is a result.
        delivered: Its failure is about to be raised to somebody.
        delivered_to: The chain of the execution that hears of it; this one's if left out.
        kept: It is to be left alone when its flow run is cancelled; a hook in another process has to know.
    """
    key = next((tag for tag in document.tags if tag.startswith(KEY_PREFIX)), None)
    if key is None:
        return None
    with prefect_client() as client:
        to_record = delivered or kept
        # Its writing down may have failed: what this process knows makes the card anew then.
        written = _read_acknowledged(client, key, memory) if to_record else None
        known = written or memory.get(key) or _read_known(client, key)
        if known is None or known.fields.get("job_id", document.id) != document.id:
            return None  # no card, or a duplicate's document: the card is another job's
        known = replace(known, shown={**known.shown, **(shown or {})})
        fields = {**known.fields, **known.shown, **_job_fields(document, secrets)}
        body: dict[str, object] = {"data": render_card(fields, result or known.result)}
        if known.place.artifact_id is None:
            body["metadata_"] = dict(known.fields)  # whoever makes the card makes it whole
        if to_record:
            added = (
                _delivered(known.fields, delivered_to or _current_chain(client)) if delivered else {"on_cancel": "keep"}
            )
            known = replace(known, fields={**known.fields, "job_id": document.id, **added})
            memory.put(key, known)  # first: what cannot be written down now, this process knows all the same
            write_card(client, known.place, {**body, "metadata_": dict(known.fields)})
        else:
            memory.writer.put(client, Write(key=key, place=known.place, body=body), at_once=is_elsewhere())
    memory.put(key, replace(known, result=result or known.result))
    return to_card(known.fields, Card(key=key, fingerprint="", program_id=document.program_id))


def _delivered(fields: Mapping[str, str], heard: str) -> dict[str, str]:
    """Return who was told of a failure: the card's own flow run, if it was, whoever else looks later."""
    own, told = (root_of(fields.get(name, "")) for name in ("claim", "failure_delivered"))
    return {} if told and told == own != root_of(heard) else {"failure_delivered": heard}


def _current_chain(client: SyncPrefectClient) -> str:
    execution = current_execution(client)
    return execution.chain if execution else NO_FLOW_RUN


def _read_acknowledged(client: SyncPrefectClient, key: str, memory: Memory) -> Known | None:
    """Read a record afresh, to change it; another process may still be about to write the job's id on it."""
    memory.writer.flush([key])
    for pause in (*ACKNOWLEDGED_PAUSES, None):
        known = _read_known(client, key)
        if known is None or known.fields.get("job_id") or pause is None:
            return known
        time.sleep(pause)
    return None


def _read_known(client: SyncPrefectClient, key: str) -> Known | None:
    artifact = read_cards(client, [key]).get(key)
    if artifact is None:
        return None
    return Known(
        place=Place(artifact_id=artifact.id), fields=record_of(artifact), result=split_result(str(artifact.data or ""))
    )


def _job_fields(document: JobDocument, secrets: Sequence[str]) -> dict[str, str]:
    reason = document.reason.strip()
    fields = {
        "job_id": document.id,
        "status": document.status.name if document.status else document.word,
        "backend": document.backend,
        "created": document.created or "",
        "started": document.started or "",
        "ended": document.ended or "",
        "usage_seconds": "" if document.usage_seconds is None else f"{document.usage_seconds:g}",
        "reason": clean(reason.splitlines()[-1], secrets, limit=REASON_CHARACTERS) if reason else "",
        "reason_code": "" if document.reason_code is None else str(document.reason_code),
        "solution": clean(document.solution, secrets, limit=REASON_CHARACTERS),
    }
    return {name: value for name, value in fields.items() if value}
