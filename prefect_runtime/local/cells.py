"""What the process of an uploaded program is put into: a folder, a user and limits of its own. Set up by the server.

Each slot has its cell. Where the server is root, programs run as a user that nobody else is: it can neither signal the
server nor write to its files, and all that it has started can be ended at once, whatever that did to hide. What the
process does to itself is in confinement.py.

A cell keeps accidents in, and makes attacks harder. It is no sandbox: the network is open, and so is every file that
the user can read.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from pathlib import Path

from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

FIRST_UID, LAST_UID = 61_184, 65_519
"""The uids that systemd gives to services without a user of their own; nobody's files belong to one of them.

Source: systemd, "Users, Groups, UIDs and GIDs on systemd Systems", the range of dynamic service users.
"""

MIB = 1024 * 1024


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What one program may take.

    Attributes:
        memory: Bytes of address space that each of its processes may take on top of what it starts with; None: what is
            free when it starts.
        processes: Processes and threads at the same time, besides two a processor for the simulators' own threads.
        files: Open files of each process.
        file_bytes: Size of each file it writes, in bytes: the log, the interim results and the result are such files.
        folder_bytes: Size of all it keeps in its own folder, in bytes.
        folder_files: Number of files and folders in there.
    """

    memory: int | None = None
    processes: int = 200
    files: int = 1024
    file_bytes: int = 256 * MIB
    folder_bytes: int = 1024 * MIB
    folder_files: int = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """One program's cell, as its process is told of it.

    Attributes:
        folder: Its own folder, which is gone when its job has ended.
        limits: What it may take.
        uid: The user and group to become; None: the server's.
        reads_all: Leave it root's right to read every file, because its own interpreter is where no other user may go.
    """

    folder: Path
    limits: Limits
    uid: int | None = None
    reads_all: bool = False


@dataclass(frozen=True, slots=True)
class _User:
    uid: int
    claim: socket.socket = field(repr=False)


class Cells:
    """The cells of a server.

    Args:
        data_dir: The server's folder; it remembers where the programs' folders are, so that they never pile up.
        limits: What each program may take.
        same_user: Run programs as the server's user also where that is root.
    """

    def __init__(self, data_dir: Path, *, limits: Limits | None = None, same_user: bool = False) -> None:
        self._limits = limits or Limits()
        self._note = data_dir / "cells.at"
        self._remove_leftovers()
        self._own_users = not same_user and _can_change_user()
        self._reads_all = self._own_users and not _others_can_read_the_environment()
        self._root, self._root_mode = data_dir / "cells", 0o700
        if self._own_users and not self._reads_all:  # who cannot read everything cannot enter the data folder
            self._root, self._root_mode = Path(tempfile.mkdtemp(prefix="prefect-runtime-")), 0o711
        self._root.mkdir(mode=0o700, exist_ok=True)
        self._root.chmod(self._root_mode)
        self._note.write_text(str(self._root))
        self._claiming = threading.Lock()
        self._users: list[_User] = []

    def _remove_leftovers(self) -> None:
        """Remove the folders of a server that was killed; only what is as we make it, and ours."""
        try:
            left = Path(self._note.read_text())
            known = left.name == "cells" or left.name.startswith("prefect-runtime-")
            if known and left.lstat().st_uid == os.geteuid():
                remove_tree(left)
        except (OSError, ValueError):
            return

    def open(self, job_id: str, slot: int) -> Cell:
        """Make the cell for a job that a slot is about to run."""
        folder = self._root / job_id
        try:
            folder.mkdir(mode=0o700)
        except FileNotFoundError:  # somebody has cleared the system's temporary folder
            self._root.mkdir(mode=0o700)
            self._root.chmod(self._root_mode)
            folder.mkdir(mode=0o700)
        uid = self._uid(slot)
        if uid is not None:
            os.chown(folder, uid, uid)
        return Cell(folder=folder, limits=self._limits, uid=uid, reads_all=self._reads_all)

    def too_full(self, cell: Cell) -> str | None:
        """Say that a program has put too much into its folder; None as long as it has not."""
        size = entries = 0
        waiting = [cell.folder]
        while waiting:
            with contextlib.suppress(OSError), os.scandir(waiting.pop()) as found:
                for entry in found:
                    entries += 1
                    with contextlib.suppress(OSError):
                        size += entry.stat(follow_symlinks=False).st_blocks * 512
                        if entry.is_dir(follow_symlinks=False):
                            waiting.append(Path(entry.path))
                    if size > cell.limits.folder_bytes:
                        return f"It filled its folder with more than {cell.limits.folder_bytes} bytes."
                    if entries > cell.limits.folder_files:
                        return f"It filled its folder with more than {cell.limits.folder_files} files."
        return None

    def close(self, cell: Cell) -> None:
        """Remove a cell's folder, once no process of its program is left."""
        remove_tree(cell.folder)

    def remove(self) -> None:
        """Remove everything; the server ends."""
        remove_tree(self._root)
        self._note.unlink(missing_ok=True)
        for user in self._users:
            user.claim.close()

    def _uid(self, slot: int) -> int | None:
        if not self._own_users:
            return None
        with self._claiming:
            while len(self._users) <= slot:
                first = self._users[-1].uid + 1 if self._users else FIRST_UID
                self._users.append(_claim(first))
            return self._users[slot].uid


