"""Prefect as the journal of submission: each request has one artifact, its job card. Implements `Journal`.

The card is the durable record (its metadata) and what people look at (its markdown) in one: written before the request
is sent, completed with the job's id, kept up to date by the tasks that wait and fetch. Which request is whose is told
by a claim: a Prefect variable named after the key, whose creation is atomic.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, VariableCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.objects import Artifact
from prefect.context import SyncClientContext
from prefect.events import emit_event
from prefect.exceptions import ObjectAlreadyExists, ObjectNotFound
from prefect.logging import get_run_logger
from prefect.settings import PREFECT_CLIENT_MAX_RETRIES, temporary_settings

from prefect_runtime.artifacts import render_card, split_result
from prefect_runtime.client.submission import Card, Journal, NoJournal, conflict
from prefect_runtime.client.transport import clean
from prefect_runtime.execution import Execution, current_execution
from prefect_runtime.wire.models import KEY_PREFIX, JobDocument

_log = logging.getLogger(__name__)

LOOK_AHEAD = 16
"""Cards of equal requests that are asked for at once."""

LONGEST_CLAIM_SECONDS = 1800.0
"""How long a claim without a card is believed of a flow run that Prefect says is running: between the two lie the
choice of a backend and a transpilation, which may take minutes."""

CLAIM_PAUSE_SECONDS = 0.25
UNCLAIM_PAUSES = (0.02, 0.1, 0.3)
MOST_REMEMBERED = 1000
NO_FLOW_RUN = "none:0:0"
"""Stands for the execution when a failure was delivered outside of any flow run."""

REASON_CHARACTERS = 400


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A card that this process has written or read: its artifact, its record and what it shows of the result."""

    artifact_id: UUID
    fields: Mapping[str, str]
    result: str = ""


class Memory:
    """The cards this process knows, kept with the account; the oldest are forgotten."""

    def __init__(self, entries: dict[str, object]) -> None:
        self._entries = entries

    def get(self, key: str) -> Known | None:
        """Return what is known of a request's card."""
        known = self._entries.get(key)
        return known if isinstance(known, Known) else None

    def put(self, key: str, known: Known) -> None:
        """Remember a card."""
        self._put(key, known)

    def first_free(self, chain: str, first_key: str) -> int:
        """Return the number below which tasks of this process have all numbers of equal requests of an execution."""
        number = self._entries.get(f"{chain} {first_key}")
        return number if isinstance(number, int) else 0

    def took(self, chain: str, first_key: str, number: int) -> None:
        """Remember that a number is taken; only a start for the next search, which counts on nothing."""
        if number == self.first_free(chain, first_key):
            self._put(f"{chain} {first_key}", number + 1)

    def _put(self, key: str, value: object) -> None:
        self._entries[key] = value
        while len(self._entries) > MOST_REMEMBERED:
            self._entries.pop(next(iter(list(self._entries)), ""), None)  # other threads do the same


def current_journal(memory: Memory) -> Journal:
    """Return the journal of the flow run that this task belongs to; none for a task without a flow."""
    with _prefect() as client:
        execution = current_execution(client)
    return NoJournal() if execution is None else PrefectJournal(execution, memory)


@contextlib.contextmanager
def _prefect() -> Iterator[SyncPrefectClient]:
    """Give the client that Prefect uses itself in this run: making one costs more than a call."""
    with SyncClientContext.get_or_create() as context:
        yield context.client


