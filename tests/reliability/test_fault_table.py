"""What a caller gets from each call when the line or the server fails: one row a fault, one column a call.

A platform server on a real socket does to a call what the row says, the first time or every time. Time runs thirty
times as fast for the client, sockets included: 30 s are one second here. "ok" means that the caller got what was asked
for, and that the server has one job; a name is the error that was raised instead.
"""

from __future__ import annotations

import contextlib
import json
import math
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from undisturbed import undisturbed

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeJob
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.request import NoJournal, Prepared, Request
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline
from prefect_runtime.client.submission import submit
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.wire.errors import IBMQError

FASTER = 30.0
STALL = 30.0  # seconds of the client's time
TIMEOUT = 20.0  # of a caller who waits for a job or its result, as above
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/account:guid::"

# The fault happens once, and the server is well again.
ONCE = """
                 submit              status  results                cancel                    token
401              ok                  ok      ok                     ok                        AuthenticationError
403              PermissionDenied    ok      PermissionDenied       PermissionDenied          AuthenticationError
404              ProgramNotFound     ok      ok                     JobNotFound               AuthenticationError
408              ok                  ok      ok                     ok                        ok
409              ApiError            ok      ok                     InvalidState              AuthenticationError
429-after-5-s    ok                  ok      ok                     ok                        ok
429              ok                  ok      ok                     ok                        ok
500              ok                  ok      ok                     ok                        ok
503              ok                  ok      ok                     ok                        ok
dropped-before   ok                  ok      ok                     ok                        ok
dropped-after    ok                  ok      ok                     ok                        ok
truncated        ok                  ok      ok                     ok                        ok
wrong-JSON       ok                  ok      ok                     ok                        ok
stall            ok                  ok      ok                     ok                        ok
"""

# It stays. Where a caller waits, nothing but his deadline, and what was said twice, ends that.
ALWAYS = """
                 submit              status               results              cancel               token
401              AuthenticationError AuthenticationError  AuthenticationError  AuthenticationError  AuthenticationError
403              PermissionDenied    PermissionDenied     PermissionDenied     PermissionDenied     AuthenticationError
404              ProgramNotFound     JobNotFound          JobNotFound          JobNotFound          AuthenticationError
408              SubmissionUnknown   JobTimeout           JobTimeout           AnswerLost           AuthenticationError
409              ApiError            JobTimeout           ResultLost           InvalidState         AuthenticationError
429-after-a-day  RateLimited         JobTimeout           JobTimeout           RateLimited          AuthenticationError
429              -                   JobTimeout           JobTimeout           RateLimited          AuthenticationError
500              SubmissionUnknown   JobTimeout           JobTimeout           ServerError          AuthenticationError
503              SubmissionUnknown   JobTimeout           JobTimeout           ServerError          AuthenticationError
dropped-before   SubmissionUnknown   JobTimeout           JobTimeout           AnswerLost           AuthenticationError
dropped-after    ok                  JobTimeout           JobTimeout           AnswerLost           AuthenticationError
truncated        ok                  JobTimeout           JobTimeout           AnswerLost           AuthenticationError
wrong-JSON       ok                  JobTimeout           GotText              ok                   AuthenticationError
stall            ok                  JobTimeout           JobTimeout           AnswerLost           AuthenticationError
"""
# "GotText": what comes the same four times is what the server has; programs may return a text that is no JSON.
# "-": a job that is offered for an hour; tests/unit/client/test_submission.py has that hour.


def rows(table: str) -> list[Any]:
    """The table's cells as parameters: fault, call, outcome."""
    head, *lines = [line.split() for line in table.strip().splitlines()]
    cells = [(line[0], call, outcome) for line in lines for call, outcome in zip(head, line[1:], strict=True)]
    return [pytest.param(*cell, id=" ".join(cell[1::-1])) for cell in cells if cell[2] != "-"]


class FastClock:
    """The real time, thirty times as fast."""

    def monotonic(self) -> float:
        return FASTER * time.monotonic()

    def processor_time(self) -> float:
        return time.thread_time()

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds / FASTER)

    def wait(self, condition: threading.Condition, seconds: float | None) -> bool:
        return condition.wait(None if seconds is None else seconds / FASTER)


class FastTransport(Transport):
    """Tells the sockets how long they really have."""

    def exchange(self, method: str, url: str, *, deadline: Deadline, **more: Any) -> Answer:
        return super().exchange(method, url, deadline=Deadline(deadline.remaining() / FASTER, SYSTEM_CLOCK), **more)


