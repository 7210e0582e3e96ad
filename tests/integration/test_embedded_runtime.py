"""The embedded runtime's routes, asked with plain requests: who gets in, what is refused, what is answered."""

from __future__ import annotations

import contextlib
import json
import re
import stat
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import websocket
from starlette.routing import Route, WebSocketRoute

from prefect_runtime.local.app import Runtime, create_app
from prefect_runtime.local.backend_pages import BackendPages
from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.cells import Cells
from prefect_runtime.local.executor import Executor
from prefect_runtime.local.sessions import Sessions
from prefect_runtime.local.store import Store

from .programs import ECHO, HOLDS, NUMBERS
from .support import eventually

OPEN_ROUTES = {"/users/loginWithToken", "/identity/token", "/version"}  # the token is in the body; nothing is told


class Plain:
    """Requests to a runtime without our client."""

    def __init__(self, found: Any) -> None:
        self.url = found.url
        self.session = requests.Session()
        self.session.headers["X-Access-Token"] = found.token
        self.token = found.token

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.session.request(method, self.url + path, timeout=10, **options)

    def post_job(self, program: str, params: Any = None, **members: Any) -> requests.Response:
        return self("POST", "/jobs", json={"program_id": program, "params": params or {}, **members})

    def ended(self, job_id: str) -> dict[str, Any]:
        """Wait until a job is final and give its document."""
        pending = ("Queued", "Running")
        eventually(lambda: self("GET", f"/jobs/{job_id}").json()["status"] not in pending)
        document: dict[str, Any] = self("GET", f"/jobs/{job_id}").json()
        return document


@pytest.fixture
def plain(runtime: Any) -> Iterator[Plain]:
    plain = Plain(runtime.found)
    with plain.session:
        yield plain


@pytest.fixture
def routes(tmp_path: Path) -> list[tuple[str, str]]:
    """(method, path) of every route of the application; "WS" for a WebSocket."""
    bulletin = Bulletin()
    store = Store(tmp_path / "routes.sqlite", bulletin.post_status)
    calibration = Calibration(tmp_path / "calibration")
    cells = Cells(tmp_path)
    app = create_app(
        Runtime(
            store=store,
            executor=Executor(store, tmp_path, bulletin, slots=1, cells=cells, calibration=calibration, delays={}),
            bulletin=bulletin,
            backends=BackendPages(calibration=calibration, store=store, delays={}),
            sessions=Sessions(store),
            calibration=calibration,
            token="t",
            hosts=frozenset(),
            instance="i",
        ),
        lambda: None,
    )
    store.close()
    cells.remove()
    found = list(_walk(app.routes))
    assert len(found) > 20
    return found


def _walk(routes: Iterable[Any]) -> Iterator[tuple[str, str]]:
    for route in routes:
        path = re.sub(r"{\w+}", "x", getattr(route, "path", ""))
        if isinstance(route, Route):
            yield from ((method, path) for method in route.methods or ())
        elif isinstance(route, WebSocketRoute):
            yield "WS", path
        else:  # FastAPI 0.150 keeps an included router whole, older ones take its routes over
            yield from _walk(route.original_router.routes)


def shake_hands(plain: Plain, path: str, **headers: str) -> int:
    """Open a WebSocket and give the HTTP status of the handshake."""
    address = "ws" + plain.url.removeprefix("http") + path
    options: dict[str, Any] = {"host": headers.pop("Host", None), "origin": headers.pop("Origin", None)}
    options["suppress_origin"] = options["origin"] is None
    try:
        websocket.create_connection(address, timeout=5, header=headers, **options).close()
    except websocket.WebSocketBadStatusException as error:
        return int(error.status_code)
    return 101


