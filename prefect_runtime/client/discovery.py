"""Finds the embedded runtime, or starts it as a process of its own.

Used by auth.py for the channel "local", and by the command line. The runtime is shared by all processes of a user with
the same interpreter. It outlives who started it, and ends by itself after ten minutes without request or job.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.environment import HOME_VARIABLE, clean_environment, home
from prefect_runtime.wire.errors import ConfigurationError, ConnectFailedError, ProtocolError
from prefect_runtime.wire.models import PROTOCOL

__all__ = ["HOME_VARIABLE", "find", "find_or_start", "home", "is_served"]

IDLE_SECONDS = 600.0
START_SECONDS = 60.0  # a cold disk reads for seconds; a machine under load even longer
_PAUSE_SECONDS = 0.02
_LOG_LINES_IN_ERROR = 5


def find(data_dir: Path, *, any_protocol: bool = False) -> DiscoveryDocument | None:
    """Return where the runtime of a data folder listens, or None if none is running there.

    Args:
        data_dir: The folder.
        any_protocol: Also one that we could not speak to: to show or to stop it.

    Raises:
        ConfigurationError: One is running that speaks another protocol version; or the folder cannot be used.
    """
    try:
        found = DiscoveryDocument.parse((data_dir / "runtime.json").read_text(errors="replace"))
    except (FileNotFoundError, ProtocolError):
        return None
    except OSError as error:
        raise _unusable(data_dir, error) from None
    if not is_served(data_dir):
        return None
    if found.protocol != PROTOCOL and not any_protocol:
        raise ConfigurationError(
            f"The embedded runtime in {data_dir} speaks protocol {found.protocol}, this client speaks {PROTOCOL}. "
            f"Stop it with `prefect-runtime stop`, or set {HOME_VARIABLE} to another folder."
        )
    return found


def is_served(data_dir: Path) -> bool:
    """Tell whether a runtime holds the folder's lock: unlike a pid, a lock cannot be somebody else's.

    It does from before it can be found until after it cannot any more.
    """
    try:
        lock = (data_dir / "runtime.lock").open("r")
    except FileNotFoundError:
        return False
    with lock, _lock_of(lock, fcntl.LOCK_SH) as is_free:
        return not is_free


@contextlib.contextmanager
def _lock_of(file: TextIO, kind: int) -> Iterator[bool]:
    """Hold a file's lock if it is to be had now; gives whether it was."""
    try:
        fcntl.flock(file, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # closing is not enough: a process forked meanwhile has the file open, too


def find_or_start(data_dir: Path, clock: Clock = SYSTEM_CLOCK) -> DiscoveryDocument:
    """Return where the embedded runtime listens, starting it if need be. Of many callers at once, one starts it.

    Raises:
        ConnectFailedError: It could not be started, and the message has the end of its log; or another process has been
            starting it for a minute.
        ConfigurationError: One is running that speaks another protocol version, or the folder cannot be written.
    """
    found = find(data_dir)
    if found is not None:
        return found
    try:
        data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        start_lock = (data_dir / "start.lock").open("w")
    except OSError as error:
        raise _unusable(data_dir, error) from None
    waiting = Deadline(START_SECONDS, clock)
    with start_lock:
        while not waiting.expired:
            with _lock_of(start_lock, fcntl.LOCK_EX) as is_ours:
                found = find(data_dir)  # whoever comes second finds it started
                if found is not None:
                    return found
                if is_ours:
                    return _start(data_dir, Deadline(START_SECONDS, clock))
            clock.sleep(_PAUSE_SECONDS)
    raise ConnectFailedError(
        f"Another process has been starting the embedded runtime in {data_dir} for {START_SECONDS:g} s. Try again, and "
        "look at runtime.log there."
    )


def _unusable(data_dir: Path, error: OSError) -> ConfigurationError:
    return ConfigurationError(
        f"The embedded runtime's folder {data_dir} cannot be used ({error.strerror}). Set {HOME_VARIABLE} to another."
    )


def _start(data_dir: Path, deadline: Deadline) -> DiscoveryDocument:
    log = data_dir / "runtime.log"
    try:
        process = _spawn(data_dir, log)
    except OSError as error:
        raise _unusable(data_dir, error) from None
    while not deadline.expired:
        found = find(data_dir)
        if found is not None:
            # It is meant to outlive us: tell subprocess that nobody will wait for it.
            process.returncode = 0
            return found
        # Ours has ended where a `serve` by hand was first: that one writes the file in a moment.
        if process.poll() is not None and not is_served(data_dir):
            break
        deadline.clock.sleep(_PAUSE_SECONDS)
    tail = "\n".join(log.read_text(errors="replace").splitlines()[-_LOG_LINES_IN_ERROR:])
    raise ConnectFailedError(f"The embedded runtime did not start. The end of its log, {log}:\n{tail}", retryable=False)


def _spawn(data_dir: Path, log: Path) -> subprocess.Popen[bytes]:
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603 - our own module, no shell
            [sys.executable, "-m", "prefect_runtime.local", str(data_dir), str(IDLE_SECONDS)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=data_dir,
            env=clean_environment(os.environ),
            start_new_session=True,
        )