@dataclass
class Platform:
    """A platform with a fault in one of its calls.

    Attributes:
        fault: What it does to that call.
        call: Which one.
        times: How often it still does so.
        stall: How long it then says nothing, in real seconds.
    """

    fault: str = ""
    call: str = ""
    times: float = 0
    stall: float = STALL / FASTER
    jobs: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)
    over: threading.Event = field(default_factory=threading.Event)

    def has(self, job_id: str, word: str) -> str:
        self.jobs[job_id] = {"id": job_id, "status": word, "tags": [], "created": "2026-08-01T10:00:00Z"}
        return job_id

    def serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
        call = call_of(handler.command, handler.path)
        with self.lock:
            self.asked[call] += 1
            failing = call == self.call and self.times > 0
            self.times -= failing
        fault = self.fault if failing else ""
        status, _, more = fault.partition("-")
        if status.isdigit():
            after = {"after-5-s": "5", "after-a-day": "86400"}.get(more)
            send(handler, int(status), {"errors": [{"message": "on purpose"}]}, retry_after=after)
        elif fault == "dropped-before":
            handler.close_connection = True
        else:
            self._spoil(fault, handler, *self._answer(call, handler.path, body))

    def _answer(self, call: str, path: str, body: bytes) -> tuple[int, Any]:
        job_id = path.split("?", maxsplit=1)[0].split("/")[4] if path.count("/") >= 4 else ""
        with self.lock:
            if call == "token":
                return 200, {"access_token": f"token-{self.asked['token']}-0123456789", "expires_in": 3600}
            if call == "submit":
                made = self.has(f"j{len(self.jobs)}", "Queued")
                self.jobs[made]["tags"] = json.loads(body)["tags"]
                return 200, {"id": made}
            if call == "list":
                return 200, {"jobs": list(self.jobs.values())}
            if call == "status":
                return 200, self.jobs[job_id]
            if call == "results":
                return 200, {"answer": 42}
            if self.jobs[job_id]["status"] == "Cancelled":
                return 409, {"errors": [{"message": "final already"}]}
            self.jobs[job_id]["status"] = "Cancelled"
            return 204, None

    def _spoil(self, fault: str, handler: BaseHTTPRequestHandler, status: int, value: Any) -> None:
        if fault == "dropped-after":
            handler.close_connection = True
        elif fault == "truncated":
            handler.wfile.write(
                b'HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 900\r\n\r\n{"id": '
            )
            handler.close_connection = True
        elif fault == "wrong-JSON":
            send(handler, 200, "<html>")
        elif fault == "stall":
            self.over.wait(self.stall)
            handler.close_connection = True
        else:
            send(handler, status, value)


def call_of(method: str, path: str) -> str:
    last = path.split("?", maxsplit=1)[0].rpartition("/")[2]
    if method == "POST":
        return {"token": "token", "jobs": "submit", "cancel": "cancel"}[last]
    return {"jobs": "list", "results": "results"}.get(last, "status")


