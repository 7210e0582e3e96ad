"""How we get in: where the API is and which headers open it, renewed when they stop doing so. Used by line.py."""

from __future__ import annotations

import abc
import copy
import json
import math
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol
from urllib.parse import urlencode

from prefect_runtime.client import discovery, instances
from prefect_runtime.client.credentials import Credentials, check_url
from prefect_runtime.client.retry import Clock, Deadline
from prefect_runtime.client.signing import signed_in, taken, text_in
from prefect_runtime.client.transport.exchange import Transport
from prefect_runtime.wire.errors import (
    ConfigurationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
)
from prefect_runtime.wire.logs import get_logger, hide

_log = get_logger(__name__)

API_VERSION = "2026-04-15"  # what qiskit-ibm-runtime 0.48 and newer pins
SHORTEST_SECRET = 16  # a header's value below that (a version, a date) is no secret
REFRESH_AT = 0.8  # of a token's life, as IBM's own client does
EXPIRY_MARGIN_SECONDS = 10.0  # before its end a token counts as over: ibm_cloud_sdk_core's value
LONGEST_LIFE_SECONDS = 86_400.0
RENEW_AGAIN_SECONDS = 10.0  # between two tries to renew a token that still opens
SIGN_IN_SECONDS = 10.0  # one try may take so long; a service that hangs must leave time for another


@dataclass(frozen=True, slots=True)
class Access:
    """A way in: base URL of the API, and the headers of every request. Compared by identity."""

    base_url: str
    headers: Mapping[str, str] = field(repr=False)

    def __post_init__(self) -> None:
        hide(*self.secrets)

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


@dataclass(eq=False, slots=True)
class _Try:
    """One try to get the next way in, by one thread, for all that wait for it."""

    done: bool = False
    made: Access | None = None
    failure: QiskitRuntimeError | None = None


class _CachedAccess(abc.ABC):
    """Keeps one `Access`. Of many threads that need the next, one makes it, and the others get what it got."""

    restarts = False

    def __init__(self) -> None:
        self._news = threading.Condition()  # guards all below
        self._trying: _Try | None = None
        self.current: Access | None = None

    def get(self, deadline: Deadline) -> Access:
        """Return the current one, made on first use."""
        return self.current or self._next(None, deadline)

    def renew(self, stale: Access, deadline: Deadline) -> Access | None:
        """Return a new one, or the one that another thread has made meanwhile."""
        return self._next(stale, deadline)

    def _next(self, stale: Access | None, deadline: Deadline) -> Access:
        """Return another one than `stale`: made here, or by the thread that is at it already.

        Raises:
            QiskitRuntimeError: What stopped that; all who waited for it hear the same.
            ConnectFailedError: No time was left to wait for it.
        """
        with self._news:
            while self.current is stale and self._trying is not None:
                other = self._trying
                self._wait_for(other, deadline)
                if other.made is not None:
                    return other.made
                if other.failure is not None:
                    raise copy.copy(other.failure)  # a copy: each thread adds its own traceback
            if self.current is not None and self.current is not stale:
                return self.current
            mine = self._trying = _Try()
        try:
            mine.made = self._make(deadline)
            return mine.made
        except QiskitRuntimeError as error:
            mine.failure = None if deadline.expired else error  # who has time left is to try for himself
            raise
        finally:
            with self._news:
                self.current = mine.made or self.current
                self._trying, mine.done = None, True
                self._news.notify_all()

    def _wait_for(self, other: _Try, deadline: Deadline) -> None:
        """Wait until another thread's try is done."""
        patience = self._patience(deadline)
        while not other.done:
            left = patience.remaining()
            if left <= 0:
                raise ConnectFailedError("Signing in took longer than there was time. Nothing was sent.")
            deadline.clock.wait(self._news, None if left == math.inf else left)

    def _patience(self, deadline: Deadline) -> Deadline:
        """Return for how long to wait for another thread that makes the next."""
        return deadline

    @abc.abstractmethod
    def _make(self, deadline: Deadline) -> Access:
        """Return a new way in."""


