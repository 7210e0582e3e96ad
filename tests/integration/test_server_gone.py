"""The server is not there, stops answering, or comes back: typed errors in time, and no wait that hangs or is lost."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN
from undisturbed import seconds_of, undisturbed

from prefect_runtime.client import Credentials, JobStatus, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConnectFailedError,
    JobTimeoutError,
    ProtocolError,
    QiskitRuntimeError,
    RuntimeJobFailureError,
    SubmissionUnknownError,
    TransportError,
)

from .programs import ECHO, HOLDS
from .support import Served, elapsed, eventually, free_port, http_server, job_document, tcp_server

REQUEST_SECONDS = 3.0
METADATA = {"name": "of a test", "description": "of a test", "max_execution_time": 60}

CALLS: dict[str, Callable[[RuntimeService, str], Any]] = {
    "backends": lambda service, _: service.backends(),
    "backend": lambda service, _: service.backend("generic_27q"),
    "least_busy": lambda service, _: service.least_busy(),
    "programs": lambda service, _: service.programs(),
    "program": lambda service, _: service.program("p"),
    "upload_program": lambda service, _: service.upload_program(ECHO, METADATA),
    "update_program": lambda service, _: service.update_program("p", metadata=METADATA),
    "delete_program": lambda service, _: service.delete_program("p"),
    "run": lambda service, _: service.run("p", {}),
    "jobs": lambda service, _: service.jobs(),
    "job": lambda service, job_id: service.job(job_id),
    "delete_job": lambda service, job_id: service.delete_job(job_id),
    "status": lambda service, job_id: service.handle(job_id).status(),
    "error_message": lambda service, job_id: service.handle(job_id).error_message(),
    "creation_date": lambda service, job_id: service.handle(job_id).creation_date,
    "logs": lambda service, job_id: service.handle(job_id).logs(),
    "metrics": lambda service, job_id: service.handle(job_id).metrics(),
    "interim_results": lambda service, job_id: service.handle(job_id).interim_results(),
    "cancel": lambda service, job_id: service.handle(job_id).cancel(),
    "stream_results": lambda service, job_id: service.handle(job_id).stream_results(print),
    "wait": lambda service, job_id: service.handle(job_id).wait_for_final_state(timeout=2, wait=60),
    "result": lambda service, job_id: service.handle(job_id).result(timeout=2),
    "classic run": lambda service, _: _as_classic(service).run("p", {}, backend="b"),
}


def _as_classic(service: RuntimeService) -> RuntimeService:
    credentials = Credentials(channel="classic", url=service.credentials.url, token=ACCESS_TOKEN)
    return RuntimeService(credentials, request_timeout=REQUEST_SECONDS, settle_seconds=0)


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a call ended."""

    seconds: float
    error: BaseException | None


Outcomes = dict[str, Future[Outcome]]


def call_all(url: str) -> Iterator[Outcomes]:
    """Make every call at the same time, each with a connection of its own, against one server."""

    def call(name: str) -> Outcome:
        credentials = Credentials(channel="local", url=url, token=f"token-of-{name.replace(' ', '-')}")
        seconds = elapsed()
        error: BaseException | None = None
        with RuntimeService(credentials, request_timeout=REQUEST_SECONDS) as service:
            try:
                CALLS[name](service, "some-job")
            except Exception as caught:  # noqa: BLE001 - its type is what is tested
                error = caught
        return Outcome(seconds(), error)

    pool = ThreadPoolExecutor(len(CALLS))
    yield {name: pool.submit(call, name) for name in CALLS}
    pool.shutdown(wait=False)


@pytest.fixture(scope="module")
def dead() -> Iterator[Outcomes]:
    """The calls against a port where nobody listens any more."""
    yield from call_all(f"http://127.0.0.1:{free_port()}")


@pytest.fixture(scope="module")
def silent() -> Iterator[Outcomes]:
    """The calls against a server that takes requests and never answers."""
    over = threading.Event()
    with tcp_server(lambda _: over.wait(60) and None) as url:
        yield from call_all(url)
        over.set()


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("kind", ["dead", "silent"])
def test_every_call_ends_in_time_with_a_typed_error_that_says_what_to_do(
    dead: Outcomes, silent: Outcomes, kind: str, name: str
) -> None:
    outcome = (dead if kind == "dead" else silent)[name].result(timeout=4 * REQUEST_SECONDS + 2)
    error = outcome.error
    assert isinstance(error, QiskitRuntimeError)
    if kind == "silent" and name == "classic run":
        # The request was sent: it may have made a job, and the server cannot be asked. Twice the time, then the look.
        assert isinstance(error, SubmissionUnknownError)
        assert outcome.seconds < 4 * REQUEST_SECONDS
        assert error.key in str(error)
    elif name in ("wait", "result"):
        assert isinstance(error, JobTimeoutError)
        # Not its `wait` of 60 s; how exact it is: tests/reliability/test_fault_table.py.
        assert 2 <= outcome.seconds < REQUEST_SECONDS + 2
        assert "some-job" in str(error)
    else:
        assert isinstance(error, ConnectFailedError if kind == "dead" else TransportError)
        assert outcome.seconds < 2 * REQUEST_SECONDS  # it was not asked twice
        assert "Is the server up" in str(error)
    # Nothing of the drivers' is shown: their exceptions carry the request with its headers.
    assert error.__cause__ is None
    assert error.__suppress_context__ or error.__context__ is None
    shown = "".join(traceback.format_exception(error))
    assert "requests.exceptions" not in shown
    assert "urllib3.exceptions" not in shown
    assert "token-of-" not in shown


