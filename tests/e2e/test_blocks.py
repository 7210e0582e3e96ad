"""The block: what it runs on, what it keeps to itself, and how a Prefect server comes to know it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.metadata import entry_points
from typing import Any

import pytest
from canaries.scanner import scan
from canaries.values import API_KEY, CRN, PROXIES
from prefect import flow, task
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client
from prefect.logging import get_run_logger
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, execute, job_status
from prefect_runtime.blocks import load_credentials
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import AuthenticationError, ConfigurationError

from .proxy import Proxy
from .support import free_port, jobs_of, log_lines, run_id

SLUG = "quantum-runtime-credentials"


def test_the_block_of_nothing_is_the_embedded_runtime(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def sample() -> Any:
        return execute(RuntimeCredentials(), "sampler", [bell], shots=10)

    state = sample(return_state=True)
    assert sum(state.result()[0].data.meas.get_counts().values()) == 10
    assert len(service.jobs(limit=None, tags=[f"prt-run-{run_id(state)}"])) == 1
    with RuntimeCredentials().get_client() as client:
        assert client.backends()[0].name == "aer_simulator"


@pytest.fixture
def saved() -> str:
    """The name of a saved block that is full of secrets; nobody answers at its URL."""
    block = RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=SecretStr(API_KEY),
        instance=CRN,
        url=f"http://127.0.0.1:{free_port()}/api/v1",
        backend=["first", "second"],
        proxies=PROXIES,  # type: ignore[arg-type]
        tags=["nightly"],
        max_execution_time=30,
        wait_seconds=2.5,
    )
    block.save("e2e-secrets", overwrite=True)
    return "e2e-secrets"


def test_a_saved_block_comes_back_whole_without_a_call_to_the_runtime(saved: str) -> None:
    loaded = RuntimeCredentials.load(saved)  # nobody answers at its URL
    assert loaded.token.get_secret_value() == API_KEY
    assert loaded.proxies.get_secret_value() == PROXIES
    assert (loaded.channel, loaded.instance.get_secret_value(), loaded.backend) == (
        "ibm_quantum_platform",
        CRN,
        ["first", "second"],
    )
    assert (loaded.tags, loaded.max_execution_time, loaded.wait_seconds) == (["nightly"], 30, 2.5)
    assert (loaded.verify, loaded.settle_seconds, loaded.request_timeout_seconds) == (True, None, 30)


def test_loading_a_block_calls_nobody(embedded: DiscoveryDocument) -> None:
    proxy = Proxy(embedded.url)
    RuntimeCredentials(channel="classic", token=SecretStr(embedded.token), url=proxy.url).save(
        "e2e-counted", overwrite=True
    )
    block = RuntimeCredentials.load("e2e-counted")
    with block.get_client() as client:
        assert proxy.requests == []
        client.backends()
        assert proxy.requests, "the proxy sees the calls"
    proxy.close()


def test_a_secret_shows_nowhere(saved: str) -> None:
    @task
    def talk(block: RuntimeCredentials) -> None:
        logger = get_run_logger()
        logger.info("repr %r str %s dump %s json %s", block, block, block.model_dump(), block.model_dump_json())
        with block.get_client() as client:
            logger.info("client %r %r", client, client.client)
        logger.info("end of talk")

    @flow
    def talkative() -> None:
        talk(RuntimeCredentials.load(saved))

    state = talkative(return_state=True)
    lines = log_lines(run_id(state), until="end of talk")
    assert any("repr RuntimeCredentials" in line for line in lines)
    with get_client(sync_client=True) as client:
        stored = client.request("GET", f"/block_types/slug/{SLUG}/block_documents/name/{saved}")
    block = RuntimeCredentials.load(saved)
    shown = [*lines, stored.text, repr(block), str(block), str(block.model_dump()), block.model_dump_json()]
    for text in shown:
        assert not scan(text, "what is shown")
    assert API_KEY in str(block.model_dump()["token"].get_secret_value()), "it is the saved one"


def test_a_refused_token_is_in_no_log_line_and_no_state(embedded: DiscoveryDocument) -> None:
    @flow
    def refused() -> None:
        job_status(RuntimeCredentials(channel="classic", url=embedded.url, token=SecretStr(API_KEY)), "some-job")

    state = refused(return_state=True)
    with pytest.raises(AuthenticationError):
        state.result()
    lines = log_lines(run_id(state), until="Finished in state Failed")
    assert not scan("\n".join([*lines, str(state.message), repr(state)]), "log and state")


def test_the_environments_token_is_used_where_the_block_has_none(embedded: DiscoveryDocument) -> None:
    right, wrong = embedded.token, "not-the-token"
    block = RuntimeCredentials(channel="classic", url=embedded.url)
    block.save("e2e-token-of-the-environment", overwrite=True)
    block = RuntimeCredentials.load("e2e-token-of-the-environment")
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("PREFECT_RUNTIME_TOKEN", raising=False)
        with pytest.raises(ConfigurationError, match="token"):
            block.get_client()
        patch.setenv("PREFECT_RUNTIME_TOKEN", right)
        with block.get_client() as client:
            assert client.backends()
        patch.setenv("PREFECT_RUNTIME_TOKEN", wrong)
        with block.get_client() as client, pytest.raises(AuthenticationError):
            client.backends()
        with block.model_copy(update={"token": SecretStr(right)}).get_client() as client:
            assert client.backends(), "the block's own token comes first"


def test_the_entry_point_names_the_module_with_the_block() -> None:
    (found,) = [entry for entry in entry_points(group="prefect.collections") if entry.name == "prefect_runtime"]
    assert found.value == "prefect_runtime.blocks"
    assert found.load().RuntimeCredentials is RuntimeCredentials


def test_a_server_with_the_package_has_the_block_type_from_the_start(block_slugs_at_start: set[str]) -> None:
    assert SLUG in block_slugs_at_start
    with get_client(sync_client=True) as client:
        block_type = client.read_block_type_by_slug(SLUG)
    assert block_type.name == "Quantum Runtime Credentials"
    assert block_type.documentation_url is not None
    assert block_type.code_example and ".load(" in block_type.code_example


@pytest.mark.pr
def test_a_saved_block_is_found_by_its_slug_without_an_import_of_ours(saved: str) -> None:
    script = (
        "from prefect.blocks.core import Block\n"
        f"block = Block.load('{SLUG}/{saved}')\n"
        "print(type(block).__module__, type(block).__name__, len(block.token.get_secret_value()))\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], env=dict(os.environ), capture_output=True, text=True, timeout=60, check=False
    )
    module = "prefect_runtime.blocks.credentials"
    assert done.stdout.split() == [module, "RuntimeCredentials", str(len(API_KEY))], done.stderr


def test_every_field_has_a_title_and_a_description_that_is_a_sentence() -> None:
    own = set(RuntimeCredentials.model_fields) - set(Block.model_fields)
    assert {"channel", "token", "instance", "url", "auth_url", "backend", "verify", "proxies"} <= own
    for name in own:
        field = RuntimeCredentials.model_fields[name]
        assert field.title, name
        assert field.description is not None and re.fullmatch(r"[A-Z].*\.", field.description, re.DOTALL), name


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"channel": "carrier-pigeon"}, "channel"),
        ({"request_timeout_seconds": 0}, "request_timeout_seconds"),
        ({"max_execution_time": "soon"}, "max_execution_time"),
        ({"max_execution_time": -1}, "max_execution_time"),
        ({"wait_seconds": -1}, "wait_seconds"),
        ({"settle_seconds": -1}, "settle_seconds"),
        ({"url": "ftp://example.org"}, "url"),
        ({"url": "http://runtime.example"}, "url"),
        ({"auth_url": "https://user:pass@example.org"}, "auth_url"),
        ({"token": "two words"}, "token"),
        ({"backend": "no such/name"}, "backend"),
        ({"channel": "classic", "token": "t"}, "url"),
        ({"channel": "ibm_quantum_platform", "token": "t"}, "instance"),
        ({"channel": "ibm_quantum_platform", "instance": CRN}, "token"),
        ({"tags": ["x" * 87]}, "tags"),
        ({"tags": ["1", "2", "3", "4", "5"]}, "tags"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_a_bad_value_is_an_error_that_names_its_field(
    fields: dict[str, Any],
    named: str,
    bell: QuantumCircuit,
    service: RuntimeService,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PREFECT_RUNTIME_TOKEN", raising=False)

    @flow
    def use() -> None:
        execute(RuntimeCredentials(**fields), "sampler", [bell], shots=1, timeout=10)

    state = use(return_state=True)
    with pytest.raises((ValueError, ConfigurationError), match=rf"(?m)^{named}\b"):
        state.result()
    assert jobs_of(service, run_id(state)) == [], "found before anything was sent"


@pytest.mark.parametrize(
    ("stored", "said"), [({"channel": "ibm_cloud"}, "channel: .*'local'"), ({"chanel": "local"}, "no field 'chanel'")]
)
def test_a_saved_block_that_cannot_be_read_is_told_by_name_and_field(stored: dict[str, Any], said: str) -> None:
    """As another version may have saved it, or a person through Prefect's API."""
    RuntimeCredentials(token=SecretStr(API_KEY)).save("e2e-unreadable", overwrite=True)
    with get_client(sync_client=True) as client:
        there = client._client.get(f"/block_types/slug/{SLUG}/block_documents/name/e2e-unreadable").json()
        changed = {"data": {**stored, "token": API_KEY}, "merge_existing_data": True}
        client._client.patch(f"/block_documents/{there['id']}", json=changed)
    with pytest.raises(ConfigurationError, match=rf"block 'e2e-unreadable' cannot be read.*{said}") as caught:
        load_credentials("e2e-unreadable")
    assert not scan(str(caught.value), "the error")


