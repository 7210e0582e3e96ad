"""Prefect as the journal of submission: each request has one artifact, its job card. Implements `Journal`.

The card is the durable record (its metadata) and what people look at (its markdown) in one: written before the request
is sent, completed with the job's id right after the answer, kept up to date by the tasks that wait and fetch
(cards.py). Which of several equal requests may go on is told by a claim (claims.py).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.logging import get_run_logger

from prefect_runtime import events
from prefect_runtime.artifacts import render_card, says_final
from prefect_runtime.card_writer import Place, Write, patch_card, write_card
from prefect_runtime.cards import (
    Known,
    Memory,
    read_all_cards,
    read_cards,
    record_of,
    to_card,
    to_fields,
)
from prefect_runtime.claims import Claims
from prefect_runtime.client.request import Card, Journal, NoJournal
from prefect_runtime.client.settling import conflict
from prefect_runtime.execution import Execution, current_execution, is_elsewhere
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.errors import ConnectFailedError, SubmissionUnknownError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

LOOK_AHEAD = 16
"""Cards of equal requests that are asked for at once."""

CLAIM_PAUSE_SECONDS = 0.25
SUCCEEDED_AFTER_SECONDS = 2.0
"""How long after its claim a task in the flow's own process goes on without looking for a successor: that would have to
be another process, which takes longer to start."""


def _go_ahead() -> None:
    pass


def current_journal(memory: Memory, *, block_name: str = "", check: Callable[[], None] = _go_ahead) -> Journal:
    """Return the journal of the flow run that this task belongs to; none for a task without a flow.

    Args:
        memory: The cards this process knows.
        block_name: What another process can load the credentials by, for the card; empty if there is no such name.
        check: Called before a request is sent; raises if it must not be.
    """
    with prefect_client() as client:
        execution = current_execution(client)
    return NoJournal() if execution is None else PrefectJournal(execution, memory, block_name=block_name, check=check)


class PrefectJournal:
    """Cards of one execution of a flow run."""

    def __init__(
        self,
        execution: Execution,
        memory: Memory,
        *,
        block_name: str = "",
        check: Callable[[], None] = _go_ahead,
    ) -> None:
        self._execution = execution
        self._memory = memory
        self._block_name = block_name
        self._check = check
        self._place: Place | None = None  # of the request's card, once it has one
        self._number: tuple[str, str, int] | None = None  # which of equal requests this is
        self._explicit = False  # its key was given by the caller: other flow runs may wait for the card
        self._claims = Claims(execution)

    @property
    def key(self) -> str:
        """The key of the request that is at hand; empty before the first."""
        return self._claims.key

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
        self._explicit = explicit
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
        with prefect_client() as client:
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
        there a moment ago may have been written, acknowledged and its claim removed meanwhile. A rival may have claimed
        it only to look, and then has to let go of a card that is ours.
        """
        blank = blanks[0]
        if not self._memory.writer.flush([one.key for one in blanks]):
            raise ConnectFailedError("Prefect's API takes too long to write job cards down. Nothing was sent.")
        while (rival := self._claims.take(client, blank.key)) is not None:
            if not explicit and rival and not self._execution.is_mine_or_free(rival):
                written = read_cards(client, [one.key for one in blanks])
                if not self._execution.is_mine(record_of(written.get(blank.key)).get("claim", "")):
                    return None, written  # the rival has it, or somebody else
            elif explicit and rival and self._has_job(client, blank):
                break  # the card speaks, whoever has forgotten to take his claim away
            time.sleep(CLAIM_PAUSE_SECONDS if rival else 0)
        written = read_cards(client, [one.key for one in blanks])
        artifact = written.get(blank.key)
        if artifact is None:
            if self._execution.is_again:
                self._warn_of_jobs_left(client)
            return blank, written
        fields = record_of(artifact)
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

    def _warn_of_jobs_left(self, client: SyncPrefectClient) -> None:
        """Name the jobs that an earlier execution of this flow run has made, and this one has not asked for so far."""
        ours = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=[self._execution.flow_run_id]))
        unfinished = [
            record_of(card) for card in client.read_artifacts(artifact_filter=ours) if not says_final(str(card.data))
        ]
        left = [
            fields["job_id"]
            for fields in unfinished
            if fields.get("job_id") and self._execution.is_later_than(fields.get("claim", "").partition("|")[0])
        ]
        if left:
            get_run_logger().warning(
                "A request that the last execution of this flow run did not make; its unfinished jobs %s have not been "
                "asked for so far. If the flow builds its inputs anew each time, give an idempotency_key; "
                "`prefect-runtime reap` lists and cancels what is left.",
                ", ".join(left),
            )

    def _has_job(self, client: SyncPrefectClient, blank: Card) -> bool:
        return bool(record_of(read_cards(client, [blank.key]).get(blank.key)).get("job_id"))

    def _may_have(self, artifact: Artifact) -> bool:
        """True unless another task run of this execution has the card; one that was withdrawn nobody has."""
        fields = record_of(artifact)
        withdrawn = not fields.get("intended_at") and not fields.get("job_id")
        return withdrawn or self._execution.is_mine_or_free(fields.get("claim", ""))

    def _is_finished_request(self, fields: Mapping[str, str]) -> bool:
        """True if the job failed, somebody was told, and this is a retry of that execution; a resume is none."""
        delivered = fields.get("failure_delivered", "")
        return bool(delivered) and self._execution.is_retry_of(delivered)

    def _adopt(self, client: SyncPrefectClient, artifact: Artifact, blank: Card) -> Card:
        """Claim a card from an earlier execution anew, so that an equal request of this one takes the next."""
        self._place = Place(artifact_id=artifact.id)
        fields = record_of(artifact)
        known = self._memory.get(blank.key)
        if known is not None and known.place.artifact_id == artifact.id and not fields.get("job_id"):
            fields = dict(known.fields)  # what could not be written down is known to this process
        if fields.get("claim") != self._execution.claim:
            fields["claim"] = self._execution.claim
            patch_card(client, artifact.id, {"metadata_": fields})
        card = to_card(fields, blank)
        if card.job_id:
            get_run_logger().info("Job %s: found on its card, nothing is sent", card.job_id)
            self.abandon()  # the card speaks for itself
        return card

    def intend(self, card: Card, *, durably: bool = True) -> None:
        """Write the card, before anything is sent; or leave that to `acknowledge`, where nobody needs it before.

        That is so where the runtime makes no second job of a key, and nobody else can be at work on the request: not
        in the flow's own process, right after the claim, with a key that no other flow run has.

        Raises:
            SubmissionUnknownError: Another execution has taken us for dead and the request over; nothing is sent.
            RuntimeInvalidStateError: The flow run was cancelled; nothing is sent.
        """
        self._check()
        if not durably and not self._has_card and not self._explicit and not self._may_have_been_succeeded():
            return
        self._write_now(card)
        if self._may_have_been_succeeded():
            self._check_not_succeeded(card)

    def _may_have_been_succeeded(self) -> bool:
        """True if a successor is possible: we took our time since the claim, or outlive the flow's process elsewhere.

        In the flow's own process, and at once, there is none, and the two calls of the check are saved.
        """
        return is_elsewhere() or time.monotonic() - self._claims.taken_at > SUCCEEDED_AFTER_SECONDS

    def _check_not_succeeded(self, card: Card) -> None:
        """Stop if somebody took the request over since we claimed it.

        A successor claims first and looks for cards then; we have written our card and look for its claim, and then for
        its card, which is there before its claim goes. So one of the two sees the other.
        """
        with prefect_client() as client:
            succeeded = self._claims.is_succeeded(client)
            cards = read_all_cards(client, [card.key])
        claim = self._execution.claim
        own = self._place.artifact_id if self._place is not None else None
        taken = any(other.id != own or record_of(other).get("claim") != claim for other in cards)
        if succeeded or taken:
            self._claims.held.clear()  # the successor's to remove, when it has done
            raise SubmissionUnknownError(
                f"Request {card.key}: another execution of this flow run has taken it over; this one sent nothing.",
                key=card.key,
            )

    def _record(self, card: Card) -> dict[str, str]:
        fields = {**to_fields(card), "claim": self._execution.claim, "root_run": self._execution.root_run_id}
        return {**fields, "credentials": self._block_name} if self._block_name else fields

    @property
    def _has_card(self) -> bool:
        return self._place is not None and self._place.artifact_id is not None

    def _place_of(self, card: Card) -> Place:
        if self._place is None:
            execution = self._execution
            self._place = Place(
                new={
                    "key": card.key,
                    "type": "markdown",
                    "description": f"Job card: {card.program_id} on {card.backend or 'a backend of the runtime'}",
                    "flow_run_id": str(execution.flow_run_id),
                    "task_run_id": str(execution.task_run_id) if execution.task_run_id is not None else None,
                }
            )
        return self._place

    def _write_now(self, card: Card) -> None:
        with prefect_client() as client:
            write_card(client, self._place_of(card), _whole_card(self._record(card)))

    def acknowledge(self, card: Card) -> None:
        """Say which job it is: in the log first, which cannot fail, then on the card.

        The card is written in the background. Should this process die before that, its successor finds the intent
        there, and the job by its tag; or, where there was no need for an intent, is told of the job by the runtime.
        """
        word = "attached to" if card.attached else "submitted"
        get_run_logger().info("Job %s: %s (%s on %s)", card.job_id, word, card.program_id, card.backend or "?")
        made = JobDocument(id=card.job_id, word=word, status=None, program_id=card.program_id, backend=card.backend)
        events.tell("submitted", made, flow_run_id=self._execution.flow_run_id, attached=card.attached)
        if self._explicit and not self._has_card:  # found at the server: it has no card in this Prefect yet
            self._write_now(replace(card, intended_at=card.acknowledged_at))
        fields = self._record(card)
        self._memory.put(card.key, Known(place=self._place_of(card), fields=fields))
        if self._number is not None:  # only now: a task that is retried has to find its own number again
            chain, first_key, number = self._number
            self._memory.took(chain, first_key, number)
            self._memory.took(self._execution.claim, first_key, 0)
        self._write_later(card.key, _whole_card(fields), urgent=self._explicit)

    def _write_later(self, key: str, body: dict[str, Any], *, urgent: bool = True) -> None:
        """Have the card written, then our claims on the request removed."""
        claims, self._claims.held = self._claims.held, []
        if body or claims:
            with prefect_client() as client:
                write = Write(key=key, place=self._place, body=body, claims=claims, urgent=urgent)
                self._memory.writer.put(client, write, at_once=is_elsewhere())

    def withdraw(self, card: Card) -> None:
        """Write that the request was provably not taken; best effort: what stays intended is looked for first."""
        try:
            if self._has_card:
                self._write_now(replace(card, intended_at="", posts=0))
            self.abandon()
        except Exception as error:  # noqa: BLE001 - the refusal itself is what the caller has to hear of
            _log.warning("request %s: its card still says intended (%s)", card.key, type(error).__name__)

    def give_up(self, card: Card) -> None:
        """Leave the intent to whoever asks next for the same, in this execution too; best effort."""
        unclaimed = {name: value for name, value in self._record(card).items() if name != "claim"}
        self._place_of(card)
        self._write_later(card.key, _whole_card(unclaimed))

    def abandon(self) -> None:
        """Remove the claims we hold: of a request that is not ours, or that will not be sent."""
        self._write_later(self._claims.key, {})

    def report_duplicates(self, card: Card, kept: str, others: Sequence[str]) -> None:
        """Warn in the run's log and emit an event that an automation can act on."""
        get_run_logger().warning("Request %s had more than one job: kept %s, cancelled %s", card.key, kept, others)
        document = JobDocument(id=kept, word="", status=None, program_id=card.program_id, backend=card.backend)
        flow_run_id = self._execution.flow_run_id
        events.tell("duplicate", document, flow_run_id=flow_run_id, kept=kept, cancelled=list(others), key=card.key)


def _whole_card(fields: dict[str, str]) -> dict[str, Any]:
    """Return a card's record and its page, as an artifact has them."""
    return {"data": render_card(fields), "metadata_": fields}
