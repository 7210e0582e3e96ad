"""Messages out of a worker's pipe: whole ones only, and nobody waits for the rest of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from multiprocessing import Pipe
from multiprocessing.connection import Connection

import pytest

from prefect_runtime.local.inbox import Inbox
from prefect_runtime.local.worker import MAX_REPORT_BYTES


@pytest.fixture
def pipe() -> Iterator[tuple[Connection, Connection]]:
    ours, theirs = Pipe()
    yield ours, theirs
    ours.close()
    theirs.close()


@pytest.mark.parametrize("size", [0, 1, 5, 16_385, 200_000])  # from 16384 on, the length is sent by itself
def test_messages_come_out_as_they_were_sent(pipe: tuple[Connection, Connection], size: int) -> None:
    ours, theirs = pipe
    inbox = Inbox(ours)
    theirs.send_bytes(b"first")
    theirs.send_bytes(b"x" * size)
    found: list[bytes] = []
    while len(found) < 2:
        inbox.read()
        while (message := inbox.next()) is not None:
            found.append(message)
    assert found == [b"first", b"x" * size]


@pytest.mark.parametrize("part", [b"\0", b"\0\0\1\0", b"\0\0\1\0not all of it"])
def test_half_a_message_is_none_until_its_rest_has_come(pipe: tuple[Connection, Connection], part: bytes) -> None:
    ours, theirs = pipe
    inbox = Inbox(ours)
    whole = b"\0\0\1\0" + b"not all of it".ljust(256, b".")
    os.write(theirs.fileno(), part)
    inbox.read()
    assert inbox.next() is None
    os.write(theirs.fileno(), whole[len(part) :])
    inbox.read()
    assert inbox.next() == whole[4:]


@pytest.mark.parametrize("length", [MAX_REPORT_BYTES + 1, -1, -5])
def test_a_length_that_no_report_has_is_refused_before_anything_of_it_is_kept(
    pipe: tuple[Connection, Connection], length: int
) -> None:
    ours, theirs = pipe
    inbox = Inbox(ours)
    os.write(theirs.fileno(), length.to_bytes(4, "big", signed=True))
    inbox.read()
    with pytest.raises(ValueError, match="not a report"):
        inbox.next()


def test_a_pipe_whose_other_end_is_gone_is_at_its_end(pipe: tuple[Connection, Connection]) -> None:
    ours, theirs = pipe
    theirs.close()
    with pytest.raises(EOFError):
        Inbox(ours).read()
