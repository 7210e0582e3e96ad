"""What a client of the classic service must do, from a list drawn up before there was one: see tests/BEHAVIOURS.md.

Only what no other test shows; each against a scripted server, and counted there.
"""

from __future__ import annotations

import base64
import contextlib
import json
import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from canaries.values import ACCESS_TOKEN, API_KEY
from pydantic import SecretStr
from undisturbed import seconds_of, undisturbed
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from prefect_runtime.blocks import RuntimeCredentials
from prefect_runtime.client import Credentials, JobStatus, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import (
    ConfigurationError,
    ConnectFailedError,
    IBMQError,
    JobTimeoutError,
    PermissionDeniedError,
    QiskitRuntimeError,
    ResultDecodeError,
    RuntimeDuplicateProgramError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    RuntimeJobNotFound,
    SubmissionUnknownError,
    TransportError,
)

from .programs import ECHO
from .support import (
    Answer,
    Script,
    StreamServer,
    callbacks_run,
    drop,
    elapsed,
    eventually,
    http_server,
    job_document,
    self_signed,
)
from .test_classic_sequence import GATED
from .test_secrets import verbs
from .test_streaming_servers import ACKNOWLEDGEMENT, finishing, sends, stream

API_TOKEN = API_KEY
METADATA = {"name": "n", "description": "d", "max_execution_time": 60}
SOURCE = "def main(backend, user_messenger): pass\n"

Page = Answer | Callable[[], Answer]


