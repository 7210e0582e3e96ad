"""Results that can be read once: a private job's. On disk before anything else is done with them. Used by job.py.

IBM's server deletes a private job's result once it has been read (REST API 0.45.3), so there is one read, straight into
a file of the user's own (mode 0600). A read that breaks off is a loss that is said, never an empty result. Whole ones
are kept for a week: a flow run that is executed again, or a decoder that was the wrong one, finds them.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from pathlib import Path

from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.environment import home
from prefect_runtime.wire.errors import ConfigurationError, ResultLostError
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

KEPT_SECONDS = 7 * 86_400.0


class PrivateResult:
    """Where one private job's result is, or will be.

    Args:
        client: Talks to the server.
        job_id: The job.
        folder: Where results are kept; None for ``private-results`` in the home of prefect-runtime.
    """

    def __init__(self, client: RuntimeClient, job_id: str, folder: Path | None = None) -> None:
        account = client.credentials
        # Ids are unique within a server only, and must never be part of a path.
        name = hashlib.sha256(f"{account.channel} {account.url} {account.instance} {job_id}".encode()).hexdigest()[:40]
        self._client = client
        self._job_id = job_id
        self._folder = folder or home() / "private-results"
        self._name = name
        self._part = self._folder / f"{name}.{os.getpid()}.part"

    def fetch(self, deadline: Deadline) -> str | None:
        """Return the result: as it was kept, else from the server, which is asked for it once; None if it has none.

        Raises:
            ConfigurationError: It could not be kept; nothing was read.
            ResultLostError: The read broke off. What came is kept; the message says where.
        """
        kept = self._kept()
        if kept is not None:
            return kept
        with self._opened() as part:
            return self._read_into(part, deadline)

    def _kept(self) -> str | None:
        """Return the result as it was kept; the hash in the file's name tells that it is that.

        Raises:
            ResultLostError: It is not any more.
        """
        for file in self._folder.glob(f"{self._name}.*.json"):
            try:
                data = file.read_bytes()
            except OSError as error:
                raise ResultLostError(
                    f"Job {self._job_id}: its result is in {file}, which cannot be read ({error.strerror}).",
                    job_id=self._job_id,
                ) from None
            if file.name == self._name_of(data):
                return data.decode("utf-8", errors="replace")
            raise ResultLostError(
                f"Job {self._job_id}: its result was kept in {file}, which is not what was written.",
                job_id=self._job_id,
            )
        return None

    def _name_of(self, data: bytes) -> str:
        return f"{self._name}.{hashlib.sha256(data).hexdigest()}.json"

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_old()
            part = os.open(self._part, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        except OSError as error:
            raise ConfigurationError(
                f"Job {self._job_id} is private: its result can be read once, and {self._folder} to keep it in cannot "
                f"be written ({error.strerror}). It was not read.",
                job_id=self._job_id,
            ) from None
        try:
            yield part
        finally:
            os.close(part)
            with contextlib.suppress(FileNotFoundError):
                if not self._part.stat().st_size:
                    self._part.unlink()

    def _read_into(self, part: int, deadline: Deadline) -> str | None:
        def keep(data: bytes) -> None:
            try:
                while data:
                    data = data[os.write(part, data) :]
            except OSError as error:
                raise ResultLostError(f"could not be kept ({error.strerror})") from None

        try:
            text = self._client.private_results(self._job_id, deadline=deadline, keep=keep)
        except ResultLostError as error:
            raise self._lost(error.message) from None
        if text is not None:
            try:
                os.fsync(part)
                self._part.rename(self._folder / self._name_of(self._part.read_bytes()))
                _sync_folder(self._folder)
            except OSError as error:  # it is here: hand it on
                _log.warning("job %s: its result is not kept on disk (%s)", self._job_id, error.strerror)
        return text

    def _lost(self, why: str) -> ResultLostError:
        came = self._part.stat().st_size if self._part.exists() else 0
        place = f" The {came} bytes that came are in {self._part}." if came else ""
        return ResultLostError(
            f"Job {self._job_id} is private: its result can be read once, and that one read failed, it {why}.{place} "
            "Fetching it again tells whether the server still has it.",
            job_id=self._job_id,
        )

    def _forget_old(self) -> None:
        """Delete what has been kept for long enough, of all jobs."""
        for file in self._folder.iterdir():
            with contextlib.suppress(FileNotFoundError):
                # The wall clock, as the file's own time is; of a link its own, not that of what it names.
                if time.time() - file.lstat().st_mtime > KEPT_SECONDS:
                    file.unlink()


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
