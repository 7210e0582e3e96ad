"""Requests whose answer was lost: what is looked for, when it is believed absent, and when it is sent again."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest
from test_submission import CLASSIC, LOCAL, LOST, PLATFORM, REQUEST, Journal, Server, send

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.request import Card, Request
from prefect_runtime.client.transport.refusals import JobExistsError
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    IdempotencyConflictError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    SubmissionUnknownError,
    TransportError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

AMBIGUOUS = [
    AnswerLostError("x"),
    ServerError("x", status_code=500),
    ServerError("x", status_code=503),
    ProtocolError("x"),
]


@pytest.fixture
def server(clock: FakeClock) -> Server:
    return Server(clock)


def intended(ago: float, key: str = "k") -> Card:
    moment = (datetime.now(UTC) - timedelta(seconds=ago)).isoformat()
    return Card(key=key, fingerprint="f", program_id="sampler", intended_at=moment, posts=1)


# It was taken


@pytest.mark.parametrize("error", AMBIGUOUS, ids=lambda e: f"{type(e).__name__} {getattr(e, 'status_code', '')}")
@pytest.mark.parametrize("credentials", [PLATFORM, CLASSIC, LOCAL], ids=lambda c: c.channel)
def test_a_job_whose_answer_was_lost_is_found_by_its_tag(
    error: QiskitRuntimeError, credentials: Credentials, clock: FakeClock
) -> None:
    server, journal = Server(clock, credentials), Journal()
    server.on_post = [("taken", error)]
    assert send(server, journal=journal) == "j1"
    assert (len(server.posts), len(server.looks), len(server.found)) == (1, 1, 1)
    assert (journal.acknowledged[0].job_id, journal.acknowledged[0].attached) == ("j1", True)


@pytest.mark.parametrize("lag", [0.5, 10.0, 120.0, 299.0])
def test_a_list_that_lags_is_waited_for(lag: float, server: Server) -> None:
    server.on_post, server.lists_after = [("taken", LOST)], lag
    assert send(server) == "j1"
    assert len(server.posts) == 1
    assert server.clock.monotonic() - server.times[0] <= lag + 16


def test_look_ups_come_at_growing_distances(server: Server) -> None:
    server.on_post, server.lists_after = [("taken", LOST)], 100.0
    send(server)
    since = [at - server.times[0] for at in server.looks]
    assert since[:7] == [0.0, 1.0, 3.0, 7.0, 15.0, 30.0, 45.0]


@pytest.mark.parametrize("error", [TransportError("x"), ServerError("x"), RateLimitedError("x")], ids=repr)
def test_a_look_up_that_fails_is_no_answer(error: Exception, server: Server) -> None:
    server.on_post = [("taken", LOST)]
    server.on_look = lambda number: error if number < 6 else None
    assert send(server) == "j1"
    assert (len(server.posts), len(server.looks)) == (1, 6)


def test_a_server_that_ignores_the_filter_is_not_believed(server: Server) -> None:
    server.ignores_filter = True
    server.has("other", ["prt1-other", "prefect-runtime"])
    server.has("third", [])
    server.on_post = [("taken", LOST)]
    assert send(server) == "j1"
    server.found = [job for job in server.found if job["id"] != "j1"]
    server.on_post = [LOST, None]
    assert send(server) == "j3"
    assert server.cancelled == []


@pytest.mark.parametrize(
    ("statuses", "kept", "cancelled"),
    [
        (["Queued", "Queued"], "old", ["new"]),
        (["Running", "Queued"], "old", ["new"]),
        (["Queued", "Completed"], "new", ["old"]),
        (["Completed", "Completed"], "old", []),
        (["Cancelled", "Running"], "new", []),
        (["Failed", "Running"], "new", []),
    ],
)
def test_of_two_jobs_the_one_that_can_give_a_result_is_kept(
    statuses: list[str], kept: str, cancelled: list[str], server: Server
) -> None:
    for job_id, status, day in zip(("old", "new"), statuses, "12", strict=True):
        server.has(job_id, ["k", "prt-fp-f"], status, f"2024-01-0{day}T00:00:00Z")
    assert send(server, journal=Journal(intended(1))) == kept
    assert server.cancelled == cancelled
    assert server.posts == []


# It was not taken


def test_a_job_proved_absent_is_asked_for_again_with_the_same_key(server: Server) -> None:
    journal = Journal()
    server.on_post = [LOST, None]
    assert send(server, journal=journal) == "j2"
    assert server.posts[0] == server.posts[1]
    assert server.times[1] - server.times[0] >= 300
    assert len([at for at in server.looks if at <= server.times[1]]) >= 3
    first, second = journal.intents
    assert first.key == second.key
    assert second.intended_at > first.intended_at


def test_the_embedded_runtime_lists_what_it_has_so_one_look_proves_absence(clock: FakeClock) -> None:
    server = Server(clock, LOCAL)
    server.on_post = [LOST, None]
    assert send(server) == "j2"
    assert (len(server.looks), server.times) == (1, [server.times[0]] * 2)


@pytest.mark.parametrize("settle", [0.2, 1.0, 5.0, 1000.0])
def test_absence_can_be_proved_in_any_settling_time(settle: float, server: Server) -> None:
    server.on_post = [LOST, None]
    assert send(server, settle=settle) == "j2"
    assert settle <= server.times[1] - server.times[0] <= settle + 16


def test_three_requests_at_most_are_sent(server: Server) -> None:
    server.on_post = [LOST] * 10
    with pytest.raises(SubmissionUnknownError) as caught:
        send(server)
    assert len(server.posts) == 3
    assert caught.value.key == server.posts[0]["tags"][0]
    assert caught.value.key in str(caught.value)
    assert caught.value.retryable


@pytest.mark.parametrize("early", [0, 1, 2, 3, 5])
def test_silence_that_does_not_span_the_settling_time_proves_nothing(early: int, server: Server) -> None:
    """Clean answers in the first seconds, then a server that cannot be asked: a late job may be there."""
    server.on_post = [("taken", LOST)]
    server.lists_after = 250.0
    server.on_look = lambda number: None if number <= early else TransportError("down")
    with pytest.raises(SubmissionUnknownError):
        send(server)
    assert len(server.posts) == 1


def test_a_classic_server_may_not_keep_tags_so_its_silence_proves_nothing(clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)
    server.on_post = [LOST]
    with pytest.raises(SubmissionUnknownError):
        send(server)
    assert len(server.posts) == 1


@pytest.mark.parametrize("error", [AuthenticationError("x"), ProtocolError("html"), ApiError("x")], ids=repr)
def test_a_look_up_that_is_refused_does_not_say_that_there_is_no_job(error: Exception, server: Server) -> None:
    """To a caller an ApiError says "refused, there is no job": here it would be a lie."""
    server.on_post = [("taken", LOST)]
    server.on_look = lambda number: error
    with pytest.raises(SubmissionUnknownError):
        send(server)
    assert len(server.posts) == 1


# A card from another process


@pytest.mark.parametrize("ago", [1.0, 100.0, 400.0, 86_400.0])
def test_the_job_of_an_intent_is_looked_for_before_anything_is_sent(ago: float, server: Server) -> None:
    server.has("j9", ["k", "prt-fp-f"])
    journal = Journal(intended(ago))
    assert send(server, journal=journal) == "j9"
    assert server.posts == []
    assert journal.acknowledged[0].attached


@pytest.mark.parametrize("ago", [1.0, 100.0, 400.0, 86_400.0])
def test_an_intent_without_a_job_is_sent_again_once_that_is_proved(ago: float, server: Server) -> None:
    journal = Journal(intended(ago))
    assert send(server, journal=journal) == "j1"
    assert server.posts[0]["tags"][0] == "k"
    assert server.clock.monotonic() - server.looks[0] >= 300 - ago


# An explicit key, and the embedded runtime's 409

NAMED = Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", idempotency_key="mine")
OTHER = Request(program_id="sampler", inputs={"pubs": [2]}, backend="ibm_x", idempotency_key="mine")


def test_an_explicit_key_attaches_to_the_job_it_names(server: Server) -> None:
    assert send(server, NAMED) == send(server, NAMED) == "j1"
    assert len(server.posts) == 1


def test_an_explicit_key_of_another_request_is_a_conflict(server: Server) -> None:
    send(server, NAMED)
    with pytest.raises(IdempotencyConflictError) as caught:
        send(server, OTHER)
    assert (caught.value.job_id, caught.value.key) == ("j1", server.posts[0]["tags"][0])
    assert len(server.posts) == 1


def exists(server: Server, of: Request) -> None:
    """Let another process be first: the server has a job of that request when ours comes."""
    other = Server(server.clock)
    send(other, of)
    server.found = other.found
    server.on_post = [JobExistsError("taken", job_id="j1")]
    server.on_look = lambda number: None
    hidden = server.found[0]
    hidden["visible"] = float("inf")


def test_a_409_with_an_id_is_the_job(clock: FakeClock) -> None:
    server, journal = Server(clock), Journal()
    exists(server, REQUEST)
    assert send(server, REQUEST, journal) == "j1"
    assert journal.acknowledged[0].attached
    assert len(server.posts) == 1


def test_a_409_with_the_id_of_another_request_is_a_conflict(clock: FakeClock) -> None:
    server = Server(clock)
    exists(server, NAMED)
    with pytest.raises(IdempotencyConflictError):
        send(server, OTHER)
    exists(server, NAMED)
    assert send(server, NAMED) == "j1"


def test_a_sign_in_that_fails_sent_nothing_and_is_not_looked_for(clock: FakeClock) -> None:
    from test_auth import IAM, FakeTransport

    from prefect_runtime.client.rest import RuntimeClient

    transport = FakeTransport(lambda sent: (503, "down"))
    client: Any = RuntimeClient(IAM, clock=clock, transport=transport)  # type: ignore[arg-type]
    with pytest.raises(QiskitRuntimeError) as caught:
        send(client)
    assert not isinstance(caught.value, SubmissionUnknownError)
    assert not transport.to("/jobs")
