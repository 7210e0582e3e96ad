"""A refusal of either dialect -> the error that says what to do next, with nothing secret in it."""

from __future__ import annotations

import itertools
import json
import pickle
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import Any

import pytest

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.client.transport.refusals import JobExistsError, refused, retry_after
from prefect_runtime.wire.errors import (
    ApiError,
    AuthenticationError,
    BackendNotFoundError,
    InvalidInputError,
    PermissionDeniedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    RuntimeDuplicateProgramError,
    RuntimeInvalidStateError,
    RuntimeJobNotFound,
    RuntimeProgramNotFound,
    ServerError,
    SessionNotFoundError,
)

TOKEN = "geheimer-token-0123456789"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/geheim:guid::"
CREDENTIALS = Credentials(channel="ibm_quantum_platform", token=TOKEN, instance=CRN)


def refusal(status: int, body: Any = "", *, what: str = "GET /jobs/j1", kind: str = "job", job_id: str | None = "j1",
            headers: dict[str, str] | None = None) -> QiskitRuntimeError:  # fmt: skip
    raw = body if isinstance(body, bytes) else (body if isinstance(body, str) else json.dumps(body)).encode()
    return refused(Answer(status, headers or {}, raw), what, kind=kind, job_id=job_id, secrets=CREDENTIALS.secrets)


PLATFORM = {"errors": [{"code": 1234, "message": "no way", "solution": "go home", "more_info": "x"}], "trace": "t-1"}
CLASSIC = {"error": {"message": "no way", "code": "1234"}}
SHAPES: dict[str, tuple[Any, str, str, str]] = {
    # body: code, solution, trace
    "platform": (PLATFORM, "1234", "go home", "t-1"),
    "classic": (CLASSIC, "1234", "", ""),
    "classic with text": ({"error": "no way"}, "", "", ""),
    "flat": ({"message": "no way", "code": 1234}, "1234", "", ""),
    "list of texts": ({"errors": ["no way"]}, "", "", ""),
    "text": ("no way", "", "", ""),
    "broken UTF-8": (b"no way \xff", "", "", ""),
}
STATUSES = [
    (400, InvalidInputError, False),
    (401, AuthenticationError, False),
    (402, ApiError, False),
    (403, PermissionDeniedError, False),
    (404, RuntimeJobNotFound, False),
    (405, ApiError, False),
    (410, RuntimeJobNotFound, False),
    (422, InvalidInputError, False),
    (429, RateLimitedError, True),
    (500, ServerError, True),
    (502, ServerError, True),
    (503, ServerError, True),
    (504, ServerError, True),
    (524, ServerError, True),
    (599, ServerError, True),
]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize(("status", "kind", "retryable"), STATUSES)
def test_each_status_has_its_class_and_each_dialect_is_read(
    status: int, kind: type[ApiError], retryable: bool, shape: str
) -> None:
    body, code, solution, trace = SHAPES[shape]
    error = refusal(status, body)
    assert type(error) is kind
    assert isinstance(error, ApiError)
    assert (error.status_code, error.code, error.solution, error.trace) == (status, code, solution, trace)
    assert (error.job_id, error.retryable) == ("j1", retryable)
    for part in ("Job j1", "GET /jobs/j1", str(status), "no way", solution):
        assert part in str(error)
    assert vars(pickle.loads(pickle.dumps(error))) == vars(error)


ODD_BODIES: list[Any] = [
    "", "[]", '"text"', "null", "5", "[" * 100_000, {}, {"errors": []}, {"error": None}, {"errors": 5},
    {"errors": [None]}, {"error": {"message": {"a": 1}, "code": [1]}},
]  # fmt: skip


@pytest.mark.parametrize("body", ODD_BODIES)
@pytest.mark.parametrize("status", [400, 404, 409, 429, 500])
def test_a_body_of_no_known_shape_is_still_a_typed_refusal(status: int, body: Any) -> None:
    error = refusal(status, body)
    assert isinstance(error, QiskitRuntimeError)
    assert str(status) in str(error)


@pytest.mark.parametrize("status", [400, 403, 429])
def test_code_1202_is_too_many_requests_whatever_the_status(status: int) -> None:
    error = refusal(status, {"errors": [{"code": 1202, "message": "too many requests"}]})
    assert type(error) is RateLimitedError
    assert error.retryable


def test_a_page_of_html_does_not_flood_the_message() -> None:
    assert len(str(refusal(502, "<html>" + "x" * 100_000))) < 2_500


SECRETS = [TOKEN, CRN, "eyJhbGciOi.eyJzdWIi.c2ln", "Bearer abcdefghijkl"]
ASKED = [("GET /jobs/j1", "job"), ("POST /jobs", "job"), ("POST /programs", "program"), ("GET /backends", "backend")]


@pytest.mark.parametrize("status", [302, 400, 401, 403, 404, 409, 422, 429, 500])
def test_no_secret_is_in_a_message(status: int) -> None:
    for secret, (what, kind) in itertools.product(SECRETS, ASKED):
        said = f"bad {secret} here"
        platform = {"errors": [{"code": 1, "message": said, "solution": said}]}
        for body in (platform, {"error": {"message": said}}, said):
            error = refusal(status, body, what=what, kind=kind)
            assert secret not in str(error) + repr(error)
            assert status == 302 or "bad …" in str(error)


