"""One WebSocket against a server that behaves in every bad way: real sockets on the loopback, raw bytes."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest
from undisturbed import seconds_of, undisturbed

from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport import sockets
from prefect_runtime.client.transport.sockets import Socket, SocketOptions
from prefect_runtime.client.transport.websocket_limits import MAX_FRAME_BYTES
from prefect_runtime.wire.errors import ConnectFailedError, StreamClosedError, TransportError

Behaviour = Callable[[socket.socket, bytes], None]
PING_BYTES = 6  # two, and four of the mask


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour], str]]:
    """Starts servers that read the handshake's request, and then do as told with the socket and that request."""
    listening: list[socket.socket] = []

    def start(behave: Behaviour) -> str:
        server = socket.create_server(("127.0.0.1", 0))
        listening.append(server)

        def run() -> None:
            with contextlib.suppress(OSError):
                connection, _ = server.accept()
                with connection:
                    request = b""
                    while b"\r\n\r\n" not in request:
                        request += connection.recv(65536)
                    behave(connection, request)
                    connection.settimeout(5)
                    connection.recv(1)

        threading.Thread(target=run, daemon=True).start()
        return f"http://127.0.0.1:{server.getsockname()[1]}/stream"

    yield start
    for server in listening:
        server.close()


def connect(url: str, seconds: float = 5.0, options: SocketOptions = SocketOptions()) -> Socket:  # noqa: B008 - frozen
    return Socket.connect(url, {"X-Access-Token": "t0ken"}, options, Deadline(seconds))


