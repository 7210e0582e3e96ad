"""What the reliability tests share: a far end, a proxy in front of it, and credentials that lead there."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
from canaries.values import API_KEY, CRN, PROXIES
from e2e.support import running_server
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from prefect_runtime.client import Credentials

from .ledger import Ledger, LedgerServer
from .proxy import FaultProxy, Schedule


@pytest.fixture
def far_end() -> Iterator[Callable[..., LedgerServer]]:
    """Starts far ends and stops them at the end of the test."""
    servers: list[LedgerServer] = []

    def start(ledger: Ledger) -> LedgerServer:
        servers.append(LedgerServer(ledger))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


@pytest.fixture
def proxy() -> Iterator[Callable[..., FaultProxy]]:
    """Starts fault proxies and stops them at the end of the test."""
    proxies: list[FaultProxy] = []

    def start(upstream_port: int, schedule: Schedule, seed: int, **options: float) -> FaultProxy:
        proxies.append(FaultProxy(upstream_port, schedule, seed, **options))
        return proxies[-1]

    yield start
    for one in proxies:
        one.close()


def platform(url: str) -> Credentials:
    """Return credentials for a far end that speaks IBM Quantum Platform's dialect."""
    return Credentials(
        channel="ibm_quantum_platform", token=API_KEY, url=f"{url}/api/v1", auth_url=url, instance=CRN, proxies=PROXIES
    )


@pytest.fixture(scope="package")
def prefect_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A real Prefect server for flow runs that are killed; for this process and those it starts."""
    home = tmp_path_factory.mktemp("prefect-home")
    with running_server(home) as url, pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_API_URL", url)
        patch.setenv("PREFECT_HOME", str(home))
        with temporary_settings({PREFECT_API_URL: url, PREFECT_HOME: home}):
            yield
