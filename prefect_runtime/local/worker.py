"""The process that runs programs. Started by process.py from a server that has Qiskit preloaded; imports no FastAPI.

Orders come in and reports go out over one pipe; what a program says goes to files, never through the pipe: standard
output and error to the log, published values to the interim results, the value it returns to the result. When the pipe
breaks, the server is gone and the process ends itself.

Before an uploaded program is even read, the process gives away what that does not need (confinement.py); the files it
writes to have been opened by then. A report is JSON: nothing that a program could send makes the server do anything.
A subprocess is no sandbox all the same.
"""

from __future__ import annotations

import contextlib
import errno
import importlib
import json
import logging
import os
import queue
import signal
import sys
import threading
import traceback
import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import IO, Any

from prefect_runtime.local import confinement
from prefect_runtime.local.cells import Cell
from prefect_runtime.local.disk import in_words
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.messenger import News, TooMuchError, UserMessenger
from prefect_runtime.local.programs.memory import CannotSimulateError
from prefect_runtime.wire.codec import decode, encode_result

REASON_CHARACTERS = 64 * 1024
"""A longer traceback is cut at its start: the end says what happened."""

MAX_REPORT_BYTES = 16 * REASON_CHARACTERS
"""Of a longer one, no part is believed. Escaped in JSON, a character takes up to 12 bytes."""

REPORTS = ("started", "interim", "done", "failed")

BUILT_IN = {
    "sampler": "prefect_runtime.local.programs.sampler",
    "estimator": "prefect_runtime.local.programs.estimator",
    "executor": "prefect_runtime.local.programs.executor",
}
"""Programs that are there without an upload, and where they are."""

UNLISTED = frozenset({"executor"})
"""Those that people do not call: IBM's client-side primitives do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One job for a worker; `source` is an uploaded program's text, `cell` where it runs; None for a built-in."""

    folder: Path
    program_id: str
    backend: str
    calibration: int
    log_level: str
    params: str = field(repr=False)
    source: str | None = field(default=None, repr=False)
    cell: Cell | None = None


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of its job.

    Attributes:
        kind: "started" before anything of it runs, then "interim", "done" or "failed".
        reason: Why it failed.
        digest: Of the result of one that is done.
    """

    kind: str
    reason: str = ""
    digest: str = ""

    @property
    def is_last(self) -> bool:
        """True if nothing more comes of the job."""
        return self.kind in ("done", "failed")

    def to_json(self) -> bytes:
        """Return what goes down the pipe."""
        return json.dumps([self.kind, self.reason, self.digest]).encode()

    @classmethod
    def parse(cls, data: bytes) -> Report:
        """Read what came out of the pipe.

        Raises:
            ValueError: A program has written it, not a worker.
        """
        try:
            kind, reason, digest = json.loads(data)
        except (TypeError, RecursionError):
            raise ValueError("not a report") from None
        if kind not in REPORTS or not isinstance(reason, str) or not isinstance(digest, str):
            raise ValueError("not a report")
        text = reason.encode(errors="backslashreplace").decode()  # names of files in it need be no text
        return cls(kind, text[-REASON_CHARACTERS:], digest)


def main(pipe: Connection) -> None:
    """Work through the orders that come down the pipe until it closes."""
    os.setsid()  # a group of its own: ending a job ends whatever its program started
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    _offer_to_the_oom_killer()
    orders: queue.SimpleQueue[Order] = queue.SimpleQueue()
    threading.Thread(target=_receive, args=(pipe, orders), daemon=True).start()
    sending = threading.Lock()  # a program may publish from threads, and a long report goes down in pieces

    def send(report: Report) -> None:
        with sending:
            pipe.send_bytes(report.to_json())

    news = News(lambda: send(Report("interim")))
    while True:
        order = orders.get()
        send(Report("started"))
        send(_work(order, news, pipe.fileno()))


def _offer_to_the_oom_killer() -> None:
    """When memory runs out all the same, a program has to end and not the server, nor what else runs here."""
    with contextlib.suppress(OSError):  # no Linux
        Path("/proc/self/oom_score_adj").write_text("1000")


def _receive(pipe: Connection, orders: queue.SimpleQueue[Order]) -> None:
    """Take orders in; a broken pipe means that the server is gone, and then so are we, whatever is running."""
    with contextlib.suppress(EOFError, OSError):
        while True:
            orders.put(pipe.recv())
    os.killpg(0, signal.SIGKILL)


def _work(order: Order, published: Callable[[], None], pipe: int) -> Report:
    folder = JobFolder(order.folder)
    try:
        with (
            _output_to(folder.log) as log,
            _open(folder.interim, "ab") as interim,
            _open(folder.unfinished, "wb") as result,
        ):
            return _run_to_report(order, _Files(log, interim, result), published, pipe)
    except OSError as error:
        return Report("failed", f"The job's files could not be written: {in_words(error)}.")


@dataclass(frozen=True, slots=True)
class _Files:
    """What the process keeps open of a job's folder, which it cannot get into any more: the log as a descriptor."""

    log: int
    interim: IO[bytes]
    result: IO[bytes]


