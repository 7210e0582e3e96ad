"""One method per endpoint of a runtime's REST API -> `RuntimeClient`. Retries what is safe to repeat, and nothing else.

Everything but ``POST /jobs`` may be repeated and is, within one total deadline a call. Whether a lost ``POST /jobs`` is
repeated is decided by submission.py alone.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from prefect_runtime.client.auth import Access, access_source
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.monitor import JobMonitor
from prefect_runtime.client.refusals import refused
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline, RetryPolicy
from prefect_runtime.client.sockets import Socket, SocketOptions
from prefect_runtime.client.transport import Answer, Transport
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    ConfigurationError,
    ConnectFailedError,
    InterimResultsUnavailableError,
    ProtocolError,
    ResultLostError,
    RuntimeInvalidStateError,
    ServerError,
)
from prefect_runtime.wire.models import JobDocument, JobStatus, ProgramDocument

T = TypeVar("T")

REQUEST_SECONDS = 30.0
TEXT_AFTER = 3
"""A result that is called JSON and is not, but comes the same so many times and once more, is text after all."""

_ONCE = RetryPolicy(attempts=1)
_PATIENT = RetryPolicy()


class RuntimeClient:
    """A runtime's REST API. Safe to share between threads; closes its connections on `close`.

    Args:
        credentials: The account.
        request_timeout: Total time for one call, retries included, in seconds.
        clock: Where the time comes from.
        transport: Sends the requests.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        request_timeout: float = REQUEST_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
        transport: Transport | None = None,
    ) -> None:
        self.credentials = credentials
        self.clock = clock
        self.request_timeout = request_timeout
        self._transport = transport or Transport(credentials)
        self._access = access_source(credentials, self._transport, clock)
        self._monitor: JobMonitor | None = None
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        return f"RuntimeClient({self.credentials!r})"

    def close(self) -> None:
        """Close all connections. A later call opens new ones."""
        with self._lock:
            if self._monitor is not None:
                self._monitor.close()
        self._transport.close()

    @property
    def monitor(self) -> JobMonitor:
        """The one watcher of this account's jobs."""
        with self._lock:
            if self._monitor is None:
                self._monitor = JobMonitor(self, clock=self.clock)
            return self._monitor

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may appear in no message: the account's secrets, and the token of the moment."""
        access = self._access.current
        return (*self.credentials.secrets, *(access.secrets if access else ()))

    @property
    def has_streams(self) -> bool:
        """True where the channel streams interim results (IBM removed its endpoint in 2024)."""
        return self.credentials.channel != "ibm_quantum_platform"

    @property
    def has_feed(self) -> bool:
        """True where the server tells of status changes by itself."""
        return self.credentials.channel == "local"

    @property
    def counts_usage(self) -> bool:
        """True where jobs are charged by the second, and instances may have a limit."""
        return self.credentials.channel == "ibm_quantum_platform"

    def usage(self) -> Mapping[str, Any]:
        """Return what the instance has used of its seconds, and what it may use (IBM Quantum Platform)."""
        return self._ask("GET", "/instances/usage", _object, kind="instance")

    # Jobs

    def run_job(self, request: Mapping[str, Any], params: str, *, deadline: Deadline) -> str:
        """Ask for a job, once, and return its id.

        Args:
            request: The body without ``params``.
            params: The inputs, encoded (`encode_inputs`).
            deadline: When to stop waiting for the answer.

        Raises:
            ConnectFailedError: Nothing was sent.
            AnswerLostError: Sent, and it is not known whether the job exists.
            ApiError: The server refused; a `ServerError` does not prove that there is no job.
            ProtocolError: An answer without an id: it is not known whether the job exists.
        """
        body = f'{json.dumps(dict(request))[:-1]}, "params": {params}}}'  # the params are JSON text already
        try:
            self._access.get(deadline)
        except (AnswerLostError, ServerError, ProtocolError) as error:
            raise ConnectFailedError(f"Signing in failed, so the job request was not sent. {error}") from None
        return self._ask("POST", "/jobs", _new_id, body=body.encode(), retry=_ONCE, deadline=deadline)

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Return what the server says of a job; `patient` False asks once, for callers with a loop of their own."""

        def read(answer: Answer) -> JobDocument:
            document = JobDocument.parse(answer.json())
            if document.id != job_id:
                raise ProtocolError(f"Asked for job {job_id}, the server answered with another job.", job_id=job_id)
            return document

        params = [] if with_params else [("exclude_params", "true")]
        retry = _PATIENT if patient else _ONCE
        return self._ask("GET", _path("jobs", job_id), read, params=params, retry=retry, job_id=job_id)

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
        params += [("tags", tag) for tag in tags]

        def read(answer: Answer) -> list[JobDocument]:
            return [JobDocument.parse(document) for document in _list(answer.json(), "jobs")]

        return self._ask("GET", "/jobs", read, params=params, retry=_PATIENT if patient else _ONCE)

    def results(self, job_id: str) -> str | None:
        """Return the text of a job's result (of a failed job: what it died of), or None while there is none."""
        garbled: list[bytes] = []

        def read(answer: Answer) -> str | None:
            if answer.status == 204:
                return None
            if _is_sound(answer) or garbled.count(answer.body) >= TEXT_AFTER:
                return answer.text
            garbled.append(answer.body)
            raise ProtocolError("The result came garbled or cut off.", job_id=job_id)

        return self._ask("GET", _path("jobs", job_id, "results"), read, job_id=job_id)

    def private_results(self, job_id: str, *, keep: Callable[[bytes], object]) -> str | None:
        """Return the text of a private job's result, which can be read once, or None while there is none.

        Asked for again only after a refusal, which has nothing of it. Each piece is given to `keep` as it comes.

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
            try:
                return self._ask("GET", _path("jobs", job_id, "results"), read, retry=_ONCE, job_id=job_id, keep=keep)
            except (AnswerLostError, ProtocolError) as error:
                raise ResultLostError(f"broke off ({type(error).__name__})", job_id=job_id) from None

        return _PATIENT.run(ask, Deadline(self.request_timeout, self.clock))

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        """Return the texts of the interim results so far, in the order the server gives them."""

        def read(answer: Answer) -> list[str]:
            return [value if isinstance(value, str) else json.dumps(value) for value in _list(answer.json(), "")]

        retry = _PATIENT if patient else _ONCE
        return self._ask("GET", _path("jobs", job_id, "interim_results"), read, retry=retry, job_id=job_id)

    def logs(self, job_id: str) -> str:
        """Return a job's log: standard output and error."""
        return self._ask("GET", _path("jobs", job_id, "logs"), lambda answer: answer.text, job_id=job_id)

    def logs_from(self, job_id: str, start: int) -> tuple[bytes, int]:
        """Return what a job's log has from byte `start` on, and how many bytes it has in all, as far as that is known.

        Bytes, because a part may end within a character. A part need not reach the end: ask again from where it ends.
        Only that part is asked for; of a server that does not know ``Range`` and sends all, the rest is left out here.
        Source: RFC 9110, section 14 (206 with Content-Range, 416 past the end, 200 where Range is not known).
        """

        def read(answer: Answer) -> tuple[bytes, int]:
            if answer.status != 206:
                return answer.body[start:], len(answer.body)
            span = re.fullmatch(r"bytes (\d{1,15})-\d{1,15}/(\d{1,15}|\*)", answer.headers.get("content-range", ""))
            if span is None or int(span[1]) != start:
                raise ProtocolError("The server sent another part of the log than was asked for.", job_id=job_id)
            end = start + len(answer.body)
            return answer.body, end if span[2] == "*" else int(span[2])

        headers = {"Range": f"bytes={start}-"}
        try:
            return self._ask("GET", _path("jobs", job_id, "logs"), read, job_id=job_id, headers=headers)
        except ApiError as error:
            if error.status_code != 416:
                raise
            return b"", start

    def metrics(self, job_id: str) -> Mapping[str, Any]:
        """Return a job's timestamps and usage."""
        return self._ask("GET", _path("jobs", job_id, "metrics"), _object, job_id=job_id)

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
                self._ask(
                    "POST", _path("jobs", job_id, "cancel"), _nothing, retry=_ONCE, job_id=job_id, deadline=deadline
                )
            except (AnswerLostError, ServerError):
                lost = True
                raise
            except RuntimeInvalidStateError:
                # Final already; by our own first try, if its answer was lost.
                if not lost or self.job(job_id).status is not JobStatus.CANCELLED:
                    raise

        _PATIENT.run(ask, deadline)

    def delete_job(self, job_id: str) -> None:
        """Delete a job that is final."""
        self._ask("DELETE", _path("jobs", job_id), _nothing, job_id=job_id)

    # Backends

    def backends(self) -> list[Mapping[str, Any]]:
        """Return the server's list of backends."""

        def read(answer: Answer) -> list[Mapping[str, Any]]:
            return [device for device in _list(answer.json(), "devices") if isinstance(device, dict)]

        return self._ask("GET", "/backends", read, kind="backend")

    def backend(self, name: str, page: str) -> Mapping[str, Any]:
        """Return one page on a backend: "status", "configuration" or "properties"."""
        return self._ask("GET", _path("backends", name, page), _object, kind="backend")

    def recalibrate(self) -> int:
        """Have the noisy backends draw new calibration numbers (embedded runtime only); return the new one's number."""

        def read(answer: Answer) -> int:
            number = _object(answer).get("calibration")
            if not isinstance(number, int):
                raise ProtocolError("The server's answer has no number of a calibration.")
            return number

        # Once: sent again, a lost answer would draw twice.
        return self._ask("POST", "/runtime/recalibrate", read, kind="backend", retry=_ONCE)

    # Programs

    def programs(self, *, limit: int = 20, offset: int = 0) -> list[ProgramDocument]:
        """Return one page of programs."""

        def read(answer: Answer) -> list[ProgramDocument]:
            return [ProgramDocument.parse(document) for document in _list(answer.json(), "programs")]

        params = [("limit", str(limit)), ("offset", str(offset))]
        return self._ask("GET", "/programs", read, params=params, kind="program")

    def program(self, program_id: str) -> ProgramDocument:
        """Return one program, with its source where we are its author."""

        def read(answer: Answer) -> ProgramDocument:
            return ProgramDocument.parse(answer.json())

        return self._ask("GET", _path("programs", program_id), read, kind="program")

    def upload_program(self, document: Mapping[str, Any]) -> str:
        """Create a program and return its id. Sent once: repeated, it would be refused as a duplicate of itself."""
        body = json.dumps(dict(document)).encode()
        return self._ask("POST", "/programs", _new_id, body=body, kind="program", retry=_ONCE)

    def update_program(self, program_id: str, changes: Mapping[str, Any]) -> None:
        """Change a program's metadata."""
        body = json.dumps(dict(changes)).encode()
        self._ask("PATCH", _path("programs", program_id), _nothing, body=body, kind="program")

    def update_program_data(self, program_id: str, data: str) -> None:
        """Replace a program's source (base64)."""
        self._ask("PUT", _path("programs", program_id, "data"), _nothing, body=data.encode(), kind="program")

    def delete_program(self, program_id: str) -> None:
        """Delete a program."""
        self._ask("DELETE", _path("programs", program_id), _nothing, kind="program")

    # Streams

    def open_stream(self, job_id: str, *, after: int) -> Socket:
        """Open the stream of a job's interim results; `after` is for servers that can leave the first ones out.

        Raises:
            InterimResultsUnavailableError: This channel has no streams.
            StreamClosedError: The handshake failed.
        """
        if not self.has_streams:
            raise InterimResultsUnavailableError(
                f"Job {job_id}: IBM Quantum Platform has no stream of interim results (IBM removed it in 2024).",
                job_id=job_id,
            )
        query = f"?after={after}" if self.has_feed else ""
        return self._open(f"/stream/jobs/{_segment(job_id)}{query}")

    def open_feed(self) -> Socket:
        """Open the stream of all jobs' status changes (embedded runtime only)."""
        return self._open("/stream/changes")

    def _open(self, path: str) -> Socket:
        deadline = Deadline(self.request_timeout, self.clock)
        options = SocketOptions(verify=self.credentials.verify, proxies=self.credentials.proxies)

        def connect(access: Access) -> Socket:
            return Socket.connect(access.base_url + path, access.headers, options, deadline)

        return self._with_access(connect, deadline)

    # One request

    def _ask(
        self,
        method: str,
        path: str,
        read: Callable[[Answer], T],
        *,
        kind: str = "job",
        params: Sequence[tuple[str, str]] = (),
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        retry: RetryPolicy = _PATIENT,
        job_id: str | None = None,
        deadline: Deadline | None = None,
        keep: Callable[[bytes], object] | None = None,
    ) -> T:
        """Send a request and return what `read` finds in the answer; one that cannot be read is asked for again."""
        deadline = deadline or Deadline(self.request_timeout, self.clock)

        def send(access: Access) -> T:
            sent = {**access.headers, **({"Content-Type": "application/json"} if body else {}), **(headers or {})}
            url = access.base_url + path
            kept = {} if keep is None else {"keep": keep}
            answer = self._transport.exchange(
                method, url, deadline=deadline, headers=sent, params=params, body=body, **kept
            )
            if answer.status >= 300:
                secrets = (*self.credentials.secrets, *access.secrets)
                raise refused(answer, f"{method} {path}", kind=kind, job_id=job_id, secrets=secrets)
            return read(answer)

        return retry.run(lambda: self._with_access(send, deadline), deadline)

    def _with_access(self, use: Callable[[Access], T], deadline: Deadline) -> T:
        """Do something with a way in, and once more with a new one where that can help and nothing has happened yet."""
        access = self._access.get(deadline)
        try:
            return use(access)
        except AuthenticationError:
            renewed = self._renew_refused(access, deadline)
            if renewed is None:
                raise
        except ConnectFailedError:
            renewed = self._access.renew(access, deadline) if self._access.restarts else None
            if renewed is None:
                raise
        return use(renewed)

    def _renew_refused(self, access: Access, deadline: Deadline) -> Access | None:
        """Return another way in after a 401, which proves that the request was not taken."""
        try:
            return self._access.renew(access, deadline)
        except (AnswerLostError, ServerError, ProtocolError) as error:
            raise ConnectFailedError(f"Signing in again failed, so the request was not taken. {error}") from None


