"""Sessions and batches of a real embedded runtime, in both dialects."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.client import Credentials, JobStatus, RuntimeService
from prefect_runtime.wire.errors import InvalidInputError, SessionNotFoundError

from .programs import ECHO, HOLDS
from .support import Served


@pytest.fixture(params=["platform", "local"])
def account(request: pytest.FixtureRequest, runtime: Any) -> Credentials:
    found = runtime.found
    if request.param == "local":
        credentials: Credentials = runtime.credentials
        return credentials
    return Credentials(
        channel="ibm_quantum_platform",
        token=found.token,
        instance="embedded",
        url=f"{found.url}/api/v1",
        auth_url=found.url,
    )


def test_a_sessions_jobs_run_in_it_and_leaving_it_closes_it(account: Credentials, upload: Any) -> None:
    program = upload(ECHO)
    with RuntimeService(account) as service:
        with service.session("aer_simulator", max_ttl=60) as session:
            job = session.run(program, {"value": 1})
            job.result(timeout=30)
            assert service.client.job(job.job_id()).session_id == session.session_id
            assert [one.job_id() for one in service.jobs(session_id=session.session_id)] == [job.job_id()]
            usage = job.usage()
            assert usage.created and usage.running and usage.finished
            assert usage.created <= usage.running <= usage.finished
            assert usage.usage_seconds is not None
            assert session.details().max_ttl == 60
            assert session.details().accepting_jobs
        assert not session.details().accepting_jobs
        with pytest.raises(InvalidInputError, match="closed"):
            session.run(program, {"value": 2})
        session.close()  # again: nothing changes


def test_a_batch_is_a_session_of_another_mode(account: Credentials) -> None:
    with RuntimeService(account, backend="aer_simulator") as service:
        with service.batch(max_ttl=60) as batch:
            assert batch.details().mode == "batch"
        with pytest.raises(SessionNotFoundError):
            service.client.session("no-such-session")


def test_what_waits_in_a_session_is_cancelled_when_its_time_is_over_though_all_slots_are_busy(
    serve: Callable[..., Served], tmp_path: Path
) -> None:
    served = serve(slots=1)
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(HOLDS, {"name": "holds", "description": "of a test", "max_execution_time": 60})
        busy = service.run(program, {"gate": str(tmp_path / "gate")})
        waiting = service.session("aer_simulator", max_ttl=1).run(program, {"gate": str(tmp_path / "gate")})
        waiting.wait_for_final_state(timeout=15)
        assert (waiting.status(), busy.status()) == (JobStatus.CANCELLED, JobStatus.RUNNING)
