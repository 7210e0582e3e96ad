"""WebSockets: one connection as a `Socket`, and a job's interim results as an `InterimStream`.

The only home of websocket-client, which is imported when the first socket is opened. What a frame means is decided by
the close code: a library version that calls a normal close an error changes nothing here.
"""

from __future__ import annotations

import contextlib
import json
import logging
import queue
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import urlsplit

from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.wire.errors import (
    ApiError,
    AuthenticationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    RuntimeJobNotFound,
    ServerError,
    StreamClosedError,
    TransportError,
)
from prefect_runtime.wire.models import JobDocument

_log = logging.getLogger(__name__)

SWITCHING_PROTOCOLS = 101  # RFC 6455, section 1.3
NORMAL = 1000
ABNORMAL = 1006
PING_SECONDS = 30.0  # silence after which we ask whether the other side is there
MAX_FRAME_BYTES = 64 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class SocketOptions:
    """TLS and proxy settings of an account, as `Credentials` has them."""

    verify: bool | str = True
    proxies: Mapping[str, str] | None = field(default=None, repr=False)


class Socket:
    """One open WebSocket, of which we only read. `close` may be called from another thread and ends a `receive`."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection
        self._closed = False

    @classmethod
    def connect(cls, url: str, headers: Mapping[str, str], options: SocketOptions, deadline: Deadline) -> Socket:
        """Open a socket to an http(s) URL.

        Raises:
            ConnectFailedError: No connection.
            AuthenticationError: 401 to the handshake.
            StreamClosedError: Another answer than a socket (302 is the classic service's "this job is not running").
        """
        import websocket

        where = url.partition("?")[0]
        try:
            connection = websocket.create_connection(
                "ws" + url.removeprefix("http"),
                timeout=max(0.1, min(10.0, deadline.remaining())),
                header=[f"{name}: {value}" for name, value in headers.items()],
                sslopt=_tls(options.verify),
                redirect_limit=0,  # a redirect would carry our headers to another host
                enable_multithread=True,
                **_proxy(url, options.proxies),
            )
        except websocket.WebSocketBadStatusException as error:
            raise _handshake_refused(where, error.status_code) from None
        except (websocket.WebSocketException, OSError, ValueError) as error:
            raise ConnectFailedError(f"{where}: the stream could not be opened ({type(error).__name__}).") from None
        if connection.getstatus() != SWITCHING_PROTOCOLS:  # 1.8 takes a redirect that it may not follow for a stream
            connection.shutdown()
            raise _handshake_refused(where, connection.getstatus())
        connection.settimeout(PING_SECONDS)
        return cls(connection)

    @property
    def resumes(self) -> bool:
        """True if the server leaves out the first results on request, so that nothing comes twice."""
        headers = {str(name).lower(): value for name, value in (self._connection.getheaders() or {}).items()}
        return headers.get("x-stream-resume") == "after"

    def receive(self) -> str:
        """Return the next text frame; waits for it as long as the other side answers pings.

        Raises:
            StreamClosedError: The other side closed, or the connection broke (code 1006).
        """
        import websocket

        silent = False
        while True:
            try:
                opcode, frame = self._connection.recv_data_frame(control_frame=True)
            except websocket.WebSocketTimeoutException:
                if silent:
                    raise StreamClosedError("The stream fell silent.", close_code=ABNORMAL) from None
                silent = True
                with contextlib.suppress(websocket.WebSocketException, OSError):
                    self._connection.ping()
                continue
            except (websocket.WebSocketException, OSError, ValueError, AttributeError) as error:
                # AttributeError: the library's own after a close() from another thread.
                name = type(error).__name__
                raise StreamClosedError(f"The stream broke ({name}).", close_code=ABNORMAL) from None
            silent = False
            if opcode == websocket.ABNF.OPCODE_TEXT:
                return bytes(frame.data).decode("utf-8", errors="replace")
            if opcode == websocket.ABNF.OPCODE_CLOSE:
                code = int.from_bytes(frame.data[:2], "big") if len(frame.data) >= 2 else ABNORMAL
                raise StreamClosedError(f"The server closed the stream ({code}).", close_code=code)

    def close(self) -> None:
        """Close, without waiting for the other side's word."""
        if self._closed:
            return
        self._closed = True
        with contextlib.suppress(Exception):
            self._connection.abort()  # wakes a thread that is in `receive`; closing alone does not
        with contextlib.suppress(Exception):
            self._connection.shutdown()


def _tls(verify: bool | str) -> dict[str, Any]:
    if isinstance(verify, str):
        return {"ca_certs": verify}
    if verify:
        return {}
    import ssl

    return {"cert_reqs": ssl.CERT_NONE, "check_hostname": False}


def _proxy(url: str, proxies: Mapping[str, str] | None) -> dict[str, Any]:
    """Return the proxy's options for websocket-client; the keys are looked up as `requests` does."""
    parts = urlsplit(url)
    keys = (f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all")
    proxy = next((proxies[key] for key in keys if key in proxies), None) if proxies else None
    if proxy is None:
        return {"http_no_proxy": ["*"]}  # the environment does not decide
    target = urlsplit(proxy)
    options: dict[str, Any] = {
        "http_proxy_host": target.hostname,
        "http_proxy_port": target.port or 80,
        "proxy_type": target.scheme or "http",
    }
    if target.username:
        options["http_proxy_auth"] = (target.username, target.password or "")
    return options


def _handshake_refused(where: str, status: int) -> QiskitRuntimeError:
    message = f"{where}: the stream was refused ({status})."
    if status == 401:
        return AuthenticationError(f"{message} The token is wrong or has expired.", status_code=401)
    if status == 404:
        return RuntimeJobNotFound(message, status_code=404)
    if status >= 500 or status in (302, 429):
        return StreamClosedError(message, close_code=status)
    return ApiError(message, status_code=status)


class StreamSource(Protocol):
    """What a stream needs of a `RuntimeClient`."""

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""

    def open_stream(self, job_id: str, *, after: int) -> Socket:
        """Open a connection."""

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Ask for a job."""


_END = object()


class InterimStream:
    """The interim results of one job as texts: in order, each once, over as many connections as it takes.

    A thread reads the socket into a queue, so that a slow consumer neither loses anything nor lets the connection die.
    Iterate over it (from one thread) or take single ones with `next_text`.

    Args:
        source: Opens connections and knows the job's status.
        job_id: The job.
    """

    def __init__(self, source: StreamSource, job_id: str) -> None:
        self._source = source
        self._job_id = job_id
        self._texts: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._seen: list[int] = []  # hashes of the texts so far
        self._socket: Socket | None = None
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self._error: QiskitRuntimeError | None = None
        self._thread = threading.Thread(target=self._read, name=f"stream-{job_id}", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """True once the consumer has said `finish`, or will get nothing any more."""
        return self._finished.is_set() or self.cancelled

    def finish(self) -> None:
        """Say that the consumer has taken all there was."""
        self._finished.set()

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End the stream; what has not been taken is dropped."""
        self._cancelled.set()
        if self._socket is not None:
            self._socket.close()
        self._texts.put(_END)

    def next_text(self, timeout: float | None = None) -> str | None:
        """Return the next result, or None at the end.

        Args:
            timeout: Seconds to wait for it.

        Raises:
            TimeoutError: None came in time.
            QiskitRuntimeError: The stream failed for good; what came before it has been given out.
        """
        try:
            item = self._texts.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, str) and not self.cancelled:
            return item
        self._texts.put(_END)  # the end stays the end
        if self._error is not None and not self.cancelled:
            raise self._error
        return None

    def __iter__(self) -> Iterator[str]:
        while (text := self.next_text()) is not None:
            yield text

    def _read(self) -> None:
        try:
            self._read_to_the_end()
        except QiskitRuntimeError as error:
            self._error = error
        finally:
            self._texts.put(_END)

    def _read_to_the_end(self) -> None:
        """Read connection after connection until the job is final.

        An idle connection that drops says nothing of the job, however often it happens while that queues; only a server
        that refuses to open a stream, again and again, ends it.
        """
        refusals = drops_at_the_end = 0
        while not self.cancelled:
            try:
                socket = self._source.open_stream(self._job_id, after=len(self._seen))
            except (StreamClosedError, ConnectFailedError):
                refusals += 1
                if self._is_final():
                    return
                if refusals > _MAX_REFUSALS:
                    raise
            else:
                refusals = 0
                code = self._drain(socket)
                if self._cancelled.is_set():
                    return
                final = self._is_final()
                if code == NORMAL and final:  # 1000 from a job that still runs is just another drop
                    return
                drops_at_the_end += final
                if drops_at_the_end > _MAX_DROPS_AT_THE_END:
                    raise StreamClosedError(
                        f"Job {self._job_id} is final, but the stream of its interim results broke off. "
                        "The last ones may be missing; the result is not affected.",
                        job_id=self._job_id,
                    )
            self._cancelled.wait(min(8.0, 0.25 * 2**refusals))

    def _is_final(self) -> bool:
        try:
            return self._source.job(self._job_id, patient=False).is_final
        except (TransportError, ServerError, ProtocolError, RateLimitedError):
            return False  # not known now: the stream goes on trying

    def _drain(self, socket: Socket) -> int:
        """Take in what a connection gives and return the code it was closed with."""
        self._socket = socket
        # A server that cannot resume may send everything again: skip what we have, as long as it is the same.
        replayed = len(self._seen) if socket.resumes else 0
        first = True
        try:
            while not self.cancelled:
                text = socket.receive()
                acknowledgement, first = first and _is_acknowledgement(text, self._job_id), False
                if acknowledgement:
                    continue
                if replayed < len(self._seen) and self._seen[replayed] == hash(text):
                    replayed += 1
                    continue
                self._seen.append(hash(text))
                replayed = len(self._seen)
                self._texts.put(text)
        except StreamClosedError as error:
            return error.close_code
        finally:
            socket.close()
        return NORMAL


_MAX_REFUSALS = 5
_MAX_DROPS_AT_THE_END = 2


def _is_acknowledgement(text: str, job_id: str) -> bool:
    """Tell the classic service's first frame ("Listening to results for job: ID") from a result, which is JSON."""
    if job_id in text and "listening" in text.lower():
        return True
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return True
    return False
