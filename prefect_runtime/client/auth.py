"""How we get in: where the API is and which headers open it, renewed when they stop doing so. Used by rest.py."""

from __future__ import annotations

import abc
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import urlencode

from prefect_runtime.client import discovery
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.refusals import retry_after
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.client.transport import Answer, Transport, clean
from prefect_runtime.wire.errors import AuthenticationError, ProtocolError, RateLimitedError, ServerError

IAM_URL = "https://iam.cloud.ibm.com"
API_VERSION = "2026-04-15"  # what qiskit-ibm-runtime 0.48 and newer pins
SHORTEST_SECRET = 16  # a header's value below that (a version, a date) is no secret
REFRESH_AT = 0.8  # of a token's life, as IBM's own client does


@dataclass(frozen=True, slots=True)
class Access:
    """A way in: base URL of the API, and the headers of every request. Compared by identity."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What of it may appear in no message: the tokens, without the word before them."""
        return tuple(value.rpartition(" ")[2] for value in self.headers.values() if len(value) >= SHORTEST_SECRET)


class AccessSource(Protocol):
    """Gives the current way in. Safe to share between threads: of many that find it expired, one renews it."""

    current: Access | None
    """The way in that was given last, without asking anybody."""

    restarts: bool
    """True where a refused connection can be healed by renewing (the embedded runtime ends when idle)."""

    def get(self, deadline: Deadline) -> Access:
        """Return a way in that should work now."""

    def renew(self, stale: Access, deadline: Deadline) -> Access | None:
        """Return another one than `stale`, which did not work; None if there is no other."""


def access_source(credentials: Credentials, transport: Transport, clock: Clock) -> AccessSource:
    """Return the source for an account's channel."""
    if credentials.channel == "local" and not credentials.url:
        return LocalAccess(clock)
    if credentials.channel == "ibm_quantum_platform":
        return IamAccess(credentials, transport, clock)
    if credentials.auth_url:
        return LoginAccess(credentials, transport)
    return FixedAccess(credentials)


class FixedAccess:
    """The token is the access token itself: nothing to renew."""

    restarts = False

    def __init__(self, credentials: Credentials) -> None:
        self._only = Access(_base(credentials.url), {"X-Access-Token": credentials.token or ""})
        self.current: Access | None = self._only

    def get(self, deadline: Deadline) -> Access:  # noqa: ARG002
        """Return the one there is."""
        return self._only

    def renew(self, stale: Access, deadline: Deadline) -> None:  # noqa: ARG002
        """Return None: there is no other."""
        return


class _CachedAccess(abc.ABC):
    """Keeps one `Access` and lets one thread at a time make the next."""

    restarts = False

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.current: Access | None = None

    def get(self, deadline: Deadline) -> Access:
        """Return the current one, made on first use."""
        with self._lock:
            if self.current is None or self._is_old():
                self.current = self._make(deadline)
            return self.current

    def renew(self, stale: Access, deadline: Deadline) -> Access | None:
        """Return a new one, or the one that another thread has made meanwhile."""
        with self._lock:
            if self.current is stale or self.current is None:
                self.current = self._make(deadline)
            return self.current

    def _is_old(self) -> bool:
        return False

    @abc.abstractmethod
    def _make(self, deadline: Deadline) -> Access:
        """Return a new way in."""


class LocalAccess(_CachedAccess):
    """The embedded runtime of this user: found, or started, and found again after it has ended."""

    restarts = True

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def _make(self, deadline: Deadline) -> Access:  # noqa: ARG002 - a start may take longer than one request
        found = discovery.find_or_start(discovery.home(), self._clock)
        return Access(found.url, {"X-Access-Token": found.token})


class LoginAccess(_CachedAccess):
    """Classic login: the API token is exchanged for an access token.

    Source: qiskit-ibmq-provider 0.20.2, ``POST /users/loginWithToken`` -> ``{"id": …}``; ``GET /users/me`` -> ``urls``.
    """

    def __init__(self, credentials: Credentials, transport: Transport) -> None:
        super().__init__()
        self._credentials = credentials
        self._transport = transport

    def _make(self, deadline: Deadline) -> Access:
        import json

        root = _base(self._credentials.auth_url)
        answer = self._transport.exchange(
            "POST",
            f"{root}/users/loginWithToken",
            deadline=deadline,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"apiToken": self._credentials.token}).encode(),
        )
        token = _field(_signed_in(answer, "login", self._credentials), "id")
        headers = {"X-Access-Token": token}
        if self._credentials.url:
            return Access(_base(self._credentials.url), headers)
        me = self._transport.exchange("GET", f"{root}/users/me", deadline=deadline, headers=headers)
        runtime = _signed_in(me, "login", self._credentials).json()
        for name in ("urls", "services", "runtime"):
            runtime = runtime.get(name) if isinstance(runtime, dict) else None
        if not isinstance(runtime, str):
            raise ProtocolError("The login service names no runtime for this account; set url.")
        return Access(_base(runtime), headers)


class IamAccess(_CachedAccess):
    """IBM Quantum Platform: the API key is exchanged for a bearer token, renewed at 80 % of its life.

    The key goes to the token service only, never to the runtime.
    Source: ``POST /identity/token`` of IBM Cloud IAM; headers as in IBM's REST API 0.45.3.
    """

    def __init__(self, credentials: Credentials, transport: Transport, clock: Clock) -> None:
        super().__init__()
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._old_at = 0.0

    def _is_old(self) -> bool:
        return self._clock.monotonic() >= self._old_at

    def _make(self, deadline: Deadline) -> Access:
        form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": self._credentials.token or ""}
        answer = self._transport.exchange(
            "POST",
            f"{_base(self._credentials.auth_url or IAM_URL)}/identity/token",
            deadline=deadline,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        token = _field(_signed_in(answer, "IAM", self._credentials), "access_token")
        life = answer.json().get("expires_in")
        self._old_at = self._clock.monotonic() + REFRESH_AT * (life if isinstance(life, int | float) else 3600)
        instance = self._credentials.instance or ""
        headers = {"Authorization": f"Bearer {token}", "Service-CRN": instance, "IBM-API-Version": API_VERSION}
        return Access(_base(self._credentials.url or _platform_url(instance)), headers)


def _platform_url(crn: str) -> str:
    """Return the API's base for an instance's region (6th field of the CRN; us-east has no prefix)."""
    region = (crn.split(":") + [""] * 6)[5] or "us-east"
    return f"https://{'' if region == 'us-east' else region + '.'}quantum.cloud.ibm.com/api/v1"


def _signed_in(answer: Answer, service: str, credentials: Credentials) -> Answer:
    if answer.status < 300:
        return answer
    said = clean(answer.text, credentials.secrets, limit=300)
    if answer.status >= 500:
        raise ServerError(f"The {service} service failed ({answer.status}): {said}", status_code=answer.status)
    if answer.status == 429:
        raise RateLimitedError(
            f"The {service} service says: too many requests. {said}", retry_after=retry_after(answer.headers)
        )
    raise AuthenticationError(
        f"The {service} service refused the token ({answer.status}): {said} Check token and auth_url.",
        status_code=answer.status,
    )


def _field(answer: Answer, name: str) -> str:
    document = answer.json()
    value = document.get(name) if isinstance(document, dict) else None
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"The sign-in answer has no {name!r}.")
    return value


def _base(url: str | None) -> str:
    return (url or "").rstrip("/")
