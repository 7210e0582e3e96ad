"""Which backend a request goes to, and what is said of one that runs no jobs. Against a scripted transport."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

import pytest
from test_auth import IAM, FakeTransport, Sent, Servers

from prefect_runtime.client.accounts import Account
from prefect_runtime.client.backends import BACKEND_SECONDS, Backends
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.errors import AnswerLostError, ProtocolError

if TYPE_CHECKING:
    from conftest import FakeClock

CONFIGURATION = {"backend_name": "x", "n_qubits": 5, "simulator": True, "basis_gates": ["cx"]}


class Platform:
    """A platform with two backends, in states that a test sets."""

    def __init__(self, **states: Any) -> None:
        self.states = states
        self.missing: set[str] = set()
        self.simulators = True
        self._cloud = Servers()

    def __call__(self, sent: Sent) -> Any:
        if "/backends" not in sent.url:
            return self._cloud(sent)
        parts = sent.url.split("/backends")[1].strip("/").split("/")
        if parts == [""]:
            return 200, {"devices": [self._device(name, state) for name, state in self.states.items()]}
        state = self.states[parts[0]]
        if isinstance(state, Exception):
            return state
        if parts[1] in self.missing:
            return 404, {"errors": [{"message": "no such page"}]}
        if parts[1] == "configuration":
            return 200, {**CONFIGURATION, "backend_name": parts[0], "simulator": self.simulators}
        if parts[1] == "properties":
            return 200, {"qubits": []}
        return 200, {"state": state != "offline", "status": state, "message": "for a while", "length_queue": 2}

    def _device(self, name: str, state: Any) -> dict[str, Any]:
        status = {"name": "online" if state == "active" else state, "reason": "for a while"}
        wait = {"average": 30.0, "p50": 20.0, "p95": 90.0}
        return {"name": name, "status": status, "qubits": 5, "queue_length": 2, "wait_time_seconds": wait}


def made(clock: FakeClock, *, account: Credentials = IAM, **states: Any) -> tuple[Backends, FakeTransport, Platform]:
    platform = Platform(**states)
    transport = FakeTransport(platform)
    client = RuntimeClient(account, clock=clock, transport=transport)  # type: ignore[arg-type]
    return Backends(Account(client=client)), transport, platform


def test_a_list_of_backends_says_how_long_a_job_waits(clock: FakeClock) -> None:
    backends, _, _ = made(clock, a="active", b="paused")
    a, b = backends.all()
    assert a.status is not None and b.status is not None
    assert (a.status.operational, a.status.pending_jobs, a.status.wait_seconds) == (True, 2, 30.0)
    assert (b.status.operational, b.status.message) == (False, "for a while")


@pytest.mark.parametrize("state", ["paused", "offline", "maintenance", "active"])
@pytest.mark.parametrize("way", ["name_for", "choose"])
def test_a_backend_that_runs_no_jobs_is_reported_before_one_is_sent(
    way: str, state: str, clock: FakeClock, caplog: pytest.LogCaptureFixture
) -> None:
    backends, _, _ = made(clock, a=state)
    with caplog.at_level(logging.WARNING):
        chosen = getattr(backends, way)("a")
    assert getattr(chosen, "name", chosen) == "a"  # a person's word counts: a paused one comes back
    said = "a is not running jobs now (for a while)" in caplog.text
    assert said is (state != "active")


def test_a_backends_state_is_asked_for_once_in_five_minutes(clock: FakeClock) -> None:
    backends, transport, _ = made(clock, a="active")
    for _ in range(5):
        backends.name_for("a")
    assert len(transport.to("/backends")) == 1
    clock.advance(BACKEND_SECONDS + 1)
    backends.name_for("a")
    assert len(transport.to("/backends")) == 2


def test_a_state_that_cannot_be_had_keeps_no_job_back(clock: FakeClock) -> None:
    backends, transport, _ = made(clock, a=AnswerLostError("lost"))
    assert backends.name_for("a") == "a"
    assert len(transport.to("/backends")) == 1  # not patient: the job is what counts


def test_of_several_names_the_first_that_runs_jobs_is_taken(clock: FakeClock) -> None:
    backends, _, platform = made(clock, a="paused", b="active")
    assert backends.choose(("a", "b")).name == "b"
    platform.states["a"] = "active"
    clock.advance(BACKEND_SECONDS + 1)
    assert backends.choose(("a", "b")).name == "a"


CLASSIC = Credentials(channel="classic", token="token", url="https://runtime.example/api")


def test_a_device_without_a_page_of_properties_keeps_its_configuration(clock: FakeClock) -> None:
    backends, transport, platform = made(clock, a="active")
    platform.simulators, platform.missing = False, {"properties"}
    backend = backends.known("a")
    assert (backend.num_qubits, backend.properties) == (5, None)
    assert [sent.url.rpartition("/")[2] for sent in transport.to("/backends/a/")] == [
        "status", "configuration", "properties",
    ]  # fmt: skip


def test_without_a_configuration_no_circuit_is_sent_to_the_platform(clock: FakeClock) -> None:
    backends, transport, platform = made(clock, a="active")
    platform.missing = {"configuration", "properties"}
    with pytest.raises(ProtocolError, match="no configuration of 'a'"):
        backends.choose("a")
    assert not transport.to("/properties")
    platform.missing = set()
    assert backends.choose("a").num_qubits == 5  # what failed is not kept


def test_a_classic_server_need_not_have_a_configuration(clock: FakeClock) -> None:
    backends, _, platform = made(clock, account=CLASSIC, a="active")
    platform.missing = {"configuration"}
    backend = backends.known("a")
    assert (backend.name, backend.configuration) == ("a", None)
