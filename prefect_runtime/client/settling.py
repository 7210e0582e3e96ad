"""Finding out whether a request has a job: its answer was lost, or another process has sent it. Used by submission.py.

The request's key is one of its job's tags, so the server can be asked. An empty answer proves little by itself: a list
may be behind, and a gateway may deliver a request late. So silence has to span the settling time.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from datetime import UTC, datetime

from prefect_runtime.client.duplicates import fingerprint_tag, jobs_of, settle_duplicates
from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.request import Card, Journal, Request
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import (
    IdempotencyConflictError,
    QiskitRuntimeError,
    RuntimeJobNotFound,
    SubmissionUnknownError,
)
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

POST_TIMES = 2.0  # a job request may take so many times as long as another request
LOOK_UP_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between look-ups of an ambiguous job; the last one repeats
LOOK_UPS_AT_LEAST = 10  # within the settling time: a short one is not over before the first pause
CLEAN_LOOK_UPS = 3  # empty answers, spread over the settling time, that prove a job absent
GONE_PAUSE = 0.5  # seconds
SETTLE_SECONDS = {"local": 0.0, "classic": 300.0, "ibm_quantum_platform": 300.0}
"""How long after the request a job may still turn up in the server's list. No promise of IBM's is known: measured
values of gateways' buffering and list lag stay below 300 s; the embedded runtime lists what it has."""

_STOPPED = "Request {}: its job is no longer looked for ({})"
_LOOKS_AGAIN = "run the same request again to look for it again, or look for a job with this tag"
_IS_ANOTHER = "look for a job with this tag before you run it again: without an idempotency_key that is another request"


class Settling:
    """What the server knows of one request.

    Args:
        request: What is asked for.
        client: Talks to the server.
        journal: Keeps the cards.
        seconds: How long an ambiguous job may take to turn up in the list.
    """

    def __init__(self, request: Request, client: RuntimeClient, journal: Journal, seconds: float) -> None:
        self._request = request
        self._client = client
        self._journal = journal
        self._seconds = seconds

    def look(self, card: Card, *, first_use: bool) -> JobDocument | None:
        """Return the job of a request that was sent, or named, before; None if it has none."""
        if not first_use:
            return self.settle(card, self._seconds_since(card))
        return self._look_once(card) or self._made_here(card)

    def _made_here(self, card: Card) -> JobDocument | None:
        """Return the job that this process knows of under the card's key: the server's list may be behind.

        Raises:
            IdempotencyConflictError: It is another request's.
        """
        known = self._client.named_requests.known(card.key)
        if known is None or not known.job_id:
            return None
        try:
            job = check_there(self._client, known.job_id)
        except RuntimeJobNotFound:  # deleted since, as the list says
            return None
        if known.fingerprint != card.fingerprint:
            raise conflict(card, known.job_id)
        return job

    def settle(self, card: Card, age: float) -> JobDocument | None:
        """Look for an ambiguous job until it turns up or its absence is proved (None).

        Args:
            card: The request's card.
            age: Seconds since the request was over. The settling time counts from there, not from the intent: a slow
                request may be taken long after that.

        Raises:
            SubmissionUnknownError: Neither can be had.
            IdempotencyConflictError: Ours is absent, and the key has a job of another request.
            WaitInterruptedError: Whoever wants to know is gone; the request is left to who asks next.
        """
        deadline = Deadline(max(0.0, self._seconds - age), self._client.clock)
        # Once the settling time is over, one clean answer says as much as the last of several that span it.
        missing = 1 if deadline.expired else CLEAN_LOOK_UPS
        another: IdempotencyConflictError | None = None
        for pause in self._pauses():
            over = deadline.expired
            try:
                found = self._look_once(card)
            except IdempotencyConflictError as error:
                another, missing = error, missing - 1  # ours may still turn up beside it
            except QiskitRuntimeError as error:
                _log.warning("request %s: could not look for its job (%s)", card.key, error)
                if over:
                    raise self.given_up(card, "the server could not be asked often enough") from None
            else:
                if found is not None:
                    return found
                missing -= 1
            # Of a successor little of the settling time may be left, too little for the answers it needs.
            if over and missing <= 0:
                break
            seconds = pause if over else min(pause, deadline.remaining())
            pause_for(self._client.clock, seconds, _STOPPED.format(card.key, self._advice))
        if another is not None:
            raise another
        if self._client.credentials.channel == "classic":
            # Not every classic server stores tags: an empty answer of one that does not proves nothing.
            raise self.given_up(card, "this server may not keep tags, so its silence proves nothing") from None
        return None

    def is_same_request(self, card: Card, job: JobDocument) -> bool:
        """Tell whether a job that has our key is our request's: an explicit key may have been used for another."""
        return self._request.idempotency_key is None or fingerprint_tag(card) in job.tags

    def given_up(self, card: Card, why: str) -> SubmissionUnknownError:
        """Leave the request to whoever asks for it next, and return the error that says so."""
        self._journal.give_up(card)
        return SubmissionUnknownError(
            f"Request {card.key}: the answer was lost and it cannot be proved whether its job exists: {why}; "
            f"{self._advice}.",
            key=card.key,
            retryable=self._is_found_again,
        )

    @property
    def _is_found_again(self) -> bool:
        """True if the same request has the same key when it is asked for again; else that would make a second job."""
        request = self._request
        named = request.idempotency_key is not None or self._journal.scope() is not None
        return named and request.on_existing != "new"

    @property
    def _advice(self) -> str:
        return _LOOKS_AGAIN if self._is_found_again else _IS_ANOTHER

    def _pauses(self) -> Iterator[float]:
        longest = self._seconds / LOOK_UPS_AT_LEAST
        for pause in itertools.chain(LOOK_UP_PAUSES, itertools.repeat(LOOK_UP_PAUSES[-1])):
            yield min(pause, longest)

    def _seconds_since(self, card: Card) -> float:
        """Return for how long a request that another process has sent can be over at least.

        Only the moment of its intent is known; it may have waited for a connection as long as for another request, and
        then have taken its whole time.
        """
        intended = parse_time(card.intended_at) or datetime.now(UTC)
        age = (datetime.now(UTC) - intended).total_seconds()
        return max(0.0, age - (1 + POST_TIMES) * self._client.request_timeout)

    def _look_once(self, card: Card) -> JobDocument | None:
        """Return the job that carries the card's key, or None. Checks every match itself: a server may ignore filters.

        Raises:
            IdempotencyConflictError: There are only jobs of other requests.
        """
        matches = jobs_of(self._client, card.key)
        own = [job for job in matches if self.is_same_request(card, job)]
        if matches and not own:
            raise conflict(card, matches[0].id)
        return settle_duplicates(self._client, self._journal, card, own) if own else None


def check_there(client: RuntimeClient, job_id: str) -> JobDocument:
    """Return a job that is known; that it is gone is believed when it is said twice."""
    try:
        return client.job(job_id)
    except RuntimeJobNotFound:
        client.clock.sleep(GONE_PAUSE)
        return client.job(job_id)


def conflict(card: Card, job_id: str) -> IdempotencyConflictError:
    """Return the error for an idempotency key that names another request."""
    return IdempotencyConflictError(
        f"The idempotency key already names another request, with job {job_id}: same key, other inputs or options. "
        "Use another key for another request. Nothing was sent.",
        key=card.key,
        job_id=job_id,
    )
