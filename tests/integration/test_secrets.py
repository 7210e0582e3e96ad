"""No token and no CRN in anything a person or a log sees, though the server throws them back at us."""

from __future__ import annotations

import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs

import pytest

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeService
from prefect_runtime.client.accounts import acquire, release
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import IBMQError, QiskitRuntimeError

from .support import http_server, job_document

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/abc:guid::"
KEY = "Zq7-secret-api-key-0123456789_abcdefghijklmn"
ACCESS = "Xw9.secret-access-token.0123456789abcdef"
SECRETS = (KEY, ACCESS, CRN)

CHANNELS = ("classic", "login", "platform")


class Echo:
    """A server that refuses with everything it was given, in every field that errors have.

    Attributes:
        status: What it answers to all but the sign-in.
        sign_in: What it answers to the sign-in.
    """

    def __init__(self) -> None:
        self.status = 400
        self.sign_in = 200
        self.plain = False

    def __call__(self, request: Any, body: bytes) -> tuple[int, Any]:
        signing_in = request.path in ("/identity/token", "/users/loginWithToken")
        if signing_in and self.sign_in == 200:
            return 200, {"id": ACCESS, "access_token": ACCESS, "expires_in": 3600}
        if self.status == 200 and not signing_in:
            failed = {"status": "Failed", "reason": self._given(request, body), "reason_solution": KEY}
            return 200, job_document("j", "Failed", state=failed)
        return self.sign_in if signing_in else self.status, self._refusal(self._given(request, body))

    def _given(self, request: Any, body: bytes) -> str:
        names = ("Authorization", "X-Access-Token", "Service-CRN")
        given = [str(request.headers[name]) for name in names if request.headers[name]]
        text = body.decode()
        if request.path == "/identity/token":
            given += parse_qs(text)["apikey"]
        elif request.path == "/users/loginWithToken":
            given.append(json.loads(text)["apiToken"])
        return f"you sent {' and '.join(given)} ({KEY}, {CRN})"

    def _refusal(self, given: str) -> Any:
        if self.plain:
            return f"<html>{given}</html>"
        error = {"code": given, "message": given, "solution": given, "more_info": given}
        return {"errors": [error], "error": error, "trace": given, "status_code": self.status}


@pytest.fixture
def echo() -> Echo:
    return Echo()


@pytest.fixture
def credentials(echo: Echo) -> Iterator[Callable[[str], Credentials]]:
    with ExitStack() as stack:
        url = stack.enter_context(http_server(echo))

        def make(channel: str) -> Credentials:
            if channel == "platform":
                return Credentials(channel="ibm_quantum_platform", url=url, auth_url=url, token=KEY, instance=CRN)
            auth_url = url if channel == "login" else None
            return Credentials(channel="classic", url=url, auth_url=auth_url, token=KEY, instance=CRN)

        yield make


def verbs(service: RuntimeService) -> list[Callable[[], Any]]:
    """Every call that talks to the server."""
    job, metadata = service.handle("j"), {"name": "n", "description": "d", "max_execution_time": 5}
    source = "def main(backend, user_messenger): pass\n"
    return [
        service.backends,
        service.least_busy,
        lambda: service.backend("b"),
        service.programs,
        lambda: service.program("p"),
        lambda: service.upload_program(source, metadata),
        lambda: service.update_program("p", source, metadata),
        lambda: service.delete_program("p"),
        lambda: service.run("p", {}, backend="b"),
        lambda: service.run("p", {}, backend="b", idempotency_key="k"),
        service.jobs,
        lambda: service.job("j"),
        lambda: service.delete_job("j"),
        job.status,
        job.logs,
        job.metrics,
        job.cancel,
        job.interim_results,
        lambda: job.result(timeout=0.05, wait=0.05),
        lambda: job.wait_for_final_state(timeout=0.05, wait=0.05),
        lambda: service.client.open_stream("j", after=0),
        lambda: job.stream_results(print),
    ]


def errors_of(service: RuntimeService) -> Iterator[IBMQError]:
    """What the calls raise."""
    for verb in verbs(service):
        try:
            verb()
        except IBMQError as error:
            yield error


