"""One HTTP exchange against a server that behaves in every bad way: real sockets on the loopback, real time."""

from __future__ import annotations

import contextlib
import math
import socket
import struct
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from undisturbed import seconds_of, undisturbed

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.exchange import MAX_ANSWER_BYTES, MAX_REFUSAL_BYTES, Answer, Transport
from prefect_runtime.client.transport.timed_http import longest_silence
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConfigurationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
)

TOKEN = "geheimer-token-0123456789"
TLS_HELLO = b"\x16\x03"
Behaviour = Callable[[socket.socket], None]


class ScriptedServer:
    """Accepts connections, reads a request from each, then does as told; keeps what it was sent."""

    def __init__(self, behave: Behaviour) -> None:
        self._behave = behave
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        self.requests: list[bytes] = []
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self._thread.start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listening.accept()
            except OSError:
                return
            with connection, contextlib.suppress(OSError):
                connection.settimeout(5)
                self.requests.append(self._read(connection))
                self._behave(connection)

    def _read(self, connection: socket.socket) -> bytes:
        request = b""
        while b"\r\n\r\n" not in request and not request.startswith(TLS_HELLO):
            request += (piece := connection.recv(65536))
            if not piece:
                break
        return request

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        self._thread.join(5)


@pytest.fixture
def serve() -> Iterator[Callable[[Behaviour | bytes], ScriptedServer]]:
    servers: list[ScriptedServer] = []

    def serve(behave: Behaviour | bytes) -> ScriptedServer:
        answer = behave
        servers.append(ScriptedServer((lambda c: c.sendall(answer)) if isinstance(answer, bytes) else answer))
        return servers[-1]

    yield serve
    for server in servers:
        server.close()


Serve = Callable[[Behaviour | bytes], ScriptedServer]


def ask(
    url: str,
    *,
    method: str = "GET",
    seconds: float = 5.0,
    body: bytes | None = None,
    max_answer_bytes: int = MAX_ANSWER_BYTES,
    **account: object,
) -> Answer:
    credentials = Credentials(channel="classic", token=TOKEN, url="http://127.0.0.1", **account)  # type: ignore[arg-type]
    sender = Transport(credentials, max_answer_bytes=max_answer_bytes)
    headers = {"X-Access-Token": TOKEN, "Service-CRN": "crn:geheim"}
    try:
        return sender.exchange(method, url, deadline=Deadline(seconds), headers=headers, body=body)
    finally:
        sender.close()


def ok(body: bytes, *headers: str) -> bytes:
    lines = ["HTTP/1.1 200 OK", *headers, f"Content-Length: {len(body)}", "Connection: close", "", ""]
    return "\r\n".join(lines).encode() + body


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def hang(connection: socket.socket) -> None:
    """Say nothing until the other side goes."""
    connection.recv(1)


def drip(whole: bytes) -> Behaviour:
    def behave(connection: socket.socket) -> None:
        connection.sendall(whole[:1])
        for byte in whole[1:]:
            time.sleep(0.05)
            connection.sendall(bytes([byte]))

    return behave


# What works


def test_an_answer_is_status_headers_and_body(serve: Serve) -> None:
    server = serve(ok(b'{"a": 1}', "X-Some: Thing"))
    answer = ask(server.url + "/jobs")
    assert (answer.status, answer.json(), answer.headers["x-some"]) == (200, {"a": 1}, "Thing")
    request = server.requests[0].lower()
    assert request.startswith(b"get /jobs http/1.1\r\n")
    assert b"accept-encoding: identity\r\n" in request
    assert b"x-access-token: " + TOKEN.encode() in request


@pytest.mark.parametrize("status", [204, 302, 401, 404, 429, 500, 599])
def test_every_status_is_an_answer(serve: Serve, status: int) -> None:
    assert ask(serve(f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()).url).status == status


@pytest.mark.parametrize("content_type", ["text/plain", "application/json", "text/plain; charset=latin-1"])
def test_text_is_utf_8_whatever_the_charset_says_or_does_not(serve: Serve, content_type: str) -> None:
    server = serve(ok("é ☃".encode(), f"Content-Type: {content_type}"))
    assert ask(server.url).text == "é ☃"


def test_a_chunked_body_is_put_together(serve: Serve) -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"
    answer = ask(serve(chunked).url)
    assert (answer.body, answer.complete) == (b"abcde", True)


