"""`choose_backend` and `find_jobs` in flows: a choice is the flow run's, also when it is executed again."""

from __future__ import annotations

import pytest
from canaries.values import PROXIES
from prefect import flow
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, choose_backend, fetch_result, find_jobs, run_sampler
from prefect_runtime.wire.discovery_file import DiscoveryDocument

from .support import execute_again, log_lines, run_id


class LaterStepError(Exception):
    """What went wrong in the flow after the choice."""


@pytest.fixture
def platform_block(embedded: DiscoveryDocument) -> str:
    """A saved block that speaks IBM's dialect; it knows its instance by name only."""
    RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=SecretStr(embedded.token),
        instance="embedded",
        url=f"{embedded.url}/api/v1",
        auth_url=embedded.url,
        proxies=PROXIES,
    ).save("e2e-platform", overwrite=True)
    return "e2e-platform"


def test_a_flow_run_executed_again_keeps_its_backend_and_its_job(platform_block: str, bell: QuantumCircuit) -> None:
    broken = True
    names = ["generic_5q", "generic_27q"]

    @flow
    def sample() -> tuple[str, str]:
        backend = choose_backend(platform_block, names=["generic_5q", "generic_27q"], circuits=[bell])
        job_id = run_sampler(platform_block, [bell], shots=10, backend=backend)
        if broken:
            raise LaterStepError
        fetch_result(platform_block, job_id)
        return backend, job_id

    state = sample(return_state=True)
    (before,) = find_jobs.fn(platform_block, flow_run_id=run_id(state))
    broken = False
    again = execute_again(sample, run_id(state))
    assert again.result() == (before["backend"], before["job_id"])
    assert before["backend"] in names
    assert log_lines(run_id(state), until=f"Backend {before['backend']}: chosen before in this flow run")
    (after,) = find_jobs.fn(platform_block, flow_run_id=run_id(state))
    assert (after["job_id"], after["status"]) == (before["job_id"], "DONE")