def send(handler: BaseHTTPRequestHandler, status: int, value: Any, *, retry_after: str | None = None) -> None:
    body = b"" if value is None else value.encode() if isinstance(value, str) else json.dumps(value).encode()
    handler.send_response(status)
    if retry_after is not None:
        handler.send_header("Retry-After", retry_after)
    if status != 204:
        handler.send_header("Content-Type", "application/json")
        handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    handler.wfile.write(body)


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: who has given up has closed the connection."""


@pytest.fixture
def platform() -> Iterator[Platform]:
    platform = Platform()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            platform.serve(self)

        do_POST = do_GET  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = _Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    platform.url = f"http://127.0.0.1:{server.server_port}"  # type: ignore[attr-defined]
    yield platform
    platform.over.set()
    server.shutdown()
    thread.join(10)
    server.server_close()


@contextlib.contextmanager
def connected(platform: Platform, *, fast: bool = True, request_timeout: float = 30.0) -> Iterator[RuntimeClient]:
    url = platform.url  # type: ignore[attr-defined]
    credentials = Credentials(
        channel="ibm_quantum_platform", token="key-0123456789abcdef", instance=CRN, url=f"{url}/api/v1", auth_url=url
    )
    clock: Clock = FastClock() if fast else SYSTEM_CLOCK
    transport = (FastTransport if fast else Transport)(credentials)
    client = RuntimeClient(credentials, request_timeout=request_timeout, clock=clock, transport=transport)
    try:
        yield client
    finally:
        client.close()


REQUEST = Request(program_id="p", inputs={}, backend="b")
PREPARED = Prepared(backend="b", params="{}")


def do_submit(client: RuntimeClient, platform: Platform, timeout: float) -> None:
    card = submit(REQUEST, client, NoJournal(), lambda: PREPARED, settle_seconds=10)
    assert list(platform.jobs) == [card.job_id]


def do_status(client: RuntimeClient, platform: Platform, timeout: float) -> None:
    job_of(client, platform.has("j0", "Completed")).wait_for_final_state(timeout=timeout)


class GotTextError(IBMQError):
    """A result that is not JSON was handed on as the text it is."""


def do_results(client: RuntimeClient, platform: Platform, timeout: float) -> None:
    result = job_of(client, platform.has("j0", "Completed")).result(timeout=timeout)
    if isinstance(result, str):
        raise GotTextError
    assert result == {"answer": 42}


def do_cancel(client: RuntimeClient, platform: Platform, timeout: float) -> None:
    client.cancel(platform.has("j0", "Running"))
    assert platform.jobs["j0"]["status"] == "Cancelled"


def do_token(client: RuntimeClient, platform: Platform, timeout: float) -> None:
    assert client.job(platform.has("j0", "Running")).id == "j0"


def job_of(client: RuntimeClient, job_id: str) -> RuntimeJob:
    return RuntimeJob(Backend("b"), client, client.credentials, job_id, "p")


CALLS: dict[str, Callable[[RuntimeClient, Platform, float], None]] = {
    "submit": do_submit, "status": do_status, "results": do_results, "cancel": do_cancel, "token": do_token,
}  # fmt: skip


def outcome_of(call: str, client: RuntimeClient, platform: Platform, timeout: float = TIMEOUT) -> str:
    """What a caller gets, in the table's words."""
    try:
        CALLS[call](client, platform, timeout)
    except IBMQError as error:
        name = type(error).__name__.removeprefix("Runtime")
        return name if name in ("AuthenticationError", "ApiError", "ServerError") else name.removesuffix("Error")
    return "ok"


@pytest.mark.parametrize(("fault", "call", "outcome"), rows(ONCE))
def test_a_fault_that_passes(fault: str, call: str, outcome: str, platform: Platform) -> None:
    # 60 s for who waits: a stall of 30 s is no reason not to get it.
    with connected(platform) as client:
        platform.fault, platform.call, platform.times = fault, call, 1
        assert outcome_of(call, client, platform, timeout=60.0) == outcome
    assert platform.times == 0
    assert len(platform.jobs) == (1 if outcome == "ok" or call != "submit" else 0)
    if fault == "401" and call != "token":
        assert platform.asked["token"] == 2


@pytest.mark.pr
@pytest.mark.parametrize(("fault", "call", "outcome"), rows(ALWAYS))
def test_a_fault_that_stays(fault: str, call: str, outcome: str, platform: Platform) -> None:
    def seconds() -> float:
        platform.jobs.clear()
        platform.asked.clear()
        platform.fault, platform.call, platform.times = fault, call, math.inf
        with connected(platform) as client:
            began = time.monotonic()
            assert outcome_of(call, client, platform) == outcome
            took = time.monotonic() - began
        assert len(platform.jobs) == (0 if call == "submit" and outcome != "ok" else 1)
        if fault == "401" and call != "token":
            assert platform.asked["token"] == 2  # one forced renewal
        return took

    most = TIMEOUT / FASTER + 0.5 if call in ("status", "results") else math.inf
    assert undisturbed(seconds, below=most) < most


@pytest.mark.parametrize("call", CALLS)
def test_a_stall_outlives_no_deadline_by_more_than_half_a_second(call: str, platform: Platform) -> None:
    """In real time. The deadline of a call that takes none is the time of its requests."""
    platform.stall = 20.0
    # Where the caller has a time of his own, that of a request is longer, so that it can be no help.
    request_timeout = 0.5 if call in ("cancel", "token") else 5.0

    def seconds() -> float:
        platform.times = 0
        with connected(platform, fast=False, request_timeout=request_timeout) as client:
            if call != "token":
                client.job(platform.has("j0", "Running"))  # signs in
                platform.jobs.clear()
            platform.fault, platform.call, platform.times = "stall", call, math.inf
            began = time.monotonic()
            with pytest.raises(IBMQError):
                if call == "submit":
                    client.run_job({"program_id": "p", "tags": []}, "{}", deadline=Deadline(1.0))
                else:
                    CALLS[call](client, platform, 1.0)
            return time.monotonic() - began

    most = (1.0 if call in ("submit", "status", "results") else 0.5) + 0.5
    assert undisturbed(seconds, below=most) < most