def _path(*segments: str) -> str:
    return "/" + "/".join(_segment(segment) for segment in segments)


def _segment(text: str) -> str:
    """Return a text as one segment of a path; what comes from outside can never climb out of it.

    Raises:
        ConfigurationError: Empty, or "." or "..".
    """
    if not isinstance(text, str) or text in ("", ".", ".."):
        raise ConfigurationError(f"Not an id: {text!r}.")
    return quote(text, safe="")


def _list(value: Any, name: str) -> list[Any]:
    """Return the list in an answer, which stands alone or under a name."""
    items = value.get(name) if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise ProtocolError(f"The server's answer has no list {name!r}.")
    return items


def _nothing(answer: Answer) -> None:
    """The status has said all."""


def _new_id(answer: Answer) -> str:
    value = _object(answer).get("id")
    if not isinstance(value, str) or not value:
        raise ProtocolError("The server took the request but gave no id.")
    return value


def _is_sound(answer: Answer) -> bool:
    """Tell whether a result is all there: what is called JSON, or has no known length, must read as JSON."""
    if answer.complete and "json" not in answer.headers.get("content-type", ""):
        return True
    try:
        answer.json()
    except ProtocolError:
        return False
    return True


def _object(answer: Answer) -> Mapping[str, Any]:
    value = answer.json()
    if not isinstance(value, dict):
        raise ProtocolError("The server's answer must be a JSON object.")
    return value
