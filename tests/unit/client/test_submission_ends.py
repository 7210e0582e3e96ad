"""How a submission ends: the claims go, whatever it was; a job with our key is ours only if it is of our request."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from test_submission import CLASSIC, LOCAL, LOST, REQUEST, Journal, Server, send

from prefect_runtime.client import duplicates
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.named_requests import NamedRequests
from prefect_runtime.client.request import Card, NoJournal
from prefect_runtime.client.transport.refusals import JobExistsError
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConnectFailedError,
    IdempotencyConflictError,
    InvalidInputError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    SubmissionUnknownError,
    WaitInterruptedError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

    from prefect_runtime.wire.models import JobDocument

NAMED = replace(REQUEST, idempotency_key="calibration-1")
OTHER = replace(NAMED, inputs={"pubs": [2]})


class Told(Journal):
    """Keeps how it was told that a request is over."""

    def __init__(self) -> None:
        super().__init__()
        self.told: list[str] = []

    def withdraw(self, card: Card) -> None:
        self.told.append("withdrawn")

    def give_up(self, card: Card) -> None:
        self.told.append("given up")

    def abandon(self) -> None:
        self.told.append("abandoned")


@pytest.fixture
def server(clock: FakeClock) -> Server:
    return Server(clock)


def tags_of(request: Any, clock: FakeClock) -> list[str]:
    """The tags that a job of a request has."""
    elsewhere = Server(clock)
    send(elsewhere, request, NoJournal())
    tags: list[str] = elsewhere.posts[0]["tags"]
    return tags


# The claims go


@pytest.mark.parametrize(
    "refusal",
    [
        AuthenticationError("x", status_code=401),
        InvalidInputError("x", status_code=400),
        ConnectFailedError("x"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_a_refusal_after_a_lost_answer_leaves_the_request_to_who_asks_next(
    refusal: QiskitRuntimeError, server: Server
) -> None:
    journal = Told()
    server.on_post = [LOST, *[refusal] * 8]
    with pytest.raises(type(refusal)):
        send(server, journal=journal)
    assert journal.told == ["given up"]


def test_a_409_for_another_request_leaves_the_key_to_that_one(clock: FakeClock) -> None:
    server, journal = Server(clock, LOCAL), Told()
    server.has("j0", tags_of(OTHER, clock))
    server.on_post = [JobExistsError("there", job_id="j0")]
    server.on_look = lambda number: None
    looked, server.jobs = server.jobs, lambda **_: []  # type: ignore[method-assign]
    with pytest.raises(IdempotencyConflictError):
        send(server, NAMED, journal)
    server.jobs = looked  # type: ignore[method-assign]
    assert journal.told == ["withdrawn"]


def test_a_409_whose_job_cannot_be_read_leaves_the_request_to_who_asks_next(clock: FakeClock) -> None:
    server, journal = Server(clock, LOCAL), Told()
    server.on_post = [JobExistsError("there", job_id="gone")]
    with pytest.raises(QiskitRuntimeError):
        send(server, journal=journal)
    assert journal.told == ["given up"]


def test_a_full_disk_of_the_embedded_runtime_has_kept_nothing_of_the_request(clock: FakeClock) -> None:
    server, journal = Server(clock, LOCAL), Told()
    server.on_post = [ServerError("no space", status_code=507)]
    with pytest.raises(ServerError):
        send(server, journal=journal)
    assert (len(server.posts), server.looks, journal.told) == (1, [], ["withdrawn"])


def test_a_full_disk_elsewhere_proves_nothing(server: Server) -> None:
    server.on_post = [("taken", ServerError("no space", status_code=507))]
    assert send(server) == "j1"
    assert (len(server.posts), len(server.looks)) == (1, 1)


def test_what_cannot_be_proved_is_left_to_who_asks_next(clock: FakeClock) -> None:
    server, journal = Server(clock, CLASSIC), Told()
    server.on_post = [LOST]
    with pytest.raises(SubmissionUnknownError):
        send(server, journal=journal)
    assert (len(server.posts), journal.told) == (1, ["given up"])


def test_who_was_taken_over_writes_nothing_more(server: Server) -> None:
    class TakenOver(Told):
        def intend(self, card: Card, *, durably: bool = True) -> None:
            if self.intents:  # anew, after a 429
                raise SubmissionUnknownError("taken over", key=card.key)
            super().intend(card, durably=durably)

    journal = TakenOver()
    server.pace.refused(5.0, sent_at=server.clock.monotonic())  # so that it waits, and writes its intent anew
    with pytest.raises(SubmissionUnknownError):
        send(server, journal=journal)
    assert (server.posts, journal.told) == ([], ["abandoned"])


def test_whoever_is_gone_while_an_answer_is_looked_for_leaves_the_request_to_who_asks_next(server: Server) -> None:
    def look(number: int) -> None:
        if number == 3:
            interrupt.set("because it is cancelled")

    journal, interrupt = Told(), Interrupt()
    server.on_post, server.lists_after, server.on_look = [("taken", LOST)], 200.0, look
    with (
        interrupt.around(),
        pytest.raises(WaitInterruptedError, match=r"run the same request again .* it is cancelled"),
    ):
        send(server, journal=journal)
    assert (len(server.posts), len(server.looks), journal.told) == (1, 3, ["given up"])


def test_whoever_is_gone_while_a_request_waits_for_its_turn_takes_it_back(server: Server) -> None:
    journal, interrupt = Told(), Interrupt()
    server.on_post = [RateLimitedError("x", status_code=429, retry_after=600.0)]
    interrupt.set("because it is cancelled")
    with interrupt.around(), pytest.raises(WaitInterruptedError, match="was not sent"):
        send(server, journal=journal)
    assert (len(server.posts), journal.told) == (1, ["withdrawn"])


def test_whoever_is_gone_while_a_server_is_out_of_reach_tries_no_more(server: Server) -> None:
    journal, interrupt = Told(), Interrupt()
    server.on_post = [ConnectFailedError("x")] * 1000
    interrupt.set("because it is cancelled")
    with interrupt.around(), pytest.raises(WaitInterruptedError, match="was not sent"):
        send(server, journal=journal)
    assert (len(server.posts), journal.told) == (1, ["withdrawn"])


# Whose job it is


def test_of_two_requests_under_one_key_each_keeps_its_own_job(server: Server, clock: FakeClock) -> None:
    first = send(server, NAMED, NoJournal())
    server.has("theirs", tags_of(OTHER, clock), created="2024-01-01T00:00:09Z")
    assert send(server, OTHER, NoJournal()) == "theirs"
    assert send(server, NAMED, NoJournal()) == first
    assert server.cancelled == []


def test_a_lost_answer_is_not_taken_for_the_job_of_another_request(server: Server, clock: FakeClock) -> None:
    """Two hosts with one key: the other's job is listed only while ours is looked for."""
    server.lists_after = 5.0
    server.has("theirs", tags_of(OTHER, clock))
    server.lists_after = 10.0
    server.on_post = [("taken", LOST)]
    assert send(server, NAMED, NoJournal()) == "j1"
    assert server.cancelled == []


