"""What comes out of a worker's pipe, without waiting for what does not come. Used by process.py only."""

from __future__ import annotations

import os
from multiprocessing.connection import Connection

from prefect_runtime.local.worker import MAX_REPORT_BYTES

_HEADER_BYTES = 4
_READ_BYTES = 64 * 1024


class Inbox:
    """Whole messages of a pipe that a program can write to as well: half of one never holds who reads.

    `Connection.recv_bytes` waits until a message is whole. Source of the format: CPython 3.11 to 3.13,
    multiprocessing/connection.py, `Connection._send_bytes`: the length in four bytes, then the message.

    Args:
        pipe: Our end; nobody else reads from it.
    """

    def __init__(self, pipe: Connection) -> None:
        self._pipe = pipe
        self._data = bytearray()

    def read(self) -> None:
        """Take in what is there; waits only if nothing is.

        Raises:
            EOFError: Nothing will come any more.
            OSError: The pipe is broken.
        """
        piece = os.read(self._pipe.fileno(), _READ_BYTES)
        if not piece:
            raise EOFError
        self._data += piece

    def next(self) -> bytes | None:
        """Return the oldest message that is whole; None when there is none.

        Raises:
            ValueError: It is longer than any of a worker's.
        """
        if len(self._data) < _HEADER_BYTES:
            return None
        length = int.from_bytes(self._data[:_HEADER_BYTES], "big", signed=True)
        if not 0 <= length <= MAX_REPORT_BYTES:
            raise ValueError("not a report")
        end = _HEADER_BYTES + length
        if len(self._data) < end:
            return None
        message = bytes(self._data[_HEADER_BYTES:end])
        del self._data[:end]
        return message
