"""Starts the embedded runtime: one per data folder, found through its discovery file, gone after an idle time."""

from __future__ import annotations

import contextlib
import fcntl
import importlib.metadata
import os
import resource
import secrets
import signal
import socket
import sqlite3
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TextIO

from prefect_runtime.local import access
from prefect_runtime.local.app import MAX_PENDING, Runtime, create_app
from prefect_runtime.local.backend_pages import BackendPages
from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.cells import Cells, Limits, remove_tree
from prefect_runtime.local.confinement import hide_from_own_user
from prefect_runtime.local.disk import in_words
from prefect_runtime.local.executor import Executor
from prefect_runtime.local.recovery import recover, wait_for_old_programs
from prefect_runtime.local.retention import Keep, Retention
from prefect_runtime.local.serving import serve_app
from prefect_runtime.local.sessions import Sessions
from prefect_runtime.local.store import Store
from prefect_runtime.local.tokens import LIFE_SECONDS
from prefect_runtime.local.watch import Place, until_needless
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.environment import MAX_TMPDIR_BYTES, clean_environment
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.models import PROTOCOL

LOCK, DISCOVERY = "runtime.lock", "runtime.json"
TAKEN_SECONDS = 1.0  # a client that looks whether somebody holds the lock, holds it for a moment
ENDING_SECONDS = 30.0
MAX_FILES = 65_536


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How to serve.

    Attributes:
        data_dir: Folder for everything the runtime keeps.
        host: Address to listen on; beyond this machine only with a certificate.
        port: Port to listen on; 0 takes a free one.
        idle_seconds: End after that long without request or job; None: never.
        slots: Jobs that run at the same time.
        delays: Seconds that jobs of a backend stay in the queue at least, by the backend's name.
        token_seconds: How long an access token of the platform dialect is good.
        limits: What each uploaded program may take.
        tls_certificate: Certificate (chain) of this server in PEM, for https.
        tls_key: Its private key in PEM.
        allow_hosts: Names under which clients ask for this server, besides its address and this machine's name.
        max_pending: Jobs that may be queued or running; the next one is told to wait.
        same_user: Run uploaded programs as this user also where it is root; else they get users of their own.
        usage_limit_seconds: What the platform dialect says that its instance may use; nothing is held to it.
        keep: Which final jobs are kept.
    """

    data_dir: Path
    host: str = "127.0.0.1"
    port: int = 0
    idle_seconds: float | None = None
    slots: int = field(default_factory=lambda: os.cpu_count() or 1)
    delays: Mapping[str, float] = field(default_factory=dict)
    token_seconds: float = LIFE_SECONDS
    limits: Limits = field(default_factory=Limits)
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    allow_hosts: tuple[str, ...] = ()
    max_pending: int = MAX_PENDING
    same_user: bool = False
    usage_limit_seconds: float | None = None
    keep: Keep = field(default_factory=Keep)


def serve(settings: Settings, on_ready: Callable[[DiscoveryDocument, Path], None] | None = None) -> None:
    """Serve until told to stop (SIGTERM, Ctrl-C) or idle for too long.

    Prints one line, ``READY http://HOST:PORT``, once requests are answered.

    Args:
        settings: How to serve.
        on_ready: Called after that line with the discovery document and the data folder.

    Raises:
        ConfigurationError: Another runtime has this data folder, the folder cannot be used (no room, read-only, a
            damaged database or one of a newer version), the port is taken, or the address leads beyond this machine
            and there is no certificate.
    """
    certificate, key = access.check(settings.host, settings.tls_certificate, settings.tls_key)
    os.umask(0o077)
    # Who started us may have ignored it, which is passed on; without, nobody hears of the end of a process.
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    if "PYTHONPATH" in os.environ:  # processes are started in another folder
        os.environ["PYTHONPATH"] = os.pathsep.join(map(os.path.abspath, os.environ["PYTHONPATH"].split(os.pathsep)))
    try:
        settings.data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = replace(settings, data_dir=settings.data_dir.absolute(), tls_certificate=certificate, tls_key=key)
        # Processes are started in this one's folder; where a person stood may be gone by then.
        os.chdir(settings.data_dir)
    except OSError as error:
        raise ConfigurationError(f"data-dir: {settings.data_dir} cannot be used ({error.strerror}).") from None
    _set_environment()
    try:
        with _only_one(settings.data_dir) as lock, _listen(settings) as listening:
            wait_for_old_programs(settings.data_dir)
            _run(settings, listening, lock, on_ready)
    except (OSError, sqlite3.Error) as error:
        raise ConfigurationError(f"data-dir: {settings.data_dir} cannot be used ({in_words(error)}).") from None


def _set_environment() -> None:
    """Leave only what programs may see, and nothing on disk of what this process, or one below, has in memory."""
    kept = clean_environment(os.environ)
    os.environ.clear()
    # A core file would have the token in it, and jobs' inputs; what is started from here inherits this.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _allow_files()
    # Spinning OpenMP threads keep the cores from the next job and from the server: 12 ms instead of 2 for a Bell pair.
    hide_from_own_user()  # what was cleared here, /proc shows as it was
    os.environ.update({"OMP_WAIT_POLICY": "PASSIVE", "QISKIT_PARALLEL": "FALSE"} | kept)


def _allow_files() -> None:
    """Take as many open files as we may: without, 1024 connections leave none to run a job with."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_FILES)
    if soft != resource.RLIM_INFINITY and soft < most:
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))