class Sent(NamedTuple):
    """One request as the server got it; `path` without the query."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


class Pages:
    """A classic server: what it says to "METHOD /path", else 404; keeps what it was sent."""

    def __init__(self, pages: Mapping[str, Page]) -> None:
        self.pages = dict(pages)
        self.sent: list[Sent] = []

    def __call__(self, request: Any, body: bytes) -> Answer:
        path = request.path.partition("?")[0]
        self.sent.append(Sent(request.command, path, dict(request.headers), body))
        page = self.pages.get(f"{request.command} {path}", (404, {"error": {"message": "no such page", "code": 404}}))
        return page() if callable(page) else page

    def count(self, method: str, path: str) -> int:
        """How often something was asked for."""
        return sum((sent.method, sent.path) == (method, path) for sent in self.sent)


@contextlib.contextmanager
def classic(pages: Mapping[str, Page], *, request_timeout: float = 5.0) -> Iterator[tuple[Pages, RuntimeService]]:
    """A scripted server, and a service that uses it; its job is called "j"."""
    server = Pages(pages)
    with http_server(server) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN, instance="h/g/p")
        with RuntimeService(credentials, settle_seconds=0, request_timeout=request_timeout) as service:
            yield server, service


def text(body: str, content_type: str = "text/plain") -> bytes:
    """A whole answer: UTF-8, of which the headers say nothing."""
    data = body.encode()
    return f"HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data


def job(word: str, **members: Any) -> Page:
    """A page of the job "j"."""
    return 200, job_document("j", word, **members)


# 1 and 2: signing in


def login_pages(valid: set[str]) -> dict[str, Page]:
    """A sign-in that gives access-1, access-2, …, of which the last is valid; the runtime is where "urls" says."""
    made: list[str] = []

    def login() -> Answer:
        made.append(f"access-token-{len(made) + 1}")
        valid.clear()
        valid.add(made[-1])
        return 200, {"id": made[-1]}

    return {"POST /auth/users/loginWithToken": login}


def test_the_login_comes_first_and_its_token_is_on_every_call() -> None:
    server = Pages(login_pages(set()))
    with http_server(server) as url:
        server.pages["GET /auth/users/me"] = 200, {"urls": {"services": {"runtime": f"{url}/runtime"}}}
        credentials = Credentials(channel="classic", auth_url=f"{url}/auth", token=API_TOKEN)
        with RuntimeService(credentials, settle_seconds=0, request_timeout=2) as service:
            for verb in verbs(service):
                with contextlib.suppress(QiskitRuntimeError):
                    verb()
    login, me, *calls = server.sent
    assert (login.method, login.path) == ("POST", "/auth/users/loginWithToken")
    assert json.loads(login.body) == {"apiToken": API_TOKEN}
    assert me.path == "/auth/users/me"
    assert {call.path for call in calls} > {"/runtime/jobs", "/runtime/programs", "/runtime/stream/jobs/j"}
    assert all(call.path.startswith("/runtime/") for call in calls)
    assert {sent.headers.get("X-Access-Token") for sent in (me, *calls)} == {"access-token-1"}
    assert "X-Access-Token" not in login.headers
    assert not [sent for sent in (me, *calls) if API_TOKEN in repr(sent)]


def test_a_token_that_expires_in_the_middle_of_a_wait_costs_one_login_and_one_more_poll() -> None:
    valid: set[str] = set()
    refused = 0
    server = Pages(login_pages(valid))

    def poll() -> Answer:
        nonlocal refused
        polls = server.count("GET", "/runtime/jobs/j")
        if polls == 3:
            valid.clear()
        if server.sent[-1].headers["X-Access-Token"] not in valid:
            refused += 1
            return 401, {"error": {"message": "expired", "code": 401}}
        return 200, job_document("j", "Completed" if polls > 5 else "Running")

    with http_server(server) as url:
        server.pages |= {
            "GET /auth/users/me": (200, {"urls": {"services": {"runtime": f"{url}/runtime"}}}),
            "GET /runtime/jobs/j": poll,
        }
        credentials = Credentials(channel="classic", auth_url=f"{url}/auth", token=API_TOKEN)
        with RuntimeService(credentials) as service:
            service.handle("j").wait_for_final_state(timeout=10, wait=0.05)
    assert (server.count("POST", "/auth/users/loginWithToken"), refused) == (2, 1)
    assert server.count("GET", "/runtime/jobs/j") == 6


# 4 and 6: running


@pytest.mark.parametrize(
    ("options", "more"),
    [
        ({}, {}),
        (
            {"log_level": "debug", "image": "name:tag", "max_execution_time": 60, "session_id": "s", "private": True},
            {"log_level": "DEBUG", "runtime": "name:tag", "cost": 60, "session_id": "s", "private": True},
        ),
    ],
    ids=["nothing optional", "all of it"],
)
def test_a_job_request_has_what_was_given_and_no_other_member(options: dict[str, Any], more: dict[str, Any]) -> None:
    with classic({"POST /jobs": (200, {"id": "j"})}) as (server, service):
        service.run("p", {"n": 1}, options={"backend_name": "b"}, **options)
    (body,) = [json.loads(sent.body) for sent in server.sent if sent.method == "POST"]
    assert len(body.pop("tags")) == 2
    assert body == {
        **{"program_id": "p", "backend": "b", "params": {"n": 1}},
        **{"hub": "h", "group": "g", "project": "p"},
        **more,
    }


def test_whole_seconds_are_a_whole_number_however_they_are_written() -> None:
    """A block's field makes 60.0 of 60; IBM's service and client know whole seconds only."""
    with classic({"POST /jobs": (200, {"id": "j"}), "GET /jobs": (200, {"jobs": []})}) as (server, service):
        for limit in (60, 60.0):
            service.run("p", {}, backend="b", max_execution_time=limit, idempotency_key="one request")
    bodies = [json.loads(sent.body) for sent in server.sent if sent.method == "POST"]
    assert [repr(body["cost"]) for body in bodies] == ["60", "60"]
    assert bodies[0]["tags"] == bodies[1]["tags"]


@pytest.mark.parametrize("answer", [500, 504, "hangs up", "half an answer", "silence"])
def test_a_job_request_without_an_answer_is_not_sent_twice(answer: int | str) -> None:
    over = threading.Event()

    def lose() -> Answer:
        if answer == "silence":
            over.wait(10)
        if answer == "half an answer":
            return b'HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\n{"id": "j'
        return (answer, "down") if isinstance(answer, int) else None

    pages: dict[str, Page] = {"POST /jobs": lose, "GET /jobs": (200, {"jobs": [], "count": 0})}
    with (
        classic(pages, request_timeout=0.2) as (server, service),
        pytest.raises(SubmissionUnknownError) as caught,
    ):
        service.run("p", {}, backend="b")
    over.set()
    assert server.count("POST", "/jobs") == 1
    assert caught.value.key in server.sent[0].body.decode()


# 10, 14, 15, 22, 24, 26: what the server says of a job


def test_a_status_nobody_knows_is_an_error_and_named_at_the_deadline_of_a_wait() -> None:
    with classic({"GET /jobs/j": job("Pending")}) as (_, service):
        handle = service.handle("j")
        with pytest.raises(IBMQError, match="'Pending'"):
            handle.status()

        def wait_in_vain() -> None:
            with pytest.raises(JobTimeoutError, match="'Pending'"):
                handle.result(timeout=0.2, wait=0.05)

        assert 0.2 <= undisturbed(lambda: seconds_of(wait_in_vain), below=0.7) < 0.7


def test_a_failed_jobs_error_has_its_id_and_what_stands_in_place_of_the_result() -> None:
    with classic({"GET /jobs/j": job("Failed"), "GET /jobs/j/results": text("Traceback: é broke")}) as (_, service):
        with pytest.raises(RuntimeJobFailureError, match=r"Job j has failed: Traceback: é broke") as caught:
            service.handle("j").result(timeout=5)
        assert (caught.value.reason, caught.value.job_id) == ("Traceback: é broke", "j")


def test_a_result_that_cannot_be_read_says_whose_it_is() -> None:
    lies = {"__type__": "complex", "__value__": "no number"}
    with classic({"GET /jobs/j": job("Completed"), "GET /jobs/j/results": (200, lies)}) as (_, service):
        with pytest.raises(ResultDecodeError, match=r"^Job j: A 'complex' value .* cannot be read") as caught:
            service.handle("j").result(timeout=5)
        assert caught.value.job_id == "j"


@pytest.mark.parametrize(
    ("results", "reason"),
    [
        ((200, ""), ""),
        ((200, ""), "the cryostat is warm"),
        ((204, ""), ""),
        ((404, {"error": {"message": "not found"}}), ""),
        ((404, {"error": {"message": "not found"}}), "the cryostat is warm"),
    ],
    ids=["empty", "empty with a reason", "204", "404", "404 with a reason"],
)
def test_a_failed_job_without_a_result_is_a_failed_job_with_the_reason_there_is(results: Page, reason: str) -> None:
    pages: dict[str, Page] = {
        "GET /jobs/j": job("Failed", state={"status": "Failed", "reason": reason}),
        "GET /jobs/j/results": results,
    }
    with classic(pages) as (_, service):
        handle = service.handle("j")
        for _ in range(2):
            with pytest.raises(RuntimeJobFailureError, match=reason or "no reason") as caught:
                handle.result(timeout=5)
            assert "None" not in str(caught.value)
        assert handle.status() is JobStatus.ERROR
        assert handle.error_message() == str(caught.value)


def test_a_failure_waits_for_its_reason_no_longer_than_its_caller() -> None:
    over = threading.Event()

    def silence() -> Answer:
        over.wait(20)
        return None

    with classic({"GET /jobs/j": job("Failed"), "GET /jobs/j/results": silence}, request_timeout=30) as (_, service):
        took = elapsed()
        with pytest.raises(RuntimeJobFailureError, match="no reason"):
            service.handle("j").result(timeout=1)
        assert took() < 10  # the silence is of 20
        over.set()


@pytest.mark.parametrize(("status", "kind"), [(403, PermissionDeniedError), (404, RuntimeJobNotFound)])
def test_a_cancel_that_is_refused_is_a_typed_error_and_makes_no_status_up(status: int, kind: type[Exception]) -> None:
    refusal = status, {"error": {"message": "no", "code": status}}
    with classic({"GET /jobs/j": job("Running"), "POST /jobs/j/cancel": refusal}) as (server, service):
        handle = service.handle("j")
        with pytest.raises(kind) as caught:
            handle.cancel()
        assert isinstance(caught.value, QiskitRuntimeError)
        assert not isinstance(caught.value, RuntimeInvalidStateError)
        assert handle.status() is JobStatus.RUNNING
    assert server.count("POST", "/jobs/j/cancel") == 1


def test_a_job_without_a_log_has_an_empty_one() -> None:
    with classic({"GET /jobs/j": job("Completed")}) as (server, service):
        assert service.handle("j").logs() == ""
    assert server.count("GET", "/jobs/j/logs") == 1


INPUTS = {"z": {"__type__": "complex", "__value__": [1.0, -2.0]}, "text": "é"}


@pytest.mark.parametrize(
    "wrapped",
    [INPUTS, [INPUTS], json.dumps(INPUTS), [json.dumps(INPUTS)]],
    ids=["object", "list", "text", "list of text"],
)
def test_inputs_come_back_decoded_from_every_wrapping(wrapped: Any) -> None:
    with classic({"GET /jobs/j": job("Queued", params=wrapped)}) as (_, service):
        assert service.job("j").inputs == {"z": 1 - 2j, "text": "é"}


# 17, 19, 20, 21: results


def test_an_array_is_the_same_array_when_the_result_is_asked_for_twice(run: Callable[..., RuntimeJob]) -> None:
    array = np.array([[0.5, -1.0], [np.inf, 2.0]])
    handle = run(ECHO, {"value": array})
    for _ in range(2):
        again = handle.result()
        assert (again.dtype, again.shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(again, array)


@pytest.mark.parametrize("said", ["été: no JSON ☃", "", "{'a': 1}"])
def test_a_result_that_is_no_json_is_its_text_and_fetched_once(said: str) -> None:
    pages: dict[str, Page] = {
        "GET /jobs/j": job("Completed"),
        "GET /jobs/j/results": text(said),
        "GET /jobs/j/logs": text(said),
    }
    with classic(pages) as (server, service):
        handle = service.handle("j")
        assert [handle.result(timeout=5), handle.result(timeout=5)] == [said, said]
        assert handle.logs() == said
    assert server.count("GET", "/jobs/j/results") == 1


# 44: paging


class JobList:
    """A server's list of jobs, newest first, which may change between two pages; says a wrong count."""

    def __init__(
        self, size: int, change: Callable[[list[str]], object] = lambda ids: None, count: int = 10_000
    ) -> None:
        self.ids = [f"j{number}" for number in reversed(range(size))]
        self.asked: list[tuple[int, int]] = []
        self._change = change
        self._count = count

    def __call__(self, request: Any, _: bytes) -> Answer:
        if not request.path.startswith("/jobs?"):
            return 404, {}
        query = dict(pair.split("=") for pair in request.path.partition("?")[2].split("&"))
        limit, offset = int(query["limit"]), int(query.get("offset", 0))
        self.asked.append((limit, offset))
        page = [] if len(self.asked) > 20 else self.ids[offset : offset + limit]
        self._change(self.ids)
        return 200, {"jobs": [job_document(one, "Completed", backend="") for one in page], "count": self._count}

    def found(self, **options: Any) -> list[str]:
        """Ask for jobs, as a user does."""
        with http_server(self) as url:
            credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
            with RuntimeService(credentials) as service:
                return [found.job_id() for found in service.jobs(**options)]


