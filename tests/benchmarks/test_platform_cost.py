"""What one job costs at a platform, in requests counted at the far end: ours and IBM's client."""

from __future__ import annotations

import json
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
import requests
from qiskit import QuantumCircuit, generate_preset_pass_manager

from prefect_runtime.client import Credentials, RuntimeService


class Counting:
    """A proxy in front of a runtime that passes everything on and counts it, by method and kind of path."""

    def __init__(self, target: str) -> None:
        self.counts: Counter[str] = Counter()
        counts = self.counts
        session = requests.Session()

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            wbufsize = -1
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                counts[kind_of(self.command, self.path)] += 1
                headers = {name: value for name, value in self.headers.items() if name.lower() != "host"}
                answer = session.request(self.command, target + self.path, data=body, headers=headers, timeout=60)
                self.send_response(answer.status_code)
                self.send_header("Content-Type", answer.headers.get("Content-Type", ""))
                if answer.status_code != 204:
                    self.send_header("Content-Length", str(len(answer.content)))
                self.end_headers()
                self.wfile.write(answer.content)

            do_POST = do_PUT = do_PATCH = do_DELETE = do_GET  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02})
        self._thread.start()
        self.url = f"http://127.0.0.1:{self._server.server_port}"

    def since(self) -> dict[str, int]:
        """What was asked since the last call."""
        counted = dict(self.counts)
        self.counts.clear()
        return counted

    def close(self) -> None:
        self._server.shutdown()
        self._thread.join(10)
        self._server.server_close()


def kind_of(method: str, path: str) -> str:
    parts = path.split("?", maxsplit=1)[0].removeprefix("/api/v1").strip("/").split("/")
    if parts[0] != "jobs":
        return (
            f"{method} /{'/'.join(parts[:2])}"
            if parts[0] in ("identity", "v3", "instances")
            else f"{method} /{parts[0]}"
        )
    if len(parts) == 1:
        return "POST a job" if method == "POST" else "status"
    return "status" if len(parts) == 2 else f"{method} {parts[2]}"


@pytest.fixture
def counting(runtime: Any) -> Iterator[Counting]:
    proxy = Counting(runtime.found.url)
    yield proxy
    proxy.close()


def crn_of(runtime: Any) -> str:
    """The runtime's instance, as its user has it in a block."""
    form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": runtime.found.token}
    token = requests.post(f"{runtime.found.url}/identity/token", data=form, timeout=30).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    found = requests.get(f"{runtime.found.url}/v2/resource_instances", headers=headers, timeout=30).json()
    crn: str = found["resources"][0]["crn"]
    return crn


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@pytest.mark.pr
@pytest.mark.filterwarnings("ignore")  # IBM's client deprecates its own primitives, and leaves its sockets open
def test_a_job_on_a_warm_service_is_one_post_its_status_and_one_result(
    runtime: Any, counting: Counting, report: Callable[[str], None]
) -> None:
    ibm = pytest.importorskip("qiskit_ibm_runtime", reason="needs prefect-runtime[ibm]")
    url = counting.url
    crn = crn_of(runtime)
    with RuntimeService(
        Credentials(
            channel="ibm_quantum_platform",
            token=runtime.found.token,
            instance=crn,
            url=f"{url}/api/v1",
            auth_url=url,
        )
    ) as service:
        constructed = counting.since()
        inputs = {"pubs": [(bell(), None, 10)]}
        service.run("sampler", inputs, backend="aer_simulator").result(timeout=60)  # warms it
        first = counting.since()
        service.run("sampler", inputs, backend="aer_simulator").result(timeout=60)
        ours = counting.since()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in (("IAM_URL", url), ("GLOBAL_SEARCH_URL", url), ("GLOBAL_CATALOG_URL", f"{url}/api/v1")):
            patch.setenv(name, value)
        theirs_service = ibm.QiskitRuntimeService(
            channel="ibm_quantum_platform",
            token=runtime.found.token,
            instance=crn,
            url=url,
            url_resolver=lambda given, *_: given + "/api/v1",
        )
        theirs_constructed = counting.since()
        backend = theirs_service.backend("aer_simulator")
        sampler = ibm.SamplerV2(mode=backend)
        isa = generate_preset_pass_manager(optimization_level=1, backend=backend).run(bell())
        sampler.run([isa], shots=10).result()
        counting.since()
        sampler.run([isa], shots=10).result()
        theirs = counting.since()
    report(f"to construct: ours {json.dumps(constructed)}, IBM's {json.dumps(theirs_constructed)}")
    report(f"first job: ours {json.dumps(first)}")
    report(f"a job on a warm service: ours {json.dumps(ours)}, IBM's {json.dumps(theirs)}")
    assert constructed == {}
    assert ours.pop("status") >= 1
    assert ours == {"POST a job": 1, "GET results": 1}
    assert sum(theirs_constructed.values()) >= 3
    assert sum(theirs.values()) - theirs["status"] > 2
