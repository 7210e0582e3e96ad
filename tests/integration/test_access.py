"""Who gets in: from where, under which names, and how much of everything."""

from __future__ import annotations

import datetime
import ipaddress
import json
import re
import resource
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import websocket
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.wire.errors import ConnectFailedError, InvalidInputError

from .programs import ECHO, HOLDS, NUMBERS, that_does
from .support import Served, eventually

METADATA = {"description": "of a test", "max_execution_time": 60}


@pytest.fixture
def certificate(tmp_path: Path) -> tuple[Path, Path]:
    """A self-signed certificate for this machine, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "runtime of a test")])
    now = datetime.datetime.now(datetime.UTC)
    names = [x509.DNSName("localhost"), *(x509.IPAddress(ipaddress.ip_address(f"127.0.0.{n}")) for n in (1, 2))]
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    certificate, private = tmp_path / "certificate.pem", tmp_path / "key.pem"
    certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    pem, pkcs8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    private.write_bytes(key.private_bytes(pem, pkcs8, serialization.NoEncryption()))
    return certificate, private


def serve_by_hand(folder: Path, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run the command that a person types, and wait for its end."""
    command = [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", folder, *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)


def test_an_address_beyond_this_machine_is_refused_without_a_certificate(tmp_path: Path) -> None:
    refused = serve_by_hand(tmp_path / "r", "--host", "0.0.0.0")
    assert refused.returncode == 1
    assert "READY" not in refused.stdout
    assert "--tls-certificate and --tls-key" in refused.stderr.replace("\n", " ")
    assert "Traceback" not in refused.stderr
    assert not (tmp_path / "r").exists()


def test_half_a_certificate_and_a_wrong_one_are_refused_in_words(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    half = serve_by_hand(tmp_path / "r", "--host", "0.0.0.0", "--tls-certificate", certificate[0])
    assert (half.returncode, "both or neither" in half.stderr) == (1, True)
    swapped = serve_by_hand(
        tmp_path / "r", "--host", "0.0.0.0", "--tls-certificate", certificate[1], "--tls-key", certificate[0]
    )
    assert (swapped.returncode, "cannot be used" in swapped.stderr.replace("\n", " ")) == (1, True)
    assert "Traceback" not in half.stderr + swapped.stderr


def test_with_a_certificate_it_serves_all_addresses_and_a_client_verifies_it(
    tmp_path: Path, certificate: tuple[Path, Path]
) -> None:
    folder = tmp_path / "r"
    file, key = certificate
    command = [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", folder, "--host", "0.0.0.0"]
    command += ["--tls-certificate", file.name, "--tls-key", key.name, "--allow-host", "runtime.example"]
    # File names as a person types them: the server goes to another folder before it opens them.
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=tmp_path) as process:
        try:
            assert process.stdout is not None
            ready = process.stdout.readline()
            assert re.fullmatch(r"READY https://127.0.0.1:\d+\n", ready)
            found = json.loads((folder / "runtime.json").read_text())
            _check_tls(found, file)
        finally:
            process.terminate()


def _check_tls(found: dict[str, Any], file: Path) -> None:
    url, token = found["url"], found["token"]
    with RuntimeService(Credentials(url=url, token=token, verify=str(file))) as service:
        program = service.upload_program(NUMBERS, {**METADATA, "name": "numbers"})
        job = service.run(program, {})
        streamed: list[Any] = []
        job.stream_results(lambda _, value: streamed.append(value))
        assert job.result(timeout=30)["count"] == 3
        eventually(lambda: len(streamed) == 3)
    with RuntimeService(Credentials(url=url, token=token)) as service, pytest.raises(ConnectFailedError):
        service.backends()  # signed by nobody we trust
    port = url.rpartition(":")[2]
    for host, status in (
        (f"127.0.0.1:{port}", 200),
        (f"{socket.gethostname()}:{port}", 200),
        (f"runtime.example:{port}", 200),
        (f"evil.example:{port}", 403),
        (f"192.0.2.1:{port}", 403),  # an address, but not the one that was asked
    ):
        headers = {"Host": host, "X-Access-Token": token}
        assert requests.get(f"{url}/jobs", headers=headers, verify=str(file), timeout=10).status_code == status, host
    elsewhere = f"https://127.0.0.2:{port}"  # nobody named it, but it is where the connection came in
    assert requests.get(f"{elsewhere}/jobs", headers={"X-Access-Token": token}, verify=str(file), timeout=10).ok
    with pytest.raises((requests.ConnectionError, ssl.SSLError)):
        requests.get(f"http://127.0.0.1:{port}/jobs", headers={"X-Access-Token": token}, timeout=10)
    me = requests.get(f"{url}/users/me", headers={"X-Access-Token": token}, verify=str(file), timeout=10).json()
    assert (me["urls"]["http"], me["urls"]["ws"]) == (url, "wss" + url.removeprefix("https"))


def test_more_connections_than_a_process_may_usually_have_files_do_not_keep_jobs_from_running(
    serve: Callable[..., Served],
) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, hard))
    try:
        served = serve(slots=1)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    with RuntimeService(served.credentials) as service, ExitStack() as connections:
        echo = service.upload_program(ECHO, {**METADATA, "name": "echo"})
        port = int(served.found.url.rpartition(":")[2])
        for _ in range(200):
            connections.enter_context(socket.create_connection(("127.0.0.1", port)))
        assert service.run(echo, {"value": 5}).result(timeout=30) == 5