@pytest.mark.parametrize(
    ("size", "pages", "count"), [(0, 1, 10_000), (199, 1, 200), (200, 2, 200), (450, 3, 0), (450, 3, 10_000)]
)
def test_a_list_ends_with_a_short_page_whatever_the_servers_count_says(size: int, pages: int, count: int) -> None:
    server = JobList(size, count=count)
    assert server.found(limit=None) == server.ids
    assert len(server.asked) == pages


def test_more_left_out_than_there_are_is_an_empty_list_after_one_request() -> None:
    server = JobList(3)
    assert server.found(limit=5, skip=7) == []
    assert len(server.asked) == 1


def test_a_limit_is_kept_over_several_pages() -> None:
    server = JobList(450)
    assert server.found(limit=201, skip=2) == server.ids[2:203]
    assert len(server.asked) == 2


@pytest.mark.parametrize("change", ["made", "deleted"])
def test_a_list_that_shifts_while_it_is_read_ends_and_shows_nothing_twice(change: str) -> None:
    def shift(ids: list[str]) -> None:
        if change == "made":
            ids.insert(0, f"new{len(ids)}")
        else:
            ids.pop(0)

    server = JobList(450, shift)
    found = server.found(limit=None)
    assert len(server.asked) == 3
    assert len(set(found)) == len(found)
    assert (len(found) == 450) if change == "made" else (len(found) >= 448)


