"""Interim results from scripted servers: without acknowledgement, with drops, replays, refusals and odd closes."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from websockets.sync.server import ServerConnection

from prefect_runtime.client import JobStatus, RuntimeJob

from .support import Script, StreamServer, callbacks_run, drop, eventually, our_threads

ACKNOWLEDGEMENT = f"Listening to results for job: {StreamServer.job_id}"


@pytest.fixture(autouse=True)
def no_threads_of_ours_are_left() -> Iterator[None]:
    """Every test: a stream that is over leaves no thread."""
    before = our_threads()
    yield
    eventually(lambda: our_threads() <= before, what="the end of all threads of ours")


def sends(*texts: str, then: Callable[[ServerConnection], Any] = ServerConnection.close) -> Script:
    """A script: these frames, then a normal close, or something else."""

    def script(connection: ServerConnection) -> None:
        for text in texts:
            connection.send(text)
        then(connection)

    return script


def finishing(server: StreamServer, *texts: str) -> Script:
    """A script: these frames, then the job is done and the server closes normally."""

    def end(connection: ServerConnection) -> None:
        server.word = "Completed"
        connection.close(1000)

    return sends(*texts, then=end)


def stream(server: StreamServer, *scripts: Script | int, request_timeout: float = 5) -> tuple[RuntimeJob, list[Any]]:
    """Stream until the end; gives the job and what its callback got."""
    got: list[Any] = []
    server._scripts = list(scripts)
    job = server.job(lambda job_id, value: got.append((job_id, value)), request_timeout=request_timeout)
    eventually(lambda: not callbacks_run(), seconds=20, what="the end of the stream")
    assert all(job_id == server.job_id for job_id, _ in got)
    return job, [value for _, value in got]


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as server:
        yield server


def test_a_server_without_acknowledgement_loses_nothing(server: StreamServer) -> None:
    assert stream(server, finishing(server, "1", "2"))[1] == [1, 2]


def test_an_acknowledgement_is_no_result(server: StreamServer) -> None:
    assert stream(server, finishing(server, ACKNOWLEDGEMENT, "1", "2"))[1] == [1, 2]


def test_an_acknowledgement_on_every_connection_is_no_result(server: StreamServer) -> None:
    first = sends(ACKNOWLEDGEMENT, "1", then=drop)
    assert stream(server, first, finishing(server, ACKNOWLEDGEMENT, "2"))[1] == [1, 2]


def test_text_that_is_no_json_is_a_result_after_the_first_frame(server: StreamServer) -> None:
    assert stream(server, finishing(server, ACKNOWLEDGEMENT, "no json", ACKNOWLEDGEMENT))[1] == [
        "no json",
        ACKNOWLEDGEMENT,
    ]


@pytest.mark.parametrize("ends", [drop, lambda c: c.close(1011), lambda c: c.close(1001)], ids=["cut", "1011", "1001"])
@pytest.mark.parametrize("replay", [True, False])
def test_each_result_comes_once_in_order_across_broken_connections(
    server: StreamServer, replay: bool, ends: Callable[[ServerConnection], Any]
) -> None:
    one = sends(ACKNOWLEDGEMENT, "1", "2", then=ends)
    two = sends(*(["1", "2"] if replay else []), "3", then=ends)
    three = finishing(server, *(["1", "2", "3"] if replay else []), "4", "5")
    last = finishing(server, "1", "2", "3", "4", "5")
    assert stream(server, one, two, three, last)[1] == [1, 2, 3, 4, 5]
    # One more tells for certain that what looked like a replay was one: new results may look like the first ones.
    assert server.connections == 3 + replay


def test_ten_idle_drops_while_queued_do_not_end_the_stream(server: StreamServer) -> None:
    server.word = "Queued"
    drops = [sends(ACKNOWLEDGEMENT, then=drop)] * 10
    assert stream(server, *drops, finishing(server, ACKNOWLEDGEMENT, "1"))[1] == [1]


def test_a_normal_close_of_a_finished_job_ends_the_stream_with_one_connection(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        assert stream(server, finishing(server, "1"))[1] == [1]
    assert server.connections == 1
    assert not caplog.records


def test_a_normal_close_while_the_job_still_runs_loses_nothing(server: StreamServer) -> None:
    assert stream(server, sends("1"), finishing(server, "2"))[1] == [1, 2]


@pytest.mark.parametrize(("status", "times"), [(401, 1), (404, 2), (403, 1)])
def test_a_refused_handshake_is_not_repeated_and_is_logged(
    server: StreamServer, caplog: pytest.LogCaptureFixture, status: int, times: int
) -> None:
    """A 404 is, once: a known job is gone when that is said twice in a row."""
    with caplog.at_level(logging.WARNING):
        job, got = stream(server, *[status] * 3)
    assert got == []
    assert server.connections == times
    assert str(status) in caplog.text
    assert job.job_id() in caplog.text


def test_a_redirect_for_a_finished_job_ends_the_stream_and_is_not_followed(server: StreamServer) -> None:
    server.word = "Completed"
    job, got = stream(server, 302)
    assert got == []
    assert server.connections == 1
    assert job.status() is JobStatus.DONE


def test_a_server_that_refuses_for_a_moment_is_asked_again(server: StreamServer) -> None:
    assert stream(server, 503, 302, finishing(server, "1"))[1] == [1]


def test_a_stream_that_drops_survives_a_server_that_cannot_tell_the_status_for_a_while(server: StreamServer) -> None:
    def down(connection: ServerConnection) -> None:
        server.failures = 50
        drop(connection)

    def up_again() -> None:
        server.failures = 0

    restart = threading.Timer(2.0, up_again)
    restart.start()
    assert stream(server, sends("1", then=down), finishing(server, "1", "2"), request_timeout=1)[1] == [1, 2]
    restart.join()


def test_a_stream_that_breaks_off_at_the_end_is_warned_of_and_the_status_is_right(
    server: StreamServer, caplog: pytest.LogCaptureFixture
) -> None:
    def end(connection: ServerConnection) -> None:
        server.word = "Completed"
        drop(connection)

    with caplog.at_level(logging.WARNING):
        job, got = stream(server, sends("1", then=end))
    assert got == [1]
    assert "may be missing" in caplog.text
    assert job.status() is JobStatus.DONE


def test_a_cancel_before_the_connection_stands_lets_no_callback_start(server: StreamServer) -> None:
    asked, go = threading.Event(), threading.Event()
    original = server._request

    def slow(*arguments: Any) -> Any:
        asked.set()
        go.wait(5)
        return original(*arguments)

    server._request = slow  # type: ignore[method-assign]
    server.__exit__()
    got: list[Any] = []
    with server:
        server._scripts = [finishing(server, "1", "2")]
        job = server.job(lambda *arguments: got.append(arguments))
        asked.wait(5)
        job.cancel_result_streaming()
        go.set()
        eventually(lambda: not callbacks_run())
    time.sleep(0.05)
    assert got == []


def test_the_token_is_sent_as_a_header_and_not_in_the_address(server: StreamServer) -> None:
    seen = []
    original = server._request

    def look(connection: ServerConnection, request: Any) -> Any:
        seen.append(request)
        return original(connection, request)

    server._request = look  # type: ignore[method-assign]
    server.__exit__()
    with server:
        stream(server, finishing(server, "1"))
    token = server.credentials.token
    assert token is not None
    assert [request.headers.get("X-Access-Token") for request in seen] == [token] * len(seen)
    assert all(token not in request.path for request in seen)