@pytest.mark.parametrize(("text", "token"), [("", ""), ("\n", ""), ("written by a person\n", "written by a person")])
def test_an_empty_token_is_none_and_one_that_a_person_wrote_is_taken(
    serve: Callable[..., Served], tmp_path: Path, text: str, token: str
) -> None:
    folder = tmp_path / "served"
    folder.mkdir(mode=0o700)
    (folder / "token").write_text(text)
    served = serve(folder)
    assert served.found.token == token or len(served.found.token) == 64
    for given, status in (("", 401), (served.found.token, 200)):
        answer = requests.get(f"{served.found.url}/jobs", headers={"X-Access-Token": given}, timeout=10)
        assert answer.status_code == status


def test_one_job_more_than_the_queue_holds_is_told_to_wait(serve: Callable[..., Served], tmp_path: Path) -> None:
    served = serve(slots=1, max_pending=3)
    with RuntimeService(served.credentials) as service:
        holds = service.upload_program(HOLDS, {**METADATA, "name": "holds"})
        jobs = [service.run(holds, {"gate": str(tmp_path / "gate")}) for _ in range(3)]
        body = {"program_id": holds, "params": {}}
        headers = {"X-Access-Token": served.found.token}
        answer = requests.post(f"{served.found.url}/jobs", json=body, headers=headers, timeout=10)
        assert (answer.status_code, answer.headers["Retry-After"]) == (429, "5")
        assert "Wait until some have ended" in answer.json()["errors"][0]["solution"]
        with ThreadPoolExecutor(1) as pool:  # our client waits, as it was told to
            patient = pool.submit(service.run, holds, {"gate": str(tmp_path / "gate")})
            time.sleep(1.0)
            assert len(service.jobs(limit=None)) == 3
            assert not patient.done()
            (tmp_path / "gate").touch()
            service.wait([job.job_id() for job in jobs], timeout=30)
            assert patient.result(30).result(timeout=30) == "held"


def test_of_many_requests_at_once_no_more_are_taken_than_the_queue_holds(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(slots=1, max_pending=5)
    with RuntimeService(served.credentials) as service:
        holds = service.upload_program(HOLDS, {**METADATA, "name": "holds"})
        body = {"program_id": holds, "params": {"gate": str(tmp_path / "gate")}}
        headers = {"X-Access-Token": served.found.token}
        post = partial(requests.post, f"{served.found.url}/jobs", json=body, headers=headers, timeout=30)
        with ThreadPoolExecutor(30) as pool:
            answers = [asked.result().status_code for asked in [pool.submit(post) for _ in range(60)]]
        assert (answers.count(200), answers.count(429)) == (5, 55)
        assert len(service.jobs(limit=None)) == 5


def test_one_stream_more_than_there_may_be_is_told_to_wait(runtime: Any) -> None:
    url = "ws" + runtime.found.url.removeprefix("http") + "/stream/changes"
    header = {"X-Access-Token": runtime.found.token}
    with ExitStack() as stack, pytest.raises(websocket.WebSocketBadStatusException) as refused:
        for _ in range(257):
            stack.callback(websocket.create_connection(url, header=header, timeout=10).close)
    assert refused.value.status_code == 429
    eventually(lambda: websocket.create_connection(url, header=header, timeout=10).close() is None)


def test_what_is_too_large_is_refused_with_413_and_what_to_do(
    service: RuntimeService, upload: Callable[..., str]
) -> None:
    metadata = {**METADATA, "name": "large"}
    with pytest.raises(InvalidInputError, match=r"data: more than .*Give large data as inputs") as caught:
        service.upload_program(that_does("'" + "x" * 1024**2 + "'"), metadata)
    assert caught.value.status_code == 413
    with pytest.raises(InvalidInputError, match="description: more than 10000") as caught:
        service.upload_program(ECHO, {**metadata, "description": "x" * 10_001})
    assert caught.value.status_code == 413
    with pytest.raises(InvalidInputError, match="Split the request") as caught:
        service.run(upload(ECHO), {"value": "x" * 65 * 1024**2})
    assert caught.value.status_code == 413
    assert not caught.value.retryable


@pytest.mark.parametrize("source", ["(" * 100_000, "x = " + "-" * 100_000 + "1", "a" + ".a" * 100_000])
def test_a_source_nested_too_deep_is_refused(runtime: Any, source: str) -> None:
    body = {"name": "deep", "data": source}
    headers = {"X-Access-Token": runtime.found.token}
    answer = requests.post(f"{runtime.found.url}/programs", json=body, headers=headers, timeout=30)
    assert answer.status_code == 400
    assert answer.json()["errors"][0]["message"].startswith("data:")


@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_source_that_takes_gigabytes_to_read_is_refused_and_nobody_waits(
    runtime: Any, upload: Callable[..., str], method: str
) -> None:
    source = "import a" + ".a" * 50_000
    url, headers = f"{runtime.found.url}/programs", {"X-Access-Token": runtime.found.token}
    options: dict[str, Any] = {"json": {"name": "much", "data": source}}
    if method == "PUT":
        url, options = f"{url}/{upload(ECHO)}/data", {"data": source}
    with ThreadPoolExecutor(1) as pool:
        reading = pool.submit(requests.request, method, url, headers=headers, timeout=60, **options)
        others = 0  # who were answered meanwhile
        while not reading.done():
            requests.get(f"{runtime.found.url}/version", timeout=60)
            others += 1
    assert reading.result().status_code == 400
    assert "too long, or nested too deep" in reading.result().text
    assert others >= 10


@pytest.mark.parametrize("site", ["cross-site", "same-site"])
def test_a_request_from_another_site_is_refused_also_where_a_browser_names_no_origin(runtime: Any, site: str) -> None:
    headers = {"X-Access-Token": runtime.found.token, "Sec-Fetch-Site": site}
    assert requests.get(f"{runtime.found.url}/jobs", headers=headers, timeout=10).status_code == 403
