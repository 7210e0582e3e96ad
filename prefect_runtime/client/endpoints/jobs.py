"""One method per endpoint of jobs, ``/jobs``. Used by rest.py.

Whether a lost ``POST /jobs`` is repeated is decided by submission.py alone.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from prefect_runtime.client.endpoints.line import (
    ONCE,
    PATIENT,
    Line,
    list_in,
    new_job_id,
    nothing,
    object_in,
    path_of_job,
)
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.digests import contradicts
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    ProtocolError,
    ResultLostError,
    RuntimeInvalidStateError,
    ServerError,
)
from prefect_runtime.wire.models import JobDocument, JobStatus

TEXT_AFTER = 3
"""A result that is called JSON and is not, but comes the same so many times and once more, is text after all."""

PRIVATE_TIMES = 10.0
"""A result that is read once may take so many times as long as another request: cut off, it would be lost."""


class JobCalls(Line):
    """Jobs: ask for one, look at them, fetch what they leave, end them."""

    def run_job(self, request: Mapping[str, Any], params: str, *, deadline: Deadline) -> str:
        """Ask for a job, once, and return its id.

        Args:
            request: The body without ``params``.
            params: The inputs, encoded (`encode_inputs`).
            deadline: When to stop waiting for the answer.

        Raises:
            ConnectFailedError: Nothing was sent.
            AuthenticationError: Signing in failed: nothing was taken.
            AnswerLostError: Sent, and it is not known whether the job exists.
            ApiError: The server refused; a `ServerError` does not prove that there is no job.
            ProtocolError: An answer without an id: it is not known whether the job exists.
        """
        body = f'{json.dumps(dict(request))[:-1]}, "params": {params}}}'  # the params are JSON text already
        return self._ask("POST", "/jobs", new_job_id, body=body.encode(), retry=ONCE, deadline=deadline)

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Return what the server says of a job; `patient` False asks once, for callers with a loop of their own."""

        def read(answer: Answer) -> JobDocument:
            document = JobDocument.parse(answer.json())
            if document.id != job_id:
                raise ProtocolError(f"Asked for job {job_id}, the server answered with another job.", job_id=job_id)
            return document

        params = [] if with_params else [("exclude_params", "true")]
        retry = PATIENT if patient else ONCE
        return self._ask("GET", path_of_job(job_id), read, params=params, retry=retry, job_id=job_id)

    def jobs(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        pending: bool | None = None,
        program: str | None = None,
        backend: str | None = None,
        tags: Iterable[str] = (),
        created_after: str | None = None,
        created_before: str | None = None,
        session_id: str | None = None,
        patient: bool = True,
    ) -> list[JobDocument]:
        """Return one page of jobs, newest first. A server may ignore a filter it does not know: check what you get."""
        params = [("limit", str(limit))]
        if offset:
            params.append(("offset", str(offset)))
        if pending is not None:
            params.append(("pending", "true" if pending else "false"))
        if program:
            params.append(("program", program))
        if backend:
            params.append(("backend", backend))
        if created_after:
            params.append(("created_after", created_after))
        if created_before:
            params.append(("created_before", created_before))
        if session_id:
            params.append(("session_id", session_id))
        params += [("tags", tag) for tag in tags]

        def read(answer: Answer) -> list[JobDocument]:
            return [JobDocument.parse(document) for document in list_in(answer.json(), "jobs")]

        return self._ask("GET", "/jobs", read, params=params, retry=PATIENT if patient else ONCE)

    def results(self, job_id: str, *, deadline: Deadline | None = None) -> str | None:
        """Return the text of a job's result (of a failed job: what it died of), or None while there is none.

        Args:
            job_id: The job.
            deadline: When to stop; None for one request's time.

        Raises:
            ResultLostError: It is not what the server's own digest of it says, however often it is asked for.
        """
        garbled: list[bytes] = []

        def read(answer: Answer) -> str | None:
            if answer.status == 204:
                return None
            if _is_sound(answer):
                return answer.text
            if garbled.count(answer.body) < TEXT_AFTER:
                garbled.append(answer.body)
                raise ProtocolError("The result came garbled or cut off.", job_id=job_id)
            if contradicts(answer.headers, answer.body):  # not the line, which would change it otherwise each time
                raise ResultLostError(f"Job {job_id}: its result has changed on the server's disk.", job_id=job_id)
            return answer.text

        try:
            return self._ask("GET", path_of_job(job_id, "results"), read, job_id=job_id, deadline=deadline)
        except RuntimeInvalidStateError:  # 409: not yet
            return None

    def private_results(self, job_id: str, *, deadline: Deadline, keep: Callable[[bytes], object]) -> str | None:
        """Return the text of a private job's result, which can be read once, or None while there is none.

        Asked for again only after a refusal, which has nothing of it. Each piece is given to `keep` as it comes. Who
        has asked waits for one request's time at least, whatever the deadline: to hang up would be to lose it.

        Raises:
            ResultLostError: It did not come whole.
        """

        def read(answer: Answer) -> str | None:
            if answer.status == 204:
                return None
            if not _is_sound(answer):
                raise ResultLostError("came garbled or cut off", job_id=job_id)
            return answer.text

        def ask() -> str | None:
            path = path_of_job(job_id, "results")
            seconds = min(PRIVATE_TIMES * self.request_timeout, max(self.request_timeout, deadline.remaining()))
            once = Deadline(seconds, deadline.clock)
            try:
                return self._ask("GET", path, read, retry=ONCE, job_id=job_id, deadline=once, keep=keep)
            except RuntimeInvalidStateError:  # 409: not yet
                return None
            except (AnswerLostError, ProtocolError) as error:
                raise ResultLostError(f"broke off ({type(error).__name__})", job_id=job_id) from None

        return PATIENT.run(ask, deadline)

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        """Return the texts of the interim results so far, in the order the server gives them."""

        def read(answer: Answer) -> list[str]:
            return [value if isinstance(value, str) else json.dumps(value) for value in list_in(answer.json(), "")]

        retry = PATIENT if patient else ONCE
        return self._ask("GET", path_of_job(job_id, "interim_results"), read, retry=retry, job_id=job_id)

    def logs(self, job_id: str) -> str:
        """Return a job's log: standard output and error.

        Where an answer ends with its connection, nothing says whether that was all: then two have to agree.
        """
        unsure: list[bytes] = []

        def read(answer: Answer) -> str:
            if answer.complete or answer.body in unsure:
                return answer.text
            unsure.append(answer.body)
            raise ProtocolError("Nothing says whether the log that came was all of it.", job_id=job_id)

        return self._ask("GET", path_of_job(job_id, "logs"), read, job_id=job_id)

    def logs_from(self, job_id: str, start: int) -> tuple[bytes, int]:
        """Return what a job's log has from byte `start` on, and how many bytes it has in all, as far as that is known.

        Bytes, because a part may end within a character. A part need not reach the end: ask again from where it ends.
        Of a part that ended with its connection, where nothing says how long the log is, one byte more is promised:
        who asks again gets none, if that was all.
        Only that part is asked for; of a server that does not know ``Range`` and sends all, the rest is left out here.
        Source: RFC 9110, section 14 (206 with Content-Range, 416 past the end, 200 where Range is not known).
        """

        def read(answer: Answer) -> tuple[bytes, int]:
            unsure = int(not answer.complete)
            if answer.status != 206:
                if unsure and len(answer.body) < start:
                    raise ProtocolError("Less of the log came than came before.", job_id=job_id)
                part = answer.body[start:]
                return part, len(answer.body) + (unsure if part else 0)
            span = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("content-range", ""))
            if span is None or int(span[1]) != start:
                raise ProtocolError("The server sent another part of the log than was asked for.", job_id=job_id)
            end = start + len(answer.body)
            return answer.body, end + unsure if span[2] == "*" else int(span[2])

        headers = {"Range": f"bytes={start}-"}
        try:
            return self._ask("GET", path_of_job(job_id, "logs"), read, job_id=job_id, headers=headers)
        except ApiError as error:
            if error.status_code != 416:
                raise
            return b"", start

    def metrics(self, job_id: str) -> Mapping[str, Any]:
        """Return a job's timestamps and usage."""
        return self._ask("GET", path_of_job(job_id, "metrics"), object_in, job_id=job_id)

    def cancel(self, job_id: str) -> None:
        """Ask for a job's end.

        Raises:
            RuntimeInvalidStateError: It is final already.
        """
        deadline = Deadline(self.request_timeout, self.clock)
        lost = False

        def ask() -> None:
            nonlocal lost
            try:
                # Half of the time: of a server that hangs once, there must be some left to ask again.
                once = deadline.at_most(self.request_timeout / 2)
                self._ask("POST", path_of_job(job_id, "cancel"), nothing, retry=ONCE, job_id=job_id, deadline=once)
            except (AnswerLostError, ServerError):
                lost = True
                raise
            except RuntimeInvalidStateError:
                # Final already; by our own first try, if its answer was lost.
                if not lost or self.job(job_id).status is not JobStatus.CANCELLED:
                    raise

        PATIENT.run(ask, deadline)

    def delete_job(self, job_id: str) -> None:
        """Delete a job that is final."""
        self._ask("DELETE", path_of_job(job_id), nothing, job_id=job_id)


def _is_sound(answer: Answer) -> bool:
    """Tell whether a result is what was sent: what its digest says; JSON, if it is called so or has no known length."""
    if contradicts(answer.headers, answer.body):
        return False
    if answer.complete and "json" not in answer.headers.get("content-type", ""):
        return True
    try:
        answer.json()
    except ProtocolError:
        return False
    return True
