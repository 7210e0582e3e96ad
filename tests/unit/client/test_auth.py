"""Getting in: logins, IAM tokens and their renewal, against a scripted transport."""

from __future__ import annotations

import itertools
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

import pytest

from prefect_runtime.client.auth import Access, FixedAccess, IamAccess, LocalAccess, LoginAccess, access_source
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.job import inputs_of
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ApiError,
    AuthenticationError,
    ConfigurationError,
    ConnectFailedError,
    ProtocolError,
    QiskitRuntimeError,
)
from prefect_runtime.wire.logs import MOST_HIDDEN, get_logger

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


@pytest.mark.parametrize("me", [[], {}, {"urls": []}, {"urls": {"services": "x"}}, {"urls": {"services": {}}}])
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


# Where the instance is


NAMED = Credentials(channel="ibm_quantum_platform", token=KEY, instance="my instance")


def named(*found: dict[str, Any]) -> Callable[[Sent], Any]:
    """A platform whose resource controller knows some instances."""
    servers = Servers()
    return lambda sent: (200, {"resources": list(found)}) if "resource_instances" in sent.url else servers(sent)


def test_an_instance_given_by_name_is_looked_up_once(clock: FakeClock) -> None:
    transport = FakeTransport(named({"name": "my instance", "crn": CRN}))
    runtime = client(NAMED, transport, clock)
    for _ in range(3):
        runtime.job("j1")
        clock.advance(3000)  # a new token each time, but no new look-up
    (look_up,) = transport.to("resource_instances")
    assert look_up.url == "https://resource-controller.cloud.ibm.com/v2/resource_instances"
    assert look_up.headers["Authorization"] == "Bearer token-1"
    assert {(job.host, job.headers["Service-CRN"]) for job in transport.to("/jobs/")} == {
        ("eu-de.quantum.cloud.ibm.com", CRN)
    }
    assert CRN in runtime.secrets


@pytest.mark.parametrize(
    ("auth_url", "private", "asked"),
    [
        (None, False, "https://resource-controller.cloud.ibm.com"),
        (None, True, "https://private.resource-controller.cloud.ibm.com"),
        ("https://iam.test.cloud.ibm.com/", False, "https://resource-controller.test.cloud.ibm.com"),
        ("https://private.eu-de.iam.cloud.ibm.com", False, "https://private.eu-de.resource-controller.cloud.ibm.com"),
        ("https://iam.corp.example", False, "https://iam.corp.example"),
        ("https://siam.com", False, "https://siam.com"),
        ("https://siam.cloud.ibm.com", False, "https://siam.cloud.ibm.com"),
        ("https://iam.cloud.ibm.com.evil.example", False, "https://iam.cloud.ibm.com.evil.example"),
        ("https://gateway.example/iam.v1", False, "https://gateway.example/iam.v1"),
    ],
)
def test_a_token_goes_to_no_host_that_nobody_named(
    auth_url: str | None, private: bool, asked: str, clock: FakeClock
) -> None:
    transport = FakeTransport(named({"name": "my instance", "crn": CRN}))
    account = Credentials(
        channel="ibm_quantum_platform", token=KEY, instance="my instance", auth_url=auth_url, private_endpoint=private
    )
    client(account, transport, clock).job("j1")
    (look_up,) = transport.to("resource_instances")
    assert look_up.url == f"{asked}/v2/resource_instances"