class PrefectJournal:
    """Cards of one execution of a flow run."""

    def __init__(self, execution: Execution, memory: Memory) -> None:
        self._execution = execution
        self._memory = memory
        self._artifact_id: UUID | None = None  # of the card that this submission has written
        self._number: tuple[str, str, int] | None = None  # which of equal requests this is
        self._claims: list[str] = []  # variables to remove when the card speaks for itself

    def scope(self) -> str:
        """The outermost flow run, and the subflow in it."""
        return self._execution.scope

    def run_tag(self) -> str:
        """The outermost flow run's id."""
        return self._execution.root_run_id

    def look_up(self, card_of: Callable[[int, int], Card], *, explicit: bool) -> Card:
        """Return this request's card: the one it has from an earlier execution or try, or a blank one, claimed.

        Equal requests of one execution are numbered: the first whose number no other task of it has, is ours.
        """
        chain, first_key = self._execution.chain, card_of(0, 0).key
        # A task run that has one already looks for its own from the first number on.
        again = explicit or self._memory.first_free(self._execution.claim, first_key) > 0
        occurrence = 0 if again else self._memory.first_free(chain, first_key)
        try:
            return self._search(card_of, occurrence, chain, first_key, explicit=explicit)
        except BaseException:
            self.abandon()
            raise

    def _search(
        self, card_of: Callable[[int, int], Card], occurrence: int, chain: str, first_key: str, *, explicit: bool
    ) -> Card:
        with _prefect() as client:
            while True:
                last = occurrence + (1 if explicit else LOOK_AHEAD)
                blanks = [card_of(number, 0) for number in range(occurrence, last)]
                card, written = self._take(client, blanks, card_of, explicit=explicit)
                if card is not None:
                    self._number = (chain, first_key, card.occurrence)
                    return card
                taken = [blank.key in written and not self._may_have(written[blank.key]) for blank in blanks[1:]]
                occurrence += 1 + (taken.index(False) if False in taken else len(taken))

    def _take(
        self,
        client: SyncPrefectClient,
        blanks: Sequence[Card],
        card_of: Callable[[int, int], Card],
        *,
        explicit: bool,
    ) -> tuple[Card | None, Mapping[str, Artifact]]:
        """Claim the first of some requests and return its card, and what cards there are of the others.

        None for a card that another task of this execution has. The claim comes before the look: a card that was not
        there a moment ago may have been written, acknowledged and its claim removed meanwhile.
        """
        blank = blanks[0]
        while (rival := self._claim(client, blank)) is not None:
            if not explicit and rival and not self._execution.is_mine_or_free(rival):
                return None, {}
            time.sleep(CLAIM_PAUSE_SECONDS if rival else 0)
        written = _read_cards(client, [one.key for one in blanks])
        artifact = written.get(blank.key)
        if artifact is None:
            return blank, written
        fields = artifact.metadata_ or {}
        if explicit and fields.get("intended_at") and fields.get("fingerprint") != blank.fingerprint:
            self.abandon()
            raise conflict(blank, fields.get("job_id") or "that is being submitted")
        if not explicit and not self._may_have(artifact):
            self.abandon()
            return None, written
        if self._is_finished_request(fields):
            self.abandon()
            return self._take(client, [card_of(blank.occurrence, blank.generation + 1)], card_of, explicit=explicit)
        return self._adopt(client, artifact, blank), written

    def _may_have(self, artifact: Artifact) -> bool:
        """True unless another task run of this execution has the card."""
        return self._execution.is_mine_or_free((artifact.metadata_ or {}).get("claim", ""))

    def _is_finished_request(self, fields: Mapping[str, str]) -> bool:
        """True if the job failed, somebody was told, and this is a later execution than the one that was told."""
        delivered = fields.get("failure_delivered", "")
        return bool(delivered) and self._execution.is_later_than(delivered)

    def _claim(self, client: SyncPrefectClient, card: Card) -> str | None:
        """Claim a request and return None, or return the claim of somebody alive who was first.

        A dead one's claim is succeeded by one that is named after it.

        Only creating a variable is atomic. Replacing a dead claim is not: of two that try, the second would remove the
        claim of the first.
        """
        execution = self._execution
        value: dict[str, Any] = {"claim": execution.claim, "root_run": execution.root_run_id, "at": time.time()}
        name, dead = card.key, list[str]()
        while True:
            try:
                client.create_variable(VariableCreate(name=name, value=value, tags=["prefect-runtime"]))
            except ObjectAlreadyExists:
                there = client.read_variable_by_name(name)
            else:
                # Taken from the end: the oldest goes first, so that there never is a gap for somebody to slip into.
                self._claims += [name, *reversed(dead)]
                return None
            if there is None or not isinstance(there.value, dict):
                return ""  # removed just now: there is a card
            if there.value.get("claim") == execution.claim:
                self._claims.append(name)
                return None
            if not self._is_dead(client, there.value):
                return str(there.value.get("claim"))
            dead.append(name)
            name = f"{card.key}-{hashlib.sha256(str(there.value).encode()).hexdigest()[:12]}"

    def _is_dead(self, client: SyncPrefectClient, claim: Mapping[str, Any]) -> bool:
        """True if nobody will act on a claim any more."""
        if self._execution.succeeds(str(claim.get("claim"))):
            return True
        try:
            flow_run = client.read_flow_run(UUID(str(claim.get("root_run"))))
        except (ObjectNotFound, ValueError):
            return True
        if flow_run.state is None or flow_run.state.is_final():
            return True
        return time.time() - float(claim.get("at") or 0) > LONGEST_CLAIM_SECONDS

    def _adopt(self, client: SyncPrefectClient, artifact: Artifact, blank: Card) -> Card:
        """Claim a card from an earlier execution anew, so that an equal request of this one takes the next."""
        self._artifact_id = artifact.id
        fields = dict(artifact.metadata_ or {})
        if fields.get("claim") != self._execution.claim:
            fields["claim"] = self._execution.claim
            _update_card(client, artifact.id, ArtifactUpdate(metadata_=fields))
        card = _to_card(fields, blank)
        if card.job_id:
            get_run_logger().info("Job %s: found on its card, nothing is sent", card.job_id)
            self.abandon()  # the card speaks for itself
        return card

    def intend(self, card: Card) -> None:
        """Write the card, before anything is sent."""
        fields = {**_to_fields(card), "claim": self._execution.claim, "root_run": self._execution.root_run_id}
        with _prefect() as client:
            if self._artifact_id is not None:
                _update_card(client, self._artifact_id, ArtifactUpdate(data=render_card(fields), metadata_=fields))
                return
            artifact = client.create_artifact(
                ArtifactCreate(
                    key=card.key,
                    type="markdown",
                    description=f"Job card: {card.program_id} on {card.backend or 'a backend of the runtime'}",
                    data=render_card(fields),
                    metadata_=fields,
                    flow_run_id=self._execution.flow_run_id,
                    task_run_id=self._execution.task_run_id,
                )
            )
            self._artifact_id = artifact.id

    def acknowledge(self, card: Card) -> None:
        """Say which job it is: in the log first, which cannot fail, then on the card."""
        word = "attached to" if card.attached else "submitted"
        get_run_logger().info("Job %s: %s (%s on %s)", card.job_id, word, card.program_id, card.backend or "?")
        if self._artifact_id is None:  # found at the server by an explicit key: it has no card in this Prefect yet
            self.intend(replace(card, intended_at=card.acknowledged_at))
        fields = {**_to_fields(card), "claim": self._execution.claim, "root_run": self._execution.root_run_id}
        with _prefect() as client:
            assert self._artifact_id is not None  # noqa: S101 - intend() has just set it
            _update_card(client, self._artifact_id, ArtifactUpdate(data=render_card(fields), metadata_=fields))
            self._memory.put(card.key, Known(artifact_id=self._artifact_id, fields=fields))
            if self._number is not None:  # only now: a task that is retried has to find its own number again
                chain, first_key, number = self._number
                self._memory.took(chain, first_key, number)
                self._memory.took(self._execution.claim, first_key, 0)
            _unclaim(client, self._claims)

    def withdraw(self, card: Card) -> None:
        """Write that the request was provably not taken; best effort: what stays intended is looked for first."""
        try:
            self.intend(replace(card, intended_at="", posts=0))
            self.abandon()
        except Exception as error:  # noqa: BLE001 - the refusal itself is what the caller has to hear of
            _log.warning("request %s: its card still says intended (%s)", card.key, type(error).__name__)

    def abandon(self) -> None:
        """Remove the claims we hold: of a request that is not ours, or that will not be sent."""
        with _prefect() as client:
            _unclaim(client, self._claims)

    def report_duplicates(self, card: Card, kept: str, others: Sequence[str]) -> None:
        """Warn in the run's log and emit an event that an automation can act on."""
        get_run_logger().warning("Request %s had more than one job: kept %s, cancelled %s", card.key, kept, others)
        emit_event(
            event="prefect-runtime.job.duplicate",
            resource={"prefect.resource.id": f"prefect-runtime.job.{kept}"},
            related=[
                {
                    "prefect.resource.id": f"prefect.flow-run.{self._execution.flow_run_id}",
                    "prefect.resource.role": "flow-run",
                }
            ],
            payload={"kept": kept, "cancelled": list(others), "key": card.key},
        )