def accepted(request: bytes, *headers: bytes) -> bytes:
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
    assert key is not None
    accept = base64.b64encode(hashlib.sha1(key[1] + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest())
    lines = [b"HTTP/1.1 101 X", b"Upgrade: websocket", b"Connection: Upgrade", b"Sec-WebSocket-Accept: " + accept]
    return b"\r\n".join([*lines, *headers, b"", b""])


def sends(data: bytes) -> Behaviour:
    return lambda connection, request: connection.sendall(accepted(request) + data)


def test_a_text_in_two_frames_is_one(serve: Callable[[Behaviour], str]) -> None:
    stream = connect(serve(sends(b"\x01\x02ab\x80\x01c")))
    assert stream.receive() == "abc"
    stream.close()


def test_a_handshake_that_drips_ends_at_the_deadline(serve: Callable[[Behaviour], str]) -> None:
    def drip(connection: socket.socket, request: bytes) -> None:
        for byte in accepted(request):
            connection.sendall(bytes([byte]))
            time.sleep(0.05)

    def connect_in_vain() -> None:
        with pytest.raises(ConnectFailedError):
            connect(serve(drip), seconds=0.5)

    assert undisturbed(lambda: seconds_of(connect_in_vain), below=1.5) < 1.5


@pytest.mark.parametrize("head", [b"HTTP/1.1 101 X\r\n", b"HTTP/1.1 500 X\r\nContent-Length: 99999999999\r\n\r\n"])
def test_a_handshake_without_an_end_is_given_up(serve: Callable[[Behaviour], str], head: bytes) -> None:
    def flood(connection: socket.socket, request: bytes) -> None:
        connection.sendall(head)
        while True:
            connection.sendall(b"X-Flood: 0123456789\r\n" * 1000)

    start = time.monotonic()
    with pytest.raises(TransportError):
        connect(serve(flood), seconds=60)
    assert time.monotonic() - start < 30  # else it ends with its time


@pytest.mark.parametrize("frame", [b"\x81\x7f" + (2**63 - 1).to_bytes(8, "big"), b"\x81\x7f\0\0\0\0\x04\0\0\x01"])
def test_a_frame_that_promises_too_much_is_not_waited_for(serve: Callable[[Behaviour], str], frame: bytes) -> None:
    stream = connect(serve(sends(frame + b"x" * 1000)))
    start = time.monotonic()
    with pytest.raises(StreamClosedError):
        stream.receive()
    assert time.monotonic() - start < 2
    stream.close()


def test_a_message_in_frames_without_end_is_given_up(serve: Callable[[Behaviour], str]) -> None:
    size = MAX_FRAME_BYTES // 4 + 1

    def fragments(connection: socket.socket, request: bytes) -> None:
        connection.sendall(accepted(request))
        for index in range(5):
            head = (b"\x01" if index == 0 else b"\x00") + b"\x7f" + size.to_bytes(8, "big")
            connection.sendall(head + b"x" * size)

    stream = connect(serve(fragments))
    with pytest.raises(StreamClosedError, match="Payload"):
        stream.receive()
    stream.close()


@pytest.mark.parametrize(
    "answer",
    [b"\r\n\r\n", b"HTTP/1.1\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"\xff\xfe\r\n\r\n", b"HTTP/1.1 0 X\r\n\r\n",
     b"HTTP/1.1 101 X\r\n\r\n", b"HTTP/1.1 500 X\r\nContent-Length: x\r\n\r\n"],
)  # fmt: skip
def test_an_answer_that_is_no_handshake_is_a_typed_error(serve: Callable[[Behaviour], str], answer: bytes) -> None:
    with pytest.raises(TransportError):
        connect(serve(lambda connection, request: connection.sendall(answer)))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n", b"no handshake\r\n\r\n"])
def test_errors_carry_no_query_and_no_other_exception(serve: Callable[[Behaviour], str], answer: bytes) -> None:
    with pytest.raises(TransportError) as caught:
        connect(serve(lambda connection, request: connection.sendall(answer)) + "?signature=geheim")
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
    assert "geheim" not in str(caught.value)


def test_a_cookie_that_cannot_be_read_is_a_typed_error(serve: Callable[[Behaviour], str]) -> None:
    def behave(connection: socket.socket, request: bytes) -> None:
        connection.sendall(accepted(request, b"Set-Cookie: a/b=c"))

    with pytest.raises(ConnectFailedError):
        connect(serve(behave))


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(serve: Callable[[Behaviour], str], status: int) -> None:
    led_to: list[bytes] = []
    other = serve(lambda connection, request: led_to.append(request))
    location = f"HTTP/1.1 {status} X\r\nLocation: {other.replace('http', 'ws')}\r\n\r\n".encode()
    with pytest.raises(TransportError):
        connect(serve(lambda connection, request: connection.sendall(location)))
    assert led_to == []


@pytest.mark.parametrize("scheme", ["http", "all"])
def test_this_machine_is_reached_without_a_proxy(serve: Callable[[Behaviour], str], scheme: str) -> None:
    asked: list[bytes] = []
    proxy = serve(lambda connection, request: asked.append(request))
    options = SocketOptions(proxies={scheme: proxy.removesuffix("/stream")})
    stream = connect(serve(sends(b"\x81\x01a")), options=options)
    assert stream.receive() == "a"
    stream.close()
    assert asked == []


@pytest.mark.parametrize("host", ["127.0.0.1", "0.0.0.0"])  # of the second no library knows that it is ours
def test_the_environments_proxies_are_not_used(
    serve: Callable[[Behaviour], str], monkeypatch: pytest.MonkeyPatch, host: str
) -> None:
    asked: list[bytes] = []
    proxy = serve(lambda connection, request: asked.append(request))
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.removesuffix("/stream"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    stream = connect(serve(sends(b"\x81\x01a")).replace("127.0.0.1", host))
    assert stream.receive() == "a"
    stream.close()
    assert asked == []


def test_a_stream_that_answers_no_ping_is_given_up(
    serve: Callable[[Behaviour], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.2)
    pings: list[bytes] = []

    def keep_silent(connection: socket.socket, request: bytes) -> None:
        connection.sendall(accepted(request))
        while len(pings) < 3 and (frame := connection.recv(PING_BYTES)):
            pings.append(frame)

    stream = connect(serve(keep_silent))
    with pytest.raises(StreamClosedError, match="silent"):
        stream.receive()
    stream.close()
    assert [ping[:1] for ping in pings] == [b"\x89"]


def test_a_stream_that_answers_pings_is_waited_for(
    serve: Callable[[Behaviour], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sockets, "PING_SECONDS", 0.2)

    def answer_pings(connection: socket.socket, request: bytes) -> None:
        connection.sendall(accepted(request))
        for _ in range(3):
            connection.recv(PING_BYTES)
            connection.sendall(b"\x8a\x00")
        connection.sendall(b"\x81\x01a")

    stream = connect(serve(answer_pings))
    assert stream.receive() == "a"
    stream.close()


@pytest.mark.parametrize("no_proxy", ["", "runtime.example", "*"])
def test_another_machine_is_reached_through_the_proxy_whatever_the_environment_says(
    serve: Callable[[Behaviour], str], monkeypatch: pytest.MonkeyPatch, no_proxy: str
) -> None:
    monkeypatch.setenv("no_proxy", no_proxy)
    asked: list[bytes] = []

    def refuse(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(b"HTTP/1.1 403 No\r\n\r\n")

    options = SocketOptions(proxies={"http": serve(refuse).removesuffix("/stream")})
    with pytest.raises(ConnectFailedError):
        connect("http://runtime.example/stream", options=options)
    assert [request.split()[:2] for request in asked] == [[b"CONNECT", b"runtime.example:80"]]


def test_the_proxys_password_is_sent_as_it_is_and_not_as_a_url_has_it(serve: Callable[[Behaviour], str]) -> None:
    asked: list[bytes] = []

    def refuse(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(b"HTTP/1.1 407 No\r\n\r\n")

    proxy = serve(refuse).removesuffix("/stream").replace("http://", "http://us%40er:p%40ss%3Aword@")
    with pytest.raises(ConnectFailedError):
        connect("http://runtime.example/stream", options=SocketOptions(proxies={"http": proxy}))
    (sent,) = re.findall(rb"Proxy-Authorization: Basic (\S+)", asked[0])
    assert base64.b64decode(sent) == b"us@er:p@ss:word"


def test_a_proxy_without_a_scheme_is_used_as_for_requests(serve: Callable[[Behaviour], str]) -> None:
    asked: list[bytes] = []

    def refuse(connection: socket.socket, request: bytes) -> None:
        asked.append(request)
        connection.sendall(b"HTTP/1.1 403 No\r\n\r\n")

    proxy = serve(refuse).removesuffix("/stream").removeprefix("http://")
    with pytest.raises(ConnectFailedError):
        connect("http://runtime.example/stream", options=SocketOptions(proxies={"http": proxy}))
    assert [request.split()[:2] for request in asked] == [[b"CONNECT", b"runtime.example:80"]]
