"""What jobs cost, in a flow: an estimate and a dry run before, the charged seconds on the card and in the log after."""

from __future__ import annotations

import logging
from typing import Any

import pytest
from canaries.values import PROXIES
from prefect import flow
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import (
    RuntimeCredentials,
    estimate_usage,
    execute,
    fetch_result,
    run_estimator,
    run_program,
    run_sampler,
    wait_for_final_state,
)
from prefect_runtime.client import RuntimeService
from prefect_runtime.local.platform import instance_crn

from .support import cards, jobs_of, run_id


def platform(service: RuntimeService) -> RuntimeCredentials:
    """Return a block for the embedded runtime as an account of IBM Quantum Platform."""
    access = service.client._access.current
    assert access is not None
    token = access.headers["X-Access-Token"]
    return RuntimeCredentials(
        channel="ibm_quantum_platform",
        url=f"{access.base_url}/api/v1",
        auth_url=access.base_url,
        token=SecretStr(token),
        instance=instance_crn(token),
        backend="generic_5q",
        proxies=PROXIES,
    )


def test_a_dry_run_is_no_job_and_what_a_job_was_charged_is_on_its_card_and_in_the_log(
    service: RuntimeService, bell: QuantumCircuit, caplog: pytest.LogCaptureFixture
) -> None:
    service.backends()  # signs in
    block = platform(service)

    @flow
    def counted() -> dict[str, Any]:
        estimated = estimate_usage(block, [bell], shots=4000)
        dry = run_sampler(block, [bell], shots=4000, dry_run=True)
        bare = bell.remove_final_measurements(inplace=False)
        others = [
            run_estimator(block, [(bare, "ZZ")], dry_run=True),
            run_program(block, "sampler", {"pubs": [bell], "options": {}}, dry_run=True),
            execute(block, "sampler", [bell], dry_run=True),
        ]
        job_id = run_sampler(block, [bell], shots=100)
        wait_for_final_state(block, job_id)
        fetch_result(block, job_id)
        return {"estimated": estimated, "dry": dry, "others": others, "job": job_id}

    with caplog.at_level(logging.INFO, logger="prefect"):
        state = counted(return_state=True)
    got = state.result()
    assert got["dry"]["usage"] == got["estimated"]
    assert got["estimated"]["seconds"] == pytest.approx(3, abs=0.2)
    assert [one["pubs"][0]["qubits"] for one in got["others"]] == [5, 5, 5]
    assert jobs_of(service, run_id(state)) == [got["job"]]

    charged = service.client.job(got["job"]).usage_seconds
    assert charged is not None
    said = [record.getMessage() for record in caplog.records if "charged" in record.getMessage()]
    assert said == [f"Job {got['job']}: charged {charged:.1f} s of QPU time"]
    (card,) = cards(run_id(state))
    assert "Charged" in str(card.data)
