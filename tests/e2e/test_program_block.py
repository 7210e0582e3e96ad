"""`RuntimeProgram`, the job block: its jobs are those of `run_program`; and both blocks by Prefect's own standards."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest
from canaries.scanner import scan
from canaries.values import API_KEY, PROXIES
from prefect import flow, task
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import SecretStr, ValidationError

from prefect_runtime import RuntimeCredentials, RuntimeProgram, RuntimeProgramRun
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import JobTimeoutError, RuntimeInvalidStateError, RuntimeJobFailureError

from .proxy import Proxy
from .support import PROJECT, PUBLISHES, cards, eventually, execute_again, jobs_of, log_lines, run_async, run_id

Upload = Callable[..., str]

SLUG = "quantum-runtime-program"
BELL = 'OPENQASM 3.0; include "stdgates.inc"; qubit[2] q; bit[2] c; h q[0]; cx q[0], q[1]; c = measure q;'


# Prefect's standards


class OwnFiles(urllib.request.HTTPSHandler):
    """Answers for GitHub's server of raw files, over a socket, with what is in this project."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port

    def https_open(self, req: urllib.request.Request) -> Any:
        place = "https://raw.githubusercontent.com/prefect-runtime/prefect-runtime/main/"
        assert req.full_url.startswith(place), req.full_url
        return urllib.request.urlopen(f"http://127.0.0.1:{self._port}/{req.full_url.removeprefix(place)}", timeout=10)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None: ...


@pytest.fixture
def own_files() -> Iterator[None]:
    """Has the logos' address answered by this project's own files."""
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(PROJECT))) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        urllib.request.install_opener(urllib.request.build_opener(OwnFiles(server.server_port)))
        yield
        urllib.request.install_opener(urllib.request.build_opener())
        server.shutdown()


@pytest.mark.usefixtures("own_files")
class TestCredentialsByPrefectsStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return RuntimeCredentials


@pytest.mark.usefixtures("own_files")
class TestProgramByPrefectsStandards(BlockStandardTestSuite):
    @pytest.fixture
    def block(self) -> type[Block]:
        return RuntimeProgram


def test_a_server_with_the_package_has_the_block_type_from_the_start(block_slugs_at_start: set[str]) -> None:
    assert SLUG in block_slugs_at_start


def test_the_blocks_can_be_registered_by_hand_with_the_packages_name() -> None:
    for slug in (SLUG, "quantum-runtime-credentials"):
        with get_client(sync_client=True) as client:
            known = client.read_block_type_by_slug(slug)
            client.request("PATCH", "/block_types/{id}", path_params={"id": known.id}, json={"description": "stale"})
    command = [sys.executable, "-m", "prefect", "block", "register", "-m", "prefect_runtime"]
    done = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, timeout=100, check=True)
    assert "Successfully registered 2 blocks" in done.stdout
    with get_client(sync_client=True) as client:
        for kind in (RuntimeProgram, RuntimeCredentials):
            known = client.read_block_type_by_slug(kind.get_block_type_slug())
            assert known.description == kind.get_description()
            assert str(known.logo_url).endswith("/prefect_runtime/blocks/logo.png")


def test_a_stored_program_comes_back_whole_and_keeps_its_secrets_without_a_call(embedded: DiscoveryDocument) -> None:
    proxy = Proxy(embedded.url)
    credentials = RuntimeCredentials(channel="classic", token=SecretStr(API_KEY), url=proxy.url, proxies=PROXIES)
    block = RuntimeProgram(
        credentials=credentials,
        program_id="sampler",
        inputs={"pubs": [BELL], "options": {"default_shots": 10}},
        backend=["first", "second"],
        options={"log_level": "info"},
        tags=["nightly"],
        max_execution_time=30,
        timeout_seconds=2.5,
        on_timeout="cancel",
    )
    block.save("e2e-program", overwrite=True)
    loaded = RuntimeProgram.load("e2e-program")
    assert loaded.model_dump(exclude={"credentials"}) == block.model_dump(exclude={"credentials"})
    assert loaded.credentials.token.get_secret_value() == API_KEY
    with get_client(sync_client=True) as client:
        stored = client.request("GET", f"/block_types/slug/{SLUG}/block_documents/name/e2e-program")
    job = RuntimeProgramRun(credentials=loaded.credentials, job_id="some-job")
    for text in (stored.text, repr(loaded), str(loaded.model_dump()), loaded.model_dump_json(), repr(job)):
        assert not scan(text, "what is shown")
    assert proxy.requests == []
    proxy.close()


