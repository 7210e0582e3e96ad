"""What the reliability tests share: a far end, a proxy in front of it, and credentials that lead there."""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Iterator

import pytest

from prefect_runtime.client import Credentials
from .ledger import Ledger, LedgerServer
from .proxy import FaultProxy, Schedule

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/0123456789abcdef:guid::"


@pytest.fixture
def seed() -> int:
    """The run's seed: printed by a failing test, set by PREFECT_RUNTIME_TEST_SEED to replay it."""
    given = os.environ.get("PREFECT_RUNTIME_TEST_SEED")
    chosen = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"seed: PREFECT_RUNTIME_TEST_SEED={chosen}")
    return chosen


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
    return Credentials(channel="ibm_quantum_platform", token="api-key", url=f"{url}/api/v1", auth_url=url, instance=CRN)
