"""One WebSocket connection, of which we only read. Used by streaming.py, feed.py and rest.py.

With websocket_limits.py the only home of websocket-client, which is imported when the first socket is opened. What a
frame means is decided by the close code: a library version that calls a normal close an error changes nothing here.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any
from urllib.parse import unquote, urlsplit

from prefect_runtime.client.credentials import proxies_for
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import (
    ApiError,
    AuthenticationError,
    ConnectFailedError,
    QiskitRuntimeError,
    RuntimeJobNotFound,
    StreamClosedError,
)
from prefect_runtime.wire.redaction import split_proxy

SWITCHING_PROTOCOLS = 101  # RFC 6455, section 1.3
NORMAL = 1000
ABNORMAL = 1006
PING_SECONDS = 30.0  # silence after which we ask whether the other side is there


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

        from prefect_runtime.client.transport.websocket_limits import DRIVER_ERRORS, LimitedWebSocket

        where = url.partition("?")[0]
        try:
            connection = websocket.create_connection(
                "ws" + url.removeprefix("http"),
                timeout=max(0.1, min(10.0, deadline.remaining())),
                class_=partial(LimitedWebSocket, deadline=deadline),
                header=[f"{name}: {value}" for name, value in headers.items()],
                sslopt=_tls(options.verify),
                redirect_limit=0,  # a redirect would carry our headers to another host
                enable_multithread=True,
                **_proxy(url, options.proxies),
            )
        except websocket.WebSocketBadStatusException as error:
            raise _handshake_refused(where, error.status_code) from None
        except DRIVER_ERRORS as error:
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
    """Return the proxy's options for websocket-client; the keys are looked up as `requests` does.

    By itself it asks the environment, for a proxy and for hosts that need none, unless it is given both.
    """
    parts = urlsplit(url)
    keys = (f"{parts.scheme}://{parts.hostname}", parts.scheme, f"all://{parts.hostname}", "all")
    chosen = proxies_for(url, proxies)
    proxy = next((chosen[key] for key in keys if key in chosen), None)
    if proxy is None:
        return {"http_proxy_host": "none", "http_proxy_port": 1, "http_no_proxy": ["*"]}
    target = split_proxy(proxy)
    options: dict[str, Any] = {
        "http_proxy_host": target.hostname,
        "http_proxy_port": target.port or 80,
        "proxy_type": target.scheme or "http",
        "http_no_proxy": ["-"],  # no host's name
    }
    if target.username:
        options["http_proxy_auth"] = (unquote(target.username), unquote(target.password or ""))
    return options


def _handshake_refused(where: str, status: int | None) -> QiskitRuntimeError:
    if status is None or status < 300:
        return StreamClosedError(f"{where}: the answer to the handshake is none.", close_code=ABNORMAL)
    message = f"{where}: the stream was refused ({status})."
    if status == 401:
        return AuthenticationError(f"{message} The token is wrong or has expired.", status_code=401)
    if status == 404:
        return RuntimeJobNotFound(f"{message} There is no such job, or no stream of it here.", status_code=404)
    if status >= 500 or status in (302, 429):
        return StreamClosedError(message, close_code=status)
    return ApiError(message, status_code=status)
