"""A log that may have been cut off is not taken for the whole, at once or as it grows."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from prefect_runtime.client import Credentials, RuntimeClient
from prefect_runtime.client.log_tail import LogTail
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.wire.errors import ProtocolError

if TYPE_CHECKING:
    from conftest import FakeClock

ACCOUNT = Credentials(channel="classic", token="t0ken-0123456789", url="https://runtime.example")


class Scripted(Transport):
    """Gives these bodies, one after the other; the last one again and again."""

    def __init__(self, *bodies: bytes, complete: bool, spans: tuple[str, ...] = ()) -> None:
        super().__init__(ACCOUNT)
        self.bodies = list(bodies)
        self.complete = complete
        self.spans = list(spans)
        self.asked = 0

    def exchange(self, method: str, url: str, **how: Any) -> Answer:
        self.asked += 1
        body = self.bodies.pop(0) if len(self.bodies) > 1 else self.bodies[0]
        if self.spans:
            return Answer(206, {"content-range": self.spans.pop(0)}, body, self.complete)
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


def parts_of(far_end: Scripted, clock: FakeClock) -> list[str]:
    """Return what comes until a tail says that this was all."""
    tail = LogTail(RuntimeClient(ACCOUNT, transport=far_end, clock=clock), "job-1")
    parts, not_all = [], True
    while not_all:
        text, not_all = tail.more()
        parts.append(text)
    return parts


@pytest.mark.parametrize("cut", [b"one\nt", b"one\n"], ids=["sooner", "much sooner"])
def test_a_tail_asks_again_where_the_answer_ended_with_the_connection(cut: bytes, clock: FakeClock) -> None:
    far_end = Scripted(b"one\ntw", b"one\ntwo\n", cut, b"one\ntwo\n", complete=False)
    assert parts_of(far_end, clock) == ["one\ntw", "o\n", ""]
    assert far_end.asked == 4


def test_a_tail_asks_again_for_a_part_of_a_log_of_unknown_length(clock: FakeClock) -> None:
    far_end = Scripted(b"one\ntw", b"o\n", b"", complete=False, spans=("bytes 0-7/*", "bytes 6-7/*", "bytes 8-8/8"))
    assert parts_of(far_end, clock) == ["one\ntw", "o\n", ""]


@pytest.mark.parametrize("spans", [(), ("bytes 0-3/4",)], ids=["all of it", "a part"])
def test_a_tail_asks_once_where_the_length_is_known(spans: tuple[str, ...], clock: FakeClock) -> None:
    far_end = Scripted(b"one\n", complete=not spans, spans=spans)
    assert parts_of(far_end, clock) == ["one\n"]
    assert far_end.asked == 1
