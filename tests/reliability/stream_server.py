"""The far end of the stream tests: many jobs that publish by the clock, four kinds of servers, and a plan of faults.

What a job has published depends on nothing but the time, whoever listens; that alone is what a client is judged by.
Everything else (which connection breaks, after how many frames, and how) comes from the session's seed.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
import random
import socket
import struct
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from typing import Final, Literal
from urllib.parse import parse_qs, urlsplit

from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.http11 import Request, Response
from websockets.sync.server import ServerConnection
from websockets.sync.server import serve as serve_websocket

from prefect_runtime.client import Credentials

Kind = Literal["replays", "resumes", "has list", "forgets"]
KINDS: Final[tuple[Kind, ...]] = ("replays", "resumes", "has list", "forgets")
"""From the first on each connection; as the embedded runtime; only new ones, and a list; only new ones."""

FAULTS: Final = ("reset", "cut", "close 1011", "close 1000 too early", "ping loss", "gap", "reorder", "duplicate")
"""What may happen to a connection. A gap: the server refuses the next handshakes while it publishes on. Reorder: frames
after a reconnect come in pairs the wrong way round; duplicate: a server with a list sends everything again as well."""
ONLY_WITH_LIST: Final = ("reorder", "duplicate")


@dataclass(frozen=True)
class Fault:
    """What becomes of one connection, after so many frames."""

    kind: str
    after: int


@dataclass
class Session:
    """One job and how its stream behaves.

    Attributes:
        queued: Seconds until the first result.
        pause: Seconds between two results.
        newest_first: The order of the list, where there is one.
        refuses_when_final: Handshakes for a final job are answered with 302, as the classic service does.
    """

    job_id: str
    kind: Kind
    texts: list[str]
    queued: float
    pause: float
    faults: list[Fault]
    acknowledges: list[bool]
    newest_first: bool = False
    refuses_when_final: bool = False
    started: float = 0.0
    connections: int = 0
    refusals_left: int = 0
    list_failures_left: int = 0
    done: Counter[str] = field(default_factory=Counter)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def published(self) -> int:
        """How many results there are now."""
        if not self.started:
            return 0
        passed = math.floor((time.monotonic() - self.started - self.queued) / self.pause)  # -1 just before the first
        return max(0, min(len(self.texts), passed + 1))

    def moment(self, number: int) -> float:
        """When a result is published; for one more than there are, when the job ends."""
        return self.started + self.queued + number * self.pause

    @property
    def word(self) -> str:
        """The job's status."""
        now = time.monotonic()
        if not self.started or now < self.moment(0):
            return "Queued"
        return "Running" if now < self.moment(len(self.texts)) else "Completed"


def planned(number: int, seed: int) -> Session:
    """Return the session of that number: kind by turns, all else by dice."""
    dice = random.Random(f"{seed}/{number}")
    kind = KINDS[number % len(KINDS)]
    count = dice.randint(15, 30)
    # Equal results cannot be told apart where the server neither repeats nor lists them.
    same = kind != "forgets" and dice.random() < 0.3
    texts = [json.dumps({"number": n % 3 if same else n}) for n in range(count)]
    possible = [fault for fault in FAULTS if kind == "has list" or fault not in ONLY_WITH_LIST]
    faults = [Fault(dice.choice(possible), dice.randint(0, 6)) for _ in range(dice.randint(1, 4))]
    return Session(
        job_id=f"session-{number:04d}",
        kind=kind,
        texts=texts,
        queued=dice.choice([0.0, 0.1, 0.6]),
        pause=dice.uniform(0.03, 0.12),
        faults=faults,
        acknowledges=[dice.random() < 0.7 for _ in range(20)],
        newest_first=dice.random() < 0.5,
        refuses_when_final=kind in ("has list", "forgets") and dice.random() < 0.5,
        list_failures_left=dice.choice([0, 0, 0, 1, 2]),
    )


_silent = logging.getLogger("tests.stream-server")  # a client that breaks off is what these tests are about
_silent.propagate = False
_silent.addHandler(logging.NullHandler())


