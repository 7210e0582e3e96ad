"""What the integration tests share besides fixtures: runtimes with settings of a test's own, and scripted servers."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import socket
import socketserver
import subprocess
import sys
import threading
import time
import types
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
from canaries import sinks
from canaries.values import PRESIGNED_URL, PROXIES, STREAM_TOKEN, give_token
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from websockets.datastructures import Headers
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeJob
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.discovery_file import DiscoveryDocument

OUR_THREADS = ("callback-", "stream-", "job-monitor", "job-feed")


def eventually(condition: Callable[[], Any], *, seconds: float = 30.0, what: str = "the condition") -> None:
    """Wait until something is true; fails when it is not in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come true within {seconds:g} s"
        time.sleep(0.01)


def our_threads() -> set[threading.Thread]:
    """The client's threads that are alive."""
    return {thread for thread in threading.enumerate() if thread.name.startswith(OUR_THREADS)}


def callbacks_run() -> bool:
    """True while a stream may still call somebody."""
    return any(thread.name.startswith("callback-") for thread in threading.enumerate())


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def alive(pids: list[int]) -> list[int]:
    """Those of some processes that still run; a zombie does not."""

    def runs(pid: int) -> bool:
        try:
            return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return False

    return [pid for pid in pids if runs(pid)]


_SERVE = """
import json, sys
from pathlib import Path
from prefect_runtime.local.cells import Limits
from prefect_runtime.local.launcher import Settings, serve
folder, settings = json.loads(sys.argv[1])
settings["limits"] = Limits(**settings.get("limits", {}))
serve(Settings(data_dir=Path(folder), **settings))
"""


class Served:
    """An embedded runtime with settings of a test's own (port, slots), to be killed and started again."""

    def __init__(self, folder: Path, *, environment: Mapping[str, str] | None = None, **settings: Any) -> None:
        self.folder = folder
        self._arguments = json.dumps([str(folder), settings])
        self._environment = environment
        give_token(folder)
        self.start()

    def start(self) -> None:
        """Start it and wait until it answers."""
        command = [sys.executable, "-c", _SERVE, self._arguments]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._environment)
        assert self.process.stdout is not None
        self.ready_line = self.process.stdout.readline()
        assert self.ready_line.startswith("READY"), self.ready_line
        self.found = DiscoveryDocument.parse((self.folder / "runtime.json").read_text())

    def kill(self) -> None:
        """Let it die without a chance to clean up; harmless when it is gone."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def look_for_canaries(self) -> None:
        """Fail if one is in the folder that has no business there."""
        sinks.assert_clean(sinks.folder(self.folder, "runtime"))

    def descendants(self) -> list[int]:
        """All processes it has started, and theirs."""
        return [child.pid for child in psutil.Process(self.process.pid).children(recursive=True)]

    @property
    def credentials(self) -> Credentials:
        """Credentials for exactly this runtime."""
        return Credentials(channel="local", url=self.found.url, token=self.found.token, proxies=PROXIES)


def self_signed(path: Path) -> Path:
    """Write a certificate for 127.0.0.1 with its key, its own authority."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, path.stem)])
    now = dt.datetime.now(dt.UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    address = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    signed = (
        builder.not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(address, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path.write_bytes(signed.public_bytes(serialization.Encoding.PEM) + pem)
    return path


def job_document(job_id: str, word: str, **members: Any) -> dict[str, Any]:
    """A job as a classic server shows it."""
    return {
        "id": job_id,
        "status": word,
        "backend": "somewhere",
        "program": {"id": "p"},
        "created": "2026-08-01T10:00:00Z",
        "params": {},
        **members,
    }


Script = Callable[[ServerConnection], None]


class StreamServer:
    """A classic server with one job: a script, or the HTTP status to refuse with, for each connection to its stream.

    Attributes:
        word: The job's status, as told now.
        failures: How many more questions for the job are answered with 503.
        connections: How many streams were asked for.
    """

    job_id = "job-under-test"

    def __init__(self, *scripts: Script | int) -> None:
        self.word = "Running"
        self.failures = 0
        self.connections = 0
        self._scripts = list(scripts)
        self._lock = threading.Lock()

    def __enter__(self) -> StreamServer:
        self._server = serve_websocket(
            self._stream, "127.0.0.1", 0, process_request=self._request, compression=None, ping_interval=None
        )
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        port = self._server.socket.getsockname()[1]
        self.credentials = Credentials(channel="classic", url=f"http://127.0.0.1:{port}", token=STREAM_TOKEN)
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)

    def job(self, callback: Callable[[str, Any], None] | None = None, *, request_timeout: float = 5) -> RuntimeJob:
        """A new handle of the job."""
        client = RuntimeClient(self.credentials, request_timeout=request_timeout)
        return RuntimeJob(Backend("somewhere"), client, self.credentials, self.job_id, "p", user_callback=callback)

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        if not request.path.startswith("/stream/"):
            return self._job_page()
        with self._lock:
            self.connections += 1
            script = self._scripts.pop(0) if len(self._scripts) > 1 else self._scripts[0]
        if isinstance(script, int):
            return Response(script, "Refused", Headers({"Location": PRESIGNED_URL, "Content-Length": "0"}), b"")
        connection.script = script  # type: ignore[attr-defined]
        return None

    def _job_page(self) -> Response:
        with self._lock:
            failing, self.failures = self.failures > 0, max(0, self.failures - 1)
        body = json.dumps(job_document(self.job_id, self.word)).encode()
        headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
        return Response(503 if failing else 200, "Answer", headers, body)

    @staticmethod
    def _stream(connection: ServerConnection) -> None:
        connection.script(connection)  # type: ignore[attr-defined]


def drop(connection: ServerConnection) -> None:
    """Cut a stream's connection without a close frame."""
    with contextlib.suppress(OSError):
        connection.socket.shutdown(socket.SHUT_RDWR)


Answer = tuple[int, Any] | bytes | None
"""Status and body (a text, or a value for JSON); or the raw bytes to send; or None to hang up without a word."""


class _QuietServer(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: hanging up is what some tests are about."""


@contextlib.contextmanager
def http_server(answer: Callable[[BaseHTTPRequestHandler, bytes], Answer]) -> Iterator[str]:
    """Serve HTTP on a free port with a function as the script; gives the base URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        wbufsize = -1  # one answer, one packet: with two, the second waits 40 ms for an acknowledgement

        def _handle(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
            said = answer(self, body)
            if said is None or isinstance(said, bytes):
                self.wfile.write(said or b"")
                self.close_connection = True
                return
            status, value = said
            data = value.encode() if isinstance(value, str) else json.dumps(value).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # noqa: N815 - http.server's names

        def log_message(self, *_: Any) -> None:
            """Say nothing."""

    server = _QuietServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


@contextlib.contextmanager
def tcp_server(talk: Callable[[socket.socket], None]) -> Iterator[str]:
    """Serve raw TCP on a free port, for what no HTTP server would do; gives the base URL."""

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            with contextlib.suppress(OSError):
                self.request.recv(65536)
                talk(self.request)

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True
        request_queue_size = 128  # with a full queue, a connection takes a second longer

    server = Server(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join(10)
        server.server_close()


def elapsed() -> Callable[[], float]:
    """Start a stopwatch; call it for the seconds since then."""
    start = time.monotonic()
    return lambda: time.monotonic() - start


Namespace = types.SimpleNamespace
