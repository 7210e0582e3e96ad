"""The proxy that breaks lines in other tests does not break by itself."""

from __future__ import annotations

import gc
import logging
import socket
import struct

import pytest

from .proxy import FaultProxy


def test_a_request_whose_client_has_left_is_not_collected_in_the_middle(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as upstream:
        upstream.settimeout(10)
        proxy = FaultProxy(upstream.getsockname()[1], lambda request, dice: None, seed=1)
        try:
            leaves = _ask(proxy)
            with upstream.accept()[0]:
                leaves.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                leaves.close()
                # A later request comes through: by then the proxy has noticed that the first one's client is gone.
                with _ask(proxy), upstream.accept()[0], caplog.at_level(logging.ERROR, "asyncio"):
                    gc.collect()
        finally:
            proxy.close()
    assert not caplog.records


def _ask(proxy: FaultProxy) -> socket.socket:
    client = socket.create_connection(("127.0.0.1", proxy.port))
    client.sendall(b"GET /x HTTP/1.1\r\nHost: there\r\n\r\n")
    return client