def shown(error: BaseException) -> str:
    """All that a person, a log, or another process may get to see of an error."""
    parts = [str(error), repr(error), repr(error.args), repr(vars(error)), pickle.dumps(error).decode("latin-1")]
    return "\n".join([*parts, *traceback.format_exception(error)])


def assert_clean(text: str) -> None:
    for secret in SECRETS:
        assert secret not in text
    assert "guid::" not in text


@pytest.mark.parametrize(
    ("status", "plain"),
    [
        *((status, False) for status in (302, 400, 401, 403, 404, 409, 500)),
        (401, True),
        pytest.param(429, False, marks=pytest.mark.pr),  # each call waits as it is told
    ],
)
@pytest.mark.parametrize("channel", CHANNELS)
def test_no_refusal_shows_a_secret(
    echo: Echo,
    credentials: Callable[[str], Credentials],
    caplog: pytest.LogCaptureFixture,
    channel: str,
    status: int,
    plain: bool,
) -> None:
    echo.status, echo.plain = status, plain
    with (
        caplog.at_level(logging.DEBUG),
        RuntimeService(credentials(channel), request_timeout=0.15, settle_seconds=0) as service,
    ):
        errors = list(errors_of(service))
    assert len(errors) >= 15
    for error in errors:
        assert_clean(shown(error))
    assert_clean(caplog.text)


@pytest.mark.parametrize("plain", [False, True], ids=["json", "text"])
@pytest.mark.parametrize("status", [302, 400, 401, 403, 500])
@pytest.mark.parametrize("channel", ["login", "platform"])
def test_no_failed_sign_in_shows_a_secret(
    echo: Echo,
    credentials: Callable[[str], Credentials],
    caplog: pytest.LogCaptureFixture,
    channel: str,
    status: int,
    plain: bool,
) -> None:
    echo.sign_in, echo.plain = status, plain
    with (
        caplog.at_level(logging.DEBUG),
        RuntimeService(credentials(channel), request_timeout=0.15) as service,
        pytest.raises(QiskitRuntimeError) as caught,
    ):
        service.backends()
    assert_clean(shown(caught.value))
    assert_clean(caplog.text)


@pytest.mark.parametrize("channel", CHANNELS)
def test_no_failed_jobs_reason_shows_a_secret(
    echo: Echo, credentials: Callable[[str], Credentials], caplog: pytest.LogCaptureFixture, channel: str
) -> None:
    echo.status = 200
    with caplog.at_level(logging.DEBUG), RuntimeService(credentials(channel), request_timeout=1) as service:
        job = service.handle("j")
        with pytest.raises(QiskitRuntimeError) as caught:
            job.result(timeout=5)
        assert "you sent" in str(caught.value)  # the rest of the reason is there
        assert_clean(shown(caught.value) + (job.error_message() or ""))
    assert_clean(caplog.text)


@pytest.mark.parametrize("channel", CHANNELS)
def test_no_repr_shows_a_secret(echo: Echo, credentials: Callable[[str], Credentials], channel: str) -> None:
    echo.status = 400
    given = credentials(channel)
    account = acquire(given)
    with RuntimeService(given, request_timeout=0.15) as service:
        list(errors_of(service))[:1]  # signed in now
        client = RuntimeClient(given)
        things: list[object] = [given, service, service.client, service.handle("j"), account, client, client.monitor]
        things += [client._access.get(Deadline(5)), client._transport, service.request("p", {}, backend="b")]
        for thing in things:
            assert_clean(f"{thing!r} {thing} {[thing]}")
    release(account)


@pytest.mark.parametrize("bad", ["secret\nwith-a-line-break", "secret with-blanks", "sécret-with-blanks"])
def test_credentials_that_cannot_work_are_not_shown(bad: str) -> None:
    for name in ("token", "instance"):
        with pytest.raises(QiskitRuntimeError, match=f"^{name}:") as caught:
            Credentials(**{name: bad})
        assert "cret" not in str(caught.value)
    with pytest.raises(QiskitRuntimeError) as caught:
        Credentials(url="https://user:secret-password@example.com")
    assert "secret-password" not in f"{caught.value} {caught.value!r}"
