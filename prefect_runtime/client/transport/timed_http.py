"""HTTP connections that end at a deadline, whatever the other side does with the time. Used by exchange.py only.

A read timeout starts anew with every byte, so a server that sends one now and then can hold a caller for ever, in the
headers as well as in the body. Here each read from the socket gets what is left of the request's whole time, and so
does each write: urllib3 would send a body under the timeout for connecting, however long that body is.
"""

from __future__ import annotations

import http.client
import io
import socket
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import urllib3
from requests.adapters import HTTPAdapter
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.exceptions import NameResolutionError, NewConnectionError

from prefect_runtime.client.retry import Deadline

CONNECT_SECONDS = 5.0  # for one address of a host
READ_SECONDS = 30.0  # of silence within an answer are borne in any case, if there is so much time
_RECORD_BYTES = 16 * 1024  # of TLS
LONGEST_SECONDS = 86_400.0  # a socket takes no endless timeout


def longest_silence(deadline: Deadline) -> float:
    """Return for how many seconds the other side may say nothing: half of a long time, so that another try is left."""
    left = deadline.remaining()
    return min(left, max(READ_SECONDS, left / 2), LONGEST_SECONDS)


@dataclass(slots=True)
class Sending:
    """The request that a thread is sending.

    Attributes:
        deadline: When it has to be over.
        begun: True once a part of it may be on its way. What goes wrong before that has sent nothing.
    """

    deadline: Deadline
    begun: bool = False


current: ContextVar[Sending] = ContextVar("current")
"""What this thread is sending. Set around everything that these connections do."""


class _TimedStream(io.RawIOBase):
    """Reads a socket, each time for no longer than is left."""

    def __init__(self, sock: socket.socket, stream: io.RawIOBase, deadline: Deadline) -> None:
        self._socket = sock
        self._stream = stream
        self._deadline = deadline

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._deadline.expired:
            raise TimeoutError("the time for the whole answer is up")
        self._socket.settimeout(longest_silence(self._deadline))
        return self._stream.readinto(buffer)

    def close(self) -> None:
        if not self.closed:
            self._stream.close()
        super().close()


class _TimedResponse(http.client.HTTPResponse):
    def __init__(self, sock: socket.socket, *args: Any, **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp = io.BufferedReader(_TimedStream(sock, self.fp.detach(), current.get().deadline))


class _Connection(HTTPConnection):
    response_class = _TimedResponse

    def _new_conn(self) -> socket.socket:
        """Connect to the first of the host's addresses that answers; those that do not share the time there is."""
        deadline = current.get().deadline
        try:
            found = socket.getaddrinfo(self._dns_host.strip("[]"), self.port, type=socket.SOCK_STREAM)
        except (OSError, UnicodeError) as error:
            raise NameResolutionError(self.host, self, error) from None  # type: ignore[arg-type]  # is only shown
        failure: OSError | None = None
        for tried, (*kind, _, address) in enumerate(found):
            share = min(CONNECT_SECONDS, deadline.remaining() / (len(found) - tried))
            sock: socket.socket | None = None
            try:
                sock = socket.socket(*kind)
                for option in self.socket_options or ():
                    sock.setsockopt(*option)
                sock.settimeout(max(0.001, share))
                sock.connect(address)
                sock.settimeout(max(0.001, min(CONNECT_SECONDS, deadline.remaining())))  # for TLS
                return sock
            except OSError as error:
                failure = error
                if sock is not None:
                    sock.close()
        raise NewConnectionError(self, f"Failed to establish a new connection: {failure}")

    def putrequest(self, *args: Any, **kwargs: Any) -> None:
        """Begin the request, on a connection that stands: what fails before has sent nothing."""
        if self.sock is None:
            self.connect()
        current.get().begun = True
        super().putrequest(*args, **kwargs)

    def send(self, data: Any) -> None:
        """Send a part of the request; it may take all the time that is left, and no more.

        By pieces: TLS sends a record at a time, and a socket's timeout is for each of them.
        """
        if self.sock is None or not isinstance(data, bytes):
            super().send(data)
            return
        view = memoryview(data)
        for start in range(0, len(view), _RECORD_BYTES):
            left = current.get().deadline.remaining()
            if left <= 0:
                raise TimeoutError("the time for the whole request is up")
            self.sock.settimeout(min(LONGEST_SECONDS, left))
            super().send(view[start : start + _RECORD_BYTES])


class _SecureConnection(_Connection, HTTPSConnection):
    pass


class _Pool(HTTPConnectionPool):
    ConnectionCls = _Connection


class _SecurePool(HTTPSConnectionPool):
    ConnectionCls = _SecureConnection


_POOLS = {"http": _Pool, "https": _SecurePool}


class TimedAdapter(HTTPAdapter):
    """An adapter for a requests session that keeps the `current` deadline and never tries anything twice."""

    def __init__(self, connections: int) -> None:
        super().__init__(max_retries=urllib3.Retry(0, redirect=0, raise_on_status=False), pool_maxsize=connections)

    def init_poolmanager(self, *args: Any, **kwargs: Any) -> None:
        """Make the pools, of connections of ours."""
        super().init_poolmanager(*args, **kwargs)
        self.poolmanager.pool_classes_by_scheme = _POOLS

    def proxy_manager_for(self, *args: Any, **kwargs: Any) -> Any:
        """Make the pools behind a proxy, of connections of ours."""
        manager = super().proxy_manager_for(*args, **kwargs)
        manager.pool_classes_by_scheme = _POOLS
        return manager
