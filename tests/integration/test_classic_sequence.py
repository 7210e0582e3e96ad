"""The classic dialect as its clients speak it, step by step, with requests and websocket-client alone.

Written from what is known of the service of that time (login, programs, jobs, stream), not from our client or our
server: both could share a mistake.
"""

from __future__ import annotations

import base64
import json
import os
import re
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
import requests
import websocket

from .support import eventually

SECONDS = 20.0
PENDING = ("QUEUED", "RUNNING")
SLOTS = os.cpu_count() or 1  # of `prefect-runtime serve`, unless told otherwise

GATED = """
import os, sys, time

def main(backend, user_messenger, *, gate="", before=(), after=(), result=None, fail=False, **kwargs):
    print("début", flush=True)
    for value in before:
        user_messenger.publish(value)
    end = time.monotonic() + 60
    while gate and not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.01)
    for value in after:
        user_messenger.publish(value)
    print("fin", file=sys.stderr, flush=True)
    if fail:
        raise ValueError("on purpose")
    return result
"""
"""Publishes, waits for a file, publishes more, returns its input."""

ENDS_WITH_A_FINAL_MESSAGE = """
def main(backend, user_messenger, **kwargs):
    user_messenger.publish("on the way")
    user_messenger.publish({"the": "end"}, final=True)
"""


class Classic:
    """A client of the classic service, logged in as its documentation says."""

    def __init__(self, auth_url: str, api_token: str) -> None:
        self.http = requests.Session()
        self.jobs: list[str] = []
        login = self.http.post(f"{auth_url}/users/loginWithToken", json={"apiToken": api_token}, timeout=SECONDS)
        assert login.status_code == 200, login.text
        self.http.headers["X-Access-Token"] = login.json()["id"]
        self.urls = self.http.get(f"{auth_url}/users/me", timeout=SECONDS).json()["urls"]
        self.base = self.urls["services"]["runtime"]

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, self.base + path, timeout=SECONDS, **options)

    def upload(self, source: str, **members: Any) -> str:
        answer = self("POST", "/programs", data=json.dumps(program(source, **members)))
        assert answer.status_code in (200, 201), answer.text
        return str(answer.json()["id"])

    def run(self, program_id: str, params: Any = None, **members: Any) -> str:
        """Start a job; the body is dumped before, so requests sends no Content-Type, as the classic client did."""
        body = {
            "program_id": program_id,
            **{"hub": "ibm-q", "group": "open", "project": "main", "backend": "aer_simulator", "runtime": None},
            **{"params": params or {}, **members},
        }
        answer = self("POST", "/jobs", data=json.dumps(body))
        assert "Content-Type" not in answer.request.headers
        assert answer.status_code == 200, answer.text
        self.jobs.append(answer.json()["id"])
        return self.jobs[-1]

    def status(self, job_id: str) -> str:
        return str(self("GET", f"/jobs/{job_id}").json()["status"]).upper()

    def ended(self, job_id: str) -> str:
        eventually(lambda: self.status(job_id) not in PENDING, seconds=SECONDS, what="the end of a job")
        return self.status(job_id)

    def connect(self, job_id: str, query: str = "", **headers: str) -> websocket.WebSocket:
        url = "ws" + self.base.removeprefix("http") + f"/stream/jobs/{job_id}{query}"
        header = {"X-Access-Token": str(self.http.headers["X-Access-Token"]), **headers}
        return websocket.create_connection(url, timeout=SECONDS, header=header, redirect_limit=0)

    def stream(self, job_id: str, query: str = "") -> tuple[list[Any], int]:
        """Read a job's stream to its end: the messages without the ACK, and the close code."""
        stream = self.connect(job_id, query)
        try:
            read_ack(stream)
            return read_to_close(stream)
        finally:
            stream.shutdown()


def program(source: str, **members: Any) -> dict[str, Any]:
    data = base64.b64encode(source.encode()).decode()
    return {"name": f"p-{uuid4().hex}", "data": data, "cost": 300, "description": "d", "is_public": False, **members}


def read_ack(stream: websocket.WebSocket) -> None:
    """Read the first frame, which every classic client drops unread: it must be no message of the program."""
    with pytest.raises(json.JSONDecodeError):
        json.loads(stream.recv())


def read_to_close(stream: websocket.WebSocket) -> tuple[list[Any], int]:
    messages = []
    while True:
        opcode, frame = stream.recv_data_frame()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return messages, int.from_bytes(frame.data[:2], "big")
        assert opcode == websocket.ABNF.OPCODE_TEXT
        messages.append(json.loads(frame.data))


