"""What becomes of a sign-in that fails: short retries, then one kind of error that says why.

Used by auth.py and instances.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import TypeVar

from prefect_runtime.client.retry import Deadline, RetryPolicy
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.client.transport.refusals import retry_after
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
)
from prefect_runtime.wire.redaction import clean

T = TypeVar("T")

SHORT = RetryPolicy(attempts=4, first=0.5, cap=2.0)


def signed_in(service: str, step: Callable[[], T], deadline: Deadline) -> T:
    """Return what a step of signing in returns, tried again for a few seconds where that can help.

    Raises:
        AuthenticationError: The service refused; or it cannot be asked, and then the error is `retryable`. Nothing was
            sent to the runtime.
    """
    try:
        return SHORT.run(step, deadline)
    except AuthenticationError:
        raise
    except QiskitRuntimeError as error:
        if not error.retryable:
            raise
        raise AuthenticationError(
            f"Signing in failed: the {service} service cannot be asked now; nothing was sent to the runtime. {error} "
            "The token was not refused: try again later.",
            status_code=getattr(error, "status_code", 0),
            retryable=True,
        ) from None


def taken(answer: Answer, service: str, secrets: Sequence[str]) -> Answer:
    """Return an answer of a sign-in service that is a good one.

    Raises:
        AuthenticationError: It refused the token.
        ServerError: It failed.
        RateLimitedError: It was asked too often.
    """
    if answer.status < 300:
        return answer
    said = clean(answer.text, secrets, limit=300)
    if answer.status >= 500 or answer.status == 408:
        raise ServerError(f"The {service} service failed ({answer.status}): {said}", status_code=answer.status)
    if answer.status == 429:
        raise RateLimitedError(
            f"The {service} service says: too many requests. {said}", retry_after=retry_after(answer.headers)
        )
    raise AuthenticationError(
        f"The {service} service refused the token ({answer.status}): {said} Check token and auth_url.",
        status_code=answer.status,
    )


_TOKEN = re.compile(r"[\x21-\x7e]{1,16384}")


def text_in(answer: Answer, name: str) -> str:
    """Return a text that a sign-in service's answer must have.

    Raises:
        ProtocolError: It has not.
    """
    document = answer.json()
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str) or not _TOKEN.fullmatch(value):
        raise ProtocolError(f"The sign-in answer has no {name!r} that a header can take.")
    return value
