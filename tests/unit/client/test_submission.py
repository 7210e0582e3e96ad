"""One request becomes one job, whatever the network does: asserted on what the server was sent and on what it has."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client import settling
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.named_requests import NamedRequests
from prefect_runtime.client.pace import Pace
from prefect_runtime.client.request import Card, NoJournal, Prepared, Request
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.submission import now, submit
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    ConnectFailedError,
    InvalidInputError,
    RateLimitedError,
    RuntimeJobNotFound,
)
from prefect_runtime.wire.models import TAG, JobDocument

if TYPE_CHECKING:
    from conftest import FakeClock

PLATFORM = Credentials(channel="ibm_quantum_platform", token="t", instance="crn:v1:x")
CLASSIC = Credentials(channel="classic", token="t", url="https://runtime.example", instance="hub/group/project")
LOCAL = Credentials()
LOST = AnswerLostError("the answer was lost")
REQUEST = Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x")
PREPARED = Prepared(backend="ibm_x", params='{"pubs": [1]}', notes={"seed": "7"})


class Server:
    """A runtime as `submit` sees it: jobs with tags, and a script of what goes wrong with each POST and look-up.

    A step of the script is None (all is well), an error (nothing was taken), or ("taken", error): taken, answer lost.
    """

    request_timeout = 30.0

    def __init__(self, clock: FakeClock, credentials: Credentials = PLATFORM) -> None:
        self.clock = clock
        self.credentials = credentials
        self.knows_keys = credentials.channel == "local"
        self.pace = Pace(clock)
        self.named_requests = NamedRequests(clock)
        self.found: list[dict[str, Any]] = []
        self.posts: list[dict[str, Any]] = []
        self.times: list[float] = []
        self.looks: list[float] = []
        self.cancelled: list[str] = []
        self.on_post: list[Any] = []
        self.on_look: Callable[[int], Exception | None] = lambda number: None
        self.ignores_filter = False
        self.lists_after = 0.0

    def has(
        self, job_id: str, tags: Iterable[str], status: str = "Queued", created: str = "2024-01-01T00:00:00Z"
    ) -> None:
        document = {"id": job_id, "status": status, "tags": list(tags), "created": created, "backend": "ibm_x"}
        self.found.insert(0, {**document, "visible": self.clock.monotonic() + self.lists_after})

    def run_job(self, request: dict[str, Any], params: str, *, deadline: Deadline) -> str:
        assert 0 < deadline.remaining() < 1_000
        self.posts.append({**request, "params": json.loads(params)})
        self.times.append(self.clock.monotonic())
        step = self.on_post.pop(0) if self.on_post else None
        if isinstance(step, Exception):
            raise step
        self.has(f"j{len(self.posts)}", request["tags"])
        if isinstance(step, tuple):
            raise step[1]
        return f"j{len(self.posts)}"

    def jobs(self, *, tags: Iterable[str] = (), **_: Any) -> list[JobDocument]:
        self.looks.append(self.clock.monotonic())
        if error := self.on_look(len(self.looks)):
            raise error
        visible = [job for job in self.found if job["visible"] <= self.clock.monotonic()]
        wanted = set(tags)
        return [JobDocument.parse(job) for job in visible if self.ignores_filter or wanted <= set(job["tags"])]

    def job(self, job_id: str, **_: Any) -> JobDocument:
        for job in self.found:
            if job["id"] == job_id:
                return JobDocument.parse(job)
        raise RuntimeJobNotFound("no such job", job_id=job_id)

    def cancel(self, job_id: str) -> None:
        self.cancelled.append(job_id)


class Journal(NoJournal):
    """Cards in memory; fails where a test says so."""

    def __init__(self, card: Card | None = None, *, fail: Exception | None = None) -> None:
        self.card = card
        self.fail = fail
        self.intents: list[Card] = []
        self.acknowledged: list[Card] = []
        self.durably: list[bool] = []

    def scope(self) -> str:
        return "flow-run-1"

    def run_tag(self) -> str:
        return "run-1"

    def look_up(self, card_of: Callable[[int, int], Card], *, explicit: bool) -> Card:
        return self.card or card_of(0, 0)

    def intend(self, card: Card, *, durably: bool = True) -> None:
        if self.fail:
            raise self.fail
        self.intents.append(card)
        self.durably.append(durably)

    def acknowledge(self, card: Card) -> None:
        self.acknowledged.append(card)


def send(server: Server, request: Request = REQUEST, journal: NoJournal | None = None, *,
         settle: float | None = None) -> str:  # fmt: skip
    card = submit(request, server, journal or Journal(), lambda: PREPARED, settle_seconds=settle)  # type: ignore[arg-type]
    return card.job_id


@pytest.fixture
def server(clock: FakeClock) -> Server:
    return Server(clock)


# What is sent


def test_a_request_is_one_post_and_a_card_before_and_after(server: Server) -> None:
    journal = Journal()
    assert send(server, journal=journal) == "j1"
    (intent,), (known,) = journal.intents, journal.acknowledged
    assert (len(server.posts), server.looks) == (1, [])
    assert intent.key == known.key
    assert intent.key.startswith("prt1-")
    assert intent.intended_at
    assert not intent.job_id
    assert (intent.program_id, intent.requested_backend, intent.backend) == ("sampler", "ibm_x", "ibm_x")
    assert intent.notes == {"seed": "7"}
    assert (known.job_id, known.attached) == ("j1", False)
    assert known.acknowledged_at >= known.intended_at == intent.intended_at


def test_the_body_has_what_was_asked_for_and_the_tags_that_find_it_again(server: Server) -> None:
    journal = Journal()
    request = Request(program_id="sampler", inputs={"pubs": [1]}, backend="least_busy", tags=("mine",),
                      others={"log_level": "DEBUG", "cost": 60})  # fmt: skip
    send(server, request, journal)
    assert server.posts == [{
        "program_id": "sampler", "backend": "ibm_x", "log_level": "DEBUG", "cost": 60, "params": {"pubs": [1]},
        "tags": [journal.intents[0].key, TAG, "prt-run-run-1", "mine"],
    }]  # fmt: skip
    assert journal.intents[0].requested_backend == "least_busy"


def test_an_explicit_key_puts_the_fingerprint_among_the_tags(server: Server) -> None:
    journal = Journal()
    send(server, Request(program_id="sampler", inputs={"a": 1}, idempotency_key="mine"), journal)
    key, tag, run, mark = server.posts[0]["tags"]
    assert (tag, run) == (TAG, "prt-run-run-1")
    assert mark.startswith("prt-fp-")
    assert journal.intents[0].fingerprint.startswith(mark.removeprefix("prt-fp-"))
    assert all(len(tag) <= 86 for tag in (key, run, mark))
    assert len(server.looks) == 1, "an explicit key is looked for at the server first"


def test_a_classic_job_names_hub_group_and_project(clock: FakeClock) -> None:
    server = Server(clock, CLASSIC)
    send(server)
    assert {name: server.posts[0][name] for name in ("hub", "group", "project")} == {
        "hub": "hub", "group": "group", "project": "project",
    }  # fmt: skip


def test_without_a_choice_of_backend_none_is_sent(server: Server) -> None:
    submit(REQUEST, server, Journal(), lambda: Prepared(backend=None, params="{}"), settle_seconds=0)  # type: ignore[arg-type]
    assert "backend" not in server.posts[0]


def test_equal_requests_have_equal_keys_and_others_have_others(server: Server) -> None:
    def key(request: Request, journal: NoJournal | None = None) -> str:
        send(server, request, journal)
        return str(server.posts[-1]["tags"][0])

    one = key(REQUEST)
    assert key(Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", tags=("mine",))) == one
    others = [
        Request(program_id="estimator", inputs={"pubs": [1]}, backend="ibm_x"),
        Request(program_id="sampler", inputs={"pubs": [2]}, backend="ibm_x"),
        Request(program_id="sampler", inputs={"pubs": [1]}, backend="least_busy"),
        Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", optimization_level=1),
        Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", others={"cost": 60}),
        Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", on_existing="new"),
        Request(program_id="sampler", inputs={"pubs": [1]}, backend="ibm_x", idempotency_key="k"),
    ]
    assert len({one, key(REQUEST, NoJournal()), key(REQUEST, NoJournal()), *map(key, others)}) == 3 + len(others)


def test_the_same_request_at_another_account_is_another_and_in_another_session_is_not(clock: FakeClock) -> None:
    def key(credentials: Credentials = CLASSIC, **change: Any) -> str:
        server = Server(clock, credentials)
        send(server, replace(REQUEST, **change))
        return str(server.posts[0]["tags"][0])

    others = [replace(CLASSIC, url="https://other.example"), replace(CLASSIC, instance="hub/group/other"), PLATFORM]
    assert len({key(), *map(key, others), key(client_side=True)}) == 5
    assert key(others={"session_id": "s1"}) == key()


# What is never sent


@pytest.mark.parametrize(("credentials", "durably"), [(PLATFORM, True), (CLASSIC, True), (LOCAL, False)])
def test_the_intent_may_be_written_later_only_where_the_server_makes_no_second_job_of_a_key(
    credentials: Credentials, durably: bool, clock: FakeClock
) -> None:
    journal = Journal()
    send(Server(clock, credentials), journal=journal)
    assert journal.durably == [durably]


def test_nothing_is_sent_if_the_intent_cannot_be_written(server: Server) -> None:
    with pytest.raises(OSError, match="no journal"):
        send(server, journal=Journal(fail=OSError("no journal")))
    assert server.posts == []


def test_nothing_is_sent_for_a_card_that_has_its_job(server: Server) -> None:
    server.has("j9", ["k"])
    journal = Journal(Card(key="k", fingerprint="f", program_id="sampler", job_id="j9", intended_at=now()))
    assert send(server, journal=journal) == "j9"
    server.found.clear()
    with pytest.raises(RuntimeJobNotFound):
        send(server, journal=journal)
    assert (server.posts, server.looks) == ([], [])


@pytest.mark.parametrize("times", [1, 2])
def test_a_404_for_the_job_on_a_card_is_believed_when_it_comes_twice(server: Server, times: int) -> None:
    journal = Journal()
    send(server, journal=journal)
    there, gone = server.job, [RuntimeJobNotFound("x", job_id="j1")] * times

    def job(job_id: str, **options: Any) -> JobDocument:
        if gone:
            raise gone.pop()
        return there(job_id, **options)

    server.job = job  # type: ignore[method-assign]
    if times == 1:
        assert send(server, journal=Journal(journal.acknowledged[0])) == "j1"
    else:
        with pytest.raises(RuntimeJobNotFound):
            send(server, journal=Journal(journal.acknowledged[0]))
    assert (len(server.posts), gone) == (1, [])


def test_nothing_is_prepared_for_a_job_that_is_there(server: Server) -> None:
    server.has("j9", ["k", "prt-fp-f"])
    journal = Journal(Card(key="k", fingerprint="f", program_id="sampler", intended_at=now()))

    def prepare() -> Prepared:
        raise AssertionError("transpiled for nothing")

    card = submit(REQUEST, server, journal, prepare, settle_seconds=None)  # type: ignore[arg-type]
    assert (card.job_id, card.attached, server.posts) == ("j9", True, [])


@pytest.mark.parametrize("left", [0.0, 0.5, 5.0, 100.0, 300.0])
def test_a_successor_proves_a_job_absent_however_little_of_the_settling_time_is_left(
    server: Server, left: float
) -> None:
    sent = datetime.now(UTC) - timedelta(seconds=(1 + settling.POST_TIMES) * server.request_timeout + 300 - left)
    journal = Journal(Card(key="k", fingerprint="f", program_id="sampler", intended_at=sent.isoformat(), posts=1))
    assert send(server, journal=journal, settle=300) == "j1"
    assert len(server.posts) == 1
    assert len(server.looks) >= (3 if left else 1)
    assert server.looks[-1] - server.looks[0] >= left - 1  # a second for what is between two readings of the clock


@pytest.mark.parametrize(
    "error", [InvalidInputError("x"), AuthenticationError("x"), ApiError("x", status_code=409), ApiError("x")], ids=repr
)
def test_a_refusal_is_raised_and_not_repeated(server: Server, error: ApiError) -> None:
    server.on_post = [error]
    with pytest.raises(type(error)) as caught:
        send(server)
    assert caught.value is error
    assert (len(server.posts), server.looks) == (1, [])


# What is repeated: nothing was taken


def test_a_connection_that_failed_is_tried_again(server: Server) -> None:
    server.on_post = [ConnectFailedError("x")] * 4
    assert send(server) == "j5"
    assert [post["tags"] for post in server.posts] == [server.posts[0]["tags"]] * 5
    assert (len(server.found), server.looks) == (1, [])


def test_a_server_that_cannot_be_reached_is_an_error_in_the_end(server: Server) -> None:
    server.on_post = [ConnectFailedError("x")] * 1000
    with pytest.raises(ConnectFailedError):
        send(server)
    assert 1 < len(server.posts) < 50
    assert server.found == []


def test_a_server_that_takes_no_jobs_for_an_hour_is_an_error_in_the_end(server: Server) -> None:
    server.on_post = [RateLimitedError("x")] * 1000
    began = server.clock.monotonic()
    with pytest.raises(RateLimitedError):
        send(server)
    assert 3000 < server.clock.monotonic() - began <= 3600
    assert (server.found, server.looks) == ([], [])
    assert len(server.posts) < 70  # a minute between two, once it has said no often enough


@pytest.mark.parametrize("asked", [[0.0], [17.0], [12.0, 12.0, 12.0, 12.0], [61.0], [60.0, 60.0]], ids=str)
def test_a_429_waits_as_told_and_tries_again(server: Server, asked: list[float]) -> None:
    """IBM allows five jobs a minute: a Retry-After of a minute is nothing special."""
    server.on_post = [RateLimitedError("x", retry_after=seconds) for seconds in asked]
    assert send(server) == f"j{len(asked) + 1}"
    assert server.clock.sleeps == [seconds for seconds in asked if seconds]
    assert server.looks == []
