"""Prefect as the journal of submission: each request has one artifact, its job card. Implements `Journal`.

The card is the durable record (its metadata) and what people look at (its markdown) in one: written before the request
is sent, completed with the job's id right after the answer, kept up to date by the tasks that wait and fetch
(cards.py). Which of several equal requests may go on is told by a claim (claims.py).
"""

from __future__ import annotations

import contextlib
import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.objects import Artifact
from prefect.logging import get_run_logger

from prefect_runtime import events
from prefect_runtime.artifacts import render_card
from prefect_runtime.card_search import CardSearch
from prefect_runtime.card_writer import Place, Write, write_card
from prefect_runtime.cards import (
    owner_fields,
    read_all_cards,
    record_of,
    to_fields,
)
from prefect_runtime.claims import Claims
from prefect_runtime.client.request import Card, Journal, NoJournal
from prefect_runtime.execution import Execution, current_execution, is_elsewhere
from prefect_runtime.memory import Known, Memory
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.errors import SubmissionUnknownError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

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
        check: Called before a request is sent, and while it waits for another; raises if it must not be.
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
        self._writer = secrets.token_hex(4)  # on the card: who wrote on it last, of several that are the same task run
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
        """Return this request's card: the one it has from an earlier execution or try, or a blank one, claimed."""
        self._explicit = explicit
        search = CardSearch(
            self._execution, self._memory, self._claims, self._writer, let_go=self.abandon, go_on=self._check
        )
        try:
            card = search.named(card_of) if explicit else search.numbered(card_of)
        except BaseException:
            self.abandon()
            raise
        self._place, self._number = search.place, (search.chain, search.first_key, card.occurrence)
        if card.job_id:
            self.abandon()  # the card speaks for itself
        return card

    def intend(self, card: Card, *, durably: bool = True) -> None:
        """Write the card, before anything is sent; or leave that to `acknowledge`, where nobody needs it before.

        That is so where the runtime makes no second job of a key, and nobody else is there: in the flow's own process,
        right after the claim, with a key that no other flow run has.

        Raises:
            SubmissionUnknownError: Another execution has taken us for dead and the request over; nothing is sent.
            RuntimeInvalidStateError: The flow run was cancelled; nothing is sent.
        """
        self._check()
        if not durably and not self._has_card and self._is_surely_alone():
            return
        is_new = not self._has_card
        if not is_new:
            self._check_not_succeeded(card)  # before as well: to write would wipe out what the successor has written
        self._write_now(card)
        try:
            self._check_not_succeeded(card)
        except SubmissionUnknownError:
            if is_new:
                self._take_back(card)
            raise

    def _is_surely_alone(self) -> bool:
        """True if nobody needs the card before the job: no other flow run, no successor and no hook.

        A hook finds the embedded runtime's jobs without a card, but learns a block's name from there alone.
        """
        return not self._explicit and self._block_name in ("", "local") and not self._may_have_been_succeeded()

    def _may_have_been_succeeded(self) -> bool:
        """True if somebody else may be at work on the request.

        In the flow's own process, and at once, there is nobody, and the two calls of the check are saved. Not so if we
        took our time since the claim, outlive the flow's process elsewhere, or have found the claim of our task run: it
        may be at work twice, after a timeout that did not end its thread.
        """
        at_once = time.monotonic() - self._claims.taken_at <= SUCCEEDED_AFTER_SECONDS
        return self._claims.found or is_elsewhere() or not at_once

    def _check_not_succeeded(self, card: Card) -> None:
        """Stop if somebody took the request over since we claimed it.

        A successor claims first and looks for cards then; we have written our card and look for its claim, and then for
        its card, which is there before its claim goes. So one of the two sees the other.
        """
        if self._was_overtaken(card):
            raise SubmissionUnknownError(
                f"Request {card.key}: another execution of this flow run has taken it over; this one sent nothing.",
                key=card.key,
            )

    def _was_overtaken(self, card: Card) -> bool:
        """Look whether somebody took the request over; if so, its claims are theirs to remove, when they have done."""
        if not self._may_have_been_succeeded():
            return False
        with prefect_client() as client:
            overtaken = self._claims.is_succeeded(client) or any(
                self._is_a_successors(client, other) for other in read_all_cards(client, [card.key])
            )
        if overtaken:
            self._claims.held.clear()
        return overtaken

    def _is_a_successors(self, client: SyncPrefectClient, artifact: Artifact) -> bool:
        """Tell whether somebody else wrote a card who is at work: not one whom we, or his own end, have put out."""
        fields = record_of(artifact)
        claim = fields.get("claim", "")
        if fields.get("writer") == self._writer:
            return False
        if self._place is not None and artifact.id == self._place.artifact_id:
            return True
        return bool(claim) and not self._execution.succeeds(claim) and not self._claims.is_over(client, fields)

    def _record(self, card: Card) -> dict[str, str]:
        fields = {**to_fields(card), **owner_fields(self._execution, self._writer)}
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

    def _take_back(self, card: Card) -> None:
        """Remove the card that we have just made, if the successor has one: else it may be about to take ours."""
        with self._best_effort(card), prefect_client() as client:
            own = self._place_of(card).artifact_id
            if any(other.id != own for other in read_all_cards(client, [card.key])):
                client.request("DELETE", "/artifacts/{id}", path_params={"id": own})
            self._place = None

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
        with self._best_effort(card):
            if self._has_card and not self._was_overtaken(card):
                self._write_now(replace(card, intended_at="", posts=0))
            self.abandon()

    def give_up(self, card: Card) -> None:
        """Leave the intent to whoever asks next for the same, in this execution too; best effort."""
        with self._best_effort(card):
            if self._has_card and self._was_overtaken(card):
                return
            unclaimed = {name: value for name, value in self._record(card).items() if name != "claim"}
            self._place_of(card)
            self._write_later(card.key, _whole_card(unclaimed))

    @contextlib.contextmanager
    def _best_effort(self, card: Card) -> Iterator[None]:
        """Log what goes wrong: the refusal itself is what the caller has to hear of."""
        try:
            yield
        except Exception as error:  # noqa: BLE001 - see above
            _log.warning("request %s: its card still says intended (%s)", card.key, type(error).__name__)

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
