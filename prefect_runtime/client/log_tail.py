"""A job's log as it grows, each byte once. Used by the command line and by the tasks that relay it."""

from __future__ import annotations

import codecs
from typing import Protocol

from prefect_runtime.wire.errors import RuntimeJobNotFound
from prefect_runtime.wire.models import JobDocument


class LogSource(Protocol):
    """What is needed of a `RuntimeClient`."""

    def logs_from(self, job_id: str, start: int) -> tuple[bytes, int]:
        """Ask for the log from a byte on, and for how many bytes it has."""

    def job(self, job_id: str) -> JobDocument:
        """Ask for the job."""


class LogTail:
    """Reads a job's log part by part.

    Args:
        source: Asks the server.
        job_id: The job.

    Attributes:
        read: Bytes read so far.
    """

    def __init__(self, source: LogSource, job_id: str) -> None:
        self.job_id = job_id
        self.read = 0
        self._source = source
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")  # a part may end within a character

    def more(self) -> tuple[str, bool]:
        """Return what there is more by now, as much as comes with one answer, and whether that was not all.

        Raises:
            RuntimeJobNotFound: There is no such job.
            QiskitRuntimeError: The server could not be asked.
        """
        try:
            part, size = self._source.logs_from(self.job_id, self.read)
        except RuntimeJobNotFound:
            self._source.job(self.job_id)  # there is no such job: raises; else it has no log yet (some servers say 404)
            part, size = b"", self.read
        self.read += len(part)
        return self._decoder.decode(part), bool(part) and self.read < size

    def rest(self) -> str:
        """Return what is left of a character that was never finished."""
        return self._decoder.decode(b"", final=True)
