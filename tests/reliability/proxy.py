"""A proxy that breaks things on purpose: seeded, so that any run replays. Speaks HTTP/1.1, passes WebSockets through.

It sits between a client and a runtime on loopback. For the n-th request of a kind it asks its schedule for a fault;
what was done is kept, so that a test can say how much was broken.
"""

from __future__ import annotations

import asyncio
import contextlib
import email.utils
import random
import socket
import struct
import threading
import time
import weakref
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

BEFORE: Final = ("reset_at_once", "reset_before", "hang_before", "500", "502", "503", "504", "520", "429")
"""Faults that keep a request from the server."""

AFTER: Final = (
    "forward_then_reset",
    "forward_then_500",
    "forward_then_502",
    "forward_then_hang",
    "drip",
    "cut_length",
    "cut_chunked",
    "cut_close",
    "cut_gzip",
    "wrong_json",
)
"""Faults that spoil the answer to a request the server has taken."""

HARMLESS_TWICE: Final = ("twice", "other_body")
"""Faults for requests without an effect: delivered twice, answered with another request's body."""

RETRY_AFTER: Final = (None, "0", "0.05", "date", "-5", "soon")
"""Forms of the header that 429 is sent with; "date" is an HTTP date a moment ahead."""


@dataclass
class Request:
    """One request as it passes through."""

    method: str
    path: str
    head: bytes
    body: bytes

    @property
    def kind(self) -> str:
        """What it is for the schedule: "submit", "cancel", "sign-in" or "look"."""
        path = self.path.partition("?")[0]
        if self.method == "POST":
            return "submit" if path.endswith("/jobs") else "cancel" if path.endswith("/cancel") else "sign-in"
        return "look"

    @property
    def has_own_answer(self) -> bool:
        """True if the client can tell from the answer alone that it is another request's: it names the job."""
        return self.kind == "look" and not self.path.partition("?")[0].endswith(("/results", "/logs"))


Schedule = Callable[[Request, random.Random], str | None]


def at_random(share: float) -> Schedule:
    """Return a schedule that breaks that share of all requests, each kind of fault as often as the others."""

    def choose(request: Request, dice: random.Random) -> str | None:
        if dice.random() >= share:
            return None
        faults = BEFORE + AFTER + (HARMLESS_TWICE if request.has_own_answer else ())
        return dice.choice(faults)

    return choose


