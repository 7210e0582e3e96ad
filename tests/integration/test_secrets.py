"""No token and no CRN in anything a person or a log sees, though the server throws them back at us."""

from __future__ import annotations

import base64
import json
import logging
import pickle
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any
from urllib.parse import parse_qs, quote

import pytest
from canaries.scanner import scan
from canaries.values import (
    ACCESS_TOKEN,
    API_KEY,
    CRN,
    IAM_TOKEN,
    PARAMETERS,
    PRESIGNED_URL,
    PROGRAM_SOURCE,
    PROXIES,
    PROXY_PASSWORD,
    REFRESH_TOKEN,
)

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeService
from prefect_runtime.client.accounts import acquire, release
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import IBMQError, QiskitRuntimeError

from .support import http_server, job_document

KEY = API_KEY
TOKENS = {"/identity/token": IAM_TOKEN, "/users/loginWithToken": ACCESS_TOKEN}
BASIC = base64.b64encode(f"me:{PROXY_PASSWORD}".encode()).decode()
FORMS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "URL": lambda text: quote(text, safe=""),
    "base64": lambda text: base64.b64encode(f"<{text}>".encode()).decode(),
    "hex": lambda text: text.encode().hex(),
}

CHANNELS = ("classic", "login", "platform")


class Echo:
    """A server that refuses with everything it was given, in every field that errors have.

    Attributes:
        status: What it answers to all but the sign-in.
        sign_in: What it answers to the sign-in.
        form: How it writes what it was given.
    """

    def __init__(self) -> None:
        self.status = 400
        self.sign_in = 200
        self.plain = False
        self.form = FORMS["plain"]

    def __call__(self, request: Any, body: bytes) -> tuple[int, Any]:
        signing_in = request.path in TOKENS
        if signing_in and self.sign_in == 200:
            token = TOKENS[request.path]
            return 200, {"id": token, "access_token": token, "refresh_token": REFRESH_TOKEN, "expires_in": 3600}
        if self.status == 200 and not signing_in:
            failed = {"status": "Failed", "reason": self._given(request, body), "reason_solution": KEY}
            return 200, job_document("j", "Failed", state=failed)
        return self.sign_in if signing_in else self.status, self._refusal(self._given(request, body))

    def _given(self, request: Any, body: bytes) -> str:
        names = ("Authorization", "X-Access-Token", "Service-CRN")
        given = [self.form(str(request.headers[name]).rpartition(" ")[2]) for name in names if request.headers[name]]
        text = body.decode()
        if request.path == "/identity/token":
            given += map(self.form, parse_qs(text)["apikey"])
        elif request.path == "/users/loginWithToken":
            given.append(self.form(json.loads(text)["apiToken"]))
        # A proxy is not between us; what it was sent, it could throw back just so.
        known = " ".join(map(self.form, (KEY, CRN, PROXY_PASSWORD)))
        return f"you sent {' and '.join(given)} ({known} {BASIC} see {PRESIGNED_URL} )"

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
                return Credentials(
                    channel="ibm_quantum_platform", url=url, auth_url=url, token=KEY, instance=CRN, proxies=PROXIES
                )
            auth_url, own_url = (None, url) if channel == "classic" else (url, None if channel == "login, me" else url)
            return Credentials(
                channel="classic", url=own_url, auth_url=auth_url, token=KEY, instance=CRN, proxies=PROXIES
            )

        yield make


def verbs(service: RuntimeService) -> list[Callable[[], Any]]:
    """Every call that talks to the server."""
    job, metadata = service.handle("j"), {"name": "n", "description": "d", "max_execution_time": 5}
    source = f"def main(backend, user_messenger): pass  # {PROGRAM_SOURCE}\n"
    inputs = {"one": PARAMETERS[0], "two": [PARAMETERS[1]], PARAMETERS[2]: {"url": PRESIGNED_URL}}
    return [
        service.backends,
        service.least_busy,
        lambda: service.backend("b"),
        service.programs,
        lambda: service.program("p"),
        lambda: service.upload_program(source, metadata),
        lambda: service.update_program("p", source, metadata),
        lambda: service.delete_program("p"),
        lambda: service.run("p", inputs, backend="b"),
        lambda: service.run("p", inputs, backend="b", idempotency_key="k"),
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
    assert not scan(text, "what is shown")
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


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("channel", CHANNELS)
def test_no_refusal_shows_a_secret_in_another_form(
    echo: Echo, credentials: Callable[[str], Credentials], channel: str, form: str
) -> None:
    echo.status, echo.form = 403, FORMS[form]
    with RuntimeService(credentials(channel), request_timeout=1) as service:
        for call in (service.backends, lambda: service.run("p", {"one": PARAMETERS[0]}, backend="b")):
            with pytest.raises(QiskitRuntimeError) as caught:
                call()
            assert "you sent" in str(caught.value)  # the rest of it is there
            assert_clean(shown(caught.value))


def test_a_login_service_that_names_no_runtime_does_not_show_the_token_it_gave(
    echo: Echo, credentials: Callable[[str], Credentials]
) -> None:
    echo.status = 403
    with (
        RuntimeService(credentials("login, me"), request_timeout=1) as service,
        pytest.raises(QiskitRuntimeError, match="you sent") as caught,
    ):
        service.backends()
    assert_clean(shown(caught.value))


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
