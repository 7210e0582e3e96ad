"""Sessions: opened once, whatever the network does; closed however they are left. Against a scripted transport."""

from __future__ import annotations

import json
import logging
from typing import TYPE_CHECKING, Any

import pytest
from test_auth import IAM, FakeTransport, Sent, Servers

from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.sessions import RuntimeSession, SessionDocument, check_max_ttl, open_session
from prefect_runtime.wire.errors import (
    AnswerLostError,
    ConfigurationError,
    ConnectFailedError,
    InvalidInputError,
    ProtocolError,
    QiskitRuntimeError,
    RateLimitedError,
    SessionNotFoundError,
    SessionUnknownError,
)

if TYPE_CHECKING:
    from conftest import FakeClock

OPEN = {"id": "s1", "state": "open", "accepting_jobs": True, "mode": "batch", "backend_name": "ibm_x", "max_ttl": 600}


class Sessions:
    """A platform that does with each POST of a session what the script says, and with all else what is right."""

    def __init__(self, *script: Any) -> None:
        self._script = list(script)
        self._cloud = Servers()

    def __call__(self, sent: Sent) -> Any:
        if "/sessions" not in sent.url:
            return self._cloud(sent)
        if sent.method == "POST":
            return self._script.pop(0) if len(self._script) > 1 else self._script[0]
        return (204, "") if sent.method in ("PATCH", "DELETE") else (200, OPEN)


def connected(clock: FakeClock, *script: Any) -> tuple[RuntimeClient, FakeTransport]:
    transport = FakeTransport(Sessions(*script))
    return RuntimeClient(IAM, clock=clock, transport=transport), transport  # type: ignore[arg-type]


def posts(transport: FakeTransport) -> list[Any]:
    return [json.loads(sent.body or b"") for sent in transport.to("/sessions") if sent.method == "POST"]


def test_a_session_is_one_post_with_mode_backend_and_time_to_live(clock: FakeClock) -> None:
    client, transport = connected(clock, (200, OPEN))
    document = open_session(client, mode="batch", backend="ibm_x", max_ttl=600)
    assert posts(transport) == [{"mode": "batch", "backend": "ibm_x", "max_ttl": 600}]
    assert document == SessionDocument(id="s1", state="open", mode="batch", backend="ibm_x", max_ttl=600.0)


@pytest.mark.parametrize(
    "answer",
    [AnswerLostError("lost"), (500, "oh"), (503, "oh"), (408, "slow"), (200, "no JSON"), (200, {}), (200, {"id": ""})],
    ids=repr,
)
def test_a_doubtful_answer_is_not_asked_for_again_and_the_error_names_the_time_to_live(
    answer: Any, clock: FakeClock
) -> None:
    client, transport = connected(clock, answer)
    with pytest.raises(SessionUnknownError, match="after 600 s") as caught:
        open_session(client, mode="dedicated", backend="ibm_x", max_ttl=600)
    assert len(posts(transport)) == 1
    assert (caught.value.max_ttl, caught.value.retryable) == (600, False)


def test_a_doubtful_answer_without_a_time_to_live_says_that_it_may_be_hours(clock: FakeClock) -> None:
    client, _ = connected(clock, AnswerLostError("lost"))
    with pytest.raises(SessionUnknownError, match="hours"):
        open_session(client, mode="dedicated", backend="ibm_x", max_ttl=None)


@pytest.mark.parametrize("passing", [ConnectFailedError("no line"), (429, "slow", {"retry-after": "3"})], ids=repr)
def test_what_proves_that_nothing_was_taken_is_tried_again(passing: Any, clock: FakeClock) -> None:
    client, transport = connected(clock, passing, passing, (200, OPEN))
    assert open_session(client, mode="dedicated", backend="ibm_x", max_ttl=600).id == "s1"
    assert len(posts(transport)) == 3


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ((400, "no"), InvalidInputError),
        ((404, "no"), SessionNotFoundError),
        (ConnectFailedError("no line"), ConnectFailedError),
        ((429, "slow", {"retry-after": "86400"}), RateLimitedError),
    ],
    ids=repr,
)
def test_a_refusal_is_what_it_is(answer: Any, kind: type, clock: FakeClock) -> None:
    client, _ = connected(clock, answer)
    with pytest.raises(kind):
        open_session(client, mode="dedicated", backend="ibm_x", max_ttl=600)
    assert clock.monotonic() - 1000 < client.request_timeout


def test_a_401_renews_the_token_and_opens_one_session(clock: FakeClock) -> None:
    client, transport = connected(clock, (401, "expired"), (200, OPEN))
    assert open_session(client, mode="dedicated", backend="ibm_x", max_ttl=600).id == "s1"
    assert len(transport.to("/identity/token")) == 2


def test_without_a_time_to_live_there_is_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        assert check_max_ttl(600.0) == 600
        assert not caplog.records
        assert check_max_ttl(None) is None
    assert "billed" in caplog.text


@pytest.mark.parametrize("ttl", [0, -5, "600", float("inf"), True])
def test_a_time_to_live_that_is_none_is_refused(ttl: Any) -> None:
    with pytest.raises(ConfigurationError, match="max_ttl"):
        check_max_ttl(ttl)


class Service:
    """As much of a service as a session needs."""

    def __init__(self, client: Any) -> None:
        self.client = client


class Closing:
    """A client whose closing may fail."""

    def __init__(self, *, fails: bool = False) -> None:
        self._fails = fails
        self.closed: list[str] = []

    def close_session(self, session_id: str) -> None:
        self.closed.append(session_id)
        if self._fails:
            raise AnswerLostError("lost")


def session_of(client: Closing) -> RuntimeSession:
    service: Any = Service(client)
    return RuntimeSession(service, SessionDocument.parse(OPEN), mode="batch", backend="ibm_x")


@pytest.mark.parametrize("error", [None, ValueError, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("fails", [False, True])
def test_a_session_is_closed_however_it_is_left_and_hides_nothing(
    error: type[BaseException] | None, fails: bool
) -> None:
    client = Closing(fails=fails)
    raised: type[BaseException] | None = None
    try:
        with session_of(client) as session:
            assert session.session_id == "s1"
            if error is not None:
                raise error
    except BaseException as caught:  # noqa: BLE001 - what came out is what is asked about
        raised = type(caught)
    assert raised is error
    assert client.closed == ["s1"]


def test_a_document_is_read_leniently() -> None:
    assert SessionDocument.parse({"id": "s"}).accepting_jobs
    assert not SessionDocument.parse({"id": "s", "state": "closed"}).accepting_jobs
    assert not SessionDocument.parse({"id": "s", "state": "active", "accepting_jobs": False}).accepting_jobs
    with pytest.raises(ProtocolError):
        SessionDocument.parse({"state": "open"})


def test_closing_and_cancelling_say_what_the_platform_understands(clock: FakeClock) -> None:
    client, transport = connected(clock, (200, OPEN))
    client.close_session("s1")
    client.cancel_session("s1")
    close, cancel = transport.to("/sessions")
    assert (close.method, json.loads(close.body or b"")) == ("PATCH", {"accepting_jobs": False})
    assert (cancel.method, cancel.url.rpartition("/")[2]) == ("DELETE", "close")
    with pytest.raises(QiskitRuntimeError):
        client.close_session("..")
