"""What is sent for a job, and what is believed of the answer: counted at a server that a script stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from test_auth import DIRECT, FakeTransport, Sent, client

from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import AnswerLostError, ConfigurationError, ProtocolError, QiskitRuntimeError

if TYPE_CHECKING:
    from conftest import FakeClock


@pytest.mark.parametrize(
    "answer",
    [AnswerLostError("lost"), (500, "down"), (503, "down"), (504, "late"), (408, "late"), (200, "<html>"), (200, {}),
     (202, {"id": "../x"})],
    ids=str,
)  # fmt: skip
def test_a_job_request_is_sent_once_whatever_is_said_to_it(answer: Any, clock: FakeClock) -> None:
    """Of each of these there may be a job; any other call is sent again."""
    transport = FakeTransport(lambda sent: answer)
    runtime = client(DIRECT, transport, clock)
    with pytest.raises(QiskitRuntimeError):
        runtime.run_job({"program_id": "sampler"}, "{}", deadline=Deadline(60, clock))
    assert [(sent.method, sent.url) for sent in transport.sent] == [("POST", "https://runtime.example/jobs")]
    with pytest.raises(QiskitRuntimeError):
        runtime.jobs()
    assert len(transport.sent) > 2


def test_what_a_server_says_of_another_job_is_not_believed(clock: FakeClock) -> None:
    """A connection on which answers are out of step, or a proxy that has mixed two up."""
    ids = ["j2", "j1"]
    transport = FakeTransport(lambda sent: (200, {"id": ids.pop(0), "status": "Completed"}))
    assert client(DIRECT, transport, clock).job("j1").id == "j1"
    assert len(transport.to("/jobs/j1")) == 2

    def always(sent: Sent) -> Any:
        return 200, {"id": "j2", "status": "Completed"}

    with pytest.raises(ProtocolError, match="another job"):
        client(DIRECT, FakeTransport(always), clock).job("j1")


def test_no_name_climbs_out_of_its_place_in_an_address(clock: FakeClock) -> None:
    transport = FakeTransport(lambda sent: (200, {}))
    runtime = client(DIRECT, transport, clock)
    for name in ("", ".", "..", "a\r\nb", "\ud800", None):
        for call in (runtime.delete_program, runtime.cancel_session, lambda one: runtime.backend(one, "status")):
            with pytest.raises(ConfigurationError):
                call(name)  # type: ignore[arg-type]
    assert transport.sent == []
    runtime.delete_program("../jobs/j1?all=1#x")
    assert transport.sent[0].url == "https://runtime.example/programs/..%2Fjobs%2Fj1%3Fall%3D1%23x"
