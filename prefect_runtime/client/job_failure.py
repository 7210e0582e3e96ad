"""Why a job has no result, in the server's words and as an error. Used by job.py."""

from __future__ import annotations

from prefect_runtime.client.job_result import GRACE_SECONDS
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import (
    QiskitRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
    RuntimeJobMaxTimeoutError,
)
from prefect_runtime.wire.models import JobDocument, JobStatus
from prefect_runtime.wire.redaction import clean

REASON_CHARACTERS = 20_000


class JobFailure:
    """The failure of one job; what the server says of it is asked for once.

    Args:
        client: Talks to the server.
        job_id: The job.
    """

    def __init__(self, client: RuntimeClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._known: str | None = None

    def error(self, document: JobDocument, deadline: Deadline | None = None) -> QiskitRuntimeError:
        """Return the error that a job stands for which is final but not DONE.

        Args:
            document: What the server says of it.
            deadline: Until when the reason is asked for, where the document has none; None for one request's time.
        """
        if document.status is JobStatus.CANCELLED:
            return RuntimeInvalidStateError(f"Job {self._job_id} was cancelled: it has no result.", job_id=self._job_id)
        kind = RuntimeJobMaxTimeoutError if document.ran_too_long else RuntimeJobFailureError
        reason = self._reason(document, deadline)
        return kind(
            self._message(document, reason),
            reason=reason,
            reason_code=document.reason_code,
            job_id=self._job_id,
        )

    def message(self, document: JobDocument) -> str:
        """Return what happened and why, for people."""
        return self._message(document, self._reason(document))

    def _message(self, document: JobDocument, reason: str) -> str:
        what = "ran longer than its max_execution_time" if document.ran_too_long else "has failed"
        return f"Job {self._job_id} {what}: {reason}"

    def _reason(self, document: JobDocument, deadline: Deadline | None = None) -> str:
        """Return what the server or the program says of it; old servers say it in place of the result."""
        if self._known is not None:
            return self._known
        text, answered = document.reason, True
        if not text:
            try:
                text = self._client.results(self._job_id, deadline=self._within(deadline)) or ""
            except QiskitRuntimeError as error:  # the failure is known; that its reason is not must not hide it
                answered = not error.retryable
        parts = [text.strip() or "the server gave no reason."]
        if document.reason_code is not None:
            parts.append(f"(code {document.reason_code})")
        if document.solution:
            parts.append(document.solution)
        # The end is kept: a traceback says there what happened.
        text = " ".join(parts)
        reason = clean(text, self._client.secrets, limit=len(text))[-REASON_CHARACTERS:]
        if answered:
            self._known = reason
        return reason

    def _within(self, deadline: Deadline | None) -> Deadline | None:
        """Return until when the reason is asked for: one request's time, or the caller's if that is shorter."""
        if deadline is None:
            return None
        left = deadline.remaining() + GRACE_SECONDS
        return Deadline(min(left, self._client.request_timeout), deadline.clock)