@pytest.mark.parametrize("token", [None, "", "wrong", "é"])
def test_no_route_answers_without_the_token(plain: Plain, routes: list[tuple[str, str]], token: str | None) -> None:
    let_in = []
    headers = {} if token is None else {"X-Access-Token": token.encode().decode("latin-1")}
    for method, path in routes:
        if method == "WS":
            status = shake_hands(plain, path, **headers) if token != "é" else 401
        else:
            status = requests.request(method, plain.url + path, headers=headers, timeout=5).status_code
        if status != 401:
            let_in.append((method, path, status))
    assert {path for _, path, _ in let_in} <= OPEN_ROUTES


def test_the_open_route_wants_the_token_in_its_body(plain: Plain) -> None:
    url = f"{plain.url}/users/loginWithToken"
    assert requests.post(url, json={"apiToken": "wrong"}, timeout=5).status_code == 401
    assert requests.post(url, json={}, timeout=5).status_code == 401
    access = requests.post(url, json={"apiToken": plain.token}, timeout=5).json()["id"]
    assert requests.get(f"{plain.url}/jobs", headers={"X-Access-Token": access}, timeout=5).status_code == 200


def test_the_token_is_also_taken_as_a_bearer(plain: Plain) -> None:
    headers = {"Authorization": f"Bearer {plain.token}"}
    assert requests.get(f"{plain.url}/backends", headers=headers, timeout=5).status_code == 200


@pytest.mark.parametrize(
    ("name", "value", "http", "handshake"),
    [
        ("Host", "evil.example", 403, 403),
        ("Host", "127.0.0.1", 403, 403),
        ("Origin", "https://evil.example", 403, 403),
        ("Origin", "null", 403, 403),
    ],
)
def test_foreign_hosts_and_origins_are_refused(plain: Plain, name: str, value: str, http: int, handshake: int) -> None:
    assert plain("GET", "/jobs", headers={name: value}).status_code == http
    assert plain("POST", "/users/loginWithToken", headers={name: value}, json={}).status_code == http
    assert shake_hands(plain, "/stream/changes", **{"X-Access-Token": plain.token, name: value}) == handshake


@pytest.mark.parametrize(
    "wrong", [{"Host": "evil.example"}, {"Origin": "https://evil.example"}], ids=["host", "origin"]
)
def test_no_route_answers_under_a_foreign_host_or_to_a_foreign_origin(
    plain: Plain, routes: list[tuple[str, str]], wrong: dict[str, str]
) -> None:
    let_in = []
    for method, path in routes:
        headers = {"X-Access-Token": plain.token, **wrong}
        if method == "WS":
            status = shake_hands(plain, path, **headers)
        else:
            status = plain(method, path, headers=headers).status_code
        if status != 403:
            let_in.append((method, path, status))
    assert not let_in


def test_its_own_origin_is_let_in(plain: Plain) -> None:
    assert plain("GET", "/jobs", headers={"Origin": plain.url}).status_code == 200
    assert shake_hands(plain, "/stream/changes", **{"X-Access-Token": plain.token, "Origin": plain.url}) == 101


def test_a_body_without_content_type_is_accepted(plain: Plain, upload: Callable[..., str]) -> None:
    body = json.dumps({"program_id": upload(ECHO), "params": {"value": 7}}).encode()
    answer = plain("POST", "/jobs", data=body)
    assert "Content-Type" not in answer.request.headers
    assert answer.status_code == 200
    assert plain.ended(answer.json()["id"])["status"] == "Completed"


@pytest.mark.parametrize(
    ("members", "field"),
    [
        ({"program_id": None}, "program_id:"),
        ({"program_id": 5}, "program_id:"),
        ({"backend": 5}, "backend:"),
        ({"params": "text"}, "params:"),
        ({"params": [1]}, "params:"),
        ({"tags": "text"}, "tags:"),
        ({"tags": [5]}, "tags:"),
        ({"tags": ["t"] * 9}, "tags:"),
        ({"tags": ["t" * 87]}, "tags:"),
        ({"log_level": "loud"}, "log_level:"),
        ({"cost": -1}, "cost:"),
        ({"cost": "5"}, "cost:"),
        ({"cost": True}, "cost:"),
        ({"cost": 10_801}, "cost:"),
        ({"session_id": {}}, "session_id:"),
    ],
)
def test_a_job_that_cannot_be_read_is_refused_by_field(
    plain: Plain, upload: Callable[..., str], count_jobs: Callable[[], int], members: dict[str, Any], field: str
) -> None:
    before = count_jobs()
    answer = plain("POST", "/jobs", json={"program_id": upload(ECHO), **members})
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"].startswith(field)
    assert answer.json()["error"]["message"].startswith(field)
    assert count_jobs() == before