def test_a_request_that_is_absent_is_not_sent_again_beside_another_requests_job(
    server: Server, clock: FakeClock
) -> None:
    journal = Told()
    server.lists_after = 5.0  # another host was first with the same key, and the list does not show it yet
    server.has("theirs", tags_of(OTHER, clock))
    server.on_post = [LOST]
    with pytest.raises(IdempotencyConflictError) as caught:
        send(server, NAMED, journal)
    assert (caught.value.job_id, len(server.posts), journal.told) == ("theirs", 1, ["given up"])


def test_a_look_for_duplicates_leaves_the_jobs_of_another_request_alone(server: Server, clock: FakeClock) -> None:
    send(server, NAMED, NoJournal())
    server.has("theirs", tags_of(OTHER, clock), created="2024-01-01T00:00:09Z")
    key = server.posts[0]["tags"][0]
    duplicates.sweep(server, NoJournal(), Card(key=key, fingerprint="", program_id="sampler", job_id="theirs"))  # type: ignore[arg-type]
    assert server.cancelled == []


def test_a_named_job_is_found_behind_two_hundred_newer_ones_of_a_server_that_ignores_the_filter(
    clock: FakeClock,
) -> None:
    class Paged(Server):
        def jobs(self, *, limit: int = 200, offset: int = 0, **filters: Any) -> list[JobDocument]:
            return super().jobs(**filters)[offset : offset + limit]

    server = Paged(clock, CLASSIC)
    server.ignores_filter = True
    first = send(server, NAMED, NoJournal())
    for number in range(250):
        server.has(f"other-{number}", ["other"])
    server.named_requests = NamedRequests(clock)  # as in another process
    assert send(server, NAMED, NoJournal()) == first
    assert len(server.posts) == 1
