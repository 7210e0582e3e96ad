"""A person cancels a flow run whose request is not a job yet: it waits for its turn, or for an answer that was lost."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import ClassVar

import pytest
from prefect import flow
from prefect.runtime import flow_run as current_flow_run

from prefect_runtime import RuntimeCredentials, run_program
from prefect_runtime.wire.errors import WaitInterruptedError

from .support import eventually, nobody_watches, nothing_is_written
from .test_cancelled import WITHIN_SECONDS, cancelled_beside

TOLD_SECONDS = 60


class Busy(BaseHTTPRequestHandler):
    """A classic runtime that takes no job now; what it answers to a request for one is set by the test."""

    posted: ClassVar[list[float]] = []
    refusal: ClassVar[int] = 429

    def do_GET(self) -> None:
        self._answer(200, {"jobs": []})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.posted.append(time.monotonic())
        self._answer(self.refusal, {"errors": [{"message": "not now"}]})

    def log_message(self, *_: object) -> None:
        """Be quiet."""

    def _answer(self, status: int, value: object) -> None:
        body = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", str(TOLD_SECONDS))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def busy() -> Iterator[str]:
    Busy.posted.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), Busy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.mark.pr
@pytest.mark.parametrize(
    ("refusal", "said"),
    [(429, "was not sent while it waited for its turn"), (503, "its job is no longer looked for")],
    ids=["told to wait", "its answer was lost"],
)
def test_a_submission_that_has_minutes_to_wait_ends_with_its_cancelled_flow_run(
    refusal: int, said: str, busy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Busy, "refusal", refusal)
    credentials = RuntimeCredentials(channel="classic", token="t" * 20, url=busy)
    asked, told = [], []

    @flow
    def submits() -> None:
        asked.append(cancelled_beside(current_flow_run.id))
        with pytest.raises(WaitInterruptedError) as raised:
            run_program(credentials, "sampler", {"n": 1}, backend="b")
        told.append((time.time(), str(raised.value)))

    submits(return_state=True)
    ((at, message),) = told
    assert at - asked[0].result() < WITHIN_SECONDS
    assert said in message
    assert message.endswith("because its flow run was cancelled.")
    assert len(Busy.posted) == 1
    eventually(nobody_watches, seconds=2.0)
    eventually(nothing_is_written)