@contextlib.contextmanager
def _only_one(data_dir: Path) -> Iterator[TextIO]:
    """Hold the folder's lock: the system lets go of it when the process ends, however that happens."""
    with (data_dir / LOCK).open("w") as lock:
        begin = time.monotonic()
        while not _is_ours_now(lock):
            # One that ends cannot be found any more, but has processes to end before it lets go.
            patience = TAKEN_SECONDS if (data_dir / DISCOVERY).exists() else ENDING_SECONDS
            if time.monotonic() - begin > patience:
                raise ConfigurationError(f"data-dir: another runtime is serving {data_dir} already.")
            time.sleep(0.05)
        (data_dir / DISCOVERY).unlink(missing_ok=True)  # of a server that was killed
        yield lock


def _is_ours_now(lock: TextIO) -> bool:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _listen(settings: Settings) -> socket.socket:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    # asyncio turns Nagle off only where the protocol is named; with it on, each answer waits 40 ms for an ACK.
    listening = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((settings.host, settings.port))
    except OSError as error:
        listening.close()
        raise ConfigurationError(
            f"port: cannot listen on {settings.host}:{settings.port} ({error.strerror})."
        ) from None
    listening.listen(1024)
    return listening


def _run(
    settings: Settings,
    listening: socket.socket,
    lock: TextIO,
    on_ready: Callable[[DiscoveryDocument, Path], None] | None,
) -> None:
    port = listening.getsockname()[1]
    found = DiscoveryDocument(
        url=access.own_url(settings.host, port, tls=settings.tls_certificate is not None),
        token=_token(settings.data_dir),
        pid=os.getpid(),
        instance=secrets.token_hex(8),
        protocol=PROTOCOL,
    )
    place = Place(
        lock=lock,
        lock_path=settings.data_dir / LOCK,
        discovery=settings.data_dir / DISCOVERY,
        write_discovery=lambda: _write(settings.data_dir / DISCOVERY, found.to_json()),
    )

    def ready() -> None:
        print(f"READY {found.url}", flush=True)  # noqa: T201 - the line that whoever started us waits for
        if on_ready is not None:
            on_ready(found, settings.data_dir)

    with _built(settings, found, port) as runtime:
        try:
            serve_app(
                create_app(runtime, ready),
                listening,
                opened=place.write_discovery,
                until=lambda: until_needless(runtime, place, settings.idle_seconds, clock=time.monotonic),
                ending=runtime.executor.take_no_more,
                certificate=settings.tls_certificate,
                key=settings.tls_key,
            )
        finally:
            if place.is_ours():  # else it is another server's
                place.discovery.unlink(missing_ok=True)


@contextlib.contextmanager
def _built(settings: Settings, found: DiscoveryDocument, port: int) -> Iterator[Runtime]:
    """Put together what the routes work with; when it is left, no process is left, and the database is closed."""
    bulletin = Bulletin()
    jobs_root = settings.data_dir / "jobs"
    with contextlib.closing(Store(settings.data_dir / "runtime.sqlite", bulletin.post_status)) as store:
        recovery = recover(store, jobs_root)
        retention = Retention(store, jobs_root, settings.keep)
        calibration = Calibration(settings.data_dir / "calibration")
        sessions = Sessions(store)

        def before_each() -> None:
            sessions.end_overdue()
            retention.prune_if_due()  # first, because it may make room
            recovery.settle()

        cells = Cells(settings.data_dir, limits=settings.limits, same_user=settings.same_user)
        _keep_temporary_files_in(settings.data_dir / "tmp")
        executor = Executor(
            store,
            jobs_root,
            bulletin,
            slots=settings.slots,
            cells=cells,
            calibration=calibration,
            delays=settings.delays,
            before_each=before_each,
        )
        with contextlib.closing(executor):
            yield Runtime(
                store=store,
                executor=executor,
                bulletin=bulletin,
                backends=BackendPages(calibration=calibration, store=store, delays=settings.delays),
                sessions=sessions,
                calibration=calibration,
                token=found.token,
                hosts=access.known_hosts(settings.host, port, settings.allow_hosts),
                by_address=settings.host not in access.LOOPBACK,
                max_pending=settings.max_pending,
                instance=found.instance,
                token_seconds=settings.token_seconds,
                usage_limit_seconds=settings.usage_limit_seconds,
            )


def _keep_temporary_files_in(folder: Path) -> None:
    """Have this process's own temporary files where nobody clears up, as it is done in that of the system.

    One of them is the socket on which new processes are asked for: without it, no job would run any more.
    """
    if len(os.fsencode(folder)) > MAX_TMPDIR_BYTES:  # a socket's path may not be that long
        return
    remove_tree(folder)
    folder.mkdir(mode=0o700)
    tempfile.tempdir = str(folder)


def _token(data_dir: Path) -> str:
    """Return the folder's token, made at its first start: a client that kept it still gets in after a restart."""
    path = data_dir / "token"
    token = path.read_text().strip() if path.exists() else ""
    if not token:  # an empty one would let everybody in
        token = secrets.token_hex(32)
        _write(path, token)
    return token


def _version(name: str) -> str:
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return "none"


def _write(path: Path, text: str) -> None:
    """Write a file that only its owner can read, whole or not at all."""
    temporary = path.with_suffix(".tmp")
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    temporary.rename(path)


def require_simulators() -> None:
    """Check that the simulators are installed.

    Raises:
        ConfigurationError: They are not; says how to install them.
    """
    missing = [name for name in ("qiskit", "qiskit-aer") if _version(name) == "none"]
    if missing:
        raise ConfigurationError(
            f"The embedded runtime needs {' and '.join(missing)}: pip install 'prefect-runtime[local]' "
            f"(for {sys.executable})."
        )
