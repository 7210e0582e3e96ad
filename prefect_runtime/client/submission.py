"""One request becomes one job, whatever the network does. Knows a small `Journal` and no Prefect; used by service.py.

No runtime has an idempotency key, so a request's identity is written at the server before the job's id is known: its
key is one of the job's tags, derived from what is asked for, and found again by `GET /jobs?tags=`. The steps are those
of design.md, section 6: look the card up; write the intent; POST once; what is ambiguous is looked up, never repeated
blindly.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.duplicates import jobs_of, settle_duplicates
from prefect_runtime.client.fingerprint import fingerprint, request_key
from prefect_runtime.client.request import Card, Journal, Prepared, Request
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, RetryPolicy
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConnectFailedError,
    IdempotencyConflictError,
    JobExistsError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    SubmissionUnknownError,
)
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import TAG, JobDocument, parse_time

_log = get_logger(__name__)

T = TypeVar("T")

RUN_TAG_PREFIX = "prt-run-"
FINGERPRINT_TAG_PREFIX = "prt-fp-"
POST_TIMES = 2.0  # a job request may take so many times as long as another request
UPLOAD_BYTES_PER_SECOND = 500_000  # a slow line; adds to the time a large request may take
LOOK_UP_PAUSES = (1.0, 2.0, 4.0, 8.0, 15.0)  # seconds between look-ups of an ambiguous job; the last one repeats
LOOK_UPS_AT_LEAST = 10  # within the settling time: a short one is not over before the first pause
CLEAN_LOOK_UPS = 3  # empty answers, spread over the settling time, that prove a job absent
RATE_LIMIT_TIMES = 120.0  # so many times as long as a request may take, a job waits for its turn at one that says 429
MAX_POSTS = 3  # the first, and two after an absence was proved
SETTLE_SECONDS = {"local": 0.0, "classic": 300.0, "ibm_quantum_platform": 300.0}
"""How long after the intent a job may still turn up in the server's list. No promise of IBM's is known: measured values
of gateways' buffering and list lag stay below 300 s; the embedded runtime lists what it has."""


def submit(
    request: Request,
    client: RuntimeClient,
    journal: Journal,
    prepare: Callable[[], Prepared],
    *,
    settle_seconds: float | None,
    jobs_per_minute: float | None = None,
) -> Card:
    """Return the card of the request's one job, made or found; its `job_id` is set.

    Args:
        request: What is asked for.
        client: Talks to the server.
        journal: Keeps the cards.
        prepare: Chooses the backend, transpiles and encodes; called only if a job has to be made.
        settle_seconds: How long an ambiguous job may take to turn up in the list; None for the channel's default.
        jobs_per_minute: A fixed rate to keep; None for as fast as the server takes them.

    Raises:
        SubmissionUnknownError: Whether a job exists cannot be proved.
        IdempotencyConflictError: The idempotency key names another request.
        ApiError: The server refused the request; there is no job.
        ConnectFailedError: The server cannot be reached; there is no job.
    """
    settle = SETTLE_SECONDS[client.credentials.channel] if settle_seconds is None else settle_seconds
    explicit = request.idempotency_key is not None
    card = journal.look_up(_blank_cards(request, client.credentials, journal), explicit=explicit)
    if card.job_id:
        _log.info("job %s: found on its card, nothing is sent", card.job_id)
        client.job(card.job_id)  # 404: an error, not a reason to start again
        return card
    submission = _Submission(request, client, journal, settle, jobs_per_minute)
    first_use = not card.intended_at
    if explicit or not first_use:
        look = partial(submission.look, card, first_use=first_use)
        found = submission.or_abandon(look)
        if found is not None:
            return submission.attach(card, found)
    return submission.create(card, submission.or_abandon(prepare))


def _blank_cards(request: Request, credentials: Credentials, journal: Journal) -> Callable[[int, int], Card]:
    """Return a maker of this request's blank cards, by occurrence and generation."""
    named = request.idempotency_key
    scope = named or journal.scope() or secrets.token_hex(16)
    if request.on_existing == "new":
        scope = secrets.token_hex(16)
    logical = fingerprint(
        {
            "inputs": request.inputs,
            "optimization_level": request.optimization_level,
            # Not the session: a flow run that is executed again may be in another one, and wants its old jobs.
            "others": {name: value for name, value in request.others.items() if name != "session_id"},
            **({"primitives": "client"} if request.client_side else {}),
        },
        place="request",
    )
    asked = _asked(request.backend)

    def blank(occurrence: int, generation: int) -> Card:
        key = request_key(
            scope=scope,
            program_id=request.program_id,
            backend=request.backend,
            # Which account: the same key at another runtime is another request.
            instance="|".join((credentials.channel, credentials.url or "", credentials.instance or "")),
            fingerprint="" if named else logical,
            occurrence=0 if named else occurrence,
            generation=generation,
        )
        return Card(
            key=key,
            fingerprint=logical,
            program_id=request.program_id,
            requested_backend=asked,
            occurrence=occurrence,
            generation=generation,
        )

    return blank


