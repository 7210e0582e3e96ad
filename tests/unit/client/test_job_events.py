"""What a broken line may cost who has a job: no timeout is hidden, no cancel undone, and a reason comes later."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.job import RuntimeJob
from prefect_runtime.tasks import wait
from prefect_runtime.wire.errors import AnswerLostError, RuntimeJobFailureError, RuntimeJobNotFound, TransportError
from prefect_runtime.wire.models import JobDocument

NO_ACCOUNT = Credentials(channel="classic", token="some-token-123", url="https://runtime.example")


class Client:
    """A server with one job, and what goes wrong on the way to it; counts the questions."""

    secrets = ()

    def __init__(self, word: str, *, reads: list[Exception] | None = None, texts: list[Any] | None = None) -> None:
        self.word = word
        self.cancels = self.questions = 0
        self._reads, self._texts = list(reads or []), list(texts or [])

    def cancel(self, job_id: str) -> None:
        self.cancels += 1

    def job(self, job_id: str, **_: Any) -> JobDocument:
        if self._reads:
            raise self._reads.pop(0)
        return JobDocument.parse({"id": job_id, "status": self.word})

    def results(self, job_id: str, *, deadline: object = None) -> str:
        self.questions += 1
        text = self._texts.pop(0)
        if isinstance(text, Exception):
            raise text
        return str(text)


def handle(client: Client) -> RuntimeJob:
    return RuntimeJob(Backend("b"), client, NO_ACCOUNT, "j1", "p")  # type: ignore[arg-type]


@pytest.mark.parametrize("client", [Client("Cancelling"), Client("Running", reads=[AnswerLostError("the line broke")])])
def test_a_job_cancelled_after_a_timeout_hides_the_timeout_behind_nothing(
    client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    """A status nobody knows, or none at all, is no reason to raise something else."""
    with caplog.at_level(logging.INFO):
        wait._cancel_after_timeout(handle(client), logging.getLogger("a run"))
    assert client.cancels == 1
    assert "cancelled after the timeout" in caplog.text
    assert "could not be cancelled" not in caplog.text


def test_a_cancel_is_none_the_less_one_if_the_status_cannot_be_read_back() -> None:
    client = Client("Cancelled", reads=[AnswerLostError("the line broke")])
    job = handle(client)
    job.cancel()
    assert client.cancels == 1
    assert job.status().name == "CANCELLED", "asked for again, not made up"


def test_a_reason_that_could_not_be_had_is_asked_for_again_and_kept_then() -> None:
    client = Client("Failed", texts=[TransportError("the line is down"), "ValueError: bad angle"])
    job = handle(client)
    failure = job.failure()
    assert isinstance(failure, RuntimeJobFailureError)
    assert "no reason" in str(failure)
    assert client.questions == 1, "once for each error, however long a question takes"
    for _ in range(3):
        assert "bad angle" in str(job.error_message())
    assert client.questions == 2


def test_a_reason_that_does_not_exist_is_not_asked_for_again() -> None:
    client = Client("Failed", texts=[RuntimeJobNotFound("there is none", status_code=404)])
    job = handle(client)
    for _ in range(3):
        assert "no reason" in str(job.error_message())
    assert client.questions == 1
