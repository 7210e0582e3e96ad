"""How the embedded runtime says no. Raised by intake and routes, turned into the dialect's error body by app.py."""

from __future__ import annotations

import secrets


class Refusal(Exception):  # noqa: N818 - not an error of ours: an answer
    """An answer other than success.

    Args:
        status: HTTP status.
        code: Error code of IBM's registry where we know one for the case, else the HTTP status again.
        message: What is wrong, and with which field.
        solution: What to do about it.
        extra: More members for the body.
        retry_after: Seconds after which the same request may be answered otherwise (header ``Retry-After``).
    """

    def __init__(
        self,
        status: int,
        code: int,
        message: str,
        *,
        solution: str = "",
        extra: dict[str, str] | None = None,
        retry_after: int | None = None,
    ):
        message = message.encode(errors="backslashreplace").decode()  # names of inputs in it need be no text
        super().__init__(message)
        self.status = status
        self.code = code
        self.message = message
        self.solution = solution
        self.extra = extra or {}
        self.headers = {} if retry_after is None else {"Retry-After": str(retry_after)}

    def body(self) -> dict[str, object]:
        """Return the error as classic and platform clients look for it: both shapes in one object."""
        error = {"code": self.code, "message": self.message, "solution": self.solution, "more_info": ""}
        short = {"message": self.message, "code": self.code}
        return {"error": short, "errors": [error], "trace": secrets.token_hex(16), **self.extra}