def _asked(backend: str | Sequence[str] | None) -> str:
    if backend is None:
        return ""
    return backend if isinstance(backend, str) else ", ".join(backend)


def now() -> str:
    """Return the time as cards have it."""
    return datetime.now(UTC).isoformat(timespec="microseconds")


class _Submission:
    """The steps that talk to the server."""

    def __init__(
        self, request: Request, client: RuntimeClient, journal: Journal, settle: float, per_minute: float | None
    ) -> None:
        self._request = request
        self._client = client
        self._journal = journal
        self._settle_seconds = settle
        self._per_minute = per_minute

    def create(self, card: Card, prepared: Prepared) -> Card:
        """Write the intent, send the request, and find out what became of it."""
        for _ in range(MAX_POSTS):
            card = replace(
                card,
                intended_at=now(),
                backend=prepared.backend or "",
                notes=prepared.notes,
                posts=card.posts + 1,
            )
            self.or_abandon(partial(self._journal.intend, card, durably=not self._client.knows_keys))
            try:
                job_id = self._post(card, prepared)
            except JobExistsError as taken:
                return self.attach(card, self._check_same_request(card, self._client.job(taken.job_id or "")))
            except (AnswerLostError, ServerError, ProtocolError) as ambiguous:
                if self._is_full(ambiguous):
                    if card.posts == 1:
                        self._journal.withdraw(card)
                    raise
                _log.warning("request %s: it is not known whether the job was made (%s)", card.key, ambiguous)
                found = self.settle(card, 0.0)
                if found is not None:
                    return self.attach(card, found)
                continue  # proved absent: the same request, the same key
            except QiskitRuntimeError:  # provably not taken: the card must not say otherwise
                if card.posts == 1:
                    self._journal.withdraw(card)
                raise
            return self._acknowledge(card, job_id)
        raise self._given_up(card, f"{MAX_POSTS} requests were lost, each was looked for and not found") from None

    def _is_full(self, error: QiskitRuntimeError) -> bool:
        """Tell the embedded runtime's full disk: it keeps nothing of a request that it refuses so (local/disk.py)."""
        local = self._client.credentials.channel == "local"
        return local and isinstance(error, ServerError) and error.status_code == 507

    def or_abandon(self, step: Callable[[], T]) -> T:
        """Do a step before anything is sent; if it fails, nothing will be, and the request is free again."""
        try:
            return step()
        except BaseException:
            self._journal.abandon()
            raise

    def _post(self, card: Card, prepared: Prepared) -> str:
        """Send the request once; again only after what proves that the server has not taken it."""
        body = self._body(card, prepared)
        client = self._client
        seconds = POST_TIMES * client.request_timeout + len(prepared.params) / UPLOAD_BYTES_PER_SECOND
        patience = Deadline(RATE_LIMIT_TIMES * client.request_timeout, client.clock)

        def post() -> str:
            return client.run_job(body, prepared.params, deadline=Deadline(seconds, client.clock))

        while True:
            if client.pace.turn(patience, per_minute=self._per_minute) > 0:
                card = replace(card, intended_at=now())  # the settling time starts anew
                self.or_abandon(partial(self._journal.intend, card, durably=not self._client.knows_keys))
            sent_at = client.clock.monotonic()
            try:
                job_id = _UNREACHABLE.run(post, Deadline(client.request_timeout, client.clock))
            except RateLimitedError as limited:
                client.pace.refused(limited.retry_after, sent_at=sent_at)
                if limited.retry_after is not None and limited.retry_after >= patience.remaining():
                    raise
                _log.info("request %s: the server takes no more jobs now; it will be offered again", card.key)
            else:
                client.pace.taken()
                return job_id

    def _body(self, card: Card, prepared: Prepared) -> dict[str, Any]:
        request, credentials = self._request, self._client.credentials
        body: dict[str, Any] = {"program_id": prepared.program_id or request.program_id}
        if prepared.backend is not None:
            body["backend"] = prepared.backend
        if credentials.channel == "classic" and credentials.instance:
            hub, group, project = [*credentials.instance.split("/"), "", ""][:3]
            body.update(hub=hub, group=group, project=project)
        body["tags"] = self._tags(card)
        return body | dict(request.others)

    def _tags(self, card: Card) -> list[str]:
        tags = [card.key, TAG]
        if run := self._journal.run_tag():
            tags.append(f"{RUN_TAG_PREFIX}{run}")
        if self._request.idempotency_key is not None:
            tags.append(_fingerprint_tag(card))
        return [*tags, *self._request.tags]

    def look_at_server(self, card: Card) -> JobDocument | None:
        """Return the job that carries the card's key, or None. Checks every match itself: a server may ignore filters.

        Raises:
            IdempotencyConflictError: There is one, of another request.
        """
        matches = jobs_of(self._client, card.key)
        if not matches:
            return None
        self._check_same_request(card, matches[0])
        return settle_duplicates(self._client, self._journal, card, matches)

    def _check_same_request(self, card: Card, job: JobDocument) -> JobDocument:
        """Return a job that has our key, if it is our request's: an explicit key may have been used for another."""
        if self._request.idempotency_key is not None and _fingerprint_tag(card) not in job.tags:
            raise conflict(card, job.id)
        return job

    def look(self, card: Card, *, first_use: bool) -> JobDocument | None:
        """Return the job of a request that was sent, or named, before; None if it has none."""
        return self.look_at_server(card) if first_use else self.settle(card, self.seconds_since(card))

    def seconds_since(self, card: Card) -> float:
        """Return for how long a request that another process has sent can be over at least.

        Only the moment of its intent is known; the request itself may have taken its whole time after that.
        """
        intended = parse_time(card.intended_at) or datetime.now(UTC)
        age = (datetime.now(UTC) - intended).total_seconds()
        return max(0.0, age - POST_TIMES * self._client.request_timeout)

    def settle(self, card: Card, age: float) -> JobDocument | None:
        """Look for an ambiguous job until it turns up or its absence is proved (None).

        Args:
            card: The request's card.
            age: Seconds since the request was over. The settling time counts from there, not from the intent: a slow
                request may be taken long after that.

        Raises:
            SubmissionUnknownError: Neither can be had.
        """
        deadline = Deadline(max(0.0, self._settle_seconds - age), self._client.clock)
        # Once the settling time is over, one clean answer says as much as the last of several that span it.
        needed = 1 if deadline.expired else CLEAN_LOOK_UPS
        clean = looks = 0
        while True:
            over = deadline.expired
            answered = True
            try:
                found = self.look_at_server(card)
            except IdempotencyConflictError:
                raise
            except QiskitRuntimeError as error:
                _log.warning("request %s: could not look for its job (%s)", card.key, error)
                found, answered = None, False
            if found is not None:
                return found
            clean += answered
            # Of a successor little of the settling time may be left, too little for the answers it needs.
            if over and (clean >= needed or not answered):
                break
            pause = min(LOOK_UP_PAUSES[min(looks, len(LOOK_UP_PAUSES) - 1)], self._settle_seconds / LOOK_UPS_AT_LEAST)
            looks += 1
            self._client.clock.sleep(pause if over else min(pause, deadline.remaining()))
        if not answered:
            raise self._given_up(card, "the server could not be asked often enough") from None
        if self._client.credentials.channel == "classic":
            # Not every classic server stores tags: an empty answer of one that does not proves nothing.
            raise self._given_up(card, "this server may not keep tags, so its silence proves nothing") from None
        return None

    def attach(self, card: Card, job: JobDocument) -> Card:
        """Write down a job that was found."""
        return self._acknowledge(replace(card, attached=True, backend=job.backend or card.backend), job.id)

    def _acknowledge(self, card: Card, job_id: str) -> Card:
        _log.info("job %s: %s, request %s", job_id, "attached" if card.attached else "submitted", card.key)
        known = replace(card, job_id=job_id, acknowledged_at=now())
        self._journal.acknowledge(known)
        return known

    def _given_up(self, card: Card, why: str) -> SubmissionUnknownError:
        """Leave the request to whoever asks for it next, and return the error that says so."""
        self._journal.give_up(card)
        return SubmissionUnknownError(
            f"Request {card.key}: the answer was lost and it cannot be proved whether its job exists: {why}. "
            "Run the same request again to look for it again, or look for a job with this tag.",
            key=card.key,
        )


# No connection proves that nothing was taken; of all other errors only 429 does.
_UNREACHABLE = RetryPolicy(attempts=8, first=0.3, cap=8.0, on=(ConnectFailedError,))


def _fingerprint_tag(card: Card) -> str:
    return f"{FINGERPRINT_TAG_PREFIX}{card.fingerprint[:40]}"


def conflict(card: Card, job_id: str) -> IdempotencyConflictError:
    """Return the error for an idempotency key that names another request."""
    return IdempotencyConflictError(
        f"The idempotency key already names another request, with job {job_id}: same key, other inputs or options. "
        "Use another key for another request. Nothing was sent.",
        key=card.key,
        job_id=job_id,
    )
