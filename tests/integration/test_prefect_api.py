"""Calls of Prefect's API that somebody waits for: asked again at once while it is only busy. Prefect's own client."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED, PREFECT_CLIENT_MAX_RETRIES
from prefect.settings import temporary_settings as settings

from prefect_runtime.prefect_api import SHORT_PAUSES, promptly


class Api:
    """Answers with the statuses it is given, one after the other, then with 200; counts what it was asked."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str]]] = []
        self.asked = 0
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                api.asked += 1
                status, headers = api.answers.pop(0) if api.answers else (200, {})
                body = json.dumps({"status": status}).encode()
                self.send_response(status)
                for name, value in {**headers, "Content-Length": str(len(body))}.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/api"
        self.thread = threading.Thread(target=self.server.serve_forever)
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.thread.join()
        self.server.server_close()


@pytest.fixture
def api() -> Iterator[Api]:
    """An API that nothing is installed for."""
    made = Api()
    yield made
    made.close()


@pytest.fixture
def ask(api: Api) -> Iterator[Callable[[], httpx.Response]]:
    """Asks it once, promptly, with a client whose own retries are off: what gets through to them is seen."""
    off = {
        PREFECT_API_URL: api.url,
        PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False,
        PREFECT_CLIENT_MAX_RETRIES: 0,
    }
    with settings(off), get_client(sync_client=True) as client:
        assert isinstance(client, SyncPrefectClient)
        yield lambda: promptly(client.request, "POST", "/artifacts/", json={})


def test_a_busy_api_is_asked_again_at_once(api: Api, ask: Callable[[], httpx.Response]) -> None:
    api.answers = [(503, {})] * 3
    assert ask().json() == {"status": 200}
    assert api.asked == 4


def test_an_api_that_stays_busy_is_left_to_prefects_patience(api: Api, ask: Callable[[], httpx.Response]) -> None:
    api.answers = [(503, {})] * 100
    with pytest.raises(httpx.HTTPStatusError):
        ask()
    assert api.asked == len(SHORT_PAUSES) + 1


@pytest.mark.parametrize("answer", [(503, {"Retry-After": "0"}), (429, {}), (502, {}), (408, {})])
def test_what_is_no_moments_matter_is_left_to_prefects_patience(
    api: Api, ask: Callable[[], httpx.Response], answer: tuple[int, dict[str, str]]
) -> None:
    api.answers = [answer]
    assert ask().json() == {"status": 200}
    assert api.asked == 2


@pytest.mark.parametrize("status", [401, 404, 409, 422])
def test_a_refusal_is_raised_as_it_is(api: Api, ask: Callable[[], httpx.Response], status: int) -> None:
    api.answers = [(status, {})] * 2
    with pytest.raises(httpx.HTTPStatusError):
        ask()
    assert api.asked == 1
