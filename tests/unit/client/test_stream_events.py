"""What ends a stream of interim results, and what is only an event of the line; where results may be missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from test_classic_behaviours import Connection, Timed

from prefect_runtime.client.replay import Replay
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConnectFailedError,
    ProtocolError,
    RateLimitedError,
    RuntimeJobNotFound,
    ServerError,
    StreamClosedError,
)
from prefect_runtime.wire.models import JobDocument


class Server:
    """Gives "1" and "2" on the first connection, which breaks, and "3" on the next; errors where a test puts them."""

    clock: Clock = SYSTEM_CLOCK

    def __init__(self, **errors: list[Exception]) -> None:
        self._errors = {what: iter(given) for what, given in errors.items()}
        self.opened = 0
        self.final_with = 2  # connections

    def open_stream(self, job_id: str, *, after: int) -> Any:
        self._raise_next("open")
        self.opened += 1
        connection = Connection(["1", "2"] if self.opened == 1 else ["3"], 1006 if self.opened == 1 else 1000)
        connection.resumes = True
        return connection

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        self._raise_next("job")
        return JobDocument.parse({"id": job_id, "status": "Running" if self.opened < self.final_with else "Completed"})

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        raise RuntimeJobNotFound("no list", status_code=404)

    def _raise_next(self, what: str) -> None:
        error = next(self._errors.get(what, iter(())), None)
        if error is not None:
            raise error


NOT_FOUND = RuntimeJobNotFound("404", status_code=404)
EVENTS = [
    NOT_FOUND,
    AuthenticationError("the sign-in service is down", status_code=503, retryable=True),
    RateLimitedError("busy", status_code=429),
    ServerError("down", status_code=500),
    ProtocolError("garbage"),
]


@pytest.mark.parametrize("error", EVENTS, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("asked", ["open", "job"])
def test_an_event_of_the_line_ends_no_stream(asked: str, error: Exception) -> None:
    assert Timed(Server(**{asked: [error]})).texts() == ["1", "2", "3"]  # type: ignore[arg-type]


@pytest.mark.parametrize("error", EVENTS, ids=lambda error: type(error).__name__)
def test_an_event_of_the_line_is_not_the_end_of_a_job_that_is_final(error: Exception) -> None:
    server = Server(open=[error])
    server.opened = server.final_with = 1  # while the line was down
    assert Timed(server).texts() == ["3"]  # type: ignore[arg-type]


@pytest.mark.parametrize("asked", ["open", "job"])
@pytest.mark.parametrize(
    ("errors", "name"),
    [([NOT_FOUND, NOT_FOUND], "RuntimeJobNotFound"), ([AuthenticationError("no")], "AuthenticationError")],
)
def test_what_is_said_for_good_ends_it_and_is_raised(asked: str, errors: list[Exception], name: str) -> None:
    got = Timed(Server(**{asked: errors + errors})).texts()  # type: ignore[arg-type]
    assert got[-1] == name


@pytest.mark.parametrize("asked", ["open", "job"])
def test_a_fault_of_ours_is_no_normal_end(asked: str, caplog: pytest.LogCaptureFixture) -> None:
    stream = Timed(Server(**{asked: [KeyError("a bug")]}))  # type: ignore[arg-type]
    assert stream.texts()[-1] == "StreamClosedError"
    assert isinstance(stream.error, StreamClosedError)
    assert "may be missing" in stream.error.message
    assert "KeyError" in caplog.text


class NoList(Server):
    """A server without a list: one connection after another as scripted, the job final with the second."""

    def __init__(self, *connections: list[str] | None) -> None:
        super().__init__()
        self._connections = list(connections)

    def open_stream(self, job_id: str, *, after: int) -> Any:
        texts = self._connections[self.opened]
        self.opened += 1
        if texts is None:
            raise StreamClosedError("not running", close_code=302)
        return Connection(texts, 1006 if self.opened == 1 else 1000)


@pytest.mark.parametrize(
    ("connections", "got"),
    [
        ([["0"], ["0"], []], ["0"]),  # a new one that looks like the first, from a server that repeats nothing
        ([["0"], ["0", "1"], ["0", "0", "1"]], ["0", "1"]),  # repeats only once the job is final
        ([["0"], ["0", "1"], None], ["0", "1"]),  # cannot be known
    ],
)
def test_new_results_that_look_like_a_replay_are_not_missing_without_a_word(
    connections: list[list[str] | None], got: list[str]
) -> None:
    stream = Timed(NoList(*connections))  # type: ignore[arg-type]
    assert stream.texts() == [*got, "StreamClosedError"]
    assert "may be missing" in str(stream.error)


def test_a_replay_that_one_more_connection_confirms_alarms_nobody() -> None:
    stream = Timed(NoList(["0", "0"], ["0", "0", "1"], ["0", "0", "1"]))  # type: ignore[arg-type]
    assert stream.texts() == ["0", "0", "1"]


@pytest.mark.parametrize(
    ("seen", "comes", "new"),
    [
        ("", "ab", "ab"),
        ("ab", "abc", "c"),
        ("ab", "ac", "ac"),
        ("aa", "ab", "ab"),
        ("ab", "cab", "cab"),
        ("ab", "abab", "ab"),
    ],
)
def test_of_a_replay_what_is_new_is_given(seen: str, comes: str, new: str) -> None:
    replay = Replay([hash(text) for text in seen])
    assert "".join(one for text in comes for one in replay.take(text)) == new


@pytest.fixture(autouse=True)
def no_reader_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("stream-"):
            thread.join(5)
            assert not thread.is_alive()


def test_a_line_that_is_down_for_an_hour_ends_no_stream(caplog: pytest.LogCaptureFixture) -> None:
    down: list[Exception] = [ConnectFailedError("no network")] * 450  # eight seconds each
    server = Server(open=down, job=list(down))
    assert Timed(server).texts() == ["1", "2", "3"]  # type: ignore[arg-type]
    assert caplog.text.count("no network") == 1


def test_a_server_that_is_there_and_refuses_the_stream_ends_it() -> None:
    assert Timed(Server(open=[ConnectFailedError("no WebSockets here")] * 6)).texts() == ["ConnectFailedError"]  # type: ignore[arg-type]
