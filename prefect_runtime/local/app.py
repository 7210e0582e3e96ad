"""The embedded runtime as an ASGI application: who gets in, and which routes there are.

FastAPI and uvicorn live in this folder only. Routes are in classic.py (the first API), platform.py (IBM's of today),
job_routes.py (what both share) and streams.py.
"""

from __future__ import annotations

import asyncio
import hmac
import json
import sqlite3
from collections.abc import AsyncIterator, Awaitable, Callable, MutableMapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from prefect_runtime.local import disk, tokens
from prefect_runtime.local.backend_pages import BackendPages
from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.executor import Executor
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.sessions import Sessions
from prefect_runtime.local.store import Store
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_SIGN_IN_BYTES = 16 * 1024  # from whoever is on this machine: reading 64 MiB of them would keep all others waiting
MAX_PENDING = 10_000
MAX_STREAMS = 256
STREAM_RETRY_SECONDS = 5
OPEN_PATHS = ("/users/loginWithToken", "/identity/token", "/version")
"""The token is in the body; or, of the last, a client asks before it has one, and nothing is told."""

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


@dataclass(kw_only=True)
class Runtime:
    """What the routes work with.

    Attributes:
        hosts: The names and ports under which requests may come.
        by_address: Also let in who asks for an address of this machine's: no name leads there, so none can be rebound.
        max_pending: Jobs that may be queued or running.
        max_streams: WebSockets that may be open.
    """

    store: Store
    executor: Executor
    bulletin: Bulletin
    backends: BackendPages
    sessions: Sessions
    calibration: Calibration
    token: str = field(repr=False)
    hosts: frozenset[str]
    instance: str
    by_address: bool = False
    token_seconds: float = tokens.LIFE_SECONDS
    max_pending: int = MAX_PENDING
    max_streams: int = MAX_STREAMS
    usage_limit_seconds: float | None = None
    open_requests: int = 0
    open_streams: int = 0
    last_request: float = 0.0


def create_app(runtime: Runtime, on_started: Callable[[], None]) -> FastAPI:
    """Return the application; `on_started` is called once requests are answered."""
    from prefect_runtime.local import classic, platform, streams

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        runtime.bulletin.attach(asyncio.get_running_loop())
        runtime.executor.start()
        on_started()
        yield
        runtime.bulletin.attach(None)

    app = FastAPI(title="prefect-runtime embedded runtime", lifespan=lifespan, docs_url=None, redoc_url=None)
    app.include_router(classic.router(runtime))
    app.include_router(platform.cloud_router(runtime))
    app.include_router(platform.router(runtime))
    app.include_router(streams.router(runtime))
    app.add_exception_handler(Refusal, _refuse)
    app.add_exception_handler(HTTPException, _refuse_route)
    app.add_exception_handler(RequestValidationError, _refuse_query)
    app.add_exception_handler(sqlite3.Error, _refuse_for_the_disk)
    app.add_exception_handler(OSError, _refuse_for_the_disk)
    app.add_middleware(Guard, runtime=runtime)
    return app


async def _refuse(_: Request, refusal: Exception) -> JSONResponse:
    assert isinstance(refusal, Refusal)  # noqa: S101 - registered for this class only
    return JSONResponse(refusal.body(), status_code=refusal.status, headers=refusal.headers)


async def _refuse_route(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class only
    refusal = Refusal(error.status_code, error.status_code, str(error.detail))
    return JSONResponse(refusal.body(), status_code=error.status_code, headers=error.headers)


async def _refuse_query(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class only
    wrong = "; ".join(f"{one['loc'][-1]}: {one['msg']}" for one in error.errors())
    return JSONResponse(Refusal(400, 400, wrong).body(), status_code=400)


async def _refuse_for_the_disk(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, sqlite3.Error | OSError)  # noqa: S101 - registered for these classes only
    _log.error("%s: %s", request.method, disk.in_words(error))
    return await _refuse(request, disk.refusal(error))


class Guard:
    """Lets in who has the token, asks for the server by its own name and does not come from somebody's web page.

    The Host and Origin checks are against DNS rebinding: a page in a browser can reach 127.0.0.1 under another name.
    """

    def __init__(self, app: Callable[[Message, Receive, Send], Awaitable[None]], runtime: Runtime) -> None:
        self._app = app
        self._runtime = runtime

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Handle one connection."""
        if scope["type"] not in ("http", "websocket"):
            return await self._app(scope, receive, send)
        refusal = self._check(scope)
        if refusal is not None:
            return await _send_refusal(scope, send, refusal)
        runtime, streams = self._runtime, scope["type"] == "websocket"
        runtime.open_requests += 1
        runtime.open_streams += streams
        try:
            most = MAX_SIGN_IN_BYTES if scope["path"] in OPEN_PATHS else MAX_BODY_BYTES
            return await self._app(scope, _limited(receive, most), send)
        finally:
            runtime.open_requests -= 1
            runtime.open_streams -= streams
            runtime.last_request = asyncio.get_running_loop().time()

    def _check(self, scope: Message) -> Refusal | None:
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        host = headers.get(b"host", "")
        if host not in self._runtime.hosts and not (self._runtime.by_address and host == _address(scope)):
            return Refusal(403, 1200, "This server is not known under the Host that was asked for.")
        origin = headers.get(b"origin")
        if origin is not None and origin not in (f"http://{host}", f"https://{host}"):
            return Refusal(403, 1200, "Requests from web pages of another origin are refused.")
        if headers.get(b"sec-fetch-site") in ("cross-site", "same-site"):  # a browser's word, where it sends no Origin
            return Refusal(403, 1200, "Requests from web pages of another site are refused.")
        if scope["path"] in OPEN_PATHS:
            return None
        scheme, _, bearer = headers.get(b"authorization", "").partition(" ")
        given = bearer if scheme.lower() == "bearer" else headers.get(b"x-access-token", "")
        token = self._runtime.token
        if not hmac.compare_digest(given.encode(), token.encode()) and not tokens.is_good(token, given):
            solution = "It is in the runtime.json of this server."
            return Refusal(401, 1200, "The token is missing, wrong, or has expired.", solution=solution)
        if scope["type"] == "websocket" and self._runtime.open_streams >= self._runtime.max_streams:
            many = f"{self._runtime.max_streams} streams are open already."
            return Refusal(429, 429, many, solution="Close some.", retry_after=STREAM_RETRY_SECONDS)
        return None


def _address(scope: Message) -> str:
    """Return the address and port that a connection came in at, as a Host header has them."""
    address, port = scope["server"]
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def _limited(receive: Receive, most: int) -> Receive:
    """Cap what a request's body may bring, in bytes, whatever Content-Length says."""
    size = 0

    async def limited() -> Message:
        nonlocal size
        message = await receive()
        size += len(message.get("body", b""))
        if size > most:
            solution = "Split the request into several jobs." if most == MAX_BODY_BYTES else ""
            raise Refusal(413, 413, f"The body is larger than {most} bytes.", solution=solution)
        return message

    return limited


async def _send_refusal(scope: Message, send: Send, refusal: Refusal) -> None:
    # A WebSocket handshake is refused with the same HTTP answer (ASGI extension "websocket.http.response").
    prefix = "websocket.http.response" if scope["type"] == "websocket" else "http.response"
    body = json.dumps(refusal.body()).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    headers += [(name.lower().encode(), value.encode()) for name, value in refusal.headers.items()]
    await send({"type": f"{prefix}.start", "status": refusal.status, "headers": headers})
    await send({"type": f"{prefix}.body", "body": body})