def check_refused(answer: requests.Response, status: int) -> None:
    """An error is told in the shape that classic clients read."""
    assert answer.status_code == status, answer.text
    error = answer.json()["error"]
    assert isinstance(error["message"], str) and error["message"]
    assert isinstance(error["code"], int)


@pytest.fixture
def classic(runtime: Any) -> Iterator[Classic]:
    classic = Classic(runtime.found.url, runtime.found.token)
    with classic.http:
        yield classic
        for job in classic.jobs:  # a test that failed leaves the server's slots to the others
            classic("POST", f"/jobs/{job}/cancel")


@pytest.fixture(scope="module")
def gated(runtime: Any) -> str:
    classic = Classic(runtime.found.url, runtime.found.token)
    with classic.http:
        return classic.upload(GATED)


def test_the_login_leads_from_the_version_to_the_runtime(runtime: Any) -> None:
    url, token = runtime.found.url, runtime.found.token
    assert "api-auth" in requests.get(f"{url}/version", timeout=SECONDS).json()
    check_refused(requests.post(f"{url}/users/loginWithToken", json={"apiToken": "no"}, timeout=SECONDS), 401)
    answer = requests.post(f"{url}/users/loginWithToken", json={"apiToken": token}, timeout=SECONDS)
    assert answer.status_code == 200
    headers = {"X-Access-Token": answer.json()["id"], "X-Qx-Client-Application": "qiskit/0.45"}

    check_refused(requests.get(f"{url}/users/me", timeout=SECONDS), 401)
    urls = requests.get(f"{url}/users/me", headers=headers, timeout=SECONDS).json()["urls"]
    assert urls["http"].startswith("http://")
    assert urls["ws"].startswith("ws://")
    networks = requests.get(f"{urls['http']}/Network", headers=headers, timeout=SECONDS).json()
    projects = [
        (hub["name"], group, project, about["isDefault"])
        for hub in networks
        for group, members in hub["groups"].items()
        for project, about in members["projects"].items()
    ]
    assert len(projects) == len(set(projects)) >= 1
    assert projects[0][3] is True

    base = urls["services"]["runtime"]
    check_refused(requests.get(f"{base}/jobs", headers={"X-Access-Token": "no"}, timeout=SECONDS), 401)
    assert requests.get(f"{base}/jobs?limit=1", headers=headers, timeout=SECONDS).json()["limit"] == 1
    assert requests.post(f"{base}/logout", headers=headers, timeout=SECONDS).ok
    assert requests.get(f"{base}/jobs?limit=1", headers=headers, timeout=SECONDS).ok  # only a cache was dropped


def test_a_program_from_upload_to_deletion(classic: Classic) -> None:
    spec = {"parameters": {"type": "object", "required": ["n"]}, "backend_requirements": {"min_num_qubits": 2}}
    sent = program(GATED, spec=spec)
    made = classic("POST", "/programs", data=json.dumps(sent))
    assert made.status_code == 201
    path = f"/programs/{made.json()['id']}"
    check_refused(classic("POST", "/programs", data=json.dumps(sent)), 409)

    got = classic("GET", path).json()
    wanted = {key: sent[key] for key in ("name", "description", "cost", "is_public", "spec")}
    assert {key: got[key] for key in wanted} == wanted
    assert got["data"] == GATED
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z", got["creation_date"])

    total = classic("GET", "/programs", params={"limit": 1}).json()["count"]
    paged = [
        one
        for offset in range(0, total, 2)
        for one in classic("GET", "/programs", params={"limit": 2, "offset": offset}).json()["programs"]
    ]
    assert len({one["id"] for one in paged}) == len(paged) == total
    assert "data" not in next(one for one in paged if one["id"] == got["id"])
    assert classic("GET", "/programs", params={"limit": 20, "offset": total}).json()["programs"] == []

    assert classic("PATCH", path, data=json.dumps({"description": "new", "cost": 120})).ok
    data = base64.b64encode(ENDS_WITH_A_FINAL_MESSAGE.encode())
    assert classic("PUT", f"{path}/data", data=data, headers={"Content-Type": "application/octet-stream"}).ok
    assert classic("PUT", f"{path}/public").ok
    changed = classic("GET", path).json()
    same = {key: got[key] for key in ("id", "name", "spec", "creation_date")}
    news = {"description": "new", "cost": 120, "is_public": True, "data": ENDS_WITH_A_FINAL_MESSAGE}
    assert {key: changed[key] for key in (*same, *news)} == {**same, **news}
    assert classic("PUT", f"{path}/private").ok
    assert classic("GET", path).json()["is_public"] is False

    assert classic("DELETE", path).ok
    assert classic("GET", "/programs", params={"limit": 1}).json()["count"] == total - 1
    for method, where in [("GET", path), ("DELETE", path), ("PUT", f"{path}/public"), ("PATCH", path)]:
        check_refused(classic(method, where, data="{}" if method == "PATCH" else None), 404)
    check_refused(classic("POST", "/jobs", data=json.dumps({"program_id": got["id"], "backend": "aer_simulator"})), 404)