def test_a_body_that_ends_with_the_connection_is_marked(serve: Serve) -> None:
    answer = ask(serve(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nabc").url)
    assert (answer.body, answer.complete) == (b"abc", False)


def test_a_redirect_is_not_followed(serve: Serve) -> None:
    other = serve(ok(b"stolen"))
    redirect = f"HTTP/1.1 307 X\r\nLocation: {other.url}/x\r\nContent-Length: 0\r\n\r\n".encode()
    assert ask(serve(redirect).url, method="POST", body=b"{}").status == 307
    assert other.requests == []


def test_a_cookie_is_not_sent_back(serve: Serve) -> None:
    server = serve(ok(b"", "Set-Cookie: a=b; Path=/"))
    sender = Transport(Credentials())
    for _ in range(2):
        sender.exchange("GET", server.url, deadline=Deadline(5), headers={})
    sender.close()
    assert b"cookie" not in server.requests[1].lower()


def test_the_environment_decides_nothing(serve: Serve, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password geheim\n")
    netrc.chmod(0o600)
    proxy = serve(ok(b"from the proxy"))
    monkeypatch.setenv("NETRC", str(netrc))
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere")
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.setenv(name, proxy.url)
    server = serve(ok(b"from the server"))
    assert ask(server.url).text == "from the server"
    assert b"authorization" not in server.requests[0].lower()
    assert proxy.requests == []


def test_the_accounts_proxy_is_used(serve: Serve) -> None:
    proxy = serve(ok(b"from the proxy"))
    assert ask("http://runtime.example/x", proxies={"http": proxy.url}).text == "from the proxy"
    assert proxy.requests[0].startswith(b"GET http://runtime.example/x ")


@pytest.mark.parametrize("scheme", ["http", "all", "http://127.0.0.1"])
def test_this_machine_is_reached_without_a_proxy(serve: Serve, scheme: str) -> None:
    proxy, server = serve(ok(b"from the proxy")), serve(ok(b"from the server"))
    assert ask(server.url, proxies={scheme: proxy.url}).text == "from the server"
    assert proxy.requests == []


@pytest.mark.parametrize(
    ("no_proxy", "asked"),
    [("", 1), ("other.example", 1), ("time.example", 1), ("a, runtime.example", 0), (".example", 0), ("*.EXAMPLE", 0)],
)
def test_hosts_that_no_proxy_names_are_reached_without_one(serve: Serve, no_proxy: str, asked: int) -> None:
    proxy = serve(ok(b"from the proxy"))
    with contextlib.suppress(ConnectFailedError):  # there is no such host
        ask("http://runtime.example/x", proxies={"http": proxy.url, "no_proxy": no_proxy})
    assert len(proxy.requests) == asked


# Nothing was sent


def test_a_refused_connection_sent_nothing() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectFailedError, match=r"POST http://127\.0\.0\.1"):
        ask(f"http://127.0.0.1:{port}/jobs?secret=geheim", method="POST", body=b"{}")


def test_a_name_that_is_not_known_sent_nothing() -> None:
    with pytest.raises(ConnectFailedError):
        ask("http://nowhere.invalid/jobs")


@pytest.mark.parametrize("host", ["a..example", f"{'a' * 70}.example"])
def test_a_name_that_cannot_be_one_sent_nothing(host: str) -> None:
    with pytest.raises(ConnectFailedError, match="NameResolutionError"):
        ask(f"http://{host}/jobs")


@pytest.fixture
def dead_end() -> Iterator[tuple[str, int]]:
    """An address where nobody answers, not even to refuse: its queue of connections is full."""
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, contextlib.ExitStack() as stack:
        for _ in range(3):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(listening.getsockname())
        yield listening.getsockname()


def resolve_to(monkeypatch: pytest.MonkeyPatch, *addresses: tuple[str, int]) -> None:
    """Give every host these addresses."""
    found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", address) for address in addresses]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)


def test_a_hosts_addresses_share_the_time(dead_end: tuple[str, int], monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, *[dead_end] * 4)

    def try_all() -> None:
        with pytest.raises(ConnectFailedError, match="timed out"):
            ask("https://runtime.example/jobs", seconds=1.0)

    assert 0.9 < undisturbed(lambda: seconds_of(try_all), below=1.8) < 1.8


def test_an_address_that_answers_is_found_behind_others_that_do_not(
    serve: Serve, dead_end: tuple[str, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve(ok(b"here"))
    with socket.create_server(("127.0.0.1", 0)) as closed:
        refusing = closed.getsockname()
    resolve_to(monkeypatch, dead_end, refusing, ("127.0.0.1", int(server.url.rpartition(":")[2])))
    assert ask("http://runtime.example/jobs", seconds=3.0).text == "here"
    assert len(server.requests) == 1


def test_a_proxy_that_is_not_there_sent_nothing_and_its_password_is_not_shown() -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        proxy = f"http://me:geheim@127.0.0.1:{closed.getsockname()[1]}"
    with pytest.raises(ConnectFailedError) as caught:
        ask("http://runtime.example/jobs", proxies={"http": proxy})
    assert "geheim" not in str(caught.value)


def test_what_a_proxy_says_is_shown_without_its_password(serve: Serve) -> None:
    proxy = serve(b"HTTP/1.1 407 not with pa55word-1234\r\n\r\n").url.replace("http://", "http://me:pa55word-1234@")
    with pytest.raises(ConnectFailedError, match="407 not with") as caught:
        ask("https://runtime.example/x", proxies={"https": proxy})
    assert "pa55word-1234" not in str(caught.value)


def test_without_time_left_nothing_is_sent(serve: Serve) -> None:
    server = serve(ok(b""))
    with pytest.raises(ConnectFailedError, match="no time"):
        ask(server.url, seconds=0.0)
    assert server.requests == []


@pytest.mark.parametrize(
    "behave",
    [ok(b""), b"SSH-2.0-OpenSSH_9.9\r\n", b"\x15\x03\x01\x00\x02\x02\x28", b"", hang],
    ids=["HTTP", "SSH", "refusal", "closed", "silence"],
)
def test_without_a_tls_handshake_nothing_was_sent(serve: Serve, behave: Behaviour | bytes) -> None:
    """Provably not accepted: DNS, connect, TLS."""
    with pytest.raises(ConnectFailedError):
        ask(serve(behave).url.replace("http:", "https:"), method="POST", body=b"{}", seconds=1.0)


@pytest.mark.parametrize(
    "behave",
    [b"HTTP/1.1 407 No\r\n\r\n", b"HTTP/1.1 200 OK\r\n\r\n", b"", b"no HTTP\r\n\r\n", hang],
    ids=["refused", "closed before TLS", "closed", "garbage", "silence"],
)
def test_without_a_tunnel_through_the_proxy_nothing_was_sent(serve: Serve, behave: Behaviour | bytes) -> None:
    proxy = serve(behave)
    with pytest.raises(ConnectFailedError):
        ask("https://runtime.example/x", method="POST", body=b"{}", seconds=1.0, proxies={"https": proxy.url})
    assert [request.split()[0] for request in proxy.requests] == [b"CONNECT"]
    assert TOKEN.encode() not in proxy.requests[0]


@pytest.mark.parametrize("url", ["no-scheme", "http://", "http://[::1", "ftp://127.0.0.1/x", "http://127.0.0.1:port/"])
def test_a_url_that_cannot_be_sent_to_is_a_configuration_error(url: str) -> None:
    with pytest.raises(ConfigurationError):
        ask(url)


def test_a_ca_bundle_that_is_not_there_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        ask("https://127.0.0.1:9/", verify="/no/such/bundle.pem")


# Sent, but no whole answer


@pytest.mark.parametrize(
    "behave",
    [
        reset,
        lambda connection: None,
        lambda connection: (connection.sendall(b"HTTP/1.1 2"), reset(connection)),
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\nabc\r\n0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.9\r\n",
    ],
    ids=["reset", "close", "reset in the head", "short", "empty", "cut chunk", "no last chunk", "bad chunk", "no HTTP"],
)
def test_an_answer_that_is_not_whole_is_lost(serve: Serve, behave: Behaviour | bytes) -> None:
    server = serve(behave)
    with pytest.raises(AnswerLostError):
        ask(server.url, method="POST", body=b"{}")
    assert len(server.requests) == 1, "sent again"


@pytest.mark.parametrize(
    "behave",
    [
        drip(ok(b"")),
        hang,
        lambda connection: (connection.sendall(ok(b"x" * 100)[:-90]), hang(connection)),
        lambda connection: (time.sleep(0.4), connection.sendall(ok(b"x" * 100)[:-90]), hang(connection)),
        lambda connection: (connection.sendall(ok(b"x" * 100)[:-100]), drip(b"x" * 100)(connection)),
        lambda connection: (connection.sendall(b"HTTP/1.1 100 Continue\r\n\r\n"), hang(connection)),
    ],
    ids=[
        "drip of the head",
        "silence",
        "silence in the body",
        "late, then silence",
        "drip of the body",
        "100, silence",
    ],
)
def test_a_deadline_holds_whatever_the_server_does(serve: Serve, behave: Behaviour) -> None:
    """ "drip of the head" is known to fail where the deadline is only looked at between pieces of the body."""

    def ask_in_vain() -> None:
        server = serve(behave)  # a new one: the first is busy with its answer
        with pytest.raises(AnswerLostError):
            ask(server.url, seconds=0.5)

    assert 0.4 < undisturbed(lambda: seconds_of(ask_in_vain), below=0.8) < 0.8


@pytest.mark.parametrize(
    ("left", "silence"), [(5, 5), (30, 30), (45, 30), (100, 50), (900, 450), (1e12, 86_400), (None, 86_400)]
)
def test_who_has_much_time_bears_a_long_silence(left: float | None, silence: float) -> None:
    assert longest_silence(Deadline(left)) == pytest.approx(silence, rel=0.01)


@pytest.mark.parametrize("seconds", [1e12, math.inf])
def test_a_time_that_is_too_long_for_a_socket_is_no_error(serve: Serve, seconds: float) -> None:
    assert ask(serve(ok(b"x")).url, method="POST", body=b"{}", seconds=seconds).body == b"x"


def test_an_answer_larger_than_the_limit_is_refused(serve: Serve) -> None:
    assert len(ask(serve(ok(b"x" * 1000)).url, max_answer_bytes=1000).body) == 1000
    with pytest.raises(ProtocolError, match="larger than 1000"):
        ask(serve(ok(b"x" * 1001)).url, max_answer_bytes=1000)


@pytest.mark.parametrize("behave", [reset, b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nabc", ok(b"no JSON")])
def test_errors_carry_no_header_no_query_and_no_other_exception(serve: Serve, behave: Behaviour | bytes) -> None:
    with pytest.raises(QiskitRuntimeError) as caught:
        ask(serve(behave).url + "/jobs?signature=geheim").json()
    assert caught.value.__suppress_context__
    assert caught.value.__cause__ is None
    shown = "".join(traceback.format_exception(caught.value))
    assert "geheim" not in shown.split("Error: ")[-1]
    assert "crn:geheim" not in repr(vars(caught.value))


# Answers that are not what they look like


@pytest.mark.parametrize(
    "head",
    [
        "Content-Encoding: gzip\r\nContent-Length: 3",
        "Content-Encoding: br\r\nContent-Length: 3",
        "Transfer-Encoding: gzip, chunked",
        "Transfer-Encoding: identity\r\nConnection: close",
        "Content-Length: -1\r\nConnection: close",
        "Content-Length: 3, 5\r\nConnection: close",
        "Content-Length: 3\r\nContent-Length: 5",
        "Content-Length: \xb2\r\nConnection: close",
        f"Content-Length: {'9' * 5000}\r\nConnection: close",
    ],
)
def test_a_body_whose_end_or_form_is_not_certain_is_refused(serve: Serve, head: str) -> None:
    with pytest.raises(ProtocolError):
        ask(serve(f"HTTP/1.1 200 OK\r\n{head}\r\n\r\nabc".encode("latin-1")).url)


@pytest.mark.parametrize("status", [101, 103, 199])
def test_an_answer_that_is_none_is_refused(serve: Serve, status: int) -> None:
    with pytest.raises(ProtocolError):
        ask(serve(f"HTTP/1.1 {status} X\r\n\r\n".encode()).url)


@pytest.mark.parametrize("location", [b"\xff\xfe", b"http://[::1", b"http://127.0.0.1:9/", b"//", b"http://\xc3\xa9:x"])
def test_where_a_redirect_leads_is_not_looked_at(serve: Serve, location: bytes) -> None:
    redirect = b"HTTP/1.1 302 X\r\nLocation: " + location + b"\r\nContent-Length: 0\r\n\r\n"
    assert ask(serve(redirect).url).status == 302


@pytest.mark.parametrize("status", [302, 400, 500])
def test_of_a_refusal_that_never_ends_a_part_is_read(serve: Serve, status: int) -> None:
    """requests reads a redirect's body to its end, however long that is, to see where it leads."""

    def endless(connection: socket.socket) -> None:
        connection.sendall(f"HTTP/1.1 {status} X\r\nLocation: /x\r\n\r\n".encode())
        while True:
            connection.sendall(b"x" * 65536)

    start = time.monotonic()
    answer = ask(serve(endless).url)
    assert (answer.status, len(answer.body), answer.complete) == (status, MAX_REFUSAL_BYTES, False)
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("name", ["X-Access-Token", "Authorization"])
def test_a_header_that_cannot_be_sent_is_a_configuration_error(serve: Serve, name: str) -> None:
    server = serve(ok(b""))
    sender = Transport(Credentials())
    for value in ("a\r\nX-Other: b", "\ud800", "☃"):
        with pytest.raises(ConfigurationError):
            sender.exchange("GET", server.url, deadline=Deadline(5), headers={name: value})
    sender.close()
    assert server.requests == []