def _run_to_report(order: Order, files: _Files, published: Callable[[], None], pipe: int) -> Report:
    try:
        if order.cell is not None:
            confinement.confine(order.cell, keep=[pipe, files.log, files.interim.fileno(), files.result.fileno()])
        return _keep(_run(order, UserMessenger(files.interim, published)), files.result, order.cell)
    except (CannotSimulateError, TooMuchError) as error:  # made for people; where it was raised helps nobody
        return _failed(f"{error}\n")
    except BaseException as error:  # noqa: BLE001 - whatever a program raises, sys.exit() included, is its job's end
        return _failed(_room_for(error, order.cell) + _traceback())


def _keep(result: str, file: IO[bytes], cell: Cell | None) -> Report:
    try:
        digest = JobFolder.write_result(result, file)
    except OSError as error:
        return _failed(f"{_room_for(error, cell)}The job's result could not be written: {in_words(error)}.\n")
    return Report("done", digest=digest)


@contextlib.contextmanager
def _open(path: Path, mode: str) -> Iterator[IO[bytes]]:
    """Open a file without a buffer; that a program has closed it meanwhile does not matter."""
    file = path.open(mode, buffering=0)
    try:
        yield file
    finally:
        with contextlib.suppress(OSError):
            file.close()


def _failed(reason: str) -> Report:
    with contextlib.suppress(Exception):  # a log that is full, a stream that the program has replaced
        sys.stderr.write(reason)
    return Report("failed", reason[-REASON_CHARACTERS:].strip())


def _room_for(error: BaseException, cell: Cell | None) -> str:
    """Say what limit an error of the system comes from, where one is known."""
    if cell is None or not isinstance(error, OSError) or error.errno != errno.EFBIG:
        return ""
    return f"The log, and each file, may have at most {cell.limits.file_bytes} bytes.\n"


def _traceback() -> str:
    """Return the traceback of the exception at hand, which may be of a class that resists."""
    try:
        return _own_part(traceback.format_exc())
    except BaseException as error:  # noqa: BLE001 - no exception of a program's may end the worker
        return f"The program raised an exception that cannot be shown ({type(error).__name__}).\n"


def _run(order: Order, messenger: UserMessenger) -> str:
    from prefect_runtime.local import backends

    logging.basicConfig(level=order.log_level.upper(), stream=sys.stderr, force=True)
    with _forks_end():
        program = _load(order)
        backend = backends.simulator(order.backend, calibration=order.calibration)
        result = program.main(backend, messenger, **decode(order.params))
        return encode_result(result) if messenger.final is None else messenger.final


@contextlib.contextmanager
def _forks_end() -> Iterator[None]:
    """End a process that the program forked and let run on: it would write the result, and report, a second time."""
    own, code = os.getpid(), 1
    try:
        yield
        code = 0
    finally:
        if os.getpid() != own:
            with contextlib.suppress(Exception):  # as in _failed
                if code:
                    sys.stderr.write(_traceback())
                sys.stdout.flush()
            os._exit(code)


def _load(order: Order) -> Any:
    if order.source is None:
        return importlib.import_module(BUILT_IN[order.program_id])
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses and pickle look a class's module up
    code = compile(order.source, "program.py", "exec", dont_inherit=True)  # not our `from __future__`
    exec(code, module.__dict__)  # noqa: S102  # nosec B102 # the purpose
    return module


def _own_part(text: str) -> str:
    """Leave our own frames out of a traceback: it is the program's author who reads it."""
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.lstrip().startswith('File "program.py"'):
            return lines[0] + "".join(lines[index:])
    return text


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[int]:
    """Send standard output and error, also of child processes and C code, to a file; gives its descriptor."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        _point_output_at(target)
        yield target
    finally:
        with contextlib.suppress(OSError):  # a program may have used up all descriptors, or closed ours
            null = os.open(os.devnull, os.O_WRONLY)
            _point_output_at(null)
            os.close(null)
            os.close(target)


def _point_output_at(fd: int) -> None:
    """Point both outputs at a file, whatever a program has done to the streams."""
    for name, number in (("stdout", 1), ("stderr", 2)):
        with contextlib.suppress(Exception):
            getattr(sys, name).flush()
        os.dup2(fd, number)
        # A line at a time, so that the log can be followed while it grows.
        stream = open(number, "w", buffering=1, encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)
