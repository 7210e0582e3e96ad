"""What a client of the classic service must do where that takes time: on a clock that moves by itself.

See tests/BEHAVIOURS.md; the rest is in tests/integration/test_classic_behaviours.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from test_auth import FakeTransport

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.job import RuntimeJob
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeJobFailureError, ServerError, StreamClosedError
from prefect_runtime.wire.models import JobDocument

if TYPE_CHECKING:
    from conftest import FakeClock

CLASSIC = Credentials(channel="classic", token="some-token-123", url="https://runtime.example")


def client(answer: Callable[[Any], Any], clock: FakeClock) -> tuple[RuntimeClient, FakeTransport]:
    transport = FakeTransport(answer)
    return RuntimeClient(CLASSIC, clock=clock, transport=transport), transport  # type: ignore[arg-type]


# 5: 5xx


CALLS: dict[str, Callable[[RuntimeClient], Any]] = {
    "job": lambda runtime: runtime.job("j"),
    "jobs": lambda runtime: runtime.jobs(),
    "results": lambda runtime: runtime.results("j"),
    "logs": lambda runtime: runtime.logs("j"),
    "programs": lambda runtime: runtime.programs(),
    "backends": lambda runtime: runtime.backends(),
}


@pytest.mark.parametrize("status", [500, 502, 503, 504, 520, 599])
@pytest.mark.parametrize("name", CALLS)
def test_a_get_that_fails_for_good_is_tried_five_times_and_keeps_its_status_code(
    name: str, status: int, clock: FakeClock
) -> None:
    runtime, transport = client(lambda _: (status, "down"), clock)
    start = clock.monotonic()
    with pytest.raises(ServerError) as caught:
        CALLS[name](runtime)
    assert caught.value.status_code == status
    assert [sent.method for sent in transport.sent] == ["GET"] * 5
    assert clock.monotonic() - start <= 0.2 + 0.4 + 0.8 + 1.6


def test_a_get_that_fails_for_a_moment_is_tried_again(clock: FakeClock) -> None:
    answers = iter([(503, "down"), (500, "down"), (200, {"id": "j", "status": "Running"})])
    runtime, transport = client(lambda _: next(answers), clock)
    assert runtime.job("j").word == "Running"
    assert len(transport.sent) == 3


# 15: a failed job without a result


@pytest.mark.parametrize("reason", ["", "the cryostat is warm"])
def test_a_failed_jobs_result_that_cannot_be_had_does_not_hide_the_failure(reason: str, clock: FakeClock) -> None:
    state = {"status": "Failed", "reason": reason}

    def answer(sent: Any) -> Any:
        if sent.url.endswith("/results"):
            return 503, "down"
        return 200, {"id": "j", "status": "Failed", "state": state}

    runtime, _ = client(answer, clock)
    with pytest.raises(RuntimeJobFailureError, match=reason or "no reason"):
        RuntimeJob(Backend("b"), runtime, CLASSIC, "j", "p").result(timeout=60)


# 30: opening a stream again


class Pauses(threading.Event):
    """An event nobody sets: a wait for it is written down and over at once."""

    def __init__(self, seconds: list[float | None]) -> None:
        super().__init__()
        self._seconds = seconds

    def wait(self, timeout: float | None = None) -> bool:
        self._seconds.append(timeout)
        return False


class Timed(InterimStream):
    """A stream whose pauses are written down and not made."""

    def __init__(self, source: Line) -> None:
        self.pauses: list[float | None] = []
        super().__init__(source, "j")

    def _read(self) -> None:
        self._cancelled = Pauses(self.pauses)
        super()._read()

    def texts(self) -> list[str]:
        """Take all there is, and what the stream failed with, if it did, as the last."""
        found: list[str] = []
        try:
            found.extend(self)  # keeps what came before an error
        except QiskitRuntimeError as error:
            found.append(type(error).__name__)
        return found


class Connection:
    """A socket that gives some texts and breaks."""

    resumes = False

    def __init__(self, texts: list[str], code: int) -> None:
        self._texts, self._code = list(texts), code

    def receive(self) -> str:
        if self._texts:
            return self._texts.pop(0)
        raise StreamClosedError("over", close_code=self._code)

    def close(self) -> None:
        """Nothing to close."""


class Line:
    """A job's stream by script: how often it is refused, then a connection with these texts, and so on; then the end.

    Attributes:
        word: The job's status.
        opened: How often the stream was asked for.
    """

    clock: Clock = SYSTEM_CLOCK

    def __init__(self, *steps: int | list[str]) -> None:
        self._steps: list[int | list[str]] = []
        for step in steps:
            self._steps += [0] * step if isinstance(step, int) else [step]
        self.word = "Running"
        self.opened = 0
        self.published: list[str] = []

    def open_stream(self, job_id: str, *, after: int) -> Any:
        self.opened += 1
        if not self._steps:
            self.word = "Completed"
            return Connection([], 1000)
        step = self._steps.pop(0)
        if isinstance(step, int):
            raise StreamClosedError("refused", close_code=503)
        self.published += step
        return Connection(step, 1006)

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        return list(self.published)

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        return JobDocument.parse({"id": job_id, "status": self.word})


def test_a_stream_that_is_refused_is_asked_for_ever_more_seldom_and_given_up() -> None:
    line = Line(100)
    stream = Timed(line)
    assert stream.texts() == ["StreamClosedError"]
    assert stream.pauses == [0.5, 1.0, 2.0, 4.0, 8.0]
    assert line.opened == 6


def test_refusals_are_counted_anew_after_each_connection_even_if_it_brought_nothing() -> None:
    line = Line(5, ["1"], 5, [], 5)
    stream = Timed(line)
    assert stream.texts() == ["1"]
    refused = [0.5, 1.0, 2.0, 4.0, 8.0]
    assert stream.pauses == [*refused, 0.25, *refused, 0.25, *refused]


def test_a_stream_that_was_given_up_does_not_count_against_the_next_one() -> None:
    line = Line(6, 5, ["1"])
    assert Timed(line).texts() == ["StreamClosedError"]
    again = Timed(line)
    assert again.texts() == ["1"]
    assert again.pauses[:5] == [0.5, 1.0, 2.0, 4.0, 8.0]
