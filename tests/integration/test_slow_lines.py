"""Lines that are slow and servers that take their time: what a request is given, and how often it is sent."""

from __future__ import annotations

import contextlib
import json
import re
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.exchange import Transport
from prefect_runtime.client.transport.timed_http import CONNECT_SECONDS
from prefect_runtime.wire.errors import AnswerLostError

from .support import Answer, http_server, job_document, self_signed

STANDS_STILL = CONNECT_SECONDS + 0.5  # seconds
MUCH = 16_000_000  # bytes; more than the buffers of a connection take
TOKEN = "geheimer-token-0123456789"


class SlowServer:
    """Reads no more than a request's head for some seconds, then the rest; keeps how much came of each body."""

    def __init__(self, *, context: ssl.SSLContext | None = None) -> None:
        self._context = context
        self._listening = socket.socket()
        self._listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        self._listening.bind(("127.0.0.1", 0))
        self._listening.listen()
        scheme = "http" if context is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._listening.getsockname()[1]}"
        self.bodies: list[tuple[int, int]] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection, _ = self._listening.accept()
                threading.Thread(target=self._answer, args=(connection,), daemon=True).start()

    def _answer(self, connection: socket.socket) -> None:
        with contextlib.suppress(OSError), connection:
            if self._context is not None:
                connection = self._context.wrap_socket(connection, server_side=True)
            got = b""
            while b"\r\n\r\n" not in got:
                got += connection.recv(1024)
            head, _, body = got.partition(b"\r\n\r\n")
            if head.startswith(b"POST"):
                self._take(connection, head, len(body))
                said = b'{"id": "job-1"}'
            else:
                said = json.dumps({"jobs": [], "count": 0}).encode()
            connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n" % len(said) + said)
            connection.close()

    def _take(self, connection: socket.socket, head: bytes, taken: int) -> None:
        length = re.search(rb"content-length: (\d+)", head.lower())
        assert length is not None
        time.sleep(STANDS_STILL)
        while taken < int(length[1]) and (piece := connection.recv(1 << 20)):
            taken += len(piece)
        self.bodies.append((taken, int(length[1])))

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """What the server behind TLS shows."""
    return self_signed(tmp_path / "slow.pem")


@pytest.fixture
def slow_servers(certificate: Path) -> Iterator[list[SlowServer]]:
    """One in plain text, one behind TLS."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    servers = [SlowServer(), SlowServer(context=context)]
    yield servers
    for server in servers:
        server.close()


def test_an_upload_may_take_longer_than_a_connection(slow_servers: list[SlowServer], certificate: Path) -> None:
    def upload(server: SlowServer) -> int:
        sender = Transport(Credentials(channel="classic", token=TOKEN, url=server.url, verify=str(certificate)))
        with contextlib.closing(sender):
            body = b"x" * MUCH
            return sender.exchange("POST", f"{server.url}/jobs", deadline=Deadline(60), headers={}, body=body).status

    with ThreadPoolExecutor() as threads:
        assert list(threads.map(upload, slow_servers)) == [200, 200]
    assert [server.bodies for server in slow_servers] == [[(MUCH, MUCH)]] * 2


def test_an_upload_ends_with_the_requests_time(slow_servers: list[SlowServer]) -> None:
    plain = slow_servers[0]
    sender = Transport(Credentials(channel="classic", token=TOKEN, url=plain.url))
    start = time.monotonic()
    with contextlib.closing(sender), pytest.raises(AnswerLostError):
        sender.exchange("POST", f"{plain.url}/jobs", deadline=Deadline(1), headers={}, body=b"x" * MUCH)
    assert 0.9 < time.monotonic() - start < 4


@pytest.mark.long
def test_a_server_that_thinks_for_longer_than_half_a_minute_is_asked_once() -> None:
    asked: list[str] = []

    def think(request: BaseHTTPRequestHandler, _: bytes) -> Answer:
        asked.append(request.path)
        time.sleep(33)
        return 200, {}

    with http_server(think) as url:
        account = Credentials(channel="classic", token=TOKEN, url=url)
        with RuntimeService(account, request_timeout=100) as service:
            assert service.client.results("job-1") == "{}"
    assert asked == ["/jobs/job-1/results"]


def test_a_job_with_a_slow_upload_is_asked_for_once(slow_servers: list[SlowServer]) -> None:
    plain = slow_servers[0]
    account = Credentials(channel="classic", token=TOKEN, url=plain.url)
    with RuntimeService(account, backend="somewhere", settle_seconds=3) as service:
        assert service.run("program", {"text": "x" * MUCH}).job_id() == "job-1"
    ((taken, whole),) = plain.bodies
    assert taken == whole > MUCH


@pytest.mark.parametrize(
    ("private", "request_timeout", "timeout"),
    [(False, 0.6, 15), (True, 0.6, 15), (True, 5, 0.5)],
    ids=["longer than a request", "private", "private, longer than who wants it will wait"],
)
def test_a_result_may_take_its_time(
    private: bool, request_timeout: float, timeout: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PREFECT_RUNTIME_HOME", str(tmp_path))
    reads = []

    def slowly(request: BaseHTTPRequestHandler, _: bytes) -> Answer:
        if not request.path.endswith("/results"):
            return 200, job_document("job-1", "Completed", private=private)
        reads.append(request.path)
        request.wfile.write(b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 5\r\n\r\n")
        for digit in b"12345":
            request.wfile.write(bytes([digit]))
            request.wfile.flush()
            time.sleep(0.3)
        return b""

    with http_server(slowly) as url:
        credentials = Credentials(channel="classic", url=url, token=TOKEN)
        with RuntimeService(credentials, request_timeout=request_timeout) as service:
            assert service.handle("job-1").result(timeout=timeout) == 12345
    assert len(reads) == 1 if private else len(reads) <= 3
