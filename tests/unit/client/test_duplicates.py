"""More than one job of one request: which is kept, and what becomes of the others, at the server."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from test_submission import Journal, Server

from prefect_runtime.client import duplicates
from prefect_runtime.client.request import Card
from prefect_runtime.wire.errors import RuntimeInvalidStateError, TransportError

if TYPE_CHECKING:
    from conftest import FakeClock


def sweep(server: Server, job_id: str) -> None:
    card = Card(key="k", fingerprint="f", program_id="sampler", job_id=job_id)
    duplicates.sweep(server, Journal(), card)  # type: ignore[arg-type]


@pytest.fixture
def server(clock: FakeClock) -> Server:
    server = Server(clock)
    for day, job_id in enumerate(("first", "second", "third"), start=1):
        server.has(job_id, ["k"], created=f"2024-01-0{day}T00:00:00Z")
    return server


def test_the_job_on_the_card_is_kept_whatever_else_there_is(server: Server) -> None:
    sweep(server, "second")
    assert server.cancelled == ["first", "third"]


def test_a_duplicate_that_cannot_be_cancelled_keeps_no_other_from_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    cancel = server.cancel

    def refuse_first(job_id: str) -> None:
        if job_id == "first":
            raise RuntimeInvalidStateError("final already", job_id=job_id)
        cancel(job_id)

    monkeypatch.setattr(server, "cancel", refuse_first)
    sweep(server, "second")
    assert server.cancelled == ["third"]


def test_a_look_for_duplicates_that_fails_takes_no_result_from_anybody(server: Server) -> None:
    server.on_look = lambda number: TransportError("down")
    sweep(server, "second")
    assert (len(server.looks), server.cancelled) == (1, [])