HALF = "\ud800"


@pytest.mark.parametrize(
    ("method", "path", "body", "field"),
    [
        ("POST", "/users/loginWithToken", {"apiToken": HALF}, "apiToken:"),
        ("POST", "/jobs", {"program_id": HALF}, "program_id:"),
        ("POST", "/jobs", {"program_id": "sampler", "tags": [f"prt1-{HALF}"]}, "tags:"),
        ("POST", "/jobs", {"program_id": "sampler", "tags": [HALF]}, "tags:"),
        ("POST", "/jobs", {"program_id": "sampler", "runtime": HALF}, "runtime:"),
        ("POST", "/jobs", {"program_id": "sampler", "session_id": HALF}, "session_id:"),
        ("POST", "/jobs", {"program_id": "sampler", HALF: 1}, "\\ud800:"),
        ("POST", "/programs", {"name": HALF, "data": ECHO}, "name:"),
        ("POST", "/programs", {"name": "p", "data": ECHO, "spec": {HALF: 1}}, "spec:"),
    ],
)
def test_what_is_half_a_character_is_refused_by_field(
    plain: Plain, count_jobs: Callable[[], int], method: str, path: str, body: dict[str, Any], field: str
) -> None:
    before = count_jobs()
    answer = plain(method, path, data=json.dumps(body))
    assert answer.status_code == 400
    assert answer.json()["error"]["message"].startswith(field)
    assert count_jobs() == before
    assert plain("GET", "/api/v1/tags?search=prt").status_code == 200


def test_inputs_are_any_json_and_an_odd_name_is_refused_in_words(plain: Plain, upload: Callable[..., str]) -> None:
    spec = {"parameters": {"type": "object", "properties": {"a": {}}, "additionalProperties": False}}
    program = plain("POST", "/programs", json={"name": "closed", "data": ECHO, "spec": spec}).json()["id"]
    refused = plain("POST", "/jobs", data=json.dumps({"program_id": program, "params": {HALF: 1}}))
    assert refused.status_code == 400
    assert "\\ud800" in refused.json()["error"]["message"]
    taken = plain("POST", "/jobs", data=json.dumps({"program_id": upload(ECHO), "params": {"value": HALF}}))
    job_id = taken.json()["id"]
    eventually(lambda: plain("GET", f"/jobs/{job_id}").json()["status"] == "Completed", what="the job's end")
    assert json.loads(plain("GET", f"/jobs/{job_id}/results").text) == HALF


@pytest.mark.parametrize("body", [b"", b"no json", b"[]", b"5", b"\xff\xfe", b"[" * 10_000])
@pytest.mark.parametrize("path", ["/jobs", "/programs", "/users/loginWithToken"])
def test_a_body_that_is_no_json_object_is_refused(plain: Plain, path: str, body: bytes) -> None:
    answer = plain("POST", path, data=body)
    assert answer.status_code == 400
    assert "JSON" in answer.json()["error"]["message"]


def test_a_second_request_with_the_same_key_gets_the_first_ones_id(plain: Plain, upload: Callable[..., str]) -> None:
    key = f"prt1-{uuid4().hex[:26]}"
    first = plain.post_job(upload(ECHO), tags=["mine", key])
    second = plain.post_job(upload(ECHO), tags=[key])
    assert (first.status_code, second.status_code) == (200, 409)
    assert second.json()["id"] == first.json()["id"]
    assert plain("GET", "/jobs", params={"tags": key}).json()["count"] == 1
    other = plain.post_job(upload(ECHO), tags=["mine", "not-a-key"])
    assert other.status_code == 200