def _unclaim(client: SyncPrefectClient, names: list[str]) -> None:
    """Remove claims: from here on the card speaks.

    Prefect's client waits two seconds when the server finds its SQLite locked, and answers 503; here a few quick tries
    do. A claim that stays does no harm: it is a dead one's, or of a request that has its card.
    """
    if not names:
        return
    with temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0}):
        while names:
            _delete_variable(client, names.pop())


def _delete_variable(client: SyncPrefectClient, name: str) -> None:
    for pause in (*UNCLAIM_PAUSES, None):
        try:
            return client.delete_variable_by_name(name)
        except ObjectNotFound:
            return None
        except httpx.HTTPError as error:
            if pause is None:
                _log.warning("the Prefect variable %s could not be removed (%s)", name, type(error).__name__)
                return None
            time.sleep(pause)
    return None


def _read_cards(client: SyncPrefectClient, keys: list[str]) -> dict[str, Artifact]:
    """Return the cards of these requests, by key."""
    artifacts = client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=keys)))
    return {artifact.key: artifact for artifact in artifacts if artifact.key}


def _to_fields(card: Card) -> dict[str, str]:
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


def _to_card(fields: Mapping[str, str], blank: Card) -> Card:
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


def _update_card(client: SyncPrefectClient, artifact_id: UUID, update: ArtifactUpdate) -> None:
    """Write a card anew, without the event that Prefect's own method emits: it would carry the whole text each time."""
    body = update.model_dump(mode="json", exclude_unset=True)
    client.request("PATCH", "/artifacts/{id}", path_params={"id": artifact_id}, json=body)