def test_every_subscriber_gets_each_message_once_in_order_until_the_job_is_final(
    classic: Classic, gated: str, tmp_path: Path
) -> None:
    gate = tmp_path / "gate"
    before: list[Any] = [0, "é", {"deep": [None, 1.5]}]
    after: list[Any] = [[], "_poison_pill", *range(40)]
    job = classic.run(gated, {"gate": str(gate), "before": before, "after": after, "result": {"answer": [42, "é"]}})
    early = classic.connect(job)
    read_ack(early)
    assert [json.loads(early.recv()) for _ in before] == before
    on_the_way = classic.connect(job)
    read_ack(on_the_way)
    assert [json.loads(on_the_way.recv()) for _ in before] == before
    assert classic.status(job) == "RUNNING"
    assert [json.loads(text) for text in classic("GET", f"/jobs/{job}/interim_results").json()] == before
    early.settimeout(0.2)
    with pytest.raises(websocket.WebSocketTimeoutException):  # nothing more, and no close, while the program runs
        early.recv_data_frame()
    early.settimeout(SECONDS)

    gate.touch()
    assert read_to_close(early) == (after, 1000)
    assert classic.status(job) == "COMPLETED"  # asked right after the close
    assert read_to_close(on_the_way) == (after, 1000)
    assert classic.stream(job) == ([*before, *after], 1000)
    assert classic.stream(job, "?after=2") == ([*before[2:], *after], 1000)
    assert classic.stream(job, f"?after={len(before + after)}") == ([], 1000)
    for stream in (early, on_the_way):
        stream.shutdown()

    assert [json.loads(text) for text in classic("GET", f"/jobs/{job}/interim_results").json()] == [*before, *after]
    result = classic("GET", f"/jobs/{job}/results")
    assert json.loads(result.text) == {"answer": [42, "é"]}
    logs = classic("GET", f"/jobs/{job}/logs")
    assert logs.status_code == 200
    assert "début" in logs.text  # as requests decodes it from the headers, not as we know better
    assert "fin" in logs.text

    assert classic("DELETE", f"/jobs/{job}").status_code == 204
    for method, what in [
        *[("GET", ""), ("GET", "/results"), ("GET", "/interim_results"), ("GET", "/logs")],
        *[("POST", "/cancel"), ("DELETE", "")],
    ]:
        check_refused(classic(method, f"/jobs/{job}{what}"), 404)


@pytest.mark.parametrize(("token", "status"), [(None, 404), ("no", 401)])
def test_a_stream_that_is_not_for_the_caller_is_refused_in_the_handshake(
    classic: Classic, token: str | None, status: int
) -> None:
    with pytest.raises(websocket.WebSocketBadStatusException) as refused:
        classic.connect("no-such-job", **({"X-Access-Token": token} if token else {}))
    assert refused.value.status_code == status


def test_a_jobs_document_says_what_was_asked_for_and_how_it_ended(classic: Classic, gated: str) -> None:
    params = {"result": None, "more": {"a": [1]}}
    done = classic.run(gated, params, runtime="image:1")
    failed = classic.run(gated, {"fail": True, "before": [1]})
    final = classic.run(classic.upload(ENDS_WITH_A_FINAL_MESSAGE))
    assert [classic.ended(job) for job in (done, failed, final)] == ["COMPLETED", "FAILED", "COMPLETED"]

    document = classic("GET", f"/jobs/{done}").json()
    assert (document["id"], document["backend"], document["program"]["id"]) == (done, "aer_simulator", gated)
    assert document["params"] == params
    assert {"hub", "group", "project"} <= document.keys()
    assert document["runtime"] == "image:1"
    assert document["created"].endswith("Z")
    assert datetime.fromisoformat(document["created"]).utcoffset() is not None
    assert json.loads(classic("GET", f"/jobs/{done}/results").text) is None

    assert classic("GET", f"/jobs/{failed}").json()["state"]["status"].upper() == "FAILED"
    assert "ValueError: on purpose" in classic("GET", f"/jobs/{failed}/results").text
    assert classic.stream(failed) == ([1], 1000)
    # The message marked final is the result, whether or not a server streams it as well.
    assert json.loads(classic("GET", f"/jobs/{final}/results").text) == {"the": "end"}
    assert classic.stream(final)[0][0] == "on the way"


