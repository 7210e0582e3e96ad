"""What ends a stream of interim results, and what is only an event of the line; where results may be missing."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest
from test_classic_behaviours import Connection, Timed

from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock
from prefect_runtime.wire.errors import (
    AuthenticationError,
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

    def open_stream(self, job_id: str, *, after: int) -> Any:
        self._raise_next("open")
        self.opened += 1
        connection = Connection(["1", "2"] if self.opened == 1 else ["3"], 1006 if self.opened == 1 else 1000)
        connection.resumes = True
        return connection

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        self._raise_next("job")
        return JobDocument.parse({"id": job_id, "status": "Running" if self.opened < 2 else "Completed"})

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


@pytest.fixture(autouse=True)
def no_reader_is_left() -> Iterator[None]:
    yield
    for thread in threading.enumerate():
        if thread.name.startswith("stream-"):
            thread.join(5)
            assert not thread.is_alive()
