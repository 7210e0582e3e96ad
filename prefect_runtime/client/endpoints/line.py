"""One request to a runtime's REST API: the way in, the total deadline, what is tried again. Base of the others here.

Everything but ``POST /jobs`` and ``POST /sessions`` may be repeated and is, within one total deadline a call.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar
from urllib.parse import quote

from prefect_runtime.client.auth import Access, access_source
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.named_requests import NamedRequests
from prefect_runtime.client.pace import Pace
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline, RetryPolicy
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.client.transport.refusals import refused
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConfigurationError,
    ConnectFailedError,
    ProtocolError,
)
from prefect_runtime.wire.models import is_id

T = TypeVar("T")

REQUEST_SECONDS = 30.0

ONCE = RetryPolicy(attempts=1)
PATIENT = RetryPolicy()


class Line:
    """What every call to a server goes through. Safe to share between threads.

    Attributes:
        pace: At what pace it takes jobs.
        named_requests: Those that whoever asked for them has named.

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
        self._lock = threading.RLock()  # a garbage collection may close this client at any line: see accounts.py
        self.pace = Pace(clock)
        self.named_requests = NamedRequests(clock)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may appear in no message: the account's secrets, and the token of the moment."""
        access = self._access.current
        return (*self.credentials.secrets, *(access.secrets if access else ()))

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
        retry: RetryPolicy = PATIENT,
        job_id: str | None = None,
        deadline: Deadline | None = None,
        keep: Callable[[bytes], object] | None = None,
    ) -> T:
        """Send a request and return what `read` finds in the answer; one that cannot be read is asked for again."""
        deadline = deadline or Deadline(self.request_timeout, self.clock)

        def send(access: Access) -> T:
            sent = {**access.headers, **({"Content-Type": "application/json"} if body else {}), **(headers or {})}
            url = access.base_url + path
            more = {"keep": keep} if keep is not None else {}
            answer = self._transport.exchange(
                method, url, deadline=deadline, headers=sent, params=params, body=body, **more
            )
            if answer.status == 206 and "Range" not in sent:
                raise ProtocolError(f"{method} {path}: a part came of what was asked for whole.", job_id=job_id)
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
            renewed = self._access.renew(access, deadline)  # a 401 proves that the request was not taken
            if renewed is None:
                raise
        except ConnectFailedError:
            renewed = self._access.renew(access, deadline) if self._access.restarts else None
            if renewed is None:
                raise
        return use(renewed)


def path_of(*segments: str) -> str:
    """Return a path of these segments."""
    return "/" + "/".join(map(segment, segments))


def segment(text: str) -> str:
    """Return a text as one segment of a path; what comes from outside can never climb out of it.

    Raises:
        ConfigurationError: Empty, or "." or "..", or no text that can be sent.
    """
    if not isinstance(text, str) or text in ("", ".", "..") or not text.isprintable():
        raise ConfigurationError(f"Not an id: {text!r:.80}.")
    return quote(text, safe="")


def path_of_job(job_id: str, *segments: str) -> str:
    """Return a job's path, or one below it.

    Raises:
        ConfigurationError: That cannot be the id of a job; nothing was sent.
    """
    check_job_id(job_id)
    return path_of("jobs", job_id, *segments)


def check_job_id(job_id: str) -> None:
    """Refuse what cannot be the id of a job.

    Raises:
        ConfigurationError: It cannot.
    """
    if not is_id(job_id):
        raise ConfigurationError(f"Not the id of a job: {job_id!r:.80}. It has letters, digits, - and _ only.")


def list_in(value: Any, name: str) -> list[Any]:
    """Return the list in an answer, which stands alone or under a name."""
    items = value.get(name) if isinstance(value, dict) else value
    if not isinstance(items, list):
        raise ProtocolError(f"The server's answer has no list {name!r}.")
    return items


def nothing(answer: Answer) -> None:
    """The status has said all."""


def new_id(answer: Answer) -> str:
    """Return the id of what was made."""
    value = object_in(answer).get("id")
    if not isinstance(value, str) or not value or not value.isprintable():
        raise ProtocolError("The server took the request but gave no id.")
    return value


def new_job_id(answer: Answer) -> str:
    """Return the id of the job that was made."""
    value = new_id(answer)
    if not is_id(value):
        raise ProtocolError("The server took the request but gave an id that cannot be one.")
    return value


def object_in(answer: Answer) -> Mapping[str, Any]:
    """Return the object in an answer."""
    value = answer.json()
    if not isinstance(value, dict):
        raise ProtocolError("The server's answer must be a JSON object.")
    return value