@pytest.mark.parametrize(("what", "limit"), [("jobs", None), ("jobs", 250), ("programs", None)])
def test_a_server_that_knows_no_pages_is_not_asked_for_ever(what: str, limit: int | None) -> None:
    every = {"jobs": [job_document(f"j{number}", "Completed", backend="") for number in range(200)]}
    every["programs"] = [{"id": f"p{number}", "name": "n"} for number in range(20)]

    def page() -> Answer:
        return 200, {what: every[what] if server.count("GET", f"/{what}") <= 10 else []}

    with classic({f"GET /{what}": page}) as (server, service):
        found = service.jobs(limit=limit) if what == "jobs" else service.programs()
        assert len(found) == len(every[what])
        assert server.count("GET", f"/{what}") <= 3


def test_a_list_of_jobs_asks_for_each_backend_once() -> None:
    listed = [job_document(f"j{number}", "Completed", backend=f"b{number % 2}") for number in range(30)]
    with classic({"GET /jobs": (200, {"jobs": listed})}) as (server, service):
        assert [found.backend().name for found in service.jobs(limit=None)] == ["b0", "b1"] * 15
        assert len(server.sent) == 3


def test_no_program_is_missing_when_another_is_uploaded_while_they_are_listed() -> None:
    ids = [f"p{number}" for number in range(45)]

    def answer(request: Any, _: bytes) -> Answer:
        offset = int(request.path.partition("offset=")[2])
        page = [{"id": one, "name": "n"} for one in ids[offset : offset + 20]]
        ids.insert(0, f"new{len(ids)}")
        return 200, {"programs": page, "count": 45}

    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        with RuntimeService(credentials) as service:
            assert [program.id for program in service.programs()] == [f"p{number}" for number in range(45)]


