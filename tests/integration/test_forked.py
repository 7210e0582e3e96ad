"""A client that was made before a fork is used on both sides of it, and they share nothing."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN

from prefect_runtime.client import Credentials, RuntimeClient
from prefect_runtime.client.callbacks import Callbacks
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire import logs
from prefect_runtime.wire.codec import ResultDecoder

from .support import http_server, job_document

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork"),
    # which is the point
    pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning"),
]


def forked(work: Callable[[], bool]) -> int:
    """Have a child process do something; gives its exit code: 0 if it was as it should, 2 if it raised."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 2
    signal.alarm(20)  # who waits for a lock that nobody gives back ends like this
    try:
        code = 0 if work() else 1
    finally:
        os._exit(code)


class Server:
    """Answers after a moment if the id says so; keeps from which connection it was asked for what."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, str]] = []

    def __call__(self, request: BaseHTTPRequestHandler, _: bytes) -> tuple[int, Any]:
        job_id = request.path.split("?")[0].rsplit("/", 1)[-1]
        self.asked.append((request.client_address[1], job_id))
        if "slow" in job_id:
            time.sleep(0.5)
        return 200, job_document(job_id, "Queued" if job_id == "queued" else "Completed")


def test_parent_and_child_use_a_connection_each_and_have_their_own_answers() -> None:
    server = Server()
    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        client.job("first")
        codes: list[int] = []
        child = threading.Thread(target=lambda: codes.append(forked(lambda: client.job("slow").id == "slow")))
        child.start()
        limit = time.monotonic() + 5
        while len(server.asked) < 2 and time.monotonic() < limit:
            time.sleep(0.001)
        assert client.job("parents", patient=False).id == "parents"
        child.join(10)
        client.close()
    ports = {job_id: port for port, job_id in server.asked}
    assert codes == [0]
    assert ports["slow"] != ports["first"]
    assert ports["parents"] == ports["first"]
    assert len(server.asked) == 3


def test_a_child_does_not_watch_the_parents_jobs_nor_wait_for_its_locks() -> None:
    server = Server()
    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        waiting = threading.Thread(target=lambda: client.monitor.wait(["queued"], deadline=Deadline(1.5)))
        waiting.start()
        limit = time.monotonic() + 5
        while not server.asked and time.monotonic() < limit:
            time.sleep(0.001)

        def waits_for_its_own() -> bool:
            found = client.monitor.wait(["childs"], deadline=Deadline(5))
            return found["childs"].is_final and not client.monitor._board.watches

        monitor = client.monitor
        with monitor._lock, client._lock:  # as another thread may have them when somebody forks
            assert forked(waits_for_its_own) == 0
        waiting.join(10)
        client.close()


def test_a_child_that_is_forked_while_another_thread_hides_a_secret_can_hide_its_own() -> None:
    with logs._redaction._lock:  # as another thread may have it when somebody forks
        assert forked(lambda: bool(Credentials(channel="classic", url="http://127.0.0.1:1", token=ACCESS_TOKEN))) == 0


def test_a_child_does_not_wait_for_the_parents_stream_and_may_have_its_own() -> None:
    with http_server(Server()) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        callbacks = Callbacks(client, "queued")
        callbacks.start(lambda *_: None, ResultDecoder)

        def has_its_own() -> bool:
            callbacks.wait(None)  # for nothing
            callbacks.start(lambda *_: None, ResultDecoder)
            callbacks.cancel()
            return True

        with callbacks._lock:  # as another thread may have it when somebody forks
            assert forked(has_its_own) == 0
        assert callbacks._stream is not None  # the parent's goes on
        assert not callbacks._stream.finished
        callbacks.cancel()
        client.close()