class StreamFarEnd:
    """Serves sessions on a free loopback port, streams and what belongs to them; a context manager."""

    def __init__(self, sessions: list[Session]) -> None:
        self.sessions = {session.job_id: session for session in sessions}

    def __enter__(self) -> StreamFarEnd:
        self._server = serve_websocket(
            self._stream,
            "127.0.0.1",
            0,
            process_request=self._request,
            process_response=self._response,
            compression=None,
            ping_interval=None,
            close_timeout=2.0,
            logger=_silent,
        )
        self._server.socket.listen(512)
        self._thread = threading.Thread(target=self._server.serve_forever)
        self._thread.start()
        self.port: int = self._server.socket.getsockname()[1]
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join(10)

    def credentials(self, kind: Kind) -> Credentials:
        """Credentials for a kind of server: only the embedded runtime's client says what it has already."""
        url, token = f"http://127.0.0.1:{self.port}", "stream-token-1234"
        if kind == "resumes":
            return Credentials(channel="local", url=url, token=token)
        return Credentials(channel="classic", url=url, token=token)

    def _request(self, connection: ServerConnection, request: Request) -> Response | None:
        parts = urlsplit(request.path)
        route = parts.path.strip("/").split("/")
        session = self.sessions.get(route[2 if route[0] == "stream" else 1])
        if session is None:
            return _answer(404, {"errors": [{"code": 3250, "message": "no such job"}]})
        if route[0] == "jobs":
            return _page(session) if len(route) == 2 else _list(session)
        with session.lock:
            session.started = session.started or time.monotonic()
            if session.refusals_left:
                session.refusals_left -= 1
                return _answer(503, {})
            if session.refuses_when_final and session.word == "Completed":
                return _answer(302, {})
            connection.number = session.connections  # type: ignore[attr-defined]
            session.connections += 1
        after = int(parse_qs(parts.query).get("after", ["0"])[0])
        starts = {"replays": 0, "resumes": after}
        connection.session = session  # type: ignore[attr-defined]
        connection.position = starts.get(session.kind, session.published())  # type: ignore[attr-defined]
        return None

    @staticmethod
    def _response(connection: ServerConnection, _: Request, response: Response) -> None:
        session = getattr(connection, "session", None)
        if session is not None and session.kind == "resumes":
            response.headers["X-Stream-Resume"] = "after"

    @staticmethod
    def _stream(connection: ServerConnection) -> None:
        with contextlib.suppress(ConnectionClosed, OSError):  # the client has gone
            _talk(connection, connection.session, connection.number, connection.position)  # type: ignore[attr-defined]


def _talk(connection: ServerConnection, session: Session, number: int, position: int) -> None:
    fault = session.faults[number] if number < len(session.faults) else None
    swapping = fault is not None and fault.kind == "reorder" and number > 0
    if fault is not None and fault.kind == "duplicate" and number > 0:
        position = 0
    if fault is not None and fault.kind in ONLY_WITH_LIST:
        session.done[fault.kind] += number > 0
    if session.acknowledges[number % len(session.acknowledges)]:
        connection.send(f"Listening to results for job: {session.job_id}")
    else:
        session.done["no acknowledgement"] += 1
    sent = 0
    while position < len(session.texts):
        if fault is not None and sent >= fault.after:
            return _break(connection, session, fault)
        pair = [position + 1, position] if swapping and position + 1 < len(session.texts) else [position]
        _wait_for(session.moment(max(pair)))
        for one in pair:
            connection.send(session.texts[one])
        sent, position = sent + len(pair), position + len(pair)
    _wait_for(session.moment(len(session.texts)) + 0.01)
    return connection.close(1000)


def _break(connection: ServerConnection, session: Session, fault: Fault) -> None:
    session.done[fault.kind] += fault.kind not in ONLY_WITH_LIST
    match fault.kind:
        case "close 1011":
            connection.close(1011)
        case "close 1000 too early":  # of a final job it would say that this was all
            connection.close(1011 if session.word == "Completed" else 1000)
        case "cut":
            connection.socket.shutdown(socket.SHUT_RDWR)
        case "ping loss":
            connection.protocol.receive_data = lambda data: None  # type: ignore[method-assign]
            time.sleep(3.0)  # the client is to be the first to give up
            reset(connection)
        case "gap":
            session.refusals_left = 2
            reset(connection)
        case _:
            reset(connection)


def reset(connection: ServerConnection) -> None:
    """Cut a connection with RST."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    # The other thread is in recv(): only a shutdown wakes it, and the RST follows with its close.
    connection.socket.shutdown(socket.SHUT_RD)
    connection.socket.close()


def _wait_for(moment: float) -> None:
    time.sleep(max(0.0, moment - time.monotonic()))


def _page(session: Session) -> Response:
    document = {
        "id": session.job_id,
        "status": session.word,
        "backend": "somewhere",
        "program": {"id": "p"},
        "created": "2026-08-01T10:00:00Z",
        "params": {},
    }
    return _answer(200, document)


def _list(session: Session) -> Response:
    if session.kind not in ("has list", "resumes"):
        return _answer(404, {"errors": [{"code": 404, "message": "no such route"}]})
    with session.lock:
        failing, session.list_failures_left = session.list_failures_left > 0, max(0, session.list_failures_left - 1)
    if failing:
        session.done["list refused"] += 1
        return _answer(503, {})
    texts = session.texts[: session.published()]
    return _answer(200, texts[::-1] if session.newest_first else texts)


def _answer(status: int, value: object) -> Response:
    body = json.dumps(value).encode()
    headers = Headers({"Content-Type": "application/json", "Content-Length": str(len(body)), "Connection": "close"})
    if status == 302:
        headers["Location"] = "/elsewhere"
    return Response(status, "Answer", headers, body)