# 49: programs


def test_an_upload_that_is_refused_is_a_typed_error_and_sent_once() -> None:
    for status, kind in ((409, RuntimeDuplicateProgramError), (403, PermissionDeniedError)):
        with classic({"POST /programs": (status, {"error": {"message": "no", "code": status}})}) as (server, service):
            with pytest.raises(kind, match="no"):
                service.upload_program(SOURCE, METADATA)
            assert server.count("POST", "/programs") == 1
            assert json.loads(server.sent[0].body)["data"] == base64.b64encode(SOURCE.encode()).decode()


@pytest.mark.parametrize("name", METADATA)
@pytest.mark.parametrize("left", ["nothing", "empty"])
def test_an_upload_without_what_a_program_needs_is_refused_by_name_and_not_sent(name: str, left: str) -> None:
    metadata = {key: value for key, value in METADATA.items() if key != name} | ({name: ""} if left == "empty" else {})
    with classic({}) as (server, service):
        with pytest.raises(ConfigurationError, match=f"metadata: {name} missing"):
            service.upload_program(SOURCE, metadata)
        assert server.sent == []


# 28, 33, 40, 50: streams


@pytest.fixture
def server() -> Iterator[StreamServer]:
    with StreamServer() as server:
        yield server


def test_equal_results_each_come_once_across_cuts_where_the_server_can_resume(
    run: Callable[..., RuntimeJob], tmp_path: Path
) -> None:
    got: list[Any] = []
    gate, before, after = tmp_path / "gate", [1, 1, 2], [1, 1, 2, 2, 1]
    inputs = {"gate": str(gate), "before": before, "after": after}
    handle = run(GATED, inputs, callback=lambda _, value: got.append(value))
    for _ in range(3):
        eventually(lambda: len(got) == len(before))
        assert handle._callbacks._stream is not None
        socket = handle._callbacks._stream._socket
        assert socket is not None
        socket._connection.abort()  # the line is cut
        eventually(lambda socket=socket: handle._callbacks._stream._socket is not socket)  # type: ignore[misc, union-attr]
    gate.touch()
    eventually(lambda: not callbacks_run())
    assert got == [*before, *after]