def test_the_blocks_tags_go_with_the_calls_own(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def sample() -> Any:
        return execute(RuntimeCredentials(tags=["of-the-block"]), "sampler", [bell], shots=10, tags=["of-the-call"])

    state = sample(return_state=True)
    (job,) = service.jobs(limit=None, tags=[f"prt-run-{run_id(state)}"])
    assert {"of-the-block", "of-the-call"} <= set(service.client.job(job.job_id()).tags)


def test_a_teams_token_is_read_from_the_secret_block_that_is_named(embedded: DiscoveryDocument) -> None:
    Secret(value=embedded.token).save("e2e-team-token", overwrite=True)  # type: ignore[arg-type]
    block = RuntimeCredentials(channel="classic", url=embedded.url, token_block="e2e-team-token")
    block.save("e2e-team", overwrite=True)
    with RuntimeCredentials.load("e2e-team").get_client() as client:
        assert client.backends()
    assert embedded.token not in repr(RuntimeCredentials.load("e2e-team"))


def test_a_secret_block_that_is_not_there_is_told_by_its_name() -> None:
    block = RuntimeCredentials(channel="classic", url="https://runtime.example", token_block="e2e-nobody")
    with pytest.raises(ConfigurationError, match="token_block: there is no saved block 'e2e-nobody'"):
        block.get_client()
