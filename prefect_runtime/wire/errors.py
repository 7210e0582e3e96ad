"""Every error of prefect-runtime, in one tree. Any room may raise and catch them.

The Qiskit runtime's names are the trunk; the rest says what a caller can do next, never which verb failed::

    IBMQError
    ├─ UnknownJobStatusError              the server used a status word we do not know
    └─ QiskitRuntimeError                 .retryable .job_id
       ├─ ConfigurationError              found before any I/O
       ├─ TransportError                  no usable answer
       │  ├─ ConnectFailedError           nothing was sent: even a POST may be repeated
       │  ├─ AnswerLostError              sent, no whole answer: a POST may have happened
       │  └─ StreamClosedError            .close_code
       ├─ ProtocolError                   an answer that breaks the contract
       ├─ ApiError                        .status_code .code .solution .trace
       │  ├─ AuthenticationError          401
       │  ├─ PermissionDeniedError        403
       │  ├─ InvalidInputError            400, 413, 422
       │  ├─ RateLimitedError             429  .retry_after
       │  ├─ RuntimeJobNotFound           404
       │  ├─ RuntimeProgramNotFound       404
       │  ├─ BackendNotFoundError         404
       │  ├─ SessionNotFoundError         404
       │  ├─ RuntimeDuplicateProgramError 409
       │  └─ ServerError                  5xx
       ├─ SubmissionUnknownError          cannot prove whether a job exists  .key
       ├─ UsageLimitError                 more than the instance has left  .needed_seconds .remaining_seconds
       ├─ SessionUnknownError             cannot prove whether a session was opened  .max_ttl
       ├─ IdempotencyConflictError        same idempotency_key, another request  .key
       ├─ RuntimeJobFailureError          .reason .reason_code
       │  └─ RuntimeJobMaxTimeoutError    ran longer than max_execution_time
       ├─ RuntimeInvalidStateError        not possible in the job's state
       │  └─ JobExistsError               409 to a job request: its key has a job already (never leaves the client)
       ├─ JobTimeoutError (TimeoutError)  we stopped waiting; the job may still run
       ├─ WaitInterruptedError            the wait was ended from outside
       ├─ InterimResultsUnavailableError  this channel has no stream
       ├─ ResultDecodeError               the result arrived, but cannot be read
       └─ ResultLostError                 the result can never be fetched again

Only ``message`` is positional, so that every class survives pickle; everything else is keyword with a default.
Messages are clean when raised: no token, CRN, query string or payload. ``retryable`` says whether doing the same
again can help *and* is safe; `prefect_runtime.retry_if_safe` reads it.
"""

from __future__ import annotations

from typing import ClassVar

_context = vars(BaseException)["__context__"]


class IBMQError(Exception):
    """Base of everything this package raises on purpose (the Qiskit runtime's name for it)."""

    def __init__(self, message: str = "") -> None:
        super().__init__(message)

    @property
    def message(self) -> str:
        """The text a person reads."""
        return str(self.args[0]) if self.args else ""

    @property
    def __context__(self) -> BaseException | None:
        """What was being handled; nothing after ``raise … from None``.

        There it was an error of a driver's, which has headers and bodies in it. Python only hides it from tracebacks:
        tblib, with which Dask pickles exceptions, takes it along.
        """
        return None if self.__suppress_context__ else _context.__get__(self)

    @__context__.setter
    def __context__(self, value: BaseException | None) -> None:
        _context.__set__(self, value)


class UnknownJobStatusError(IBMQError):
    """The server gave a status word that this version does not know.

    Attributes:
        word: The word as the server wrote it.
        job_id: The job it was said of.
    """

    retryable = False

    def __init__(self, message: str = "", *, word: str = "", job_id: str | None = None) -> None:
        super().__init__(message)
        self.word = word
        self.job_id = job_id


class QiskitRuntimeError(IBMQError):
    """Base of errors about a runtime, a job or a request.

    Attributes:
        retryable: Doing the same again can help and cannot do harm.
        job_id: The job this is about, where one is known.
    """

    _retryable_by_nature: ClassVar[bool] = False

    def __init__(self, message: str = "", *, job_id: str | None = None, retryable: bool | None = None) -> None:
        super().__init__(message)
        self.job_id = job_id
        self.retryable = self._retryable_by_nature if retryable is None else retryable


class ConfigurationError(QiskitRuntimeError):
    """Something was asked for that cannot work; found before anything was sent."""


class TransportError(QiskitRuntimeError):
    """No usable answer came from the server."""

    _retryable_by_nature = True


class ConnectFailedError(TransportError):
    """No connection: nothing was sent, so even a POST may be repeated."""


class AnswerLostError(TransportError):
    """The request was sent, but no whole answer came: a POST may have happened."""