def test_frames_may_be_empty_or_huge_or_no_json(server: StreamServer) -> None:
    huge = ["x" * 400_000]
    frames = [ACKNOWLEDGEMENT, "", "no json ☃", json.dumps(huge), "{", ""]
    assert stream(server, finishing(server, *frames))[1] == ["", "no json ☃", huge, "{", ""]


def test_a_redirect_is_a_refusal_and_no_open_stream(server: StreamServer) -> None:
    """websocket-client 1.8 takes it for an open one; and one that breaks at once is opened again at once, for ever."""
    server._scripts = [302]
    with contextlib.closing(RuntimeClient(server.credentials)) as client, pytest.raises(TransportError):
        client.open_stream(server.job_id, after=0)


def test_another_stream_is_allowed_after_one_that_has_failed(server: StreamServer) -> None:
    handle, got = stream(server, 404)
    assert got == []
    server._scripts = [finishing(server, "1", "2")]
    handle.stream_results(lambda _, value: got.append(value))
    eventually(lambda: not callbacks_run())
    assert got == [1, 2]


class WithResult(StreamServer):
    """A stream server that also has the job's result."""

    results = 0

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.partition("?")[0].endswith("/results"):
            return super()._request(connection, request)
        self.results += 1
        body = b'"from the server"'
        headers = Headers({"Content-Type": "text/plain", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(200, "OK", headers, body)


@pytest.mark.parametrize("ends", [lambda connection: connection.close(1000), drop], ids=["1000", "cut"])
def test_a_last_frame_is_an_interim_result_and_the_result_is_the_servers(
    ends: Callable[[ServerConnection], Any],
) -> None:
    with WithResult() as server:

        def end(connection: ServerConnection) -> None:
            server.word = "Completed"
            ends(connection)

        handle, got = stream(server, sends(ACKNOWLEDGEMENT, "1", '"as streamed"', then=end))
        assert got == [1, "as streamed"]
        assert handle.result(timeout=5) == "from the server"
        assert server.results == 1


# 45 and 46: where the stream is


class TlsServer(StreamServer):
    """A stream server behind TLS, with a certificate of its own."""

    def __init__(self, certificate: Path, *scripts: Script | int) -> None:
        super().__init__(*scripts)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate)

    def __enter__(self) -> TlsServer:
        self._server = serve_websocket(
            self._stream, "127.0.0.1", 0, process_request=self._request, compression=None, ssl=self._context
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.url = f"https://127.0.0.1:{self._server.socket.getsockname()[1]}"
        return self


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Two certificates for 127.0.0.1, each with its key, each its own authority."""
    folder = tmp_path_factory.mktemp("certificates")
    return self_signed(folder / "ours.pem"), self_signed(folder / "another.pem")


@pytest.mark.filterwarnings("ignore::urllib3.exceptions.InsecureRequestWarning")
@pytest.mark.parametrize(
    ("verify", "trusted"), [(True, False), (False, True), ("ours", True), ("another", False)], ids=str
)
def test_what_is_trusted_is_the_same_for_requests_and_streams(
    certificates: tuple[Path, Path], verify: bool | str, trusted: bool
) -> None:
    ours, another = certificates
    setting: bool | str = verify if isinstance(verify, bool) else str(ours if verify == "ours" else another)
    with TlsServer(ours, sends("1")) as server:
        credentials = Credentials(channel="classic", url=server.url, token=ACCESS_TOKEN, verify=setting)
        client = RuntimeClient(credentials, request_timeout=1)
        handle = RuntimeJob(Backend("b"), client, credentials, server.job_id, "p")
        if trusted:
            assert handle.status() is JobStatus.RUNNING
            with contextlib.closing(client.open_stream(server.job_id, after=0)) as socket:
                assert socket.receive() == "1"
        else:
            with pytest.raises(ConnectFailedError, match="CERTIFICATE_VERIFY_FAILED"):
                handle.status()
            with pytest.raises(ConnectFailedError, match="SSLCertVerificationError"):
                client.open_stream(server.job_id, after=0)
        assert server.connections == int(trusted)
        client.close()


def test_an_empty_field_of_the_blocks_form_checks_certificates(certificates: tuple[Path, Path]) -> None:
    with TlsServer(certificates[0], sends("1")) as server:
        block = RuntimeCredentials(
            channel="classic", url=server.url, token=SecretStr(ACCESS_TOKEN), verify="", request_timeout_seconds=1
        )
        with block.get_client() as service:
            with pytest.raises(ConnectFailedError, match="CERTIFICATE_VERIFY_FAILED"):
                service.client.job(server.job_id)
            with pytest.raises(ConnectFailedError, match="SSLCertVerificationError"):
                service.client.open_stream(server.job_id, after=0)
        assert server.connections == 0


def test_the_stream_is_below_the_base_even_if_that_has_https_in_its_path() -> None:
    server = Pages({})
    with http_server(server) as url:
        credentials = Credentials(channel="classic", url=f"{url}/https/v1/", token=ACCESS_TOKEN)
        client = RuntimeClient(credentials, request_timeout=1)
        with pytest.raises(RuntimeJobNotFound):
            client.open_stream("j", after=0)
        client.close()
    assert [(sent.path, sent.headers["Upgrade"]) for sent in server.sent] == [("/https/v1/stream/jobs/j", "websocket")]


# 47: the end of the interpreter

LEAVES = """
import sys, threading, time
from prefect_runtime.client import Credentials, RuntimeService

service = RuntimeService(Credentials(channel="classic", url=sys.argv[1], token="classic-token-1234"))
job = service.handle(sys.argv[2])
first = threading.Event()
job.stream_results(lambda *_: first.set())
first.wait(20)
threading.Thread(target=job.wait_for_final_state, daemon=True).start()
while not any(thread.name == "job-monitor" for thread in threading.enumerate()):
    time.sleep(0.01)
print("leaving", flush=True)
"""


def test_the_interpreter_ends_at_once_though_a_stream_is_open_and_a_watcher_runs(server: StreamServer) -> None:
    over = threading.Event()
    server._scripts = [sends("1", then=lambda _: over.wait(30))]
    command = [sys.executable, "-c", LEAVES, server.credentials.url or "", server.job_id]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "leaving\n"
            assert process.wait(10) == 0  # the stream is open for 30
        finally:
            process.kill()
            over.set()
        assert process.stderr is not None
        assert process.stderr.read() == ""
