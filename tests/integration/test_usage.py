"""Estimate, dry run and guard, against the embedded runtime as an instance of IBM Quantum Platform that has a limit."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from qiskit import QuantumCircuit

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.local.platform import instance_crn
from prefect_runtime.wire.errors import UsageLimitError

from .support import Served

LIMIT = 60.0
TOO_MANY = 300_000  # shots


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("limited"), usage_limit_seconds=LIMIT)
    yield served
    served.kill()


@pytest.fixture
def credentials(served: Served) -> Credentials:
    return Credentials(
        channel="ibm_quantum_platform",
        url=f"{served.found.url}/api/v1",
        auth_url=served.found.url,
        token=served.found.token,
        instance=instance_crn(served.found.token),
    )


def bell() -> QuantumCircuit:
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def inputs(shots: int) -> dict[str, Any]:
    return {"pubs": [[bell(), None, shots]], "options": {}}


def test_the_guard_refuses_before_anything_is_sent_and_lets_through_what_is_left(credentials: Credentials) -> None:
    with RuntimeService(credentials, backend="generic_5q", guard_usage=True) as service:
        before = len(service.jobs(limit=None))
        with pytest.raises(UsageLimitError) as caught:
            service.run("sampler", inputs(TOO_MANY))
        assert caught.value.needed_seconds == pytest.approx(2 + TOO_MANY * 0.00025, rel=0.2)
        assert LIMIT - 30 < caught.value.remaining_seconds <= LIMIT
        assert len(service.jobs(limit=None)) == before
        job = service.run("sampler", inputs(100))
        assert sum(job.result(timeout=30)[0].data.meas.get_counts().values()) == 100
        # The server ends a job in time: more than that it cannot be charged.
        capped = service.run("sampler", inputs(TOO_MANY), max_execution_time=20)
        capped.cancel()
        assert len(service.jobs(limit=None)) == before + 2


def test_without_the_guard_nothing_is_refused(credentials: Credentials) -> None:
    with RuntimeService(credentials, backend="generic_5q") as service:
        service.run("sampler", inputs(TOO_MANY)).cancel()


def test_a_preview_says_what_would_be_sent_and_sends_nothing(credentials: Credentials) -> None:
    with RuntimeService(credentials, backend="generic_5q") as service:
        before = len(service.jobs(limit=None))
        request = service.request("sampler", inputs(4000), tags=["mine"], max_execution_time=60, private=True)
        seen = service.preview(request)
        assert len(service.jobs(limit=None)) == before
        (pub,) = seen["pubs"]
        assert (seen["program_id"], seen["backend"], seen["tags"]) == ("sampler", "generic_5q", ["mine"])
        assert seen["options"] == {"cost": 60, "private": True}
        assert (pub["qubits"], pub["shots"], pub["shape"], pub["gates"]["measure"]) == (5, 4000, [], 2)
        assert seen["params_bytes"] > 300
        assert seen["transpiled"] == "optimization level 2, seed 7"
        assert 0 < seen["remaining_seconds"] <= LIMIT
        assert seen["usage"] == service.estimate_usage("sampler", inputs(4000)["pubs"]).to_dict()
        assert seen["usage"]["seconds"] == pytest.approx(3, abs=0.2)


@pytest.mark.pr
def test_a_program_of_ones_own_has_no_estimate_and_its_limit_counts(credentials: Credentials, served: Served) -> None:
    source = "def main(backend, user_messenger):\n    return 1\n"
    with RuntimeService(served.credentials) as local:
        program = local.upload_program(
            source, {"name": "counted", "description": "of a test", "max_execution_time": 60}
        )
        assert local.preview(local.request(program, {}))["remaining_seconds"] is None
    with RuntimeService(credentials, backend="aer_simulator", guard_usage=True) as service:
        seen = service.preview(service.request(program, {}))
        assert (seen["usage"], seen["pubs"], seen["params_bytes"]) == (None, [], 2)
        with pytest.raises(UsageLimitError):
            service.run(program, {}, max_execution_time=LIMIT + 1)
        assert service.run(program, {}, max_execution_time=20).result(timeout=30) == 1


@pytest.mark.pr
def test_the_local_channel_has_no_limit_and_is_not_asked_for_one(tmp_path: Path, served: Served) -> None:
    with RuntimeService(served.credentials, guard_usage=True) as service:
        assert service.run("sampler", inputs(10), backend="aer_simulator").result(timeout=30)
