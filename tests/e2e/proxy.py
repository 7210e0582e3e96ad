"""A proxy in front of a server, Prefect's or the runtime's: counts requests and refuses what it is told to."""

from __future__ import annotations

import contextlib
import re
import socket
import threading
from collections.abc import Callable

_REQUEST_LINE = re.compile(rb"(GET|POST|PUT|PATCH|DELETE) (/\S*) HTTP/1\.1\r\n")
_REFUSAL = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}"
_NOTHING = re.compile("(?!)")


class Proxy:
    """Passes bytes on, notes the line of every request, and answers 500 to those it is told to refuse.

    Attributes:
        url: Where it listens, with the path of the server's URL.
        requests: The requests so far: "GET /api/flows/…".
        on_request: Called with each request's line before it is passed on.
    """

    def __init__(self, server_url: str) -> None:
        host, port, path = re.fullmatch(r"http://([\d.]+):(\d+)(.*)", server_url).groups()  # type: ignore[union-attr]
        self._target = (host, int(port))
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}{path}"
        self.requests: list[str] = []
        self.on_request: Callable[[str], None] = lambda line: None
        self._refused, self._times = _NOTHING, 0
        # The embedded runtime answers only to its own name.
        self._asked_for = f"127.0.0.1:{self._listener.getsockname()[1]}".encode()
        self._stands_for = f"{host}:{port}".encode()
        threading.Thread(target=self._accept, name="proxy", daemon=True).start()

    def refuse(self, pattern: str, *, times: int = 1_000_000) -> None:
        """From now on answer 500 to requests whose line begins like this, and do not pass them on."""
        self._refused, self._times = re.compile(pattern), times

    def pass_all(self) -> None:
        """From now on pass everything on."""
        self._refused = _NOTHING

    def seen(self, pattern: str) -> list[str]:
        """Return the requests so far whose line begins like this."""
        return [line for line in self.requests if re.match(pattern, line)]

    def close(self) -> None:
        """Take no more connections."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(client,), name="proxy-connection", daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(self._target)
        except OSError:  # the server has ended, and somebody still looks after a flow run
            client.close()
            return
        with client, server:
            threading.Thread(target=_pump, args=(server, client), name="proxy-answers", daemon=True).start()
            while data := _receive(client):
                for method, path in _REQUEST_LINE.findall(data):
                    line = f"{method.decode()} {path.decode()}"
                    self.requests.append(line)
                    self.on_request(line)
                    if self._times > 0 and self._refused.match(line):
                        self._times -= 1
                        _send(client, _REFUSAL)
                        _shut(client, server)
                        return
                if not _send(server, data.replace(self._asked_for, self._stands_for)):
                    return
            _shut(server)


def _pump(source: socket.socket, sink: socket.socket) -> None:
    while (data := _receive(source)) and _send(sink, data):
        pass
    _shut(sink)


def _receive(source: socket.socket) -> bytes:
    try:
        return source.recv(65536)
    except OSError:
        return b""


def _send(sink: socket.socket, data: bytes) -> bool:
    try:
        sink.sendall(data)
    except OSError:
        return False
    return True


def _shut(*sockets: socket.socket) -> None:
    for end in sockets:
        with contextlib.suppress(OSError):
            end.shutdown(socket.SHUT_RDWR)
