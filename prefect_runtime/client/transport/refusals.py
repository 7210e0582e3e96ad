"""A server's refusal -> the error that says what the caller can do next. Used by line.py and signing.py."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    BackendNotFoundError,
    InvalidInputError,
    JobExistsError,
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
from prefect_runtime.wire.json_text import read_json
from prefect_runtime.wire.models import is_id
from prefect_runtime.wire.redaction import clean

_NOT_FOUND: Mapping[str, type[ApiError]] = {
    "job": RuntimeJobNotFound,
    "program": RuntimeProgramNotFound,
    "backend": BackendNotFoundError,
    "session": SessionNotFoundError,
}
_BY_STATUS: Mapping[int, type[ApiError]] = {
    400: InvalidInputError,
    401: AuthenticationError,
    403: PermissionDeniedError,
    413: InvalidInputError,
    422: InvalidInputError,
}
TOO_MANY_REQUESTS = "1202"  # IBM's registry of errors; it comes with other statuses than 429 too
_NEXT = {
    401: "The token is wrong or has expired: check the block's token.",
    403: "The account may not do this: check instance and permissions.",
    413: "The server takes no more than that at once: send less.",
    429: "Too many requests: wait, then try again.",
}


def refused(answer: Answer, what: str, *, kind: str, job_id: str | None, secrets: Sequence[str]) -> QiskitRuntimeError:
    """Return the error for an answer of 300 or more.

    Args:
        answer: The answer.
        what: Method and path, for the message.
        kind: What a 404 or 410 is about: "job", "program", "backend", "session" or something else.
        job_id: The job this is about.
        secrets: What must not be in the message.
    """
    said = {name: clean(value, secrets) for name, value in _read(answer).items()}
    status = answer.status
    text, solution = said["message"], said["solution"]
    about = f"Job {job_id}: " if job_id else ""
    advice = " ".join(part for part in (solution, _NEXT.get(status, "")) if part)
    message = f"{about}{what} was refused ({status}). {text} {advice}".strip()
    if status < 400:
        message = f"{about}{what}: the server redirects ({status}); redirects are not followed. Check url."
        return ProtocolError(message, job_id=job_id, retryable=False)
    if status == 408:  # the server may have been half-way through
        return AnswerLostError(message, job_id=job_id)
    if status == 409:
        return _conflict(message, said, what, kind, job_id)
    details: dict[str, Any] = {
        "status_code": status,
        "code": said["code"],
        "solution": solution,
        "trace": said["trace"],
        "job_id": job_id,
    }
    if status == 429 or said["code"] == TOO_MANY_REQUESTS:
        return RateLimitedError(message, retry_after=retry_after(answer.headers), **details)
    if status in (404, 410):
        if kind == "job" and job_id is None:  # POST /jobs: the program, the backend or the session is not there
            kind = next((word for word in ("backend", "session") if word in text.lower()), "program")
        return _NOT_FOUND.get(kind, ApiError)(message, **details)
    if status >= 500:
        return ServerError(message, **details)
    return _BY_STATUS.get(status, ApiError)(message, **details)


def _conflict(message: str, said: Mapping[str, str], what: str, kind: str, job_id: str | None) -> QiskitRuntimeError:
    if kind == "program":
        return RuntimeDuplicateProgramError(message, status_code=409, code=said["code"])
    if what == "POST /jobs":
        if is_id(said["id"]):
            return JobExistsError(message, job_id=said["id"])
        return ApiError(message, status_code=409, code=said["code"], solution=said["solution"], trace=said["trace"])
    return RuntimeInvalidStateError(message, job_id=job_id)


def _read(answer: Answer) -> dict[str, str]:
    """Find what the server says, in the shape of either dialect; a body that is no JSON is the message itself."""
    try:
        body = read_json(answer.body)
    except (ValueError, RecursionError):
        body = {"message": answer.text}
    body = body if isinstance(body, dict) else {}
    errors = body.get("errors")
    error = errors[0] if isinstance(errors, list) and errors else body.get("error", body)
    error = error if isinstance(error, dict) else {"message": error}
    return {
        "message": _str(error.get("message")),
        "code": _str(error.get("code")),
        "solution": _str(error.get("solution")),
        "trace": _str(body.get("trace")),
        "id": _str(body.get("id")),
    }


def _str(value: Any) -> str:
    return "" if value is None or isinstance(value, dict | list) else str(value)


def retry_after(headers: Mapping[str, str]) -> float | None:
    """Return the seconds a Retry-After header asks for (a number or an HTTP date); None without a usable one."""
    value = headers.get("retry-after", "").strip()
    if not value:
        return None
    try:
        seconds = float(value)
        return max(0.0, seconds) if math.isfinite(seconds) else None
    except ValueError:
        pass
    try:
        moment = parsedate_to_datetime(value)
    except (ValueError, OverflowError):
        return None
    if moment.tzinfo is None:  # "-0000", or no zone at all: HTTP dates are UTC
        moment = moment.replace(tzinfo=UTC)
    return max(0.0, (moment - datetime.now(UTC)).total_seconds())