@dataclass
class FaultProxy:
    """A running proxy; `close` ends it.

    Attributes:
        upstream_port: Port of the runtime on 127.0.0.1.
        schedule: Says what to do to a request.
        seed: Of the schedule's dice.
        hang_seconds: How long a hanging request is held.
    """

    upstream_port: int
    schedule: Schedule
    seed: int
    hang_seconds: float = 2.0
    done: Counter[str] = field(default_factory=Counter)
    port: int = 0

    def __post_init__(self) -> None:
        self._dice = random.Random(self.seed)
        self._last_body = b"{}"
        self._loop = asyncio.new_event_loop()
        self._transports = weakref.WeakSet[asyncio.WriteTransport]()
        # A loop knows its tasks by weak references alone. When a client leaves while its request waits upstream, nobody
        # else holds the task, and the collector would destroy it in the middle.
        self._serving = set[asyncio.Task[object]]()
        started = threading.Event()
        self._thread = threading.Thread(target=self._run, args=(started,), daemon=True)
        self._thread.start()
        assert started.wait(10)

    @property
    def url(self) -> str:
        """Base URL for a client."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def faulted(self) -> float:
        """Share of the requests that were broken."""
        total = sum(self.done.values())
        return 1 - self.done["none"] / total if total else 0.0

    def close(self) -> None:
        """Stop."""
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)

    def _run(self, started: threading.Event) -> None:
        asyncio.set_event_loop(self._loop)
        server = self._loop.run_until_complete(asyncio.start_server(self._serve, "127.0.0.1", 0))
        self.port = server.sockets[0].getsockname()[1]
        started.set()
        self._loop.run_forever()
        server.close()
        left = asyncio.all_tasks(self._loop)
        for task in left:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))
        for transport in self._transports:
            transport.abort()  # what it still has to send would keep it open
        self._loop.run_until_complete(asyncio.sleep(0.01))  # a transport closes one turn of the loop after its writer
        self._loop.close()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._transports.add(writer.transport)
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        try:
            while request := await _read_request(reader):
                if b"upgrade: websocket" in request.head.lower():
                    await self._tunnel(request, reader, writer)
                    return
                fault = self.schedule(request, self._dice)
                self.done[fault or "none"] += 1
                if not await self._answer(request, fault, writer):
                    return
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # the client has gone, or the proxy is closing
        finally:
            self._serving.discard(task)
            with contextlib.suppress(Exception):
                writer.close()

    async def _answer(self, request: Request, fault: str | None, writer: asyncio.StreamWriter) -> bool:
        """Answer one request; False if the connection is not to be used any more."""
        if fault in ("reset_at_once", "reset_before"):
            return _reset(writer)
        if fault == "hang_before":
            await asyncio.sleep(self.hang_seconds)
            return _reset(writer)
        if fault is not None and fault.isdigit():
            writer.write(self._refusal(int(fault)))
            await writer.drain()
            return True
        if fault == "other_body":
            answer = _with_length(b"HTTP/1.1 200 X\r\n", self._last_body)
        else:
            answer = await self._forward(request)
            if fault == "twice":
                answer = await self._forward(request)
        return await self._spoil(answer, fault, request, writer)

    def _refusal(self, status: int) -> bytes:
        head = f"HTTP/1.1 {status} X\r\n".encode()
        form = self._dice.choice(RETRY_AFTER) if status == 429 else None
        if form == "date":
            form = email.utils.formatdate(time.time() + 1, usegmt=True)
        if form is not None:
            head += f"Retry-After: {form}\r\n".encode()
        return _with_length(head, b'{"errors": [{"code": 1202, "message": "the proxy says no"}]}')

    async def _spoil(self, answer: bytes, fault: str | None, request: Request, writer: asyncio.StreamWriter) -> bool:
        head, _, body = answer.partition(b"\r\n\r\n")
        status_line = head.split(b"\r\n")[0] + b"\r\n"
        match fault:
            case "forward_then_reset":
                return _reset(writer)
            case "forward_then_hang":
                await asyncio.sleep(self.hang_seconds)
                return _reset(writer)
            case "forward_then_500" | "forward_then_502":
                writer.write(_with_length(f"HTTP/1.1 {fault[-3:]} X\r\n".encode(), b"<html>bad gateway</html>"))
                await writer.drain()
                return True
            case "drip":
                return await _drip(answer, writer)
            case "wrong_json":
                writer.write(_with_length(status_line, b'{"jobs": [{]'))
                await writer.drain()
                return True
            case "cut_length" | "cut_chunked" | "cut_close" | "cut_gzip" if body:
                writer.write(_cut(fault, status_line, body))
                await writer.drain()
                return False
        if request.kind == "look" and body:
            self._last_body = body
        writer.write(answer)
        await writer.drain()
        return True

    async def _forward(self, request: Request) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        self._transports.add(writer.transport)
        try:
            writer.write(request.head + request.body)
            head = await reader.readuntil(b"\r\n\r\n")
            return head + await reader.readexactly(_length(head))
        finally:
            writer.close()

    async def _tunnel(self, request: Request, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass a WebSocket through; cut it after a random while if the schedule says so."""
        there, back = await asyncio.open_connection("127.0.0.1", self.upstream_port)
        self._transports.add(back.transport)
        back.write(request.head)
        fault = self.schedule(request, self._dice)
        self.done["cut_stream" if fault else "none"] += 1
        ways = [asyncio.create_task(_pump(reader, back)), asyncio.create_task(_pump(there, writer))]
        timeout = self._dice.uniform(0.02, 0.5) if fault else None
        await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED, timeout=timeout)
        for way in ways:
            way.cancel()
        back.close()
        _reset(writer)


async def _read_request(reader: asyncio.StreamReader) -> Request | None:
    try:
        head = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError:
        return None
    method, path, _ = head.split(b"\r\n")[0].decode("latin-1").split(" ")
    return Request(method, path, head, await reader.readexactly(_length(head)))


def _length(head: bytes) -> int:
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        if name.strip().lower() == b"content-length":
            return int(value)
    return 0


def _with_length(head: bytes, body: bytes) -> bytes:
    return head + f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


def _cut(fault: str, status_line: bytes, body: bytes) -> bytes:
    """Return an answer that ends too early, in one of the four ways a body can be framed."""
    half = body[: max(1, len(body) // 2)]
    if fault == "cut_length":
        return status_line + f"Content-Length: {len(body)}\r\n\r\n".encode() + half
    if fault == "cut_chunked":
        return status_line + b"Transfer-Encoding: chunked\r\n\r\n" + f"{len(body):x}\r\n".encode() + half
    if fault == "cut_close":
        return status_line + b"Connection: close\r\n\r\n" + half
    import gzip

    packed = gzip.compress(body)
    return status_line + b"Content-Encoding: gzip\r\nConnection: close\r\n\r\n" + packed[: len(packed) // 2]


async def _drip(answer: bytes, writer: asyncio.StreamWriter) -> bool:
    """Send an answer a few bytes at a time, slower than anybody wants to wait."""
    for start in range(0, len(answer), 4):
        writer.write(answer[start : start + 4])
        await writer.drain()
        await asyncio.sleep(0.05)
    return True


def _reset(writer: asyncio.StreamWriter) -> bool:
    """Close with RST, as a line that breaks; always False."""
    sock = writer.get_extra_info("socket")
    with contextlib.suppress(OSError):
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
    return False


async def _pump(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    while data := await source.read(65536):
        sink.write(data)
        await sink.drain()