def test_jobs_are_listed_by_page_and_filter_and_cancelled_in_the_queue_and_while_they_run(
    classic: Classic, gated: str, tmp_path: Path
) -> None:
    never, gate = str(tmp_path / "never"), tmp_path / "gate"
    other, program_id = classic.upload(ENDS_WITH_A_FINAL_MESSAGE), classic.upload(GATED)

    def listed(**query: Any) -> tuple[list[str], int]:
        page = classic("GET", "/jobs", params={"program": program_id, **query}).json()
        return [one["id"] for one in page["jobs"]], page["count"]

    finished = classic.run(program_id)
    assert classic.ended(finished) == "COMPLETED"
    fillers = [classic.run(gated, {"gate": never}) for _ in range(SLOTS - 1)]
    running = classic.run(program_id, {"gate": never, "before": ["here"]})
    stream = classic.connect(running)
    read_ack(stream)
    assert json.loads(stream.recv()) == "here"
    queued = [classic.run(program_id, {"gate": str(gate), "result": n}) for n in range(3)]
    assert [classic.status(job) for job in (running, *queued)] == ["RUNNING", *["QUEUED"] * 3]

    newest_first = [*reversed(queued), running, finished]
    assert listed() == (newest_first, 5)
    assert listed(limit=2) == (newest_first[:2], 5)
    assert listed(limit=2, offset=3) == (newest_first[3:], 5)
    assert listed(limit=2, offset=9) == ([], 5)
    assert listed(pending="true") == (newest_first[:4], 4)
    assert listed(pending="false") == ([finished], 1)
    assert listed(pending="true", limit=1, offset=3) == ([running], 4)
    assert listed(program=other) == ([], 0)
    everything = classic("GET", "/jobs", params={"limit": 4}).json()
    assert [one["id"] for one in everything["jobs"]] == newest_first[:4]
    assert everything["count"] >= 5 + len(fillers)

    check_refused(classic("DELETE", f"/jobs/{running}"), 409)
    for job in (queued[0], running, *fillers):
        answer = classic("POST", f"/jobs/{job}/cancel")
        assert (answer.status_code, answer.content) == (204, b"")
        assert classic.status(job) == "CANCELLED"
        check_refused(classic("POST", f"/jobs/{job}/cancel"), 409)
        assert classic("GET", f"/jobs/{job}/results").text == ""
    assert read_to_close(stream) == ([], 1000)
    stream.shutdown()
    assert classic.stream(queued[0]) == ([], 1000)
    gate.touch()
    assert [classic.ended(job) for job in queued] == ["CANCELLED", "COMPLETED", "COMPLETED"]
    assert [json.loads(classic("GET", f"/jobs/{job}/results").text) for job in queued[1:]] == [1, 2]
    check_refused(classic("POST", f"/jobs/{queued[1]}/cancel"), 409)

    for job in (finished, running, queued[0]):
        assert classic("DELETE", f"/jobs/{job}").status_code == 204
    assert listed() == ([queued[2], queued[1]], 2)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ('{"backend": "aer_simulator", "params": {}}', 400),
        ('{"program_id": "sampler", "backend": "no-such-backend"}', 404),
        ('{"program_id": "no-such-program", "backend": "aer_simulator"}', 404),
        ('{"program_id": "sampler", "backend": "aer_simulator", "params": "text"}', 400),
        ("[]", 400),
        ("{", 400),
    ],
)
def test_a_run_that_cannot_be_is_refused_and_makes_no_job(classic: Classic, body: str, status: int) -> None:
    before = classic("GET", "/jobs", params={"limit": 1}).json()["count"]
    check_refused(classic("POST", "/jobs", data=body), status)
    assert classic("GET", "/jobs", params={"limit": 1}).json()["count"] == before


def test_a_job_is_where_it_was_sent_to(classic: Classic, gated: str) -> None:
    """A classic client looks the backend up in the job's hub, group and project, and takes it for retired elsewhere."""
    networks = requests.get(f"{classic.urls['http']}/Network", headers=classic.http.headers, timeout=SECONDS).json()
    document = classic("GET", f"/jobs/{classic.run(gated)}").json()
    hub = next(one for one in networks if one["name"] == document["hub"])
    assert document["project"] in hub["groups"][document["group"]]["projects"]


def test_a_route_that_is_not_there_is_refused_in_the_classic_words(classic: Classic) -> None:
    check_refused(classic("GET", "/no-such-route"), 404)
    check_refused(classic("GET", "/jobs", params={"limit": "many"}), 400)
