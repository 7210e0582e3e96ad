"""One real Prefect server and one embedded runtime, started by itself, for all end-to-end tests."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
from canaries import sinks
from canaries.values import API_KEY, PARAMETERS, PRESIGNED_URL, PROGRAM_SOURCE, give_token
from prefect.context import refresh_global_settings_context
from prefect.settings import (
    PREFECT_API_URL,
    PREFECT_FLOWS_HEARTBEAT_FREQUENCY,
    PREFECT_HOME,
    PREFECT_LOGGING_TO_API_BATCH_INTERVAL,
    PREFECT_SERVER_ANALYTICS_ENABLED,
    temporary_settings,
)
from qiskit import QuantumCircuit

from prefect_runtime.client import RuntimeService, discovery
from prefect_runtime.wire.discovery_file import DiscoveryDocument

from .proxy import Proxy
from .support import eventually, running_server, written_down


@pytest.fixture(scope="package")
def prefect_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the server and of everything that talks to it."""
    return tmp_path_factory.mktemp("prefect-home")


@pytest.fixture(scope="package")
def server_url(prefect_home: Path) -> Iterator[str]:
    """The URL of the API of the one Prefect server."""
    with running_server(prefect_home) as url:
        yield url


@pytest.fixture(scope="package", autouse=True)
def block_slugs_at_start(server_url: str) -> set[str]:
    """The slugs of the block types that the server had by itself, before any test saved a block."""
    deadline = time.monotonic() + 60  # it registers them as it starts, which may end after it is healthy
    while True:
        answer = httpx.post(f"{server_url}/block_types/filter", json={}, timeout=30)
        slugs = {block_type["slug"] for block_type in answer.raise_for_status().json()}
        if "quantum-runtime-credentials" in slugs or time.monotonic() > deadline:
            return slugs
        time.sleep(0.2)


@pytest.fixture(scope="package", autouse=True)
def runtime_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The embedded runtime's folder; what has started in it is stopped at the end."""
    home = tmp_path_factory.mktemp("runtime-home")
    give_token(home)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(discovery.HOME_VARIABLE, str(home))
        patch.setenv("PREFECT_RUNTIME_TOKEN", API_KEY)  # of the person whose flows run here; not for the programs
        yield home
        found = discovery.find(home)
        if found is not None:
            os.kill(found.pid, signal.SIGTERM)
            eventually(lambda: discovery.find(home) is None, seconds=20, what="the embedded runtime's end")
        sinks.assert_clean(sinks.folder(home, "runtime"))


@pytest.fixture(scope="package", autouse=True)
def prefect_settings(server_url: str, prefect_home: Path, block_slugs_at_start: set[str]) -> Iterator[None]:
    """Point this process, and those it starts, at the server; not at the user's own profile.

    Prefect reads its settings when it is imported, which is long over: `temporary_settings` is for this process, the
    environment for others. Only for the tests of this folder: later ones must not look for a server that has ended.
    """
    with pytest.MonkeyPatch.context() as patch:
        for name in list(os.environ):
            if name.startswith("PREFECT_") and not name.startswith("PREFECT_RUNTIME_"):
                patch.delenv(name)
        patch.setenv("PREFECT_API_URL", server_url)
        patch.setenv("PREFECT_HOME", str(prefect_home))
        patch.setenv("PREFECT_SERVER_ANALYTICS_ENABLED", "false")
        with temporary_settings(
            {
                PREFECT_API_URL: server_url,
                PREFECT_HOME: prefect_home,
                PREFECT_SERVER_ANALYTICS_ENABLED: False,
                # Its thread sleeps in steps of a second and is joined at the end: a second for every sync flow.
                PREFECT_FLOWS_HEARTBEAT_FREQUENCY: None,
                PREFECT_LOGGING_TO_API_BATCH_INTERVAL: 0.2,
            }
        ):
            # Threads of Prefect's own have no settings but the global ones; with none, they start a server.
            refresh_global_settings_context()
            yield
    refresh_global_settings_context()


@pytest.fixture(autouse=True)
def all_is_written_down() -> Iterator[None]:
    """Lets no test end while cards of its jobs are being written."""
    yield
    written_down()


@pytest.fixture
def proxy(server_url: str) -> Iterator[Proxy]:
    """A proxy in front of the server, that counts and refuses; the flows of the test go through it."""
    proxy = Proxy(server_url)
    with temporary_settings({PREFECT_API_URL: proxy.url}):
        yield proxy
        proxy.pass_all()
        written_down()
    proxy.close()


@pytest.fixture(scope="package")
def service(runtime_home: Path, prefect_settings: None) -> Iterator[RuntimeService]:
    """A client of the runtime that "local" means here: the far end, where jobs are counted."""
    with RuntimeService() as service:
        yield service


@pytest.fixture(scope="package")
def embedded(service: RuntimeService, runtime_home: Path) -> DiscoveryDocument:
    """Where that runtime listens, and its token: for blocks that go there by URL."""
    service.backends()  # starts it
    found = discovery.find(runtime_home)
    assert found is not None
    return found


@pytest.fixture(scope="package")
def upload(service: RuntimeService) -> Callable[..., str]:
    """Uploads a program to that runtime and gives its id; equal sources are uploaded once."""
    ids: dict[tuple[str, float], str] = {}

    def upload(source: str, *, max_execution_time: float = 300) -> str:
        key = (source, max_execution_time)
        if key not in ids:
            name = f"e2e-{len(ids)}-{time.time_ns()}"
            metadata = {"name": name, "description": "of a test", "max_execution_time": max_execution_time}
            ids[key] = service.upload_program(f"{source}\n# {PROGRAM_SOURCE}\n", metadata)
        return ids[key]

    return upload


@pytest.fixture
def bell() -> QuantumCircuit:
    """Two qubits that always agree."""
    circuit = QuantumCircuit(2, name=PARAMETERS[0], metadata={"inputs": [*PARAMETERS], "url": PRESIGNED_URL})
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit
