"""Requests under an idempotency key, in one process: everybody who asks gets the same job, however close together."""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from test_submission import CLASSIC, LOST, REQUEST, Journal, Server, send

from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.named_requests import MOST_REMEMBERED, NamedRequests
from prefect_runtime.client.request import Card, NoJournal, Request
from prefect_runtime.wire.errors import (
    IdempotencyConflictError,
    InvalidInputError,
    SubmissionUnknownError,
    WaitInterruptedError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

NAMED = replace(REQUEST, idempotency_key="calibration-1")
OTHER = replace(NAMED, inputs={"pubs": [2]})


class SlowServer(Server):
    """Takes five seconds for a job request."""

    def run_job(self, request: dict[str, Any], params: str, **options: Any) -> str:
        self.clock.sleep(5.0)
        return super().run_job(request, params, **options)


def test_threads_that_ask_for_the_same_at_the_same_moment_get_one_job(clock: FakeClock) -> None:
    server, jobs = SlowServer(clock), list[str]()
    threads = [threading.Thread(target=lambda: jobs.append(send(server, NAMED, NoJournal()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert jobs == ["j1"] * 4
    assert len(server.posts) == 1


def test_who_is_gone_while_another_asks_for_the_same_sends_nothing(clock: FakeClock) -> None:
    server, interrupt, said = SlowServer(clock), Interrupt(), list[str]()

    def ask() -> None:
        with interrupt.around(), pytest.raises(WaitInterruptedError) as caught:
            send(server, NAMED, NoJournal())
        said.append(str(caught.value))

    with server.named_requests.turn(key_of_named(clock)):
        thread = threading.Thread(target=ask)
        thread.start()
        clock.sleep(1.0)
        interrupt.set("its flow run was cancelled")
        clock.join([thread])
    assert said == ["Nothing was sent while another thread asked for the same, its flow run was cancelled."]
    assert server.posts == []


def key_of_named(clock: FakeClock) -> str:
    elsewhere = Server(clock)
    send(elsewhere, NAMED, NoJournal())
    return str(elsewhere.posts[0]["tags"][0])


@pytest.mark.parametrize("keeps_tags", [True, False])
def test_a_list_that_is_behind_makes_no_second_job(keeps_tags: bool, clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)
    server.lists_after = 60.0
    assert send(server, NAMED, NoJournal()) == "j1"
    if not keeps_tags:
        server.found[0]["tags"] = []
    assert send(server, NAMED, NoJournal()) == "j1"
    with pytest.raises(IdempotencyConflictError):
        send(server, OTHER, NoJournal())
    assert len(server.posts) == 1


def test_a_job_that_was_deleted_since_is_made_again(clock: FakeClock) -> None:
    server = Server(clock)
    send(server, NAMED, NoJournal())
    server.found.clear()
    assert send(server, NAMED, NoJournal()) == "j2"


def test_a_named_request_whose_answer_was_lost_is_looked_for_when_it_is_asked_for_again(clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)  # which may not keep tags
    server.on_post, server.lists_after = [("taken", LOST)], 1_000.0
    with pytest.raises(SubmissionUnknownError, match="run the same request again to look for it again") as caught:
        send(server, NAMED, NoJournal())
    assert caught.value.retryable
    with pytest.raises(SubmissionUnknownError):
        send(server, NAMED, NoJournal())
    clock.advance(1_000.0)
    assert send(server, NAMED, NoJournal()) == "j1"
    assert len(server.posts) == 1


def test_another_request_under_the_name_of_one_that_was_lost_is_not_taken_for_sent(clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)
    server.on_post, server.lists_after = [("taken", LOST)], 1_000.0
    with pytest.raises(SubmissionUnknownError):
        send(server, NAMED, NoJournal())
    looks = len(server.looks)
    assert send(server, OTHER, NoJournal()) == "j2"
    assert (len(server.posts), len(server.looks)) == (2, looks + 1)
    with pytest.raises(IdempotencyConflictError):
        send(server, NAMED, NoJournal())
    assert len(server.posts) == 2


def test_a_named_request_that_was_refused_is_free_at_once(clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)
    server.on_post = [InvalidInputError("no")]
    with pytest.raises(InvalidInputError):
        send(server, NAMED, NoJournal())
    assert send(server, NAMED, NoJournal()) == "j2"


def test_of_very_many_names_the_oldest_is_forgotten(clock: FakeClock) -> None:
    named_requests = NamedRequests(clock)
    for number in range(MOST_REMEMBERED + 1):
        named_requests.remember(Card(key=str(number), fingerprint="f", program_id="sampler"))
    assert named_requests.known("0") is None
    assert named_requests.known("1") is not None


@pytest.mark.parametrize(
    ("request_", "journal"), [(REQUEST, NoJournal()), (replace(REQUEST, on_existing="new"), Journal())]
)
def test_who_asks_for_something_without_a_name_is_not_told_to_ask_again_blindly(
    request_: Request, journal: NoJournal, clock: FakeClock
) -> None:
    server = Server(clock, CLASSIC)
    server.on_post, server.lists_after = [("taken", LOST)], 1_000.0
    with pytest.raises(SubmissionUnknownError, match="before you run it again") as caught:
        send(server, request_, journal)
    assert not caught.value.retryable
    assert str(server.posts[0]["tags"][0]) in str(caught.value)
