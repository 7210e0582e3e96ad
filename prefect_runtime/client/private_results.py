"""Results that can be read once: a private job's. On disk before anything else is done to them. Used by job_result.py.

IBM's server deletes a private job's result once it has been read (REST API 0.45.3), so there is one read, straight into
a file of the user's own (mode 0600). A read that breaks off is a loss that is said, never an empty result. Whole ones
are kept for a week: a flow run that is executed again, or a decoder that was the wrong one, finds them.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.environment import home
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, ResultLostError
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

KEPT_SECONDS = 7 * 86_400.0
LOCK_PAUSE = 0.05  # seconds


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

    def fetch(self, deadline: Deadline) -> str | None:
        """Return the result: as it was kept, else from the server, which is asked for it once; None if it has none.

        Raises:
            ConfigurationError: It could not be kept; nothing was read.
            ResultLostError: The read broke off. What came is kept; the message says where.
            JobTimeoutError: Somebody else was still reading it at the deadline.
        """
        kept = self._kept()
        if kept is not None:
            return kept
        with contextlib.ExitStack() as held:
            part = self._prepare(held, deadline)
            kept = self._kept()  # by whoever held the lock before us
            return kept if kept is not None else self._read_into(part, deadline)

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

    def _prepare(self, held: contextlib.ExitStack, deadline: Deadline) -> Part:
        """Take the right to read the result, and open a file for it, before anything is asked for."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._forget_old()
            held.enter_context(self._alone(deadline))
            return held.enter_context(self._new_part())
        except JobTimeoutError:  # a TimeoutError, which Python counts among those of the system
            raise
        except OSError as error:
            raise ConfigurationError(
                f"Job {self._job_id} is private: its result can be read once, and {self._folder} to keep it in cannot "
                f"be written ({error.strerror}). It was not read.",
                job_id=self._job_id,
            ) from None

    @contextlib.contextmanager
    def _alone(self, deadline: Deadline) -> Iterator[None]:
        """Let no other thread or process read the same result meanwhile: it would get nothing, or half of it."""
        path = self._folder / f"{self._name}.lock"
        while True:
            lock = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
            try:
                if _try_lock(lock, path):
                    break
            except BaseException:
                os.close(lock)
                raise
            os.close(lock)
            if deadline.expired:
                raise JobTimeoutError(
                    f"Job {self._job_id} is private, and its result is being read by another thread or process.",
                    job_id=self._job_id,
                )
            deadline.clock.sleep(min(LOCK_PAUSE, deadline.remaining()))
        try:
            yield
        finally:
            path.unlink(missing_ok=True)
            fcntl.flock(lock, fcntl.LOCK_UN)  # closing is not enough: a forked process may have it open too
            os.close(lock)

    def _new_part(self) -> Part:
        file, path = tempfile.mkstemp(prefix=f"{self._name}.", suffix=".part", dir=self._folder)
        return Part(file, Path(path))

    def _read_into(self, part: Part, deadline: Deadline) -> str | None:
        try:
            text = self._client.private_results(self._job_id, deadline=deadline, keep=part.keep)
        except ResultLostError as error:
            raise self._lost(error.message, part) from None
        if text is not None:
            try:
                part.finish(self._folder / f"{self._name}.{part.digest}.json")
            except OSError as error:  # it is here: hand it on
                _log.warning("job %s: its result is not kept on disk (%s)", self._job_id, error.strerror)
        return text

    def _lost(self, why: str, part: Part) -> ResultLostError:
        place = f" The {part.size} bytes that came are in {part.path}." if part.size else ""
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


class Part:
    """A file for what comes of a result; gone at the end if nothing has come. Use it as a context manager."""

    def __init__(self, file: int, path: Path) -> None:
        self._file = file
        self.path = path
        self.size = 0
        self._hash = hashlib.sha256()

    def __enter__(self) -> Part:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._file)
        if not self.size:
            self.path.unlink(missing_ok=True)

    @property
    def digest(self) -> str:
        """The SHA-256 of what has come: not of what the disk has, which may be something else one day."""
        return self._hash.hexdigest()

    def keep(self, data: bytes) -> None:
        """Write what has come.

        Raises:
            ResultLostError: The disk did not take it.
        """
        self._hash.update(data)
        try:
            while data:
                written = os.write(self._file, data)
                self.size += written
                data = data[written:]
        except OSError as error:
            raise ResultLostError(f"could not be kept ({error.strerror})") from None

    def finish(self, path: Path) -> None:
        """Make it durable, under its name."""
        os.fsync(self._file)
        self.path.rename(path)
        _sync_folder(path.parent)


def _try_lock(lock: int, path: Path) -> bool:
    """Lock the file of that path; False if somebody else has it, or if it is not the file of that path any more."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    try:
        return os.stat(path).st_ino == os.fstat(lock).st_ino  # noqa: PTH116 - as its twin
    except FileNotFoundError:
        return False  # whoever had it has removed it


def _sync_folder(path: Path) -> None:
    """Make the names in a folder durable."""
    folder = os.open(path, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
