"""Finding a request's card, and claiming it: which of several equal requests is this one? Used by journal.py.

A request that is executed again finds the card it had; one that is new gets the first number that nobody has. The claim
comes before the look: a card that was not there a moment ago may have been written, acknowledged and its claim removed
meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId
from prefect.client.schemas.objects import Artifact
from prefect.logging import get_run_logger

from prefect_runtime.artifacts import says_final
from prefect_runtime.card_writer import Place, patch_card
from prefect_runtime.cards import owner_fields, read_cards, record_of, to_card
from prefect_runtime.claims import Claims
from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.request import Card
from prefect_runtime.client.retry import SYSTEM_CLOCK
from prefect_runtime.client.settling import conflict
from prefect_runtime.execution import Execution
from prefect_runtime.memory import Memory
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.wire.errors import ConnectFailedError

LOOK_AHEAD = 16
"""Cards of equal requests that are asked for at once."""

CLAIM_PAUSE_SECONDS = 0.25

CardOf = Callable[[int, int], Card]
"""Makes a request's blank card, by occurrence and generation."""


class CardSearch:
    """One search.

    Args:
        execution: Whose request it is.
        memory: The cards this process knows.
        claims: The request's; held when a card was found that has no job yet.
        writer: Who writes on the card from then on.
        let_go: Removes the claims.
        go_on: Called while somebody else's claim is waited for; raises when that is to end.

    Attributes:
        chain: The execution, as numbers of equal requests are remembered by.
        first_key: The key of the first of them.
        place: Where the card is; None for a blank one.
    """

    def __init__(
        self,
        execution: Execution,
        memory: Memory,
        claims: Claims,
        writer: str,
        *,
        let_go: Callable[[], None],
        go_on: Callable[[], None],
    ) -> None:
        self._execution = execution
        self._memory = memory
        self._claims = claims
        self._writer = writer
        self._let_go = let_go
        self._go_on = go_on
        self.chain = execution.chain
        self.first_key = ""
        self.place: Place | None = None

    def named(self, card_of: CardOf) -> Card:
        """Return the card of a request whose key the caller has given: the one it has, or a blank one, claimed.

        Raises:
            IdempotencyConflictError: The key names another request.
        """
        blank = card_of(0, 0)
        self.first_key = blank.key
        with prefect_client() as client:
            while True:
                self._claim_named(client, blank)
                artifact = read_cards(client, [blank.key]).get(blank.key)
                if artifact is None:
                    return self._new(client, blank)
                fields = record_of(artifact)
                if fields.get("intended_at") and fields.get("fingerprint") != blank.fingerprint:
                    raise conflict(blank, fields.get("job_id") or "that is being submitted")
                if not self._is_finished_request(fields, blank.key, any_run=True):
                    return self._adopt(client, artifact, blank)
                self._let_go()
                blank = card_of(0, blank.generation + 1)

    def numbered(self, card_of: CardOf) -> Card:
        """Return the card of one of equal requests: the first whose number no other task of the execution has."""
        self.first_key = card_of(0, 0).key
        # A task run that has one already looks for its own from the first number on.
        again = self._memory.first_free(self._execution.claim, self.first_key) > 0
        occurrence = 0 if again else self._memory.first_free(self.chain, self.first_key)
        with prefect_client() as client:
            while True:
                blanks = [card_of(number, 0) for number in range(occurrence, occurrence + LOOK_AHEAD)]
                card, written = self._take_numbered(client, blanks, card_of)
                if card is not None:
                    return card
                taken = [blank.key in written and not self._may_have(written[blank.key]) for blank in blanks[1:]]
                occurrence += 1 + (taken.index(False) if False in taken else len(taken))

    def _claim_named(self, client: SyncPrefectClient, blank: Card) -> None:
        """Claim it, or wait until whoever has claimed it has its job: other flow runs may ask for the same."""
        self._flush([blank])
        while (rival := self._claims.take(client, blank.key)) is not None:
            if rival and record_of(read_cards(client, [blank.key]).get(blank.key)).get("job_id"):
                return  # the card speaks, whoever has forgotten to take his claim away
            self._pause(rival)

    def _take_numbered(
        self, client: SyncPrefectClient, blanks: Sequence[Card], card_of: CardOf
    ) -> tuple[Card | None, Mapping[str, Artifact]]:
        """Claim the first of some requests and return its card, and what cards there are of the others.

        None for a card that another task of this execution has. A rival may have claimed it only to look, and then has
        to let go of a card that is ours.
        """
        blank, keys = blanks[0], [one.key for one in blanks]
        self._flush(blanks)
        while (rival := self._claims.take(client, blank.key)) is not None:
            if rival and not self._execution.is_mine_or_free(rival):
                written = read_cards(client, keys)
                if not self._execution.is_mine(record_of(written.get(blank.key)).get("claim", "")):
                    return None, written  # the rival has it, or somebody else
            self._pause(rival)
        written = read_cards(client, keys)
        artifact = written.get(blank.key)
        if artifact is None:
            return self._new(client, blank), written
        if not self._may_have(artifact):
            self._let_go()
            return None, written
        if self._is_finished_request(record_of(artifact), blank.key, any_run=False):
            self._let_go()
            return self._take_numbered(client, [card_of(blank.occurrence, blank.generation + 1)], card_of)
        return self._adopt(client, artifact, blank), written

    def _pause(self, rival: str) -> None:
        self._go_on()
        seconds = CLAIM_PAUSE_SECONDS if rival else 0
        pause_for(SYSTEM_CLOCK, seconds, "The request was not sent while it waited for another with its key")

    def _flush(self, blanks: Sequence[Card]) -> None:
        if not self._memory.writer.flush([one.key for one in blanks]):
            raise ConnectFailedError("Prefect's API takes too long to write job cards down. Nothing was sent.")

    def _new(self, client: SyncPrefectClient, blank: Card) -> Card:
        if self._execution.is_again:
            self._warn_of_jobs_left(client)
        return blank

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

    def _may_have(self, artifact: Artifact) -> bool:
        """True unless another task run of this execution has the card; one that was withdrawn nobody has."""
        fields = record_of(artifact)
        withdrawn = not fields.get("intended_at") and not fields.get("job_id")
        return withdrawn or self._execution.is_mine_or_free(fields.get("claim", ""))

    def _is_finished_request(self, fields: Mapping[str, str], key: str, *, any_run: bool) -> bool:
        """True if the job failed, somebody was told, and this is a retry of that execution; a resume is none.

        Args:
            fields: The card's record.
            key: The request's; this process may have told somebody what Prefect's API was not there to hear.
            any_run: Another flow run may have been told. Of a request that is this flow run's alone it says nothing:
                somebody has looked at the job, and its own flow run has yet to hear of it.
        """
        known = self._memory.get(key)
        delivered = fields.get("failure_delivered") or (known.fields.get("failure_delivered") if known else "") or ""
        told = bool(delivered) and (any_run or self._execution.is_of_same_run(delivered))
        return told and self._execution.is_retry_of(delivered)

    def _adopt(self, client: SyncPrefectClient, artifact: Artifact, blank: Card) -> Card:
        """Make a card from an earlier execution or try ours, so that an equal request of this one takes the next."""
        self.place = Place(artifact_id=artifact.id)
        fields = record_of(artifact)
        known = self._memory.get(blank.key)
        if known is not None and known.place.artifact_id == artifact.id and not fields.get("job_id"):
            fields = dict(known.fields)  # what could not be written down is known to this process
        owner = owner_fields(self._execution, self._writer)
        has_job = bool(fields.get("job_id"))
        if fields.get("claim") != self._execution.claim or (not has_job and fields.get("writer") != self._writer):
            fields |= owner
            patch_card(client, artifact.id, {"metadata_": fields})
        card = to_card(fields, blank)
        if has_job:
            get_run_logger().info("Job %s: found on its card, nothing is sent", card.job_id)
        return card