# What happens to the job afterwards


def note_job(
    document: JobDocument,
    memory: Memory,
    *,
    secrets: Sequence[str] = (),
    result: str = "",
    delivered: bool = False,
) -> Card | None:
    """Show on a job's card how the job is, and return the card; None for a job without one.

    The record (the artifact's metadata) belongs to the submission; here only what people see is written anew, unless a
    failure is being delivered, which the next execution has to know.

    Args:
        document: What the server says of the job.
        memory: The cards this process knows.
        secrets: What must not be on the card.
        result: The section that `render_result` made, if there is a result.
        delivered: Its failure is about to be raised to somebody.
    """
    key = next((tag for tag in document.tags if tag.startswith(KEY_PREFIX)), None)
    if key is None:
        return None
    with _prefect() as client:
        known = None if delivered else memory.get(key)  # the record is read afresh before it is changed
        known = known or _read_known(client, key)
        if known is None or known.fields.get("job_id", document.id) != document.id:
            return None  # no card, or a duplicate's document: the card is another job's
        fields = {**known.fields, **_job_fields(document, secrets)}
        update = ArtifactUpdate(data=render_card(fields, result or known.result))
        if delivered:
            execution = current_execution(client)
            chain = execution.chain if execution else NO_FLOW_RUN
            known = replace(known, fields={**known.fields, "failure_delivered": chain})
            update.metadata_ = dict(known.fields)
        _update_card(client, known.artifact_id, update)
    memory.put(key, replace(known, result=result or known.result))
    return _to_card(known.fields, Card(key=key, fingerprint="", program_id=document.program_id))


def _read_known(client: SyncPrefectClient, key: str) -> Known | None:
    artifact = _read_cards(client, [key]).get(key)
    if artifact is None:
        return None
    return Known(
        artifact_id=artifact.id, fields=dict(artifact.metadata_ or {}), result=split_result(str(artifact.data or ""))
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
    }
    return {name: value for name, value in fields.items() if value}