def test_a_program_without_a_name_is_refused() -> None:
    with pytest.raises(ValidationError, match="program_id"):
        RuntimeProgram(program_id="")


# Its jobs


def test_a_saved_program_is_triggered_waited_for_and_read(service: RuntimeService) -> None:
    RuntimeProgram(
        program_id="sampler", inputs={"pubs": [BELL], "options": {"default_shots": 10}}, tags=["stored"]
    ).save("e2e-bell", overwrite=True)

    @flow
    def sample() -> tuple[JobStatus, Any, str, str]:
        run = RuntimeProgram.load("e2e-bell").trigger()
        return run.wait_for_completion(), run.fetch_result(), run.logs(), run.job_id

    state = sample(return_state=True)
    status, result, log, job_id = state.result()
    assert status is JobStatus.DONE
    assert set(result[0].data.c.get_counts()) <= {"00", "11"}
    assert isinstance(log, str)
    assert jobs_of(service, run_id(state)) == [job_id]
    assert "stored" in service.client.job(job_id).tags
    (card,) = cards(run_id(state))
    assert (card.metadata_ or {})["job_id"] == job_id


class LaterStepError(Exception):
    """What went wrong after the jobs were submitted."""


def test_equal_triggers_are_a_job_each_and_find_theirs_when_the_flow_is_executed_again(
    upload: Upload, service: RuntimeService
) -> None:
    block = RuntimeProgram(program_id=upload(PUBLISHES), inputs={"count": 1})
    broken = True

    @task
    def from_a_task() -> str:
        return block.trigger(inputs={"extra": 1}).job_id

    @flow
    def thrice() -> list[str]:
        ids = [block.trigger().job_id, block.trigger().job_id, from_a_task()]
        if broken:
            raise LaterStepError
        return ids

    state = thrice(return_state=True)
    jobs = jobs_of(service, run_id(state))
    assert len(set(jobs)) == 3
    broken = False
    assert execute_again(thrice, run_id(state)).result() == jobs
    assert jobs_of(service, run_id(state)) == jobs
    with RuntimeService() as runtime:
        assert runtime.job(jobs[2]).result()["given"] == {"extra": 1}


def test_a_job_can_be_cancelled_and_a_long_wait_ends(upload: Upload, service: RuntimeService) -> None:
    block = RuntimeProgram(
        program_id=upload(PUBLISHES), inputs={"count": 300, "pause": 0.1}, timeout_seconds=0.5, on_timeout="cancel"
    )

    @flow
    def stopped() -> tuple[JobStatus, list[str]]:
        first, second = block.trigger(), block.trigger()
        status = first.cancel()
        with pytest.raises(RuntimeInvalidStateError):
            first.fetch_result()
        with pytest.raises(JobTimeoutError):
            second.wait_for_completion()
        return status, [first.job_id, second.job_id]

    status, ids = stopped()
    assert status is JobStatus.CANCELLED
    assert [service.job(job_id).status() for job_id in ids] == [JobStatus.CANCELLED] * 2


def test_a_job_that_fails_raises_and_its_run_can_be_taken_elsewhere(upload: Upload) -> None:
    block = RuntimeProgram(program_id=upload(PUBLISHES), inputs={"fail": True})

    @flow
    def failing() -> bytes:
        return pickle.dumps(block.trigger())

    @flow
    def elsewhere(pickled: bytes) -> None:
        run: RuntimeProgramRun = pickle.loads(pickled)
        assert "hello from the program" in eventually(lambda: run.status().is_final and run.logs())
        run.wait_for_completion()

    state = elsewhere(failing(), return_state=True)
    with pytest.raises(RuntimeJobFailureError, match="on purpose"):
        state.result()


def test_an_async_flow_has_the_same_with_an_a(upload: Upload, service: RuntimeService) -> None:
    block = RuntimeProgram(program_id=upload(PUBLISHES), inputs={"count": 2})

    @flow
    async def sample() -> tuple[str, JobStatus, JobStatus, Any, str, JobStatus]:
        run = await block.atrigger()
        done = await run.await_for_completion()
        logs, result = await run.alogs(), await run.afetch_result()
        return run.job_id, done, await run.astatus(), result, logs, await run.acancel()

    state = run_async(sample(return_state=True))
    job_id, done, now, result, logs, cancelled = state.result()
    assert (done, now, cancelled) == (JobStatus.DONE,) * 3
    assert result["count"] == 2
    assert "hello" in logs
    assert jobs_of(service, run_id(state)) == [job_id]
    assert any("submitted" in line for line in log_lines(run_id(state), until=job_id))
