"""A log that may have been cut off is not taken for the whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client import Credentials, RuntimeClient
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.wire.errors import ProtocolError

if TYPE_CHECKING:
    from conftest import FakeClock

ACCOUNT = Credentials(channel="classic", token="t0ken-0123456789", url="https://runtime.example")


class Scripted(Transport):
    """Gives these bodies, one after the other; the last one again and again."""

    def __init__(self, *bodies: bytes, complete: bool) -> None:
        super().__init__(ACCOUNT)
        self.bodies = list(bodies)
        self.complete = complete
        self.asked = 0

    def exchange(self, method: str, url: str, **how: Any) -> Answer:
        self.asked += 1
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        return Answer(200, {"content-type": "text/plain"}, body, self.complete)


def logs_of(far_end: Scripted, clock: FakeClock) -> str:
    return RuntimeClient(ACCOUNT, transport=far_end, clock=clock).logs("job-1")


def test_an_answer_with_a_length_is_believed(clock: FakeClock) -> None:
    far_end = Scripted(b"one\ntwo\n", complete=True)
    assert logs_of(far_end, clock) == "one\ntwo\n"
    assert far_end.asked == 1


def test_of_answers_that_end_with_the_connection_two_have_to_agree(clock: FakeClock) -> None:
    far_end = Scripted(b"one\nt", b"one\ntwo\n", b"one\ntwo\n", complete=False)
    assert logs_of(far_end, clock) == "one\ntwo\n"
    assert far_end.asked == 3


def test_a_log_that_comes_otherwise_each_time_is_an_error(clock: FakeClock) -> None:
    far_end = Scripted(*(b"x" * length for length in range(1, 30)), complete=False)
    with pytest.raises(ProtocolError, match="all of it"):
        logs_of(far_end, clock)