class LocalAccess(_CachedAccess):
    """The embedded runtime of this user: found, or started, and found again after it has ended."""

    restarts = True

    def __init__(self, clock: Clock) -> None:
        super().__init__()
        self._clock = clock

    def _patience(self, deadline: Deadline) -> Deadline:  # noqa: ARG002 - a start may take longer than one request
        return Deadline(None, self._clock)

    def _make(self, deadline: Deadline) -> Access:  # noqa: ARG002 - as above
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
        self._credentials.hide_secrets()
        return signed_in("login", lambda: self._login(deadline.at_most(SIGN_IN_SECONDS)), deadline)

    def _login(self, deadline: Deadline) -> Access:
        root = _base(self._credentials.auth_url)
        answer = self._transport.exchange(
            "POST",
            f"{root}/users/loginWithToken",
            deadline=deadline,
            headers={"Content-Type": "application/json"},
            body=json.dumps({"apiToken": self._credentials.token}).encode(),
        )
        token = text_in(taken(answer, "login", self._credentials.secrets), "id")
        headers = {"X-Access-Token": token}
        if self._credentials.url:
            return Access(_base(self._credentials.url), headers)
        me = self._transport.exchange("GET", f"{root}/users/me", deadline=deadline, headers=headers)
        runtime = taken(me, "login", (*self._credentials.secrets, token)).json()
        for name in ("urls", "services", "runtime"):
            runtime = runtime.get(name) if isinstance(runtime, dict) else None
        if not isinstance(runtime, str):
            raise ProtocolError("The login service names no runtime for this account; set url.", retryable=False)
        try:
            check_url("runtime", runtime)
        except ConfigurationError as error:
            raise ProtocolError(
                f"The login service names a runtime that is not used. {error}", retryable=False
            ) from None
        return Access(_base(runtime), headers)


class IamAccess(_CachedAccess):
    """IBM Quantum Platform: the API key is exchanged for a bearer token, renewed at 80 % of its life.

    From then on one thread asks for the next, and the others go on with the old one; so do all while the token service
    is down, for as long as it lives. The key goes to the token service only, never to the runtime.

    Source: ``POST /identity/token`` of IBM Cloud IAM; headers as in IBM's REST API 0.45.3.
    """

    def __init__(self, credentials: Credentials, transport: Transport, clock: Clock) -> None:
        super().__init__()
        self._credentials = credentials
        self._transport = transport
        self._clock = clock
        self._old_at = self._over_at = 0.0
        self._crn = credentials.instance if credentials.has_crn else None

    def get(self, deadline: Deadline) -> Access:
        """Return the current one, or the next where it is old."""
        with self._news:
            current, now = self.current, self._clock.monotonic()
            lives = current is not None and now < self._over_at
            if current is not None and lives and (now < self._old_at or self._trying is not None):
                return current
        # A service that hangs leaves most of the time to the request, which the old one still opens.
        patience = deadline.at_most(min(SIGN_IN_SECONDS, deadline.remaining() / 3)) if lives else deadline
        try:
            return self._next(current, patience)
        except QiskitRuntimeError as error:
            if not error.retryable or current is None or self._clock.monotonic() >= self._over_at:
                raise
            _log.warning("the token could not be renewed, the old one is used for as long as it lives: %s", error)
            with self._news:
                self._old_at = self._clock.monotonic() + RENEW_AGAIN_SECONDS
            return current

    def _make(self, deadline: Deadline) -> Access:
        self._credentials.hide_secrets()
        token = signed_in("IAM", lambda: self._ask_for_token(deadline.at_most(SIGN_IN_SECONDS)), deadline)
        if self._crn is None:
            look_up = partial(instances.look_up, self._credentials, self._transport, token)
            self._crn = signed_in("resource controller", lambda: look_up(deadline.at_most(SIGN_IN_SECONDS)), deadline)
        headers = {
            "Authorization": f"Bearer {token}",
            "Service-CRN": self._crn,
            "IBM-API-Version": self._credentials.api_version or API_VERSION,
        }
        return Access(_base(self._credentials.url or self._platform_url(self._crn)), headers)

    def _ask_for_token(self, deadline: Deadline) -> str:
        asked_at = self._clock.monotonic()
        form = {"grant_type": "urn:ibm:params:oauth:grant-type:apikey", "apikey": self._credentials.token or ""}
        answer = self._transport.exchange(
            "POST",
            f"{instances.iam_url(self._credentials)}/identity/token",
            deadline=deadline,
            headers={"Content-Type": "application/x-www-form-urlencoded"},
            body=urlencode(form).encode(),
        )
        token = text_in(taken(answer, "IAM", self._credentials.secrets), "access_token")
        said = answer.json().get("expires_in")
        # Nothing that is no time, and no longer than a day: a token's life ends, whatever is said of it.
        known = isinstance(said, int | float) and 0 < said < math.inf
        life = float(min(said, LONGEST_LIFE_SECONDS)) if known else 3600.0
        self._old_at, self._over_at = asked_at + REFRESH_AT * life, asked_at + life - EXPIRY_MARGIN_SECONDS
        return token

    def _platform_url(self, crn: str) -> str:
        """Return the API's base for an instance's region, the 6th field of its CRN; us-east has no prefix.

        Source: IBM's REST API 0.45.3, "Regions"; private hosts as in qiskit-ibm-runtime 0.51, ``api/utils.py``.
        """
        region = (crn.split(":") + [""] * 6)[5] or "us-east"
        if self._credentials.private_endpoint:
            return f"https://private.{region}.quantum.cloud.ibm.com/api/v1"
        return f"https://{'' if region == 'us-east' else region + '.'}quantum.cloud.ibm.com/api/v1"


def _base(url: str | None) -> str:
    return (url or "").rstrip("/")
