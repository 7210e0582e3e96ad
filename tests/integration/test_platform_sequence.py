"""The platform dialect as its clients speak it, step by step, with requests alone.

Written from what is known of IBM Quantum Platform's REST API (paths, bodies, status codes), not from our client or our
server: both could share a mistake. Circuits and arrays are encoded and decoded by hand.
"""

from __future__ import annotations

import base64
import io
import json
import math
import re
import signal
import subprocess
import sys
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import requests
from qiskit import QuantumCircuit, qpy
from qiskit.circuit import Parameter

from prefect_runtime.wire.discovery_file import DiscoveryDocument

from .support import Served, eventually

SECONDS = 20.0
DELAY = 1.2
GRANT = "urn:ibm:params:oauth:grant-type:apikey"

GATED = """
import os, time

def main(backend, user_messenger, *, gate="", result=None, **kwargs):
    print("one", flush=True)
    end = time.monotonic() + 60
    while gate and not os.path.exists(gate) and time.monotonic() < end:
        time.sleep(0.01)
    print("two", flush=True)
    return result
"""
"""Writes a line, waits for a file, writes another, returns its input."""

RELAXATION_TIMES = """
def main(backend, user_messenger):
    return [qubit.t1 for qubit in backend.target.qubit_properties]
"""

BELL = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'


def sign_in(url: str, key: str) -> requests.Response:
    form = {"grant_type": GRANT, "apikey": key, "response_type": "cloud_iam"}
    return requests.post(f"{url}/identity/token", data=form, headers={"Accept": "application/json"}, timeout=SECONDS)


class Platform:
    """A client of IBM Quantum Platform that was given the service's address and an API key."""

    def __init__(self, found: DiscoveryDocument) -> None:
        self.url, self.key = found.url, found.token
        self.http = requests.Session()
        self.jobs: list[str] = []
        token = sign_in(self.url, self.key).json()["access_token"]
        headers = {"Authorization": f"Bearer {token}", "IBM-API-Version": "2026-04-15", "Accept": "application/json"}
        self.http.headers.update(headers)
        search = {"query": "service_name:quantum-computing", "fields": ["crn", "service_plan_unique_id", "name", "doc"]}
        answer = self.http.post(f"{self.url}/v3/resources/search?limit=100", json=search, timeout=SECONDS)
        (self.instance,) = answer.json()["items"]
        self.http.headers["Service-CRN"] = self.instance["crn"]

    def __call__(self, method: str, path: str, **options: Any) -> requests.Response:
        return self.http.request(method, f"{self.url}/api/v1{path}", timeout=SECONDS, **options)

    def get(self, path: str, **query: Any) -> Any:
        answer = self("GET", path, params=query)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def upload(self, source: str) -> str:
        """Upload a program; the platform has none of its own to wait in, so this goes through the classic dialect."""
        data = base64.b64encode(source.encode()).decode()
        body = {"name": f"p-{uuid4().hex}", "data": data, "cost": 60, "description": "d"}
        headers = {"X-Access-Token": self.key}
        answer = requests.post(f"{self.url}/programs", json=body, headers=headers, timeout=SECONDS)
        return str(answer.json()["id"])

    def post(self, program: str, params: Any = None, **members: Any) -> requests.Response:
        body = {"program_id": program, "backend": "aer_simulator", "params": params or {}, **members}
        return self("POST", "/jobs", json=body)

    def run(self, program: str, params: Any = None, **members: Any) -> str:
        answer = self.post(program, params, **members)
        assert answer.status_code == 200, answer.text
        assert answer.json()["backend"] == members.get("backend", "aer_simulator")
        self.jobs.append(answer.json()["id"])
        return self.jobs[-1]

    def cancel_all(self) -> None:
        """End what still runs: a test that failed leaves the server's slots to the others."""
        while self.jobs:
            self("POST", f"/jobs/{self.jobs.pop()}/cancel")

    def status(self, job_id: str) -> str:
        document = self.get(f"/jobs/{job_id}", exclude_params="true")
        assert {"id", "created", "program", "state", "status", "cost"} <= document.keys()
        assert document["state"]["status"] == document["status"].partition(" - ")[0]
        return str(document["status"])

    def becomes(self, job_id: str, *words: str) -> str:
        eventually(lambda: self.status(job_id) in words, seconds=SECONDS, what=f"a job's {words}")
        return self.status(job_id)

    def ended(self, job_id: str) -> str:
        return self.becomes(job_id, "Completed", "Failed", "Cancelled", "Cancelled - Ran too long")

    def running_since(self, job_id: str) -> datetime:
        return datetime.fromisoformat(self.get(f"/jobs/{job_id}/metrics")["timestamps"]["running"])


