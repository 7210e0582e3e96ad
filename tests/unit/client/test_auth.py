"""Getting in: logins, IAM tokens and their renewal, against a scripted transport."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from prefect_runtime.client.auth import FixedAccess, IamAccess, LocalAccess, LoginAccess, access_source
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport import Answer
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

KEY = "geheimer-schluessel"
CRN = "crn:v1:bluemix:public:quantum-computing:eu-de:a/acct:guid::"
IAM = Credentials(channel="ibm_quantum_platform", token=KEY, instance=CRN)
LOGIN = Credentials(channel="classic", token=KEY, auth_url="https://auth.example/api/")
JOB = {"id": "j1", "status": "Running"}


@dataclass(frozen=True)
class Sent:
    method: str
    url: str
    headers: Mapping[str, str]
    body: bytes | None

    @property
    def host(self) -> str:
        return self.url.split("/")[2]


class FakeTransport:
    """Answers each request with what `answer` says; keeps them all."""

    def __init__(self, answer: Callable[[Sent], Any]) -> None:
        self._answer = answer
        self._lock = threading.Lock()
        self.sent: list[Sent] = []

    def exchange(self, method: str, url: str, *, deadline: Deadline, headers: Mapping[str, str],
                 params: Sequence[tuple[str, str]] = (), body: bytes | None = None) -> Answer:  # fmt: skip
        sent = Sent(method, url, headers, body)
        with self._lock:
            self.sent.append(sent)
        found = self._answer(sent)
        if isinstance(found, Exception):
            raise found
        status, document, *more = found
        text = document if isinstance(document, str) else json.dumps(document)
        return Answer(status, more[0] if more else {}, text.encode())

    def to(self, part: str) -> list[Sent]:
        return [sent for sent in self.sent if part in sent.url]


class Servers:
    """A sign-in service that gives token after token, and a runtime that accepts some of them."""

    def __init__(self) -> None:
        self.made = 0
        self.valid: set[str] | None = None
        self.sign_in: Any = None
        self.life: Any = 3600
        self.at_runtime: Callable[[], None] = lambda: None

    def __call__(self, sent: Sent) -> Any:
        if sent.url.endswith(("/identity/token", "/users/loginWithToken")):
            if self.sign_in is not None:
                return self.sign_in
            self.made += 1
            token = f"token-{self.made}"
            return 200, {"access_token": token, "expires_in": self.life} if "identity" in sent.url else {"id": token}
        if sent.url.endswith("/users/me"):
            return 200, {"urls": {"services": {"runtime": "https://runtime.example/base/"}}}
        token = sent.headers.get("X-Access-Token") or sent.headers["Authorization"].removeprefix("Bearer ")
        self.at_runtime()
        if self.valid is not None and token not in self.valid:
            return 401, {"errors": [{"message": "expired", "code": 1201}]}
        return 200, JOB


@pytest.fixture
def servers() -> Servers:
    return Servers()


def client(credentials: Credentials, transport: FakeTransport, clock: FakeClock) -> RuntimeClient:
    return RuntimeClient(credentials, clock=clock, transport=transport)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("credentials", "kind"),
    [
        (Credentials(), LocalAccess),
        (Credentials(url="http://127.0.0.1:1", token="t"), FixedAccess),
        (Credentials(channel="classic", token="t", url="https://runtime.example"), FixedAccess),
        (LOGIN, LoginAccess),
        (IAM, IamAccess),
    ],
)
def test_each_channel_has_its_way_in(credentials: Credentials, kind: type, clock: FakeClock) -> None:
    assert type(access_source(credentials, FakeTransport(lambda _: None), clock)) is kind  # type: ignore[arg-type]


def test_a_fixed_token_is_sent_as_it_is_and_cannot_be_renewed(servers: Servers, clock: FakeClock) -> None:
    servers.valid = set()
    transport = FakeTransport(servers)
    fixed = Credentials(channel="classic", token="t", url="https://runtime.example/base/")
    with pytest.raises(AuthenticationError):
        client(fixed, transport, clock).job("j1")
    assert [(sent.url, sent.headers["X-Access-Token"]) for sent in transport.sent] == [
        ("https://runtime.example/base/jobs/j1", "t")
    ]


def test_a_classic_login_exchanges_the_token_and_finds_the_runtime(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    runtime = client(LOGIN, transport, clock)
    for _ in range(3):
        runtime.job("j1")
    login, me, *jobs = transport.sent
    assert (login.method, login.url) == ("POST", "https://auth.example/api/users/loginWithToken")
    assert json.loads(login.body or b"") == {"apiToken": KEY}
    assert (me.url, me.headers["X-Access-Token"]) == ("https://auth.example/api/users/me", "token-1")
    assert [(job.url, job.headers["X-Access-Token"]) for job in jobs] == [
        ("https://runtime.example/base/jobs/j1", "token-1")
    ] * 3


def test_a_classic_login_with_a_url_asks_for_no_other(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    client(Credentials(channel="classic", token=KEY, auth_url="https://auth.example", url="https://mine.example"),
           transport, clock).job("j1")  # fmt: skip
    assert [sent.url for sent in transport.sent] == [
        "https://auth.example/users/loginWithToken", "https://mine.example/jobs/j1",
    ]  # fmt: skip


@pytest.mark.parametrize("me", [[], {}, {"urls": []}, {"urls": {"services": "x"}}, {"urls": {"services": {}}}, "html"])
def test_a_login_that_names_no_runtime_is_a_protocol_error(me: Any, clock: FakeClock) -> None:
    transport = FakeTransport(lambda sent: (200, me) if sent.url.endswith("/me") else (200, {"id": "t"}))
    with pytest.raises(ProtocolError):
        LoginAccess(LOGIN, transport).get(Deadline(5, clock))  # type: ignore[arg-type]


def test_the_platform_gets_a_bearer_token_and_the_crn(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    client(IAM, transport, clock).job("j1")
    iam, job = transport.sent
    assert (iam.method, iam.url) == ("POST", "https://iam.cloud.ibm.com/identity/token")
    assert parse_qs((iam.body or b"").decode()) == {
        "grant_type": ["urn:ibm:params:oauth:grant-type:apikey"], "apikey": [KEY],
    }  # fmt: skip
    assert iam.headers["Content-Type"] == "application/x-www-form-urlencoded"
    assert job.url == "https://eu-de.quantum.cloud.ibm.com/api/v1/jobs/j1"
    assert (job.headers["Authorization"], job.headers["Service-CRN"]) == ("Bearer token-1", CRN)
    assert job.headers["IBM-API-Version"] >= "2026-03-15"


@pytest.mark.parametrize(
    ("region", "host"),
    [("us-east", "quantum.cloud.ibm.com"), ("eu-de", "eu-de.quantum.cloud.ibm.com"), ("", "quantum.cloud.ibm.com")],
)
def test_the_region_is_in_the_crn(region: str, host: str, servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    crn = CRN.replace("eu-de", region)
    client(Credentials(channel="ibm_quantum_platform", token=KEY, instance=crn), transport, clock).job("j1")
    assert transport.sent[-1].host == host


@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["platform", "classic"])
def test_the_key_never_goes_to_the_runtime(credentials: Credentials, servers: Servers, clock: FakeClock) -> None:
    servers.valid = {"token-2"}
    transport = FakeTransport(servers)
    runtime = client(credentials, transport, clock)
    runtime.job("j1")
    servers.sign_in, servers.valid = (503, "down"), set()
    with pytest.raises(QiskitRuntimeError):
        runtime.job("j1")
    sign_in_hosts = {"iam.cloud.ibm.com", "auth.example"}
    assert {sent.host for sent in transport.sent if KEY in repr(sent)} <= sign_in_hosts
    assert {sent.host for sent in transport.sent} - sign_in_hosts


# Renewal


@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["platform", "classic"])
def test_a_401_renews_the_token_once_and_asks_again(
    credentials: Credentials, servers: Servers, clock: FakeClock
) -> None:
    servers.valid = {"token-2"}
    runtime = client(credentials, FakeTransport(servers), clock)
    assert runtime.job("j1").id == "j1"
    assert servers.made == 2


def test_a_401_to_a_fresh_token_too_is_the_answer(servers: Servers, clock: FakeClock) -> None:
    servers.valid = set()
    transport = FakeTransport(servers)
    with pytest.raises(AuthenticationError, match="check the block's token"):
        client(IAM, transport, clock).job("j1")
    assert (servers.made, len(transport.to("/jobs/"))) == (2, 2)


@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["platform", "classic"])
def test_of_many_threads_that_find_it_expired_one_renews(
    credentials: Credentials, servers: Servers, clock: FakeClock
) -> None:
    threads, everybody = [], threading.Barrier(32)
    servers.valid = {"token-2"}
    runtime = client(credentials, FakeTransport(servers), clock)
    waited = threading.local()

    def all_at_once() -> None:
        if not hasattr(waited, "done"):
            waited.done = True
            everybody.wait(10)

    servers.at_runtime = all_at_once
    found: list[str] = []
    for _ in range(32):
        threads.append(threading.Thread(target=lambda: found.append(runtime.job("j1").id)))
        threads[-1].start()
    clock.join(threads)
    assert found == ["j1"] * 32
    assert servers.made == 2


def test_an_iam_token_is_renewed_at_80_percent_of_its_life(servers: Servers, clock: FakeClock) -> None:
    runtime = client(IAM, FakeTransport(servers), clock)
    servers.life = 1000
    runtime.job("j1")
    clock.advance(799)
    runtime.job("j1")
    assert servers.made == 1
    clock.advance(1)
    runtime.job("j1")
    assert servers.made == 2
    clock.advance(799)
    runtime.job("j1")
    assert servers.made == 2


@pytest.mark.parametrize("life", [None, "soon", []])
def test_an_iam_token_of_unknown_life_lives_an_hour(life: Any, servers: Servers, clock: FakeClock) -> None:
    runtime = client(IAM, FakeTransport(servers), clock)
    servers.life = life
    runtime.job("j1")
    clock.advance(0.8 * 3600 - 1)
    runtime.job("j1")
    assert servers.made == 1
    clock.advance(1)
    runtime.job("j1")
    assert servers.made == 2


# The sign-in service fails


@pytest.mark.parametrize(
    ("answer", "kind", "retryable"),
    [
        ((400, {"errorCode": "BXNIM0415E", "errorMessage": "bad key"}), AuthenticationError, False),
        ((401, "no"), AuthenticationError, False),
        ((403, "no"), AuthenticationError, False),
        ((500, "down"), ServerError, True),
        ((503, "down"), ServerError, True),
        ((429, "slow", {"retry-after": "3"}), RateLimitedError, True),
        ((200, "no JSON"), ProtocolError, True),
        ((200, {}), ProtocolError, True),
        ((200, {"access_token": "", "id": ""}), ProtocolError, True),
        ((200, {"access_token": 5, "id": 5}), ProtocolError, True),
        ((200, []), ProtocolError, True),
        (ConnectFailedError("x"), ConnectFailedError, True),
        (AnswerLostError("x"), AnswerLostError, True),
    ],
    ids=lambda part: part.__name__ if isinstance(part, type) else repr(part),
)
@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["platform", "classic"])
def test_a_sign_in_service_that_fails_gives_a_typed_error(
    credentials: Credentials, answer: Any, kind: type, retryable: bool, servers: Servers, clock: FakeClock
) -> None:
    servers.sign_in = answer
    transport = FakeTransport(servers)
    with pytest.raises(QiskitRuntimeError) as caught:
        client(credentials, transport, clock).job("j1", patient=False)
    assert type(caught.value) is kind
    assert caught.value.retryable is retryable
    assert KEY not in str(caught.value)
    assert not transport.to("/jobs/")


def test_a_sign_in_service_that_comes_back_is_asked_again(servers: Servers, clock: FakeClock) -> None:
    servers.sign_in = (503, "down")
    runtime = client(IAM, FakeTransport(servers), clock)
    with pytest.raises(ServerError):
        runtime.job("j1")
    servers.sign_in = None
    assert runtime.job("j1").id == "j1"


def test_what_the_sign_in_service_says_is_shown_without_the_key(clock: FakeClock, servers: Servers) -> None:
    servers.sign_in = (400, {"errorMessage": f"key {KEY} not found"})
    with pytest.raises(ApiError, match="not found") as caught:
        client(IAM, FakeTransport(servers), clock).job("j1")
    assert KEY not in str(caught.value)


def test_no_token_is_in_a_repr(servers: Servers, clock: FakeClock) -> None:
    runtime = client(IAM, FakeTransport(servers), clock)
    runtime.job("j1")
    access = runtime._access.get(Deadline(5, clock))
    for shown in (repr(runtime), repr(access), repr(runtime._access)):
        assert "token-1" not in shown
        assert KEY not in shown
        assert CRN not in shown
