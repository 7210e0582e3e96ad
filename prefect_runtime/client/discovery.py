"""Finds the embedded runtime, or starts it as a process of its own. Used by auth.py for the channel "local".

The runtime is shared by all processes of a user with the same interpreter. It outlives who started it, and ends by
itself after ten minutes without request or job.
"""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path

from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline
from prefect_runtime.wire.environment import HOME_VARIABLE, clean_environment, home
from prefect_runtime.wire.errors import ConfigurationError, ConnectFailedError, ProtocolError
from prefect_runtime.wire.models import PROTOCOL, DiscoveryDocument

__all__ = ["HOME_VARIABLE", "find", "find_or_start", "home"]

IDLE_SECONDS = 600.0
START_SECONDS = 60.0  # a cold disk reads for seconds; a machine under load even longer
_LOG_LINES_IN_ERROR = 5


def find(data_dir: Path) -> DiscoveryDocument | None:
    """Return where the runtime of a data folder listens, or None if none is running there.

    Raises:
        ConfigurationError: One is running that speaks another protocol version.
    """
    try:
        found = DiscoveryDocument.parse((data_dir / "runtime.json").read_text())
    except (FileNotFoundError, ProtocolError):
        return None
    except OSError as error:
        raise _unusable(data_dir, error) from None
    if not _is_served(data_dir):
        return None
    if found.protocol != PROTOCOL:
        raise ConfigurationError(
            f"The embedded runtime in {data_dir} speaks protocol {found.protocol}, this client speaks {PROTOCOL}. "
            f"Stop it with `prefect-runtime stop`, or set {HOME_VARIABLE} to another folder."
        )
    return found


def _is_served(data_dir: Path) -> bool:
    """Tell whether a runtime holds the folder's lock: unlike a pid, a lock cannot be somebody else's."""
    try:
        with (data_dir / "runtime.lock").open("r") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except FileNotFoundError:
        return False
    return False


def find_or_start(data_dir: Path, clock: Clock = SYSTEM_CLOCK) -> DiscoveryDocument:
    """Return where the embedded runtime listens, starting it if need be. Of many callers at once, one starts it.

    Raises:
        ConnectFailedError: It could not be started; the message has the end of its log.
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
    with start_lock:
        fcntl.flock(start_lock, fcntl.LOCK_EX)  # whoever comes second finds it started
        return find(data_dir) or _start(data_dir, Deadline(START_SECONDS, clock))


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
        if process.poll() is not None and not _is_served(data_dir):
            break
        deadline.clock.sleep(0.02)
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