def check_refused(answer: requests.Response, status: int, *codes: int) -> None:
    """An error is told in the shape that the platform's clients read."""
    assert answer.status_code == status, answer.text
    body = answer.json()
    (error,) = body["errors"]
    assert {"code", "message", "solution", "more_info"} <= error.keys()
    assert error["message"]
    assert isinstance(body["trace"], str) and body["trace"]
    assert not codes or error["code"] in codes


def circuit(given: QuantumCircuit) -> dict[str, str]:
    buffer = io.BytesIO()
    qpy.dump(given, buffer, version=min(17, qpy.common.QPY_VERSION))
    packed = base64.b64encode(zlib.compress(buffer.getvalue())).decode()
    return {"__type__": "QuantumCircuit", "__value__": packed}


def ndarray(values: Any) -> dict[str, str]:
    buffer = io.BytesIO()
    np.save(buffer, np.asarray(values, dtype=float), allow_pickle=False)
    return {"__type__": "ndarray", "__value__": base64.b64encode(zlib.compress(buffer.getvalue())).decode()}


def array(document: Any) -> np.ndarray[Any, Any]:
    assert document["__type__"] == "ndarray"
    loaded: np.ndarray[Any, Any] = np.load(io.BytesIO(zlib.decompress(base64.b64decode(document["__value__"]))))
    return loaded


def data_of(result: Any) -> list[Any]:
    """The fields of each PUB's DataBin."""
    assert result["__type__"] == "PrimitiveResult"
    bins = [pub["__value__"]["data"] for pub in result["__value__"]["pub_results"]]
    assert {data["__type__"] for data in bins} == {"DataBin"}
    return [data["__value__"]["fields"] for data in bins]


def counts(register: Any) -> list[Counter[int]]:
    """Counts of a BitArray with registers of up to 8 bits, one for each set of parameter values."""
    assert register["__type__"] == "BitArray"
    shots = array(register["__value__"]["array"])[..., 0]
    return [Counter(row.tolist()) for row in shots.reshape(-1, shots.shape[-1])]


@pytest.fixture
def platform(runtime: Any) -> Iterator[Platform]:
    platform = Platform(runtime.found)
    with platform.http:
        yield platform
        platform.cancel_all()


@pytest.fixture(scope="module")
def gated(runtime: Any) -> str:
    platform = Platform(runtime.found)
    with platform.http:
        return platform.upload(GATED)


