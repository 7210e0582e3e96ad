"""A submission that is told to wait while its flow run is executed again: in the end its request has one job."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.named_requests import NamedRequests
from prefect_runtime.client.pace import Pace
from prefect_runtime.client.request import Prepared, Request
from prefect_runtime.client.submission import submit
from prefect_runtime.journal import PrefectJournal
from prefect_runtime.wire.errors import RateLimitedError, SubmissionUnknownError
from prefect_runtime.wire.models import JobDocument

from .support import written_down
from .test_taken_over import journal_of  # noqa: F401

JournalOf = Callable[[str], PrefectJournal]
REQUEST = Request(program_id="p", inputs={"n": 1}, backend="b")


class SteppedClock:
    """Sleeping takes no time, and lets something happen meanwhile, once."""

    def __init__(self) -> None:
        self.now = 0.0
        self.meanwhile: Callable[[], None] | None = None

    def monotonic(self) -> float:
        return self.now

    def processor_time(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.now += seconds
        happens, self.meanwhile = self.meanwhile, None
        if happens is not None:
            happens()

    def wait(self, condition: object, seconds: float | None) -> bool:
        self.now += seconds or 0.0
        return False


class Client:
    """One process's view of a server; the jobs are the server's."""

    request_timeout = 30.0
    knows_keys = False
    credentials = Credentials(channel="ibm_quantum_platform", token="t", instance="crn:v1:x")

    def __init__(self, server: list[dict[str, Any]], *refusals: Exception) -> None:
        self.clock = SteppedClock()
        self.pace = Pace(self.clock)
        self.named_requests = NamedRequests(self.clock)
        self.server = server
        self.refusals = list(refusals)
        self.dies_after_a_request = False

    def run_job(self, request: dict[str, Any], params: str, **_: object) -> str:
        if self.refusals:
            raise self.refusals.pop(0)
        job_id = f"j{len(self.server) + 1}"
        made = {"id": job_id, "status": "Queued", "tags": request["tags"], "created": "2024-01-01T00:00:00Z"}
        self.server.append({**made, "backend": "b"})
        if self.dies_after_a_request:
            raise Killed
        return job_id

    def jobs(self, *, tags: list[str], **_: object) -> list[JobDocument]:
        return [JobDocument.parse(job) for job in self.server if set(tags) <= set(job["tags"])]

    def job(self, job_id: str, **_: object) -> JobDocument:
        return next(JobDocument.parse(job) for job in self.server if job["id"] == job_id)


class Killed(BaseException):
    """What ends a process: nothing that comes after it is done."""


def asked_for(client: Client, journal: PrefectJournal) -> str:
    card = submit(REQUEST, client, journal, lambda: Prepared(backend="b", params="{}"), settle_seconds=None)  # type: ignore[arg-type]
    written_down()
    return card.job_id


@pytest.mark.parametrize("successor", ["ends well", "is killed after its request"])
def test_a_request_that_waited_through_its_flow_runs_next_execution_is_not_sent(
    successor: str,
    journal_of: JournalOf,  # noqa: F811
) -> None:
    server: list[dict[str, Any]] = []
    old = Client(server, RateLimitedError("slow down", status_code=429, retry_after=900.0))
    new = Client(server)
    new.dies_after_a_request = successor != "ends well"

    def executed_again() -> None:
        if new.dies_after_a_request:
            with pytest.raises(Killed):
                asked_for(new, journal_of("2:20.0"))
        else:
            asked_for(new, journal_of("2:20.0"))

    old.clock.meanwhile = executed_again  # while the old one is told to stay away for a quarter of an hour
    with pytest.raises(SubmissionUnknownError, match="taken it over"):
        asked_for(old, journal_of("1:10.0"))
    new.dies_after_a_request = False
    assert asked_for(new, journal_of("3:30.0")) == "j1"
    assert len(server) == 1
