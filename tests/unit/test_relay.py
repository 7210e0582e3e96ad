"""A job's log in the run's log: each line once, in order, capped; whoever reads it and in whatever parts it comes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from prefect_runtime.tasks import relay
from prefect_runtime.tasks.progress import percent_of
from prefect_runtime.tasks.relay import MOST_LINES, Relay, relayed
from prefect_runtime.wire.models import JobDocument


class Client:
    """A server whose log grows when a test says so; gives at most `part` bytes with one answer."""

    def __init__(self, *, part: int = 7) -> None:
        self.log = b""
        self.part = part
        self.secrets = ("topsecret-token",)

    def logs_from(self, job_id: str, start: int) -> tuple[bytes, int]:
        return self.log[start : start + self.part], len(self.log)

    def job(self, job_id: str) -> JobDocument:
        raise AssertionError("it is there")


class Service:
    """As much of a `RuntimeService` as a relay needs."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.memory: dict[str, object] = {}


@pytest.fixture
def client() -> Client:
    return Client()


@pytest.fixture
def service(client: Client) -> Any:
    return Service(client)


@pytest.fixture
def logger() -> logging.Logger:
    return logging.getLogger("a run")


@pytest.fixture(autouse=True)
def all_levels(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "a run")


def test_who_follows_the_log_repeats_nothing_that_came_with_the_whole_text(
    client: Client, service: Any, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    client.log = b"one\ntwo\n"
    relay = Relay.of(service, "j")
    relay.more(logger)
    client.log += "thrée\nfour\n".encode()
    relay.text(client.log.decode(), logger, whole=False)  # somebody fetches the log while it is followed
    assert not relay.more(logger)
    client.log += b"five\n"
    assert relay.more(logger)
    said = [record.getMessage().removeprefix("[job j] ") for record in caplog.records]
    assert said == ["one", "two", "thrée", "four", "five"]


def test_each_line_comes_once_in_order_whoever_reads_and_however_it_is_cut(
    client: Client, service: Any, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    client.log = "one\ntwo é\nthr".encode()
    assert Relay.of(service, "j").more(logger)
    assert not Relay.of(service, "j").more(logger)
    client.log += b"ee\r\nlast"
    Relay.of(service, "j").text(client.log.decode(), logger, whole=True)
    Relay.of(service, "j").text(client.log.decode(), logger, whole=True)
    assert [record.getMessage() for record in caplog.records] == [
        "[job j] one",
        "[job j] two é",
        "[job j] three",
        "[job j] last",
    ]


def test_a_line_keeps_its_level_and_loses_what_is_secret(
    client: Client, service: Any, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    client.log = b"2026-01-02 WARNING: hot\nERROR no\nno ERRORS here\nI know topsecret-token\n"
    Relay.of(service, "j").text(client.log.decode(), logger, whole=True)
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "INFO", "INFO"]
    assert caplog.records[-1].getMessage() == "[job j] I know …"


def test_a_job_that_writes_without_end_is_cut_off_with_a_word(
    client: Client, service: Any, logger: logging.Logger, caplog: pytest.LogCaptureFixture
) -> None:
    client.part = 10_000
    client.log = b"".join(b"%d\n" % number for number in range(MOST_LINES + 500))
    Relay.of(service, "j").text(client.log.decode(), logger, whole=True)
    assert len(caplog.records) == MOST_LINES + 1
    assert caplog.records[-2].getMessage() == f"[job j] {MOST_LINES - 1}"
    assert "fetch_logs" in caplog.records[-1].getMessage()


class Hanging(Client):
    """A server that answers no question for a log until it is let go; counts the questions."""

    has_streams = True

    def __init__(self) -> None:
        super().__init__()
        self.asked, self.let_go = threading.Event(), threading.Event()
        self.questions = 0

    def logs_from(self, job_id: str, start: int) -> tuple[bytes, int]:
        self.questions += 1
        self.asked.set()
        self.let_go.wait(20)
        return super().logs_from(job_id, start)


@pytest.fixture
def hanging(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hanging]:
    monkeypatch.setattr(relay, "BEGIN_AFTER_SECONDS", 0.0)
    client = Hanging()
    yield client
    client.let_go.set()
    limit = time.monotonic() + 5
    while any(thread.name == "log-relay" for thread in threading.enumerate()):
        assert time.monotonic() < limit, "the thread of the relay stays"
        time.sleep(0.001)


class Signal(BaseException):
    """As a signal's handler raises it."""


@pytest.mark.parametrize(("end", "seconds"), [(None, 2.0), (TimeoutError(), 0.1), (Signal(), 0.0)])
def test_a_log_that_hangs_keeps_no_wait_past_its_deadline_and_no_signal(
    end: BaseException | None, seconds: float, hanging: Hanging, logger: logging.Logger
) -> None:
    running = threading.Event()
    running.set()
    ended = 0.0
    try:
        with relayed(Service(hanging), "j", logger, running):  # type: ignore[arg-type]
            assert hanging.asked.wait(5)
            ended = time.monotonic()
            if end is not None:
                raise end
    except (TimeoutError, Signal) as error:
        assert error is end
    assert time.monotonic() - ended < seconds + 1.0  # what hangs does so for 20 s


def test_only_a_wait_that_ended_well_looks_once_more(hanging: Hanging, logger: logging.Logger) -> None:
    hanging.let_go.set()
    for end, more in ((None, 1), (TimeoutError(), 0)):
        hanging.asked.clear()
        before = hanging.questions
        running = threading.Event()
        running.set()
        try:
            with relayed(Service(hanging), "j", logger, running):  # type: ignore[arg-type]
                assert hanging.asked.wait(5)
                if end is not None:
                    raise end
        except TimeoutError:
            pass
        assert hanging.questions - before == 1 + more


@pytest.mark.parametrize(
    ("interim", "percent"),
    [
        ({"progress": 0.25}, 25.0),
        ({"progress": 40}, 40.0),
        ({"iteration": 5, "total": 20}, 25.0),
        ({"step": 3, "steps": 4}, 75.0),
        ({"iteration": 5}, None),
        ({"step": 3, "steps": 0}, None),
        ({"progress": "half"}, None),
        ({"progress": True}, None),
        ({"progress": 10**400}, None),
        ({"iteration": 10**400, "total": 10**401}, None),
        ({"progress": float("nan")}, None),
        ([1, 2], None),
        (7, None),
    ],
)
def test_how_far_a_program_is_by_what_it_publishes(interim: Any, percent: float | None) -> None:
    assert percent_of(interim) == percent