def _claim(first: int) -> _User:
    """Take the first uid that is nobody's, and keep other runtimes on this machine from taking it as long as we live.

    Raises:
        OSError: There is none.
    """
    for uid in range(first, LAST_UID + 1):
        with contextlib.suppress(KeyError):
            pwd.getpwuid(uid)
            continue
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0prefect-runtime-uid-{uid}")  # Linux: a name without a file, gone with its process
        except OSError:
            claim.close()
            continue
        return _User(uid, claim)
    raise OSError("no uid is free for programs")


def remove_tree(folder: Path) -> None:
    """Remove a folder that a program may have filled with whatever it liked."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
        if folder.exists():  # folders that their owner may not write to
            for place, _, _ in os.walk(folder):
                Path(place).chmod(0o700)
            shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # nested deeper than Python goes before 3.13
        subprocess.run(["rm", "-rf", "--", folder], stderr=subprocess.DEVNULL, check=False)  # noqa: S603, S607  # nosec B607 # of our PATH


_NEEDED_CAPABILITIES = (0, 2, 5, 6, 7)
"""CHOWN, DAC_READ_SEARCH, KILL, SETGID, SETUID (Source: linux/capability.h)."""


def _can_change_user() -> bool:
    """Tell whether programs can run as a user of their own; where root cannot, say so."""
    if os.geteuid() != 0:
        return False
    if sys.platform == "linux" and _has_capabilities() and _maps_users():
        return True
    _log.warning("programs run as root: this system lets root take no other user")
    return False


def _has_capabilities() -> bool:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        held = next(int(line.split()[1], 16) for line in lines if line.startswith("CapEff:"))
    except (OSError, StopIteration):
        return False
    return all(held >> number & 1 for number in _NEEDED_CAPABILITIES)


def _maps_users() -> bool:
    """Tell whether the uids are there: a container may have been given a few only."""
    try:
        spans = [[int(part) for part in line.split()] for line in Path("/proc/self/uid_map").read_text().splitlines()]
    except (OSError, ValueError):
        return False
    return any(inside <= FIRST_UID and inside + count > LAST_UID for inside, _, count in spans)


def _others_can_read_the_environment() -> bool:
    """Tell whether another user can run this interpreter and import what it imports; where not, say so."""
    package = Path(__file__).parents[1]
    places: list[str | Path] = [
        sys.executable,
        sys.prefix,
        sys.base_prefix,
        package,
        tempfile.gettempdir(),
        *filter(None, sys.path),
    ]
    closed = next((place for place in map(Path, places) if place.exists() and not _is_open(place)), None)
    if closed is None:
        return True
    _log.warning("programs can read every file of root's: %s, which they need, is closed to other users", closed)
    return False


def _is_open(place: Path) -> bool:
    """Tell whether everybody can read a file or folder, and walk there; also where a symbolic link leads."""
    for path in (place.absolute(), place.resolve()):
        if not path.stat().st_mode & 0o004:
            return False
        if any(not parent.stat().st_mode & 0o001 for parent in path.parents):
            return False
    return True
