"""A WebSocket of websocket-client's with limits of ours: on time, on sizes, on cookies. Used by sockets.py only.

By itself websocket-client reads a handshake for as long as a byte comes now and then, a refusal's body however long it
is, and frames of any size that a header promises. Imported when the first socket is opened.
"""

from __future__ import annotations

import socket
from http.cookies import CookieError
from typing import Any

import websocket

from prefect_runtime.client.retry import Deadline

MAX_HANDSHAKE_BYTES = 64 * 1024
MAX_FRAME_BYTES = 64 * 1024 * 1024
"""Of one message, however many frames it comes in."""

DRIVER_ERRORS = (websocket.WebSocketException, CookieError, OSError, ValueError)
"""All that opening and reading a WebSocket may raise."""


class LimitedWebSocket(websocket.WebSocket):  # type: ignore[misc]
    """Reads the handshake until a deadline, and no more than is meant of it and of each message.

    Args:
        deadline: When the handshake has to be over.
    """

    def __init__(self, *args: Any, deadline: Deadline, **kwargs: Any) -> None:
        self._deadline = deadline
        self._limited: _LimitedSocket | None = None
        super().__init__(*args, **kwargs)

    @property
    def sock(self) -> Any:
        """The socket; websocket-client puts it here once it is connected, before the handshake."""
        return self._limited

    @sock.setter
    def sock(self, value: socket.socket | None) -> None:
        self._limited = None if value is None else _LimitedSocket(value, self._deadline)

    def connect(self, url: str, **options: Any) -> None:
        """Connect and shake hands."""
        super().connect(url, **options)
        if self._limited is not None:
            self._limited.handshake_over()

    def _recv(self, bufsize: int) -> bytes:
        begun = self.cont_frame.cont_data
        size = (self.frame_buffer.length or 0) + (len(begun[1]) if begun else 0)
        if size > MAX_FRAME_BYTES:
            raise websocket.WebSocketPayloadException(f"a message of more than {MAX_FRAME_BYTES} bytes")
        data: bytes = super()._recv(bufsize)
        return data


class _LimitedSocket:
    """A socket; until the handshake is over, no longer read than there is time, and no more than is meant."""

    def __init__(self, sock: socket.socket, deadline: Deadline) -> None:
        self._socket = sock
        self._deadline: Deadline | None = deadline
        self._left = MAX_HANDSHAKE_BYTES

    def __getattr__(self, name: str) -> Any:
        return getattr(self._socket, name)

    def handshake_over(self) -> None:
        """Lift the limits."""
        self._deadline = None

    def recv(self, size: int) -> bytes:
        """Return what there is, `size` bytes at most."""
        if self._deadline is None:
            return self._socket.recv(size)
        left = self._deadline.remaining()
        if left <= 0:
            raise websocket.WebSocketTimeoutException("the handshake was not over when the time was up")
        self._socket.settimeout(min(left, self._socket.gettimeout() or left))
        data = self._socket.recv(size)
        self._left -= len(data)
        if self._left < 0:
            raise websocket.WebSocketException(f"a handshake of more than {MAX_HANDSHAKE_BYTES} bytes")
        return data
