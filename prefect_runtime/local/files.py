"""What a job leaves behind, in a folder of its own: log, interim results, result. Written by workers, read by the app.

The log and the interim results only grow, so that a reader can follow them from any position; the result appears whole
or not at all. The folder's name is the job's id, which the server makes: no text of a user is ever part of a path.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from prefect_runtime.wire.digests import digest_of, is_digest

LOG_BYTES_IN_ANSWER = 16 * 1024 * 1024
"""A longer log is answered from its end, in bytes."""

INTERIM_BYTES_AT_ONCE = 32 * 1024 * 1024
"""So much of the interim results a reader takes in at a time: more than the longest one has (messenger.py)."""


@dataclass(frozen=True, slots=True)
class JobFolder:
    """The files of one job."""

    path: Path

    @property
    def log(self) -> Path:
        """Standard output and error of the program."""
        return self.path / "log.txt"

    @property
    def interim(self) -> Path:
        """One interim result a line, each a JSON text."""
        return self.path / "interim.jsonl"

    @property
    def result(self) -> Path:
        """JSON text of the final result; there only once it is whole. Its name has the digest of what it holds."""
        return next(self.path.glob("result*.json"), self.path / "result.json")

    @property
    def digest(self) -> str:
        """Digest of the result as its program's process gave it; empty where an older version wrote it."""
        name = self.result.stem.removeprefix("result-")
        return name if is_digest(name) else ""

    @property
    def unfinished(self) -> Path:
        """Where the result is written; nobody reads it there."""
        return self.path / "result.tmp"

    def create(self) -> None:
        """Make the folder, readable by its owner only."""
        self.path.mkdir(mode=0o700, parents=True, exist_ok=True)

    def remove(self) -> None:
        """Delete the folder with all that is in it."""
        shutil.rmtree(self.path, ignore_errors=True)

    def size(self) -> int:
        """Return the bytes of all files in the folder."""
        return sum(_size(Path(root) / name) for root, _, names in os.walk(self.path) for name in names)

    @staticmethod
    def write_result(text: str, file: IO[bytes]) -> str:
        """Put the text of a result on disk, in the file `unfinished`; `finish_result` makes it the result.

        Returns:
            Its digest.

        Raises:
            OSError: The disk did not take it.
        """
        data = text.encode()
        left = memoryview(data)
        while left:
            left = left[file.write(left) :]
        os.fsync(file.fileno())
        return digest_of(data)

    def finish_result(self, digest: str) -> None:
        """Make what was written the result: whole and durable, or not at all.

        Args:
            digest: What its writer says of it; it becomes part of the name, so that the two appear together.

        Raises:
            OSError: The disk did not take it; nothing of it is there.
        """
        try:
            self.unfinished.rename(self.path / (f"result-{digest}.json" if is_digest(digest) else "result.json"))
            _sync_folder(self.path)
            _sync_folder(self.path.parent)  # the folder is as new as what is in it
        except OSError:
            self.drop_result()
            with contextlib.suppress(OSError):
                self.result.unlink(missing_ok=True)
            raise

    def drop_result(self) -> None:
        """Forget what was written of a result that will never be."""
        with contextlib.suppress(OSError):  # nobody reads it
            self.unfinished.unlink(missing_ok=True)

    def take_result(self) -> IO[bytes] | None:
        """Take the result away for the only reader there may be: of two readers one gets it, the other None."""
        taken = self.path / f"taken-{secrets.token_hex(4)}.json"
        try:
            self.result.rename(taken)
        except FileNotFoundError:
            return None
        file = taken.open("rb")
        taken.unlink()  # whatever becomes of the answer, nothing is left behind
        return file

    def read_log_from(self, start: int) -> tuple[bytes, int]:
        """Return the log from a byte on, as much as fits in an answer, and its size in bytes so far."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(min(start, size))
                return file.read(max(0, min(LOG_BYTES_IN_ANSWER, size - start))), size  # it may grow meanwhile
        except FileNotFoundError:
            return b"", 0

    def read_log(self) -> str:
        """Return the log as far as it has come; bytes that are not UTF-8 are replaced."""
        try:
            with self.log.open("rb") as file:
                size = file.seek(0, os.SEEK_END)
                file.seek(max(0, size - LOG_BYTES_IN_ANSWER))
                return file.read().decode("utf-8", errors="replace")
        except FileNotFoundError:
            return ""

    def read_interim(self, after: int = 0) -> list[str]:
        """Return the interim results so far as JSON texts, oldest first, without the first `after`."""
        return [line for index, line in enumerate(self._interim_lines()) if index >= after]

    def _interim_lines(self) -> Iterator[str]:
        try:
            with self.interim.open("rb") as file:
                for line in file:
                    if line.endswith(b"\n"):  # the last one may be half written
                        yield line[:-1].decode()
        except FileNotFoundError:
            return


def _size(path: Path) -> int:
    try:
        return path.lstat().st_size
    except OSError:  # gone while we looked
        return 0


def _sync_folder(path: Path) -> None:
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


class InterimWriter:
    """Adds interim results to a job's file, each whole or not at all. Its methods may be called from several threads.

    Args:
        file: It, open without a buffer and at its end.
    """

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._lock = threading.Lock()

    def write(self, line: bytes) -> None:
        """Add one result, a JSON text in UTF-8.

        Raises:
            OSError: The disk did not take it; nothing of it is there.
        """
        left = memoryview(line + b"\n")
        with self._lock:
            start = self._file.seek(0, os.SEEK_END)
            try:
                while left:  # a disk that fills up takes a part first, and refuses the next
                    left = left[self._file.write(left) :]
            except OSError:
                self._file.truncate(start)
                raise


class InterimReader:
    """Follows the interim results of a job while they come.

    Args:
        folder: The job's folder.
        after: How many results to leave out at the start.
    """

    def __init__(self, folder: JobFolder, after: int = 0) -> None:
        self._path = folder.interim
        self._skip = after
        self._position = 0  # behind the last whole line: what is half written may be taken back

    def read_new(self) -> list[str]:
        """Return the next results, if not all that there are by now then some; none when there are no more."""
        try:
            with self._path.open("rb") as file:
                file.seek(self._position)
                data = file.read(INTERIM_BYTES_AT_ONCE)
        except FileNotFoundError:
            return []
        *lines, half = data.split(b"\n")
        self._position += len(data) - len(half)
        skipped = min(self._skip, len(lines))
        self._skip -= skipped
        if lines and skipped == len(lines):
            return self.read_new()  # of those that are wanted, there may be some behind
        return [line.decode() for line in lines[skipped:]]