class StreamClosedError(TransportError):
    """A stream ended before the job did.

    Attributes:
        close_code: WebSocket close code; 1006 when the connection just broke.
    """

    def __init__(
        self, message: str = "", *, close_code: int = 1006, job_id: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.close_code = close_code


class ProtocolError(QiskitRuntimeError):
    """An answer came that breaks the contract: garbled on its way, or from something that is no runtime."""

    _retryable_by_nature = True


class ApiError(QiskitRuntimeError):
    """The server refused.

    Attributes:
        status_code: HTTP status; 0 when unknown.
        code: The server's own error code, as text; empty when it gave none.
        solution: What the server suggests; empty when it suggests nothing.
        trace: The server's name for this request, for its support.
    """

    def __init__(
        self,
        message: str = "",
        *,
        status_code: int = 0,
        code: str = "",
        solution: str = "",
        trace: str = "",
        job_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.status_code = status_code
        self.code = code
        self.solution = solution
        self.trace = trace


class AuthenticationError(ApiError):
    """401: the token is wrong, or no longer right after one refresh; or the sign-in failed, `retryable` if for now."""


class PermissionDeniedError(ApiError):
    """403: a valid token, but not for this."""


class InvalidInputError(ApiError):
    """400, 413 or 422: the server read the request, or saw that it is too large, and refuses it."""


class RateLimitedError(ApiError):
    """429: too many requests.

    Attributes:
        retry_after: Seconds the server asks us to wait; None when it does not say.
    """

    _retryable_by_nature = True

    def __init__(
        self,
        message: str = "",
        *,
        retry_after: float | None = None,
        status_code: int = 429,
        code: str = "",
        solution: str = "",
        trace: str = "",
        job_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(
            message,
            status_code=status_code,
            code=code,
            solution=solution,
            trace=trace,
            job_id=job_id,
            retryable=retryable,
        )
        self.retry_after = retry_after


class RuntimeJobNotFound(ApiError):  # noqa: N818 - the Qiskit runtime's name
    """404: no such job for this account."""


class RuntimeProgramNotFound(ApiError):  # noqa: N818 - the Qiskit runtime's name
    """404: no such program for this account."""


class BackendNotFoundError(ApiError):
    """404: no such backend for this account."""


class SessionNotFoundError(ApiError):
    """404: no such session for this account."""


class RuntimeDuplicateProgramError(ApiError):
    """409: a program of that name is already there."""


class ServerError(ApiError):
    """5xx: the server failed; the request may or may not have had its effect."""

    _retryable_by_nature = True


class SubmissionUnknownError(QiskitRuntimeError):
    """Whether a job was created cannot be proved. Running the same request again looks again, and never posts blindly.

    Where the same would be another request (no flow run and no `idempotency_key`), it is not `retryable`.

    Attributes:
        key: The request's key; it is one of the job's tags if there is a job.
    """

    _retryable_by_nature = True

    def __init__(
        self, message: str = "", *, key: str = "", job_id: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.key = key


class UsageLimitError(QiskitRuntimeError):
    """The instance has fewer seconds left than the request is estimated to take; nothing was sent.

    Attributes:
        needed_seconds: The estimate; None if there is none.
        remaining_seconds: What the instance has left.
    """

    def __init__(
        self,
        message: str = "",
        *,
        needed_seconds: float | None = None,
        remaining_seconds: float = 0.0,
        job_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.needed_seconds = needed_seconds
        self.remaining_seconds = remaining_seconds


class SessionUnknownError(QiskitRuntimeError):
    """Whether a session was opened cannot be known: a session carries no tag by which it could be looked for.

    It was not asked for again. If there is one, it ends by itself after its time to live.

    Attributes:
        max_ttl: That time, in seconds; None where the server's own applies.
    """

    def __init__(
        self,
        message: str = "",
        *,
        max_ttl: float | None = None,
        job_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.max_ttl = max_ttl


class IdempotencyConflictError(QiskitRuntimeError):
    """The idempotency key names another request already.

    Attributes:
        key: The request's key.
    """

    def __init__(
        self, message: str = "", *, key: str = "", job_id: str | None = None, retryable: bool | None = None
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.key = key


class RuntimeJobFailureError(QiskitRuntimeError):
    """The job ended in ERROR.

    Attributes:
        reason: What the server or the program says of it (a traceback, for instance).
        reason_code: The server's code; None when it gives none.
    """

    def __init__(
        self,
        message: str = "",
        *,
        reason: str = "",
        reason_code: int | None = None,
        job_id: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        super().__init__(message, job_id=job_id, retryable=retryable)
        self.reason = reason
        self.reason_code = reason_code


class RuntimeJobMaxTimeoutError(RuntimeJobFailureError):
    """The server ended the job: it ran longer than its max_execution_time."""


class RuntimeInvalidStateError(QiskitRuntimeError):
    """Not possible in the state the job (or its stream) is in."""


class JobExistsError(RuntimeInvalidStateError):
    """409 to a job request: the server has a job with this request's key, `job_id` (embedded runtime)."""


class JobTimeoutError(QiskitRuntimeError, TimeoutError):
    """We stopped waiting. The job was left alone and may still run.

    A builtin `TimeoutError`, so that Prefect names the state "TimedOut".
    """


class WaitInterruptedError(QiskitRuntimeError):
    """The wait was ended from outside: by a cancelled flow run, or an async caller that is gone."""


class InterimResultsUnavailableError(QiskitRuntimeError):
    """This channel has no stream of interim results."""


class ResultDecodeError(QiskitRuntimeError):
    """The result arrived, but cannot be read."""


class ResultLostError(QiskitRuntimeError):
    """The result was there, and cannot be had any more: a private answer was cut off, or the disk has changed it."""
