"""The client by which Prefect's API is called: a busy server is asked again soon. Prefect's own, on a real socket."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx
import pytest
from prefect.settings import PREFECT_API_KEY, PREFECT_API_URL, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED
from prefect.settings import temporary_settings as settings

from prefect_runtime.prefect_api import PAUSES, ask_again_soon, at_first_answer, prefect_client


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
def server(api: Api) -> Iterator[None]:
    """It is the server that this process works with."""
    with settings({PREFECT_API_URL: api.url, PREFECT_CLIENT_CSRF_SUPPORT_ENABLED: False}):
        yield


@pytest.mark.usefixtures("server")
def test_a_busy_server_is_asked_again_soon(api: Api) -> None:
    api.answers = [(503, {})] * 3
    began = time.monotonic()
    with prefect_client() as client:
        assert client.request("POST", "/artifacts/", json={}).json() == {"status": 200}
    assert api.asked == 4
    assert time.monotonic() - began < 7, "of itself, Prefect's client sleeps for 14 s (2 + 4 + 8)"


@pytest.mark.usefixtures("server")
def test_the_first_answer_is_raised_where_the_next_call_is_soon_enough(api: Api) -> None:
    api.answers = [(503, {})]
    with prefect_client() as client, at_first_answer(), pytest.raises(httpx.HTTPStatusError):
        client.request("POST", "/artifacts/", json={})
    assert api.asked == 1


@pytest.mark.usefixtures("server")
def test_a_process_has_one_client_of_a_server_and_account(api: Api) -> None:
    with prefect_client() as client, prefect_client() as again:
        assert again is client
    with settings({PREFECT_API_KEY: "pnu_another"}), prefect_client() as another:
        assert another is not client
    with prefect_client() as later:
        assert later is client
        later.request("POST", "/artifacts/", json={})
    assert api.asked == 1


def asked(*statuses: int, **headers: str) -> list[str | None]:
    """Give what the client is told of when to come again, for answers to one request."""
    request = httpx.Request("POST", "http://127.0.0.1/api/variables/")
    told = []
    for status in statuses:
        answer = httpx.Response(status, headers=headers, request=request)
        ask_again_soon(answer)
        told.append(answer.headers.get("Retry-After"))
    return told


def test_who_is_busy_for_long_is_left_to_prefects_patience() -> None:
    assert asked(*[503] * 7) == [*map(str, PAUSES), None, None]


def test_what_the_server_says_itself_stands() -> None:
    assert asked(503, **{"Retry-After": "30"}) == ["30"]


@pytest.mark.parametrize("status", [200, 404, 409, 429, 500, 502])
def test_other_answers_stay_as_they_are(status: int) -> None:
    assert asked(status) == [None]