@pytest.mark.parametrize("attribute", ["code", "solution", "trace"])
@pytest.mark.parametrize("status", [400, 401, 403, 404, 409, 422, 429, 500])
def test_no_secret_is_in_an_attribute(status: int, attribute: str) -> None:
    """An error is pickled into Prefect's result storage with all of them."""
    for secret, (what, kind) in itertools.product(SECRETS, ASKED):
        said = f"bad {secret} here"
        body = {"errors": [{"message": "no", attribute: said}], attribute: said}
        assert secret not in repr(vars(refusal(status, body, what=what, kind=kind)))


@pytest.mark.parametrize("status", [301, 302, 303, 304, 307, 308])
def test_a_redirect_says_to_check_the_url_and_not_where_it_leads(status: int) -> None:
    error = refusal(status, "", headers={"location": "https://evil.example/?sig=geheim"})
    assert type(error) is ProtocolError
    assert "url" in str(error)
    assert "evil" not in str(error)
    assert error.retryable is False


@pytest.mark.parametrize(
    ("kind", "job_id", "message", "expected"),
    [
        ("job", "j1", "Job not found", RuntimeJobNotFound),
        ("job", None, "Program not found", RuntimeProgramNotFound),
        ("job", None, "Backend ibm_x not found", BackendNotFoundError),
        ("job", None, "There is no session 's1' here.", SessionNotFoundError),
        ("program", None, "nope", RuntimeProgramNotFound),
        ("backend", None, "nope", BackendNotFoundError),
        ("instance", None, "nope", ApiError),  # GET /instances/usage of a server that counts nothing
    ],
)
def test_a_404_says_what_is_not_there(kind: str, job_id: str | None, message: str, expected: type[ApiError]) -> None:
    error = refusal(404, {"error": {"message": message}}, what="POST /jobs", kind=kind, job_id=job_id)
    assert type(error) is expected
    assert error.job_id == job_id


def test_a_409_means_what_was_asked_for() -> None:
    cancelled = refusal(409, PLATFORM, what="POST /jobs/j1/cancel")
    assert type(cancelled) is RuntimeInvalidStateError
    assert cancelled.job_id == "j1"
    duplicate = refusal(409, CLASSIC, what="POST /programs", kind="program", job_id=None)
    assert isinstance(duplicate, RuntimeDuplicateProgramError)
    assert (duplicate.status_code, duplicate.code) == (409, "1234")
    known = refusal(409, {"id": "j7", **CLASSIC}, what="POST /jobs", job_id=None)
    assert type(known) is JobExistsError
    assert known.job_id == "j7"
    limit = refusal(409, PLATFORM, what="POST /jobs", job_id=None)
    assert type(limit) is ApiError
    assert (limit.status_code, limit.code, limit.solution, limit.trace) == (409, "1234", "go home", "t-1")


# Retry-After


@pytest.mark.parametrize(
    ("value", "seconds"),
    [("0", 0.0), ("7", 7.0), (" 7 ", 7.0), ("1.5", 1.5), ("-3", 0.0), ("1e6", 1e6)],
)
def test_a_number_of_seconds_is_taken(value: str, seconds: float) -> None:
    assert retry_after({"retry-after": value}) == seconds


@pytest.mark.parametrize("write", [
    lambda moment: format_datetime(moment, usegmt=True),
    format_datetime,
    lambda moment: moment.strftime("%a, %d %b %Y %H:%M:%S -0000"),
    lambda moment: moment.strftime("%A, %d-%b-%y %H:%M:%S GMT"),
    lambda moment: moment.strftime("%a %b %d %H:%M:%S %Y"),
], ids=["GMT", "+0000", "-0000", "RFC 850", "asctime"])  # fmt: skip
def test_every_form_of_http_date_is_the_time_until_then(write: Any) -> None:
    now = datetime.now(UTC)
    seconds = retry_after({"retry-after": write(now + timedelta(seconds=100))})
    assert seconds == pytest.approx(99.5, abs=1.5)
    assert retry_after({"retry-after": write(now - timedelta(days=1))}) == 0.0


@pytest.mark.parametrize("value", ["", " ", "soon", "7 s", "Wed, 99 Foo 2015", "Wed, 21 Oct 99999 07:28:00 GMT", "nan",
                                   "inf", "-inf", "Infinity", "1e999"])  # fmt: skip
def test_what_names_no_time_is_no_time(value: str) -> None:
    assert retry_after({"retry-after": value}) in (None, 0.0)
    assert retry_after({}) is None


def test_the_time_stands_on_the_error_and_is_never_not_a_number() -> None:
    error = refusal(429, PLATFORM, headers={"retry-after": "30"})
    assert isinstance(error, RateLimitedError)
    assert error.retry_after == 30.0
    unsaid = refusal(429, PLATFORM)
    assert isinstance(unsaid, RateLimitedError)
    assert unsaid.retry_after is None