@pytest.mark.pr
def test_a_wait_survives_a_restart_of_the_server_in_its_middle(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(slots=1, port=free_port())
    gate = tmp_path / "gate"
    with RuntimeService(served.credentials, request_timeout=REQUEST_SECONDS) as service:
        program = service.upload_program(HOLDS, METADATA)
        running, queued = (service.run(program, {"gate": str(gate)}) for _ in range(2))
        eventually(lambda: running.status() is JobStatus.RUNNING)
        with ThreadPoolExecutor(2) as pool:
            first, second = pool.submit(running.result, timeout=20), pool.submit(queued.result, timeout=20)
            time.sleep(0.2)
            served.kill()
            gate.touch()
            time.sleep(0.5)
            assert not first.done()
            assert not second.done()
            served.start()
            assert second.result(20) == "held"
            with pytest.raises(RuntimeJobFailureError, match="restarted"):
                first.result(20)


@pytest.mark.pr
def test_one_handle_works_again_after_a_restart(serve: Callable[..., Served]) -> None:
    served = serve(slots=1, port=free_port())
    with RuntimeService(served.credentials) as service:
        job = service.run(service.upload_program(ECHO, METADATA), {"value": 1})
        job.wait_for_final_state(timeout=10)
        served.kill()
        with pytest.raises(JobTimeoutError, match="is done, but its result had not come"):
            job.result(timeout=1)
        served.start()
        assert job.result() == 1


def classic(url: str, *, request_timeout: float = 1.0) -> tuple[RuntimeClient, RuntimeJob]:
    """A client of a scripted server, and its job "j"."""
    credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
    client = RuntimeClient(credentials, request_timeout=request_timeout)
    return client, RuntimeJob(Backend("b"), client, credentials, "j", "p")


@pytest.mark.parametrize("place", ["in the headers", "in the body"])
def test_a_server_that_drips_cannot_hold_a_call_past_its_deadline(place: str) -> None:
    def drip(connection: socket.socket) -> None:
        start = b"HTTP/1.1 200 OK\r\nX-Slow: " + (b"" if place == "in the headers" else b"no\r\n\r\n{")
        connection.sendall(start)
        end = time.monotonic() + 4
        while time.monotonic() < end:
            connection.sendall(b" ")
            time.sleep(0.2)

    with tcp_server(drip) as url:
        _, job = classic(url)

        def ask_in_vain() -> None:
            with pytest.raises(TransportError):
                job.status()

        assert undisturbed(lambda: seconds_of(ask_in_vain), below=2) < 2


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"no HTTP\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{",
        b'HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{"id',
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nno",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n[]",
    ],
)
def test_half_an_answer_is_a_typed_error(raw: bytes) -> None:
    with (
        tcp_server(lambda connection: connection.sendall(raw)) as url,
        pytest.raises((AnswerLostError, ProtocolError)),
    ):
        classic(url, request_timeout=30)[1].status()


@pytest.mark.parametrize(
    "members", [{"tags": 5}, {"state": "text"}, {"program": 5}, {"usage": "much"}, {"created": 5}, {"params": 5}]
)
def test_a_document_with_odd_members_does_not_make_a_wait_hang(members: dict[str, Any]) -> None:
    with http_server(lambda *_: (200, job_document("j", "Completed", **members))) as url:
        _, job = classic(url)
        with contextlib.suppress(ProtocolError):
            job.wait_for_final_state(timeout=3)  # a JobTimeoutError means: nobody watches any more


def test_run_does_not_lose_the_job_when_the_server_fails_right_after_taking_it() -> None:
    def answer(request: Any, _: bytes) -> tuple[int, Any]:
        return (200, {"id": "j"}) if request.command == "POST" else (503, {"error": {"message": "down", "code": 503}})

    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        with RuntimeService(credentials, request_timeout=1, settle_seconds=0) as service:
            try:
                job_id = service.run("p", {}, backend="b").job_id()
            except QiskitRuntimeError as error:
                job_id = error.job_id or "lost: who repeats this call makes a second job"
    assert job_id == "j"


def test_a_failed_poll_ends_no_wait() -> None:
    polls = 0

    def answer(*_: Any) -> tuple[int, Any] | None:
        nonlocal polls
        polls += 1
        return {1: (503, "down"), 2: None, 3: (200, "no json"), 4: (429, "slow"), 5: (404, {})}.get(
            polls, (200, job_document("j", "Completed"))
        )

    with http_server(answer) as url:
        _, job = classic(url)
        job.wait_for_final_state(timeout=10, wait=0.05)
    assert polls == 6
    assert job.status() is JobStatus.DONE
