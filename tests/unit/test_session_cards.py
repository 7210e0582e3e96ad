"""What a flow run that is executed again does with the session that its card tells of."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest

from prefect_runtime import pins, session_cards
from prefect_runtime.client import Credentials
from prefect_runtime.execution import Execution
from prefect_runtime.session_cards import open_or_find
from prefect_runtime.wire.errors import AnswerLostError, InvalidInputError, SessionNotFoundError, SessionUnknownError

EXECUTION = Execution(flow_run_id=uuid4(), task_run_id=None, scope="run-1", root_run_id="run-1", chain="run-1:1:1.0")


class Runtime:
    """A runtime with sessions; counts how many were asked for, and fails where a test says so."""

    request_timeout = 30.0
    credentials = Credentials(channel="classic", token="t", url="https://runtime.example")

    def __init__(self, clock: Any, *, fail: Exception | None = None) -> None:
        self.client = self
        self.clock = clock
        self.fail = fail
        self.opened = 0
        self.documents: dict[str, dict[str, Any]] = {}
        self.closed: list[str] = []

    def close_session(self, session_id: str) -> None:
        self.closed.append(session_id)

    def open_session(self, **_: Any) -> Mapping[str, Any]:
        self.opened += 1
        if self.fail is not None:
            raise self.fail
        document = {"id": f"s{self.opened}", "state": "open"}
        self.documents[f"s{self.opened}"] = document
        return document

    def session(self, session_id: str) -> Mapping[str, Any]:
        if session_id not in self.documents:
            raise SessionNotFoundError("gone", status_code=404)
        return self.documents[session_id]


class Pin:
    """A card in memory; keeps how it looked at each writing."""

    def __init__(self) -> None:
        self.fields: dict[str, str] = {}
        self.written: list[dict[str, str]] = []
        self.markdown = ""

    def write(self, fields: Mapping[str, str], markdown: str, description: str) -> None:
        self.fields = {name: value for name, value in fields.items() if value}
        self.written.append(self.fields)
        self.markdown = markdown


@pytest.fixture
def pin() -> Pin:
    return Pin()


@pytest.fixture
def runtime(clock: Any) -> Runtime:
    return Runtime(clock)


def ask(runtime: Any, pin: Any, *, max_ttl: float | None = 600) -> tuple[str, bool]:
    document, was_there = open_or_find(
        runtime, pin, mode="dedicated", backend="ibm_x", max_ttl=max_ttl, execution=EXECUTION
    )
    return document.id, was_there


def test_a_session_whose_id_cannot_be_written_down_is_closed(runtime: Runtime) -> None:
    class Away(Pin):
        def write(self, fields: Mapping[str, str], markdown: str, description: str) -> None:
            if fields.get("session_id"):
                raise ConnectionError("Prefect's API is away")
            super().write(fields, markdown, description)

    with pytest.raises(ConnectionError):
        ask(runtime, Away())
    assert (runtime.opened, runtime.closed) == (1, ["s1"])


def test_a_session_that_was_left_is_closed_though_its_card_cannot_be_written(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The hook of a cancelled flow run has other accounts' jobs to cancel after it."""

    def patch_card(*_: Any) -> None:
        raise ConnectionError("Prefect's API is away")

    monkeypatch.setattr(session_cards, "patch_card", patch_card)
    card: Any = SimpleNamespace(id=None, metadata_={"session_id": "s1", "mode": "batch"})
    prefect: Any = None
    assert session_cards.close_left(prefect, runtime, card) == "s1"
    assert runtime.closed == ["s1"]


def test_a_card_is_written_though_the_client_it_was_read_with_is_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a temporary server the sync client of an async flow lives for the time of a call, a session for longer."""

    class Api:
        def __init__(self) -> None:
            self.made: list[Any] = []

        def read_artifacts(self, **_: Any) -> list[Any]:
            return []

        def create_artifact(self, artifact: Any) -> Any:
            self.made.append(artifact.key)
            return SimpleNamespace(id=uuid4())

    opened, later = Api(), Api()
    monkeypatch.setattr(pins, "prefect_client", lambda: contextlib.nullcontext(later))
    client: Any = opened
    pins.Pin(client, EXECUTION, "prts1-a").write({"session_id": "s1"}, "", "")
    assert (opened.made, later.made) == ([], ["prts1-a"])


def test_the_intent_is_on_the_card_before_the_session_is_asked_for(runtime: Runtime, pin: Pin) -> None:
    assert ask(runtime, pin) == ("s1", False)
    intent, opened = pin.written
    assert intent["intended_at"] and "session_id" not in intent
    assert opened["session_id"] == "s1"
    assert "`s1`" in pin.markdown


def test_an_open_session_is_used_again(runtime: Runtime, pin: Pin) -> None:
    ask(runtime, pin)
    assert ask(runtime, pin) == ("s1", True)
    assert runtime.opened == 1


@pytest.mark.parametrize("end", ["closed by us", "closed by its time", "gone"])
def test_one_that_takes_no_more_jobs_is_followed_by_another(end: str, runtime: Runtime, pin: Pin) -> None:
    ask(runtime, pin)
    if end == "closed by us":
        pin.fields["closed_at"] = "2026-08-01T10:00:00Z"
    elif end == "gone":
        runtime.documents.clear()
    else:
        runtime.documents["s1"]["state"] = "closed"
    assert ask(runtime, pin) == ("s2", False)
    assert pin.fields["session_id"] == "s2"
    assert "closed_at" not in pin.fields


def test_a_lost_answer_is_not_asked_for_again_by_a_later_execution_until_its_time_is_over(
    runtime: Runtime, pin: Pin
) -> None:
    runtime.fail = AnswerLostError("lost")
    with pytest.raises(SessionUnknownError, match="after 600 s"):
        ask(runtime, pin)
    runtime.fail = None
    with pytest.raises(SessionUnknownError, match="earlier execution"):
        ask(runtime, pin)
    assert runtime.opened == 1
    pin.fields["intended_at"] = (datetime.now(UTC) - timedelta(seconds=601)).isoformat()
    assert ask(runtime, pin) == ("s2", False)


def test_a_refusal_leaves_no_doubt_on_the_card(runtime: Runtime, pin: Pin) -> None:
    runtime.fail = InvalidInputError("no", status_code=400)
    with pytest.raises(InvalidInputError):
        ask(runtime, pin)
    runtime.fail = None
    assert ask(runtime, pin) == ("s2", False)


def test_nothing_of_the_account_is_on_the_card(runtime: Runtime, pin: Pin) -> None:
    ask(runtime, pin)
    assert "runtime.example" not in repr(pin.fields) + pin.markdown
