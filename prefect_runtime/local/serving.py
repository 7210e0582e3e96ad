"""Serves the application with uvicorn until it is told to stop, or not needed any more. Used by launcher.py only."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Coroutine, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from fastapi import FastAPI

KEEP_ALIVE_SECONDS = 120
"""How long an idle connection is kept: closed after uvicorn's five, it would meet a client's next request half-way."""


def serve_app(
    app: FastAPI,
    listening: socket.socket,
    *,
    opened: Callable[[], None],
    until: Callable[[], Coroutine[Any, Any, None]],
    ending: Callable[[], None],
    certificate: Path | None,
    key: Path | None,
) -> None:
    """Serve until SIGTERM, Ctrl-C, or the end of `until`.

    Args:
        app: The application.
        listening: Where connections come in.
        opened: Called once who connects gets an answer in the end, and who stops us stops us in order.
        until: Returns when nobody needs the server any more.
        ending: Called as soon as a signal says that it is to end, seconds before it has.
        certificate: For https; None: http.
        key: Its private key.

    Raises:
        OSError: That of `opened`; nothing was served.
    """
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        ws="websockets-sansio",
        ws_max_size=1024 * 1024,  # clients have nothing to say on a stream
        timeout_graceful_shutdown=2,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
    )
    asyncio.run(_serve(_Server(config), listening, opened, until, ending))


class _Server(uvicorn.Server):
    """Leaves signals to us: uvicorn would raise them again at its end, and we would not get to clean up."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Do nothing."""
        yield


async def _serve(
    server: uvicorn.Server,
    listening: socket.socket,
    opened: Callable[[], None],
    until: Callable[[], Coroutine[Any, Any, None]],
    ending: Callable[[], None],
) -> None:
    async def stop_then() -> None:
        await until()
        server.should_exit = True

    def stop() -> None:
        server.should_exit = True
        loop.run_in_executor(None, ending)  # a thread's lock is no place for the loop to wait

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop)
    watch = asyncio.create_task(stop_then())
    try:
        opened()
        await server.serve(sockets=[listening])
    finally:
        watch.cancel()
