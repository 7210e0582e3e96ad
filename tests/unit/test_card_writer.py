"""What is written in the background: all of it, in order, once, and before the interpreter ends."""

from __future__ import annotations

import subprocess
import sys
import threading
from typing import Any
from uuid import uuid4

import httpx
import pytest

from prefect_runtime import card_writer
from prefect_runtime.card_writer import CardWriter, Place, Write

MADE = uuid4()


class Api:
    """Stands for Prefect's client: keeps what it was asked for, and answers when a test lets it."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any]] = []
        self.open = 0
        self.entered = threading.Event()
        self.go_on = threading.Event()
        self.go_on.set()
        self.missing: set[str] = set()
        self.refuses_cards = False

    def __enter__(self) -> Api:
        self.open += 1
        return self

    def __exit__(self, *_: object) -> None:
        self.open -= 1

    def request(self, method: str, path: str, *, path_params: dict[str, Any] | None = None, json: Any = None) -> Any:
        assert self.open > 0
        if method == "POST":
            return self.make(path, dict(json))
        if method == "DELETE":
            self.remove(path, path_params["id"])
            return None
        assert (method, path) == ("PATCH", "/artifacts/{id}")
        self.entered.set()
        assert self.go_on.wait(5)
        self.calls.append(("card", dict(json)))
        return None

    def make(self, path: str, card: dict[str, Any]) -> httpx.Response:
        assert path == "/artifacts/"
        if self.refuses_cards:
            raise httpx.ConnectError("not there")
        self.calls.append(("new card", card))
        return httpx.Response(201, json={"id": str(MADE)})

    def remove(self, path: str, claim: str) -> None:
        assert path == "/variables/{id}"
        self.calls.append(("claim", claim))
        if claim in self.missing:
            request = httpx.Request("DELETE", "http://prefect/api")
            raise httpx.HTTPStatusError("no", request=request, response=httpx.Response(404, request=request))


def write(key: str, claims: tuple[str, ...] = (), **body: str) -> Write:
    """A write for a card of its own."""
    return Write(key=key, place=Place(artifact_id=uuid4()), body=dict(body), claims=list(claims))


def test_a_claim_is_removed_after_its_card_was_written_and_the_client_is_given_back() -> None:
    api, writer = Api(), CardWriter()
    writer.put(api, write("a", ("a-2", "a"), data="x"))  # type: ignore[arg-type]
    writer.flush(["a"])
    assert api.calls == [("card", {"data": "x"}), ("claim", "a"), ("claim", "a-2")]
    assert api.open == 0


def test_what_comes_while_another_is_under_way_is_sent_once_and_in_order() -> None:
    api, writer = Api(), CardWriter()
    api.go_on.clear()
    writer.put(api, write("a", data="1"))  # type: ignore[arg-type]
    assert api.entered.wait(5)
    for number in range(2, 6):
        writer.put(api, write("a", data=str(number)))  # type: ignore[arg-type]
    writer.put(api, write("b", data="b"))  # type: ignore[arg-type]
    writer.put(api, write("a", ("a",), metadata_="record"))  # type: ignore[arg-type]
    api.go_on.set()
    writer.flush(["a", "b"])
    assert api.calls == [
        ("card", {"data": "1"}),
        ("card", {"data": "5", "metadata_": "record"}),
        ("claim", "a"),
        ("card", {"data": "b"}),
    ]
    assert api.open == 0


def test_a_card_is_made_once_whoever_writes_on_it_next() -> None:
    api, writer, place = Api(), CardWriter(), Place(new={"key": "a"})
    for number in range(2):
        writer.put(api, Write(key="a", place=place, body={"data": str(number)}))  # type: ignore[arg-type]
        writer.flush(["a"])
    assert api.calls == [("new card", {"key": "a", "data": "0"}), ("card", {"data": "1"})]
    assert place.artifact_id == MADE


def test_a_card_that_could_not_be_made_is_made_by_the_next_write_and_keeps_its_claim_until_then(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    api, writer, place = Api(), CardWriter(), Place(new={"key": "a"})
    monkeypatch.setattr(card_writer, "get_client", lambda **_: api)
    api.refuses_cards = True
    writer.put(api, Write(key="a", place=place, body={"data": "0"}, claims=["a"]))  # type: ignore[arg-type]
    writer.flush(["a"])
    api.refuses_cards = False
    assert (api.calls, place.artifact_id) == ([], None)
    writer.put(api, Write(key="a", place=place, body={"data": "1"}))  # type: ignore[arg-type]
    writer.flush(["a"])
    assert api.calls == [("new card", {"key": "a", "data": "1"})]


def test_what_follows_in_a_moment_is_sent_with_the_first() -> None:
    api, writer = Api(), CardWriter()
    for number in range(5):
        writer.put(api, write("a", data=str(number)))  # type: ignore[arg-type]
    writer.flush(["a"])
    assert api.calls == [("card", {"data": "4"})]


def test_who_waits_for_it_waits_no_moment_longer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_writer, "LINGER_SECONDS", 60.0)
    api, writer = Api(), CardWriter()
    writer.put(api, write("a", data="x"), at_once=True)  # type: ignore[arg-type]
    assert api.calls == [("card", {"data": "x"})]


def test_what_other_processes_wait_for_does_not_linger(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_writer, "LINGER_SECONDS", 60.0)
    api, writer = Api(), CardWriter()
    writer.put(api, write("a", data="x"))  # type: ignore[arg-type]
    assert not api.entered.wait(0.1)
    writer.put(api, Write(key="b", place=None, body={}, claims=["b"], urgent=True))  # type: ignore[arg-type]
    assert api.entered.wait(5)
    writer.flush(["a", "b"])
    assert api.calls == [("card", {"data": "x"}), ("claim", "b")]


def test_flush_waits_for_the_requests_it_is_asked_about_only() -> None:
    api, writer = Api(), CardWriter()
    api.go_on.clear()
    writer.put(api, write("a", data="x"))  # type: ignore[arg-type]
    assert api.entered.wait(5)
    writer.flush(["another"])
    assert api.calls == []
    threading.Timer(0.05, api.go_on.set).start()
    writer.flush(["a"])
    assert api.calls == [("card", {"data": "x"})]


def test_a_claim_that_is_gone_already_keeps_no_other() -> None:
    api, writer = Api(), CardWriter()
    api.missing = {"a"}
    writer.put(api, Write(key="a", place=None, body={}, claims=["a-2", "a"]))  # type: ignore[arg-type]
    writer.flush(["a"])
    assert api.calls == [("claim", "a"), ("claim", "a-2")]


def test_where_no_thread_can_be_started_the_caller_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_more(self: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    api, writer = Api(), CardWriter()
    with monkeypatch.context() as patch:
        patch.setattr(threading.Thread, "start", no_more)
        writer.put(api, write("a", ("a",), data="x"))  # type: ignore[arg-type]
    assert api.calls == [("card", {"data": "x"}), ("claim", "a")]
    writer.put(api, write("b", data="y"))  # type: ignore[arg-type]
    assert writer.flush(["b"])
    assert api.calls[2:] == [("card", {"data": "y"})]


ENDS_AT_ONCE = """
import time
from uuid import uuid4
from prefect_runtime.card_writer import CardWriter, Place, Write

class Api:
    def __enter__(self): return self
    def __exit__(self, *_): pass
    def request(self, *_, json, **__):
        time.sleep(0.3)
        print("written", json["data"], flush=True)

writer = CardWriter()
for key in ("a", "b"):
    writer.put(Api(), Write(key=key, place=Place(artifact_id=uuid4()), body={"data": key}))
"""


def test_the_interpreter_ends_only_when_all_is_written() -> None:
    done = subprocess.run([sys.executable, "-c", ENDS_AT_ONCE], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout.split("\n") == ["written a", "written b", ""]