@pytest.fixture(scope="module")
def delaying(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A runtime that has run a job; those of generic_5q wait in its queue for a while, of generic_127q for ever."""
    served = Served(tmp_path_factory.mktemp("delayed"), delays={"generic_5q": DELAY, "generic_127q": 600.0}, slots=2)
    platform = Platform(served.found)
    with platform.http:
        assert platform.ended(platform.run(platform.upload(GATED))) == "Completed"
        yield platform
    served.kill()


@pytest.fixture
def delayed(delaying: Platform) -> Iterator[Platform]:
    yield delaying
    delaying.cancel_all()


def test_signing_in_and_finding_the_instance(runtime: Any) -> None:
    url, key = runtime.found.url, runtime.found.token
    wrong = sign_in(url, "no-such-key")
    assert (wrong.status_code, wrong.json()["errorCode"]) == (400, "BXNIM0415E")
    answer = sign_in(url, key)
    assert answer.status_code == 200
    token = answer.json()
    assert {key: token[key] for key in ("refresh_token", "token_type", "expires_in")} == {
        **{"refresh_token": "not_supported", "token_type": "Bearer", "expires_in": 3600}
    }
    assert "scope" in token
    body = token["access_token"].split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
    assert claims["exp"] == token["expiration"]
    assert claims["exp"] - claims["iat"] == 3600
    assert abs(claims["iat"] - time.time()) < 60

    platform = Platform(runtime.found)
    with platform.http:
        assert re.fullmatch(r"crn:v1:bluemix:public:quantum-computing:[a-z-]+:a/\w+:[\w-]+::", platform.instance["crn"])
        assert platform.instance["doc"]["extensions"]  # without, clients take it for an instance without backends
        assert key not in platform.instance["crn"]
        assert platform.get(f"/{platform.instance['service_plan_unique_id']}")["id"]
        versions = {one["version"]: one["status"] for one in platform.get("/versions")["versions"]}
        assert versions["2026-04-15"] == "live"
        usage = platform.get("/instances/usage")
        assert usage["instance_id"] == platform.instance["crn"]
        assert usage["plan_id"] and usage["usage_consumed_seconds"] >= 0
        for bad in ("Bearer no", f"apikey {key}", ""):
            check_refused(platform("GET", "/jobs", headers={"Authorization": bad}), 401, 1200, 1201)


def test_backends_tell_what_they_are(platform: Platform) -> None:
    devices = {one["name"]: one for one in platform.get("/backends")["devices"]}
    assert list(devices) == ["aer_simulator", "generic_5q", "generic_27q", "generic_127q"]
    for name, device in devices.items():
        assert device["status"]["name"] == "online"
        assert "wait_time_seconds" not in device
        configuration = platform.get(f"/backends/{name}/configuration")
        assert (configuration["backend_name"], configuration["n_qubits"]) == (name, device["qubits"])
        status = platform.get(f"/backends/{name}/status")
        assert (status["state"], status["status"]) == (True, "active")
        assert {"message", "length_queue", "backend_version"} <= status.keys()
        assert isinstance(platform.get(f"/backends/{name}/defaults"), dict)
        properties = platform.get(f"/backends/{name}/properties")
        assert len(properties.get("qubits", [])) == (0 if device["is_simulator"] else device["qubits"])
    for device in platform.get("/backends", fields="wait_time_seconds")["devices"]:
        assert {"average", "p50", "p95"} <= device["wait_time_seconds"].keys()
    for page in ("configuration", "properties", "status", "defaults"):
        check_refused(platform("GET", f"/backends/no-such-backend/{page}"), 404)


def test_a_sampler_takes_openqasm_and_qpy_with_parameters(platform: Platform) -> None:
    theta = Parameter("theta")
    turned = QuantumCircuit(1, 1)
    turned.ry(theta, 0)
    turned.measure(0, 0)
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    bell.measure_all()
    pubs = [
        [BELL, ndarray([]), 1000],
        [circuit(bell), ndarray([]), 500],
        [circuit(turned), ndarray([[0], [math.pi]]), 50],
    ]
    params = {"pubs": pubs, "options": {}, "version": 2, "support_qiskit": True}
    job = platform.run("sampler", params, log_level="INFO", cost=300)
    assert platform.ended(job) == "Completed"
    document = platform.get(f"/jobs/{job}")
    assert (document["params"], document["cost"], document["program"]["id"]) == (params, 300, "sampler")
    assert "params" not in platform.get(f"/jobs/{job}", exclude_params="true")
    assert document["usage"]["status"] == "complete"

    qasm, packed, swept = data_of(platform.get(f"/jobs/{job}/results"))
    for register, shots in ((qasm["c"], 1000), (packed["meas"], 500)):
        (seen,) = counts(register)
        assert seen.keys() == {0b00, 0b11}
        assert seen.total() == shots
    assert counts(swept["c"]) == [Counter({0: 50}), Counter({1: 50})]


def test_an_estimator_takes_observables_and_precision(platform: Platform) -> None:
    bell = QuantumCircuit(2)
    bell.h(0)
    bell.cx(0, 1)
    observables = [{"ZZ": 1.0}, {"XX": 0.5, "ZZ": 0.25}, {"ZI": 1.0}]
    pubs = [[circuit(bell), observables, ndarray([]), 0.02], [circuit(bell), {"XX": -1.0}, ndarray([]), None]]
    params = {"pubs": pubs, "options": {}, "version": 2, "support_qiskit": True, "resilience_level": 0}
    job = platform.run("estimator", params)
    assert platform.ended(job) == "Completed"
    several, single = data_of(platform.get(f"/jobs/{job}/results"))
    assert array(several["evs"]) == pytest.approx([1.0, 0.75, 0.0], abs=0.2)  # ten times what was asked for
    assert array(several["stds"]).shape == (3,)
    assert array(single["evs"]) == pytest.approx(-1.0, abs=0.2)


def test_results_logs_and_metrics_before_and_after_the_end(platform: Platform, gated: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = platform.run(gated, {"gate": str(gate), "result": {"x": "é"}})

    def part(start: int) -> requests.Response:
        return platform("GET", f"/jobs/{job}/logs", headers={"Range": f"bytes={start}-"})

    eventually(lambda: part(0).status_code == 206, seconds=SECONDS, what="a log")
    assert (part(0).content, part(0).headers["Content-Range"]) == (b"one\n", "bytes 0-3/4")
    assert part(4).status_code == 416  # nothing new
    assert platform.status(job) == "Running"
    before = platform("GET", f"/jobs/{job}/results")
    assert (before.status_code, before.content) == (204, b"")
    metrics = platform.get(f"/jobs/{job}/metrics")
    assert metrics["timestamps"]["running"] >= metrics["timestamps"]["created"]
    assert metrics["timestamps"]["finished"] is None
    assert metrics["usage"]["status"] == "pending"

    gate.touch()
    assert platform.ended(job) == "Completed"
    assert platform.get(f"/jobs/{job}/results") == {"x": "é"}
    assert (part(4).status_code, part(4).content, part(4).headers["Content-Range"]) == (206, b"two\n", "bytes 4-7/8")
    assert part(8).status_code == part(99).status_code == 416
    whole = platform("GET", f"/jobs/{job}/logs")
    assert (whole.status_code, whole.text) == (200, "one\ntwo\n")
    metrics = platform.get(f"/jobs/{job}/metrics")
    assert metrics["timestamps"]["finished"] >= metrics["timestamps"]["running"]
    assert metrics["usage"]["status"] == "complete"
    assert metrics["usage"]["qpu_charge_time_seconds"] >= 0

    check_refused(platform("POST", f"/jobs/{job}/cancel"), 409)
    assert platform("DELETE", f"/jobs/{job}").status_code == 204
    for method, what in [
        *[("GET", ""), ("GET", "/results"), ("GET", "/logs"), ("GET", "/metrics")],
        *[("POST", "/cancel"), ("DELETE", ""), ("PUT", "/tags")],
    ]:
        check_refused(platform(method, f"/jobs/{job}{what}", json={"tags": []}), 404, 3250, 3302)


def test_tags_find_jobs_and_one_key_makes_one_job(platform: Platform, gated: str) -> None:
    mine = uuid4().hex
    key = "prt1-" + uuid4().hex[:26].translate(str.maketrans("0189", "wxyz"))
    first = platform.run(gated, tags=[key, mine])
    second = platform.run(gated, tags=[mine, f"other-{mine}"])

    def tagged(*tags: str) -> list[str]:
        return [one["id"] for one in platform.get("/jobs", tags=list(tags))["jobs"]]

    assert tagged(mine) == [second, first]
    assert tagged(mine, key) == [first]
    assert tagged(key, f"other-{mine}") == []
    again = platform.post(gated, tags=[key])
    check_refused(again, 409)
    assert again.json()["id"] == first
    assert tagged(key) == [first]
    assert platform.ended(first) == "Completed"
    assert platform.post(gated, tags=[key]).json()["id"] == first  # final or not

    assert platform("PUT", f"/jobs/{second}/tags", json={"tags": [f"new-{mine}"]}).status_code == 204
    assert tagged(mine) == [first]
    assert platform.get(f"/jobs/{second}")["tags"] == [f"new-{mine}"]
    assert set(platform.get("/tags", type="job", search=mine)["tags"]) == {mine, f"new-{mine}"}
    check_refused(platform("GET", "/tags", params={"type": "job", "search": "ab"}), 400)
    for tags in (["t"] * 9, ["t" * 87]):
        check_refused(platform.post(gated, tags=tags), 400, 1204, 1205)
        check_refused(platform("PUT", f"/jobs/{second}/tags", json={"tags": tags}), 400, 1204, 1205)
    assert platform.get(f"/jobs/{second}")["tags"] == [f"new-{mine}"]


def test_the_list_is_filtered_paged_and_sorted(platform: Platform, tmp_path: Path) -> None:
    program = platform.upload(GATED)
    jobs = [
        platform.run(program, {"result": n}, backend=name) for n, name in enumerate(["aer_simulator", "generic_5q"])
    ]
    for job in jobs:
        assert platform.ended(job) == "Completed"
    jobs.append(platform.run(program, {"gate": str(tmp_path / "never")}))

    def listed(**query: Any) -> list[int]:
        page = platform.get("/jobs", program=program, **query)
        return [jobs.index(one["id"]) for one in page["jobs"]]

    assert listed() == [2, 1, 0]
    assert listed(sort="ASC") == [0, 1, 2]
    assert listed(pending="true") == [2]
    assert listed(pending="false") == [1, 0]
    assert listed(backend="generic_5q") == [1]
    assert listed(limit=1, offset=1) == [1]
    assert listed(limit=2, offset=1, sort="ASC") == [1, 2]
    page = platform.get("/jobs", program=program, limit=1, offset=2)
    assert (page["count"], page["limit"], page["offset"]) == (3, 1, 2)
    for limit in (0, 201, -1):
        page = platform.get("/jobs", program=program, limit=limit)
        assert (page["limit"], len(page["jobs"])) == (200, 3)
    assert "params" not in page["jobs"][0]
    assert platform.get("/jobs", program=program, exclude_params="false")["jobs"][2]["params"] == {"result": 0}

    created = [datetime.fromisoformat(platform.get(f"/jobs/{job}")["created"]) for job in jobs]
    between = created[0] + (created[1] - created[0]) / 2
    for zone in (UTC, timezone(timedelta(hours=2)), timezone(-timedelta(hours=7))):
        text = between.astimezone(zone).isoformat().replace("+00:00", "Z")
        assert listed(created_after=text) == [2, 1]
        assert listed(created_before=text) == [0]
    last = (created[2] - (created[2] - created[1]) / 2).isoformat()
    assert listed(created_after=between.isoformat(), created_before=last) == [1]

    cancelled = platform("POST", f"/jobs/{jobs[2]}/cancel")
    assert (cancelled.status_code, cancelled.content) == (204, b"")
    assert platform.status(jobs[2]) == "Cancelled"
    assert platform("GET", f"/jobs/{jobs[2]}/results").status_code == 204
    assert listed(pending="true") == []


def test_a_private_jobs_result_is_read_once(platform: Platform, gated: str) -> None:
    job = platform.run(gated, {"result": "secret"}, private=True)
    assert platform.ended(job) == "Completed"
    document = platform.get(f"/jobs/{job}")
    assert document["private"] is True
    assert "secret" not in json.dumps(document)
    listed = platform.get("/jobs", program=gated, limit=1, exclude_params="false")["jobs"]
    assert [one["id"] for one in listed] == [job]
    assert "secret" not in json.dumps(listed)
    assert platform.get(f"/jobs/{job}/results") == "secret"
    again = platform("GET", f"/jobs/{job}/results")
    assert (again.status_code, again.content) == (204, b"")
    assert platform.status(job) == "Completed"


def test_a_job_that_ran_too_long_says_so_in_the_documented_words(
    platform: Platform, gated: str, tmp_path: Path
) -> None:
    job = platform.run(gated, {"gate": str(tmp_path / "never")}, cost=1)
    assert platform.ended(job) == "Cancelled - Ran too long"
    state = platform.get(f"/jobs/{job}")["state"]
    assert (state["status"], state["reason_code"]) == ("Cancelled", 1305)  # IBM's client waits for ever on another word
    assert "ran too long" in state["reason"].lower()


@pytest.mark.parametrize(
    "query",
    [
        {"created_after": "yesterday"},
        {"created_before": "2026-13-45"},
        {"created_after": "0001-01-01T00:00:00+14:00"},
        {"limit": "many"},
    ],
)
def test_a_filter_that_cannot_be_read_is_refused(platform: Platform, query: dict[str, str]) -> None:
    check_refused(platform("GET", "/jobs", params=query), 400)


def test_a_route_that_is_not_there_is_refused_in_the_platforms_words(platform: Platform) -> None:
    check_refused(platform("GET", "/no-such-route"), 404)
    check_refused(platform("PATCH", "/jobs"), 405)


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"program_id": None}, 400),
        ({"program_id": "no-such-program"}, 404),
        ({"backend": None}, 400),
        ({"backend": "no-such-backend"}, 404),
        ({"params": "text"}, 400),
        ({"cost": 10_801}, 400),
        ({"log_level": "loud"}, 400),
        ({"session_id": "no-such-session"}, 404),
    ],
)
def test_a_job_that_cannot_be_is_refused_and_not_made(platform: Platform, change: dict[str, Any], status: int) -> None:
    before = platform.get("/jobs", limit=1)["count"]
    body = {"program_id": "sampler", "backend": "aer_simulator", "params": {"pubs": []}, **change}
    check_refused(
        platform("POST", "/jobs", json={key: value for key, value in body.items() if value is not None}), status
    )
    assert platform.get("/jobs", limit=1)["count"] == before


@pytest.mark.pr
def test_a_queue_delay_holds_one_backends_jobs_in_order_and_others_pass(delayed: Platform) -> None:
    program = delayed.upload(GATED)
    held = delayed.run(program, backend="generic_127q")
    first, second = (delayed.run(program, backend="generic_5q") for _ in range(2))
    passing = delayed.run(program)
    for job in (passing, first, second):
        assert delayed.ended(job) == "Completed"
    assert delayed.status(held) == "Queued"
    check_refused(delayed("GET", f"/jobs/{held}/logs"), 404)  # none before it has begun
    assert delayed.get(f"/jobs/{held}/metrics")["timestamps"]["running"] is None
    for job in (first, second):
        waited = delayed.running_since(job) - datetime.fromisoformat(delayed.get(f"/jobs/{job}")["created"])
        assert waited >= timedelta(seconds=DELAY)
    assert delayed.running_since(first) < delayed.running_since(second)
    devices = delayed.get("/backends", fields="wait_time_seconds")["devices"]
    waits = {one["name"]: one["wait_time_seconds"]["average"] for one in devices}
    assert waits["generic_127q"] - waits["generic_27q"] == pytest.approx(600)
    assert waits["generic_5q"] - waits["generic_27q"] == pytest.approx(DELAY)
    assert delayed("POST", f"/jobs/{held}/cancel").status_code == 204
    assert delayed.status(held) == "Cancelled"


def test_a_session_takes_jobs_until_it_is_closed(delayed: Platform, tmp_path: Path) -> None:
    program, gate = delayed.upload(GATED), tmp_path / "gate"
    opened = delayed("POST", "/sessions", json={"mode": "batch", "backend": "aer_simulator", "max_ttl": 60})
    assert opened.status_code == 200
    session = opened.json()["id"]
    document = delayed.get(f"/sessions/{session}")
    assert (document["state"], document["accepting_jobs"], document["max_ttl"]) == ("open", True, 60)
    assert {"interactive_ttl", "active_ttl", "elapsed_time"} <= document.keys()
    running = delayed.run(program, {"gate": str(gate), "result": 7}, session_id=session)
    queued = delayed.run(program, {}, session_id=session, backend="generic_127q")
    delayed.becomes(running, "Running")
    assert delayed.get(f"/sessions/{session}")["state"] == "active"
    assert {one["id"] for one in delayed.get("/jobs", session_id=session)["jobs"]} == {running, queued}
    assert delayed.get(f"/jobs/{running}")["session_id"] == session

    assert delayed("DELETE", f"/sessions/{session}/close").status_code == 204
    assert delayed.status(queued) == "Cancelled"
    assert delayed.status(running) == "Running"
    closed = delayed.get(f"/sessions/{session}")
    assert (closed["state"], closed["accepting_jobs"]) == ("closed", False)
    check_refused(delayed.post(program, session_id=session), 400, 4001)
    gate.touch()
    assert delayed.ended(running) == "Completed"
    assert delayed.get(f"/jobs/{running}/results") == 7

    second = delayed("POST", "/sessions", json={"mode": "dedicated", "backend": "generic_5q"}).json()["id"]
    assert second != session
    queued = delayed.run(program, {"result": "ran"}, session_id=second, backend="generic_5q")
    assert delayed.status(queued) == "Queued"  # looked at at once: it is there for little more than a second
    assert delayed("PATCH", f"/sessions/{second}", json={"accepting_jobs": False}).status_code == 204
    assert delayed.get(f"/sessions/{second}")["accepting_jobs"] is False
    check_refused(delayed.post(program, session_id=second), 400, 4001)
    assert delayed.ended(queued) == "Completed"  # what was in the queue still runs
    assert delayed.get("/jobs", session_id=second)["count"] == 1

    for method, path in [("GET", ""), ("PATCH", ""), ("DELETE", "/close")]:
        check_refused(delayed(method, f"/sessions/no-such-session{path}", json={"accepting_jobs": False}), 404)
    for body, status in [
        ({"mode": "loud", "backend": "aer_simulator"}, 400),
        ({"mode": "batch", "backend": "no"}, 404),
    ]:
        check_refused(delayed("POST", "/sessions", json=body), status)


def test_a_session_ends_when_its_time_is_over(delayed: Platform) -> None:
    program = delayed.upload(GATED)
    body = {"mode": "batch", "backend": "generic_127q", "max_ttl": 2}
    session = delayed("POST", "/sessions", json=body).json()["id"]
    job = delayed.run(program, session_id=session, backend="generic_127q")
    assert delayed.ended(job) == "Cancelled"  # nobody asked for the session meanwhile
    assert delayed.get(f"/sessions/{session}")["state"] == "closed"
    check_refused(delayed.post(program, session_id=session), 400, 4001)


def test_a_recalibration_changes_the_noisy_backends_for_clients_and_programs(delayed: Platform) -> None:
    program = delayed.upload(RELAXATION_TIMES)

    def times() -> tuple[list[float], list[float]]:
        """T1 of each qubit in seconds, as a client reads it and as a program does."""
        qubits = delayed.get("/backends/generic_27q/properties")["qubits"]
        told = [next(entry["value"] for entry in qubit if entry["name"] == "T1") * 1e-6 for qubit in qubits]
        job = delayed.run(program, backend="generic_27q")
        assert delayed.ended(job) == "Completed"
        return told, delayed.get(f"/jobs/{job}/results")

    told, seen = times()
    assert seen == pytest.approx(told)
    configuration = delayed.get("/backends/generic_27q/configuration")
    answer = requests.post(
        f"{delayed.url}/runtime/recalibrate", headers={"X-Access-Token": delayed.key}, timeout=SECONDS
    )
    assert answer.ok
    new_told, new_seen = times()
    assert new_seen == pytest.approx(new_told)
    assert all(old != new for old, new in zip(told, new_told, strict=True))
    assert delayed.get("/backends/generic_27q/configuration") == configuration


@pytest.mark.pr
def test_a_recalibration_reaches_a_warm_sampler(serve: Callable[..., Served]) -> None:
    """With one seed and one calibration the counts are equal; a new calibration gives others."""
    platform = Platform(serve(slots=1).found)  # one slot: one process, which has seen the old calibration
    flips = QuantumCircuit(5, 5)
    for qubit in range(5):
        for _ in range(60):
            flips.x(qubit)
    flips.measure(range(5), range(5))
    options = {"simulator": {"seed_simulator": 7}}
    pubs = [[circuit(flips), ndarray([]), 4000]]

    def sampled() -> Counter[int]:
        job = platform.run(
            "sampler", {"pubs": pubs, "options": options, "version": 2, "support_qiskit": True}, backend="generic_5q"
        )
        assert platform.ended(job) == "Completed", platform("GET", f"/jobs/{job}/results").text
        (fields,) = data_of(platform.get(f"/jobs/{job}/results"))
        return counts(fields["c"])[0]

    with platform.http:
        before = sampled()
        assert sampled() == before
        requests.post(f"{platform.url}/runtime/recalibrate", headers={"X-Access-Token": platform.key}, timeout=SECONDS)
        assert sampled() != before


@pytest.mark.pr
def test_a_recalibration_outlives_the_server(serve: Callable[..., Served]) -> None:
    served = serve()

    def properties() -> list[Any]:
        platform = Platform(served.found)
        with platform.http:
            return [
                platform.get(f"/backends/{name}/properties") for name in ("generic_5q", "generic_27q", "generic_127q")
            ]

    first = properties()
    headers = {"X-Access-Token": served.found.token}
    assert requests.post(f"{served.found.url}/runtime/recalibrate", headers=headers, timeout=SECONDS).ok
    second = properties()
    assert all(old["qubits"] != new["qubits"] for old, new in zip(first, second, strict=True))
    served.kill()
    served.start()
    assert properties() == second


@pytest.mark.pr
def test_a_server_runs_jobs_when_the_folder_it_was_started_in_is_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    served = Served(tmp_path / "served")
    monkeypatch.chdir(tmp_path)
    here.rmdir()
    platform = Platform(served.found)
    try:
        with platform.http:
            job = platform.run(platform.upload(GATED), {"result": 1})
            assert platform.ended(job) == "Completed", platform.get(f"/jobs/{job}")["state"]
    finally:
        served.kill()


@pytest.mark.pr
def test_an_expired_access_token_is_refused_and_what_is_shown_for_qiskit_leads_to_the_service(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", str(tmp_path / "r")]
    arguments = ["--token-seconds", "1", "--show-qiskit", "--queue-delay", "generic_5q=7"]
    with subprocess.Popen([*command, *arguments], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            shown = ""
            while not re.search(r"^\)$", shown, re.MULTILINE):
                line = process.stdout.readline()
                assert line, shown
                shown += line
            key = json.loads((tmp_path / "r" / "runtime.json").read_text())["token"]
            check_shown(shown, key)
            check_expiry(re.findall(r"IAM_URL=(\S+)", shown)[0], key)
        finally:
            process.send_signal(signal.SIGTERM)
            rest = process.communicate(timeout=SECONDS)[0]
    assert key not in rest


def check_shown(shown: str, key: str) -> None:
    """The printed addresses are those of the three services, and no secret is among it."""
    assert key not in shown
    iam, search, catalog = (
        re.findall(rf"\b{name}=(\S+)", shown)[0] for name in ("IAM_URL", "GLOBAL_SEARCH_URL", "GLOBAL_CATALOG_URL")
    )

    def instance() -> requests.Response:
        headers = {"Authorization": f"Bearer {sign_in(iam, key).json()['access_token']}"}
        return requests.post(f"{search}/v3/resources/search", json={"query": "q"}, headers=headers, timeout=SECONDS)

    (item,) = when_good(instance).json()["items"]
    assert item["crn"] in shown

    def plan() -> requests.Response:
        headers = {"Authorization": f"Bearer {sign_in(iam, key).json()['access_token']}"}
        return requests.get(f"{catalog}/{item['service_plan_unique_id']}", headers=headers, timeout=SECONDS)

    assert when_good(plan).json()["id"] == item["service_plan_unique_id"]


def when_good(ask: Callable[[], requests.Response]) -> requests.Response:
    """Ask with a new token until it is good: a life of 1 s may be over before the question is read."""
    for _ in range(5):
        answer = ask()
        if answer.ok:
            return answer
    raise AssertionError(f"{answer.status_code}: {answer.text}")


def check_expiry(url: str, key: str) -> None:
    token = ""

    def ask() -> requests.Response:
        headers = {"Authorization": f"Bearer {token}"}
        return requests.get(f"{url}/api/v1/backends?fields=wait_time_seconds", headers=headers, timeout=SECONDS)

    def ask_anew() -> requests.Response:
        nonlocal token
        token = sign_in(url, key).json()["access_token"]
        return ask()

    devices = {one["name"]: one for one in when_good(ask_anew).json()["devices"]}
    assert devices["generic_5q"]["wait_time_seconds"]["average"] >= 7
    eventually(lambda: ask().status_code == 401, seconds=5, what="the end of a token's life")
    check_refused(ask(), 401, 1200, 1201)
    assert when_good(ask_anew).status_code == 200  # who signs in again goes on