def test_an_instance_given_by_crn_is_not_looked_up(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    client(IAM, transport, clock).job("j1")
    assert [sent.url.rpartition("/")[2] for sent in transport.sent] == ["token", "j1"]


@pytest.mark.parametrize(
    ("found", "message"),
    [
        ([], "no quantum instance"),
        ([{"name": "my instance 2", "crn": CRN}], "no quantum instance"),
        ([{"name": "my instance", "crn": CRN.replace("quantum-computing", "databases")}], "no quantum instance"),
        ([{"name": "my instance", "crn": CRN}, {"name": "my instance", "crn": CRN + "x"}], "2 quantum instances"),
    ],
)
def test_a_name_that_is_not_one_instances_is_refused(
    found: list[dict[str, Any]], message: str, clock: FakeClock
) -> None:
    transport = FakeTransport(named(*found))
    with pytest.raises(ConfigurationError, match=message) as caught:
        client(NAMED, transport, clock).job("j1")
    assert "crn:v1:bluemix" not in str(caught.value)
    assert not transport.to("/jobs/")


def test_private_endpoints_and_another_api_version(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    private = Credentials(
        channel="ibm_quantum_platform", token=KEY, instance=CRN, private_endpoint=True, api_version="2027-01-31"
    )
    client(private, transport, clock).job("j1")
    iam, job = transport.sent
    assert iam.host == "private.iam.cloud.ibm.com"
    assert job.host == "private.eu-de.quantum.cloud.ibm.com"
    assert job.headers["IBM-API-Version"] == "2027-01-31"


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


@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["IAM", "login"])
def test_the_key_stays_a_secret_however_many_tokens_it_is_exchanged_for(
    credentials: Credentials, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    numbers = itertools.count()

    def sign_in(sent: Sent) -> Any:
        if sent.url.endswith("/users/me"):
            return 200, {"urls": {"services": {"runtime": "https://runtime.example/base/"}}}
        token = f"an-access-token-of-the-hour-{next(numbers)}"
        return 200, {"access_token": token, "id": token}

    access = access_source(credentials, FakeTransport(sign_in), clock)  # type: ignore[arg-type]
    current: Access | None = access.get(Deadline(60, clock))
    for _ in range(MOST_HIDDEN):
        assert current is not None
        current = access.renew(current, Deadline(60, clock))
    get_logger("prefect_runtime.test_auth").warning("said %s aloud", KEY)
    assert caplog.messages == ["said … aloud"]


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


@pytest.mark.parametrize("life", [None, "soon", [], -5, 0, float("nan"), float("inf"), {}])
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
    ("answer", "for_now"),
    [
        ((400, {"errorCode": "BXNIM0415E", "errorMessage": "bad key"}), False),
        ((401, "no"), False),
        ((403, "no"), False),
        ((404, "no"), False),
        ((408, "slow"), True),
        ((500, "down"), True),
        ((503, "down"), True),
        ((429, "slow", {"retry-after": "3"}), True),
        ((429, "slow", {"retry-after": "86400"}), True),
        ((200, "no JSON"), True),
        ((200, {}), True),
        ((200, {"access_token": "", "id": ""}), True),
        ((200, {"access_token": 5, "id": 5}), True),
        ((200, []), True),
        (ConnectFailedError("x"), True),
        (AnswerLostError("x"), True),
    ],
    ids=repr,
)
@pytest.mark.parametrize("credentials", [IAM, LOGIN], ids=["platform", "classic"])
def test_a_sign_in_service_that_fails_is_asked_some_times_and_then_an_error_says_so(
    credentials: Credentials, answer: Any, for_now: bool, servers: Servers, clock: FakeClock
) -> None:
    servers.sign_in = answer
    transport = FakeTransport(servers)
    with pytest.raises(AuthenticationError) as caught:
        client(credentials, transport, clock).job("j1")
    assert caught.value.retryable is for_now
    assert KEY not in str(caught.value)
    assert not transport.to("/jobs/")
    tries = len(transport.sent)
    once = not for_now or "86400" in repr(answer)  # longer than there is time: no use to wait for it
    assert tries == (1 if once else 4)
    assert clock.monotonic() - 1_000 < 10
    assert ("cannot be asked now" in str(caught.value)) is for_now


def test_a_sign_in_service_that_comes_back_is_asked_again(servers: Servers, clock: FakeClock) -> None:
    servers.sign_in = (503, "down")
    runtime = client(IAM, FakeTransport(servers), clock)
    with pytest.raises(AuthenticationError):
        runtime.job("j1")
    servers.sign_in = None
    assert runtime.job("j1").id == "j1"


def test_of_many_threads_that_cannot_sign_in_one_tries_and_all_hear_of_it(servers: Servers, clock: FakeClock) -> None:
    servers.sign_in = (503, "down")
    transport = FakeTransport(servers)
    runtime = client(IAM, transport, clock)
    everybody = threading.Barrier(16)
    heard: list[bool] = []

    def ask() -> None:
        everybody.wait(10)
        try:
            runtime.job("j1")
        except AuthenticationError as error:
            heard.append(error.retryable)

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for thread in threads:
        thread.start()
    clock.join(threads)
    assert heard == [True] * 16
    assert len(transport.sent) == 4


def test_who_waits_for_anothers_sign_in_does_so_within_his_own_time(servers: Servers, clock: FakeClock) -> None:
    at_it = threading.Event()

    def slow(sent: Sent) -> Any:
        if "identity" in sent.url:
            at_it.set()
            clock.sleep(20)
        return servers(sent)

    runtime = client(IAM, FakeTransport(slow), clock)
    first = threading.Thread(target=lambda: runtime.job("j1"))
    first.start()
    assert at_it.wait(10)
    began = clock.monotonic()
    waited: list[float] = []

    def short() -> None:
        with pytest.raises(ConnectFailedError, match="Nothing was sent"):
            runtime._access.get(Deadline(2, clock))
        waited.append(clock.monotonic() - began)

    second = threading.Thread(target=short)
    second.start()
    clock.join([first, second])
    assert waited == [2.0]


def test_who_has_time_left_signs_in_himself_when_anothers_time_was_up(servers: Servers, clock: FakeClock) -> None:
    at_it, hangs = threading.Event(), [True]

    def slow(sent: Sent) -> Any:
        if hangs and hangs.pop():
            at_it.set()
            clock.sleep(5)
            return AnswerLostError("no answer came in time")
        return servers(sent)

    transport = FakeTransport(slow)
    access = IamAccess(IAM, transport, clock)  # type: ignore[arg-type]
    found: list[str] = []

    def get(seconds: float) -> None:
        try:
            found.append(access.get(Deadline(seconds, clock)).headers["Authorization"])
        except AuthenticationError:
            found.append("failed")

    first = threading.Thread(target=get, args=(4,))
    first.start()
    assert at_it.wait(10)
    second = threading.Thread(target=get, args=(60,))
    second.start()
    clock.join([first, second])
    assert sorted(found) == ["Bearer token-1", "failed"]
    assert len(transport.sent) == 2


def test_while_the_sign_in_service_is_down_an_old_token_is_used_for_as_long_as_it_lives(
    servers: Servers, clock: FakeClock
) -> None:
    runtime = client(IAM, FakeTransport(servers), clock)
    runtime.job("j1")
    servers.sign_in = (503, "down")
    clock.advance(0.8 * 3600)
    for _ in range(10):
        assert runtime.job("j1").id == "j1"
        clock.advance(60)
    clock.advance(120)
    with pytest.raises(AuthenticationError, match="cannot be asked now"):
        runtime.job("j1")


def test_a_sign_in_service_that_hangs_leaves_the_request_most_of_its_time(servers: Servers, clock: FakeClock) -> None:
    class Hanging(FakeTransport):
        hangs = False

        def exchange(self, method: str, url: str, *, deadline: Deadline, **more: Any) -> Answer:
            if self.hangs and "identity" in url:
                self.sent.append(Sent(method, url, {}, None))
                clock.sleep(deadline.remaining())
                raise AnswerLostError("no answer came in time")
            return super().exchange(method, url, deadline=deadline, **more)

    transport = Hanging(servers)
    access = IamAccess(IAM, transport, clock)  # type: ignore[arg-type]
    first = access.get(Deadline(30, clock))
    transport.hangs = True
    clock.advance(0.8 * 3600)
    for seconds in (30.0, 6.0):
        deadline = Deadline(seconds, clock)
        assert access.get(deadline) is first
        assert deadline.remaining() >= 0.6 * seconds
        assert access.get(deadline) is first  # asked again a little later only
        assert deadline.remaining() >= 0.6 * seconds
        clock.advance(15)
    clock.advance(720)
    with pytest.raises(AuthenticationError, match="cannot be asked now"):  # now it is needed
        access.get(deadline := Deadline(30, clock))
    assert deadline.remaining() < 1


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


# Answers of a sign-in service that is not to be believed


def test_a_life_of_four_hundred_digits_is_a_day(servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    servers.life = 10**400
    runtime = client(IAM, transport, clock)
    runtime.job("j1")
    clock.advance(86_400)
    runtime.job("j1")
    assert servers.made == 2


@pytest.mark.parametrize("token", ["a\r\nX-Other: b", "\ud800", "a b", "☃", "x" * 20_000])
def test_a_token_that_no_header_can_take_is_refused(token: str, servers: Servers, clock: FakeClock) -> None:
    for credentials, name in ((LOGIN, "id"), (IAM, "access_token")):
        servers.sign_in = 200, {name: token}
        transport = FakeTransport(servers)
        with pytest.raises(QiskitRuntimeError, match="header"):
            client(credentials, transport, clock).job("j1")
        assert not transport.to("/jobs")


@pytest.mark.parametrize(
    "url", ["http://runtime.example/", "ftp://runtime.example", "https://me:pw@runtime.example", "x"]
)
def test_a_token_is_not_sent_to_a_runtime_that_no_url_may_name(url: str, clock: FakeClock) -> None:
    servers = Servers()
    me = (200, {"urls": {"services": {"runtime": url}}})
    transport = FakeTransport(lambda sent: me if sent.url.endswith("/users/me") else servers(sent))
    with pytest.raises(ProtocolError, match="runtime"):
        client(LOGIN, transport, clock).job("j1")
    assert not transport.to("/jobs")


@pytest.mark.parametrize("region", ["evil.example/", "evil.example#", "a\\b", "x@evil.example", "US"])
def test_a_region_never_makes_another_host(region: str, clock: FakeClock) -> None:
    crn = CRN.replace("eu-de", region)
    assert crn != CRN
    with pytest.raises(ConfigurationError, match="instance"):
        Credentials(channel="ibm_quantum_platform", token=KEY, instance=crn)
    transport = FakeTransport(named({"name": "my instance", "crn": crn}))
    with pytest.raises(ProtocolError, match="CRN"):
        client(NAMED, transport, clock).job("j1")
    assert not transport.to("/jobs/")


@pytest.mark.parametrize(
    "job_id", ["", ".", "../programs", "a/b", "a?b", "a b", "a\r\nb", "\ud800", "é", "x" * 65, None]
)
def test_what_cannot_be_a_jobs_id_is_never_sent(job_id: Any, servers: Servers, clock: FakeClock) -> None:
    transport = FakeTransport(servers)
    runtime = client(Credentials(channel="classic", token=KEY, url="https://runtime.example"), transport, clock)
    calls = (runtime.job, runtime.results, runtime.logs, runtime.cancel, runtime.delete_job, runtime.metrics)
    for call in (*calls, runtime.interim_results, lambda one: runtime.open_stream(one, after=0)):
        with pytest.raises(ConfigurationError):
            call(job_id)
    assert transport.sent == []


DIRECT = Credentials(channel="classic", token=KEY, url="https://runtime.example")


@pytest.mark.parametrize("job_id", ["../x", "a b", "x" * 65, "", 5])
def test_a_new_jobs_id_that_cannot_be_one_is_refused(job_id: Any, clock: FakeClock) -> None:
    """As a `ProtocolError`: it is not known whether there is a job, and it is looked for by its tag."""
    runtime = client(DIRECT, FakeTransport(lambda sent: (201, {"id": job_id})), clock)
    with pytest.raises(ProtocolError):
        runtime.run_job({}, "{}", deadline=Deadline(5, clock))


def test_a_part_of_an_answer_is_not_taken_for_all_of_it(clock: FakeClock) -> None:
    runtime = client(DIRECT, FakeTransport(lambda sent: (206, '"the begin"')), clock)
    for call in (runtime.results, runtime.logs):
        with pytest.raises(ProtocolError, match="part"):
            call("j1")


@pytest.mark.parametrize("params", ["no JSON", ["{"], "[" * 300])
def test_inputs_that_cannot_be_read_are_a_typed_error(params: Any, clock: FakeClock) -> None:
    runtime = client(DIRECT, FakeTransport(lambda sent: (200, {**JOB, "params": params})), clock)
    with pytest.raises(QiskitRuntimeError):
        inputs_of(runtime.job("j1", with_params=True))