def test_a_second_request_gets_the_first_ones_id_also_if_it_would_not_be_taken_any_more(plain: Plain) -> None:
    key = f"prt1-{uuid4().hex[:26]}"
    program = plain("POST", "/programs", json={"name": "deleted soon", "data": ECHO}).json()["id"]
    first = plain.post_job(program, tags=[key]).json()["id"]
    plain.ended(first)
    assert plain("DELETE", f"/programs/{program}").status_code == 204
    second = plain.post_job(program, tags=[key])
    assert (second.status_code, second.json().get("id")) == (409, first)


def test_the_tag_filter_wants_all_tags(plain: Plain, upload: Callable[..., str]) -> None:
    a, b = f"a-{uuid4().hex}", f"b-{uuid4().hex}"
    ids = {name: plain.post_job(upload(ECHO), tags=tags).json()["id"] for name, tags in
           {"a": [a], "b": [b], "ab": [b, a], "longer": [a + "x", b]}.items()}  # fmt: skip

    def listed(*tags: str) -> set[str]:
        return {job["id"] for job in plain("GET", "/jobs", params={"tags": tags}).json()["jobs"]}

    assert listed(a) == {ids["a"], ids["ab"]}
    assert listed(a, b) == {ids["ab"]}
    assert listed(b, a) == {ids["ab"]}
    assert listed(a, "nothing has this") == set()


def test_pages_follow_each_other_newest_first(plain: Plain, upload: Callable[..., str]) -> None:
    tag = uuid4().hex
    ids = [plain.post_job(upload(ECHO), tags=[tag]).json()["id"] for _ in range(5)]

    def page(**params: Any) -> list[str]:
        answer = plain("GET", "/jobs", params={"tags": tag, **params}).json()
        assert answer["count"] == 5
        return [job["id"] for job in answer["jobs"]]

    newest_first = ids[::-1]
    assert page() == newest_first
    assert page(limit=2) == newest_first[:2]
    assert page(limit=2, offset=2) == newest_first[2:4]
    assert page(limit=2, offset=4) == newest_first[4:]
    assert page(limit=2, offset=6) == []
    assert page(sort="ASC") == ids


