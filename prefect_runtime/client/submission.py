"""One request becomes one job, whatever the network does. Knows a small `Journal` and no Prefect; used by service.py.

No runtime has an idempotency key, so a request's identity is written at the server before the job's id is known: its
key is one of the job's tags, derived from what is asked for, and found again by `GET /jobs?tags=`. The steps are these:
look the card up; write the intent; POST once; what is ambiguous is looked up, never repeated blindly.
"""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Any, TypeVar

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.duplicates import fingerprint_tag
from prefect_runtime.client.fingerprint import fingerprint, request_key
from prefect_runtime.client.interrupt import pause_for
from prefect_runtime.client.request import Card, Journal, Prepared, Request
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, RetryPolicy
from prefect_runtime.client.settling import POST_TIMES, SETTLE_SECONDS, Settling, check_there, conflict
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConnectFailedError,
    JobExistsError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    SubmissionUnknownError,
)
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import TAG, JobDocument

_log = get_logger(__name__)

T = TypeVar("T")

RUN_TAG_PREFIX = "prt-run-"
UPLOAD_BYTES_PER_SECOND = 500_000  # a slow line; adds to the time a large request may take
RATE_LIMIT_TIMES = 120.0  # so many times as long as a request may take, a job waits for its turn at one that says 429
MAX_POSTS = 3  # the first, and two after an absence was proved


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
        WaitInterruptedError: The call around it is to end (`Interrupt.around`), and it had to wait.
    """
    settle = SETTLE_SECONDS[client.credentials.channel] if settle_seconds is None else settle_seconds
    explicit = request.idempotency_key is not None
    card = journal.look_up(_blank_cards(request, client.credentials, journal), explicit=explicit)
    if card.job_id:
        _log.info("job %s: found on its card, nothing is sent", card.job_id)
        check_there(client, card.job_id)  # 404: an error, not a reason to start again
        return card
    settling = Settling(request, client, journal, settle)
    submission = _Submission(request, client, journal, settling, jobs_per_minute)
    with contextlib.ExitStack() as held:
        if explicit:
            submission.or_abandon(lambda: held.enter_context(client.named_requests.turn(card.key)))
        return submission.find_or_create(card, prepare)


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
        self, request: Request, client: RuntimeClient, journal: Journal, settling: Settling, per_minute: float | None
    ) -> None:
        self._request = request
        self._client = client
        self._journal = journal
        self._settling = settling
        self._per_minute = per_minute

    def find_or_create(self, card: Card, prepare: Callable[[], Prepared]) -> Card:
        """Return the card with the job that the request has already, or with a new one."""
        explicit = self._request.idempotency_key is not None
        card = self._sent_before(card)
        first_use = not card.intended_at
        if explicit or not first_use:
            found = self.or_abandon(partial(self._settling.look, card, first_use=first_use))
            if found is not None:
                return self.attach(card, found)
        return self.create(card, self.or_abandon(prepare))

    def _sent_before(self, card: Card) -> Card:
        """Return the card as this process left it when it sent the same and did not learn what became of it."""
        known = self._client.named_requests.known(card.key)
        if card.intended_at or known is None or known.job_id or known.fingerprint != card.fingerprint:
            return card
        return replace(card, intended_at=known.intended_at, posts=known.posts)

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
            except SubmissionUnknownError:
                raise  # somebody else has taken the request over: the card is theirs
            except JobExistsError as taken:
                job = self._or_give_up(card, partial(self._client.job, taken.job_id or ""))
                if not self._settling.is_same_request(card, job):
                    self._not_taken(card)
                    raise conflict(card, job.id) from None
                return self.attach(card, job)
            except (AnswerLostError, ServerError, ProtocolError) as ambiguous:
                if self._is_full(ambiguous):
                    self._not_taken(card)
                    raise
                _log.warning("request %s: it is not known whether the job was made (%s)", card.key, ambiguous)
                found = self._or_give_up(card, partial(self._settling.settle, card, 0.0))
                if found is not None:
                    return self.attach(card, found)
                continue  # proved absent: the same request, the same key
            except QiskitRuntimeError:
                self._not_taken(card)
                raise
            return self._acknowledge(card, job_id)
        raise self._settling.given_up(
            card, f"{MAX_POSTS} requests were lost, each was looked for and not found"
        ) from None

    def _not_taken(self, card: Card) -> None:
        """Say that the request was provably refused; after others that were lost, the next who asks looks for those."""
        if card.posts == 1:
            self._client.named_requests.forget(card.key)
            self._journal.withdraw(card)
        else:
            self._journal.give_up(card)

    def _or_give_up(self, card: Card, step: Callable[[], T]) -> T:
        """Do a step after a request of which it is not known what became; if it fails, leave that to who asks next."""
        try:
            return step()
        except SubmissionUnknownError:
            raise  # it was given up already
        except QiskitRuntimeError:
            self._journal.give_up(card)
            raise

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

        def sleep(seconds: float) -> None:
            pause_for(client.clock, seconds, "The request was not sent while the server was out of reach")

        while True:
            if client.pace.turn(patience, per_minute=self._per_minute) > 0:
                card = replace(card, intended_at=now())  # the settling time starts anew
                self.or_abandon(partial(self._journal.intend, card, durably=not self._client.knows_keys))
            self._remember(card)
            sent_at = client.clock.monotonic()
            try:
                job_id = _UNREACHABLE.run(post, Deadline(client.request_timeout, client.clock), sleep=sleep)
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
            tags.append(fingerprint_tag(card))
        return [*tags, *self._request.tags]

    def attach(self, card: Card, job: JobDocument) -> Card:
        """Write down a job that was found."""
        return self._acknowledge(replace(card, attached=True, backend=job.backend or card.backend), job.id)

    def _acknowledge(self, card: Card, job_id: str) -> Card:
        _log.info("job %s: %s, request %s", job_id, "attached" if card.attached else "submitted", card.key)
        known = replace(card, job_id=job_id, acknowledged_at=now())
        self._remember(known)
        self._journal.acknowledge(known)
        return known

    def _remember(self, card: Card) -> None:
        if self._request.idempotency_key is not None:
            self._client.named_requests.remember(card)


# No connection proves that nothing was taken; of all other errors only 429 does.
_UNREACHABLE = RetryPolicy(attempts=8, first=0.3, cap=8.0, on=(ConnectFailedError,))