def test_a_job_from_start_to_deletion(plain: Plain, upload: Callable[..., str], tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job_id = plain.post_job(upload(HOLDS), {"gate": str(gate), "publish": [1, "é"]}).json()["id"]
    eventually(lambda: len(plain("GET", f"/jobs/{job_id}/interim_results").json()) == 2)
    assert plain("GET", f"/jobs/{job_id}").json()["status"] == "Running"
    assert plain("GET", f"/jobs/{job_id}/results").status_code == 204
    assert plain("GET", f"/jobs/{job_id}/logs").text == "holding\n"
    assert plain("DELETE", f"/jobs/{job_id}").status_code == 409
    gate.touch()
    assert plain.ended(job_id)["status"] == "Completed"
    assert plain("GET", f"/jobs/{job_id}/results").json() == "held"
    assert plain("GET", f"/jobs/{job_id}/interim_results").json() == ["1", '"\\u00e9"', '"the gate is open"']
    assert plain("POST", f"/jobs/{job_id}/cancel").status_code == 409
    assert plain("DELETE", f"/jobs/{job_id}").status_code == 204
    for path in ("", "/results", "/logs", "/interim_results", "/metrics"):
        assert plain("GET", f"/jobs/{job_id}{path}").status_code == 404


def test_a_cancelled_job_is_cancelled_when_the_answer_comes(
    plain: Plain, upload: Callable[..., str], tmp_path: Path
) -> None:
    job_id = plain.post_job(upload(HOLDS), {"gate": str(tmp_path / "gate")}).json()["id"]
    eventually(lambda: plain("GET", f"/jobs/{job_id}").json()["status"] == "Running")
    assert plain("POST", f"/jobs/{job_id}/cancel").status_code == 204
    assert plain("GET", f"/jobs/{job_id}").json()["status"] == "Cancelled"
    assert plain("GET", f"/jobs/{job_id}/results").status_code == 204
    assert plain("POST", f"/jobs/{job_id}/cancel").status_code == 409


def test_a_failed_jobs_reason_is_in_its_document_and_in_place_of_the_result(
    plain: Plain, upload: Callable[..., str]
) -> None:
    job_id = plain.post_job(upload(NUMBERS), {"fail": True}).json()["id"]
    document = plain.ended(job_id)
    assert document["status"] == document["state"]["status"] == "Failed"
    assert "on purpose" in document["state"]["reason"]
    assert plain("GET", f"/jobs/{job_id}/results").text == document["state"]["reason"]


@pytest.mark.parametrize("path", ["/jobs/none", "/jobs/none/results", "/jobs/none/logs", "/programs/none"])
def test_what_is_not_there_is_not_found(plain: Plain, path: str) -> None:
    answer = plain("GET", path)
    assert answer.status_code == 404
    assert "none" in answer.json()["error"]["message"]


@pytest.mark.parametrize("path", ["/jobs/..%2f..%2fruntime.json/logs", "/jobs/../runtime.json", "/jobs/%2e%2e/logs"])
def test_no_path_leads_out_of_the_jobs_folder(plain: Plain, path: str) -> None:
    request = requests.Request("GET", plain.url + "/x", headers=dict(plain.session.headers)).prepare()
    request.url = plain.url + path  # as written: requests would tidy it up
    answer = plain.session.send(request, timeout=5)
    assert answer.status_code in (404, 405)
    assert plain.token not in answer.text


@pytest.mark.parametrize("params", [{"limit": 0}, {"limit": -5}, {"limit": 10**6}, {"offset": -1}, {"offset": 10**30}])
def test_numbers_out_of_range_do_not_break_the_list(plain: Plain, params: dict[str, int]) -> None:
    assert plain("GET", "/jobs", params=params).status_code in (200, 400, 422)


def test_a_body_that_is_too_large_is_refused(plain: Plain) -> None:
    answer = plain("POST", "/jobs", data=b"[" * (64 * 1024 * 1024 + 1))
    assert answer.status_code == 413


@pytest.mark.parametrize("path", sorted(OPEN_ROUTES - {"/version"}))
@pytest.mark.parametrize("chunked", [False, True])
def test_who_has_not_signed_in_cannot_have_a_large_body_read(plain: Plain, path: str, *, chunked: bool) -> None:
    body = b"apikey=1&" * 10_000
    answer = requests.post(plain.url + path, data=iter([body]) if chunked else body, timeout=5)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, 413)


def test_the_discovery_file_is_private_and_has_its_five_members(runtime: Any) -> None:
    file = runtime.data_dir / "runtime.json"
    document = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(document) == {"url", "token", "pid", "instance", "protocol"}
    assert document["pid"] == runtime.process.pid
    for other in runtime.data_dir.rglob("*"):
        assert stat.S_IMODE(other.stat().st_mode) & 0o077 == 0, other


def test_what_a_client_says_on_a_stream_is_heard_and_ends_nothing(
    plain: Plain, upload: Callable[..., str], tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    job_id = plain.post_job(upload(HOLDS), {"gate": str(gate)}).json()["id"]
    address = f"ws{plain.url.removeprefix('http')}/stream/jobs/{job_id}"
    with contextlib.closing(
        websocket.create_connection(address, timeout=10, header={"X-Access-Token": plain.token})
    ) as stream:
        stream.send("text")
        stream.send_binary(b"\xff")
        stream.ping()
        assert plain("GET", f"/jobs/{job_id}").status_code == 200
        gate.touch()
        heard = [stream.recv(), stream.recv()]
    assert heard == [f"Listening to results for job: {job_id}", '"the gate is open"']
