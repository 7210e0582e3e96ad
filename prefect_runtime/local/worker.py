"""The process that runs programs. Started by process.py from a server that has Qiskit preloaded; imports no FastAPI.

Orders come in and reports go out over one pipe; what a program says goes to files, never through the pipe: standard
output and error to the log, published values to the interim results, the value it returns to the result. When the pipe
breaks, the server is gone and the process ends itself.

A subprocess is no sandbox: a program can do what the server's user can do.
"""

from __future__ import annotations

import contextlib
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
from typing import Any

from prefect_runtime.local.disk import in_words
from prefect_runtime.local.files import InterimWriter, JobFolder
from prefect_runtime.local.programs.memory import CannotSimulateError
from prefect_runtime.wire.codec import RuntimeEncoder, decode, encode_result

REASON_CHARACTERS = 64 * 1024
"""A longer traceback is cut at its start: the end says what happened."""

BUILT_IN = {
    "sampler": "prefect_runtime.local.programs.sampler",
    "estimator": "prefect_runtime.local.programs.estimator",
}
"""Programs that are there without an upload, and where they are."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """One job for a worker; `source` is the text of an uploaded program, None for a built-in one."""

    folder: Path
    program_id: str
    backend: str
    calibration: int
    log_level: str
    params: str = field(repr=False)
    source: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Report:
    """What a worker says of its job: `kind` is "interim", "done" or "failed" (then with the reason)."""

    kind: str
    reason: str = ""


class UserMessenger:
    """What a program publishes its interim results with; the second argument of its ``main``."""

    def __init__(self, folder: JobFolder, published: Callable[[], None]) -> None:
        self._published = published
        self._interim = InterimWriter(folder)
        self.final: str | None = None

    def publish(self, message: Any, encoder: type[json.JSONEncoder] = RuntimeEncoder, final: bool = False) -> None:
        """Stream a value to whoever listens, or with ``final=True`` give the final result.

        Args:
            message: Anything the encoder can encode.
            encoder: Class that encodes it.
            final: This is the result, not an interim one (the older style; returning it from ``main`` does the same).
        """
        text = json.dumps(message, cls=encoder)
        if final:
            self.final = text
            return
        self._interim.write(text)
        self._published()

    def close(self) -> None:
        """Close the file of interim results."""
        self._interim.close()


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
            pipe.send(report)

    while True:
        send(_work(orders.get(), lambda: send(Report("interim"))))


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


def _work(order: Order, published: Callable[[], None]) -> Report:
    folder = JobFolder(order.folder)
    try:
        with _output_to(folder.log):
            return _run_to_report(order, folder, published)
    except OSError as error:
        return Report("failed", f"The job's log could not be written: {in_words(error)}.")


def _run_to_report(order: Order, folder: JobFolder, published: Callable[[], None]) -> Report:
    try:
        result = _run(order, folder, published)
        try:
            folder.write_result(result)
        except OSError as error:
            return Report("failed", f"The job's result could not be written: {in_words(error)}.")
    except CannotSimulateError as error:  # its message is made for people; where it was raised helps nobody
        _say(f"{error}\n")
        return Report("failed", str(error))
    except BaseException:  # noqa: BLE001 - whatever a program raises, sys.exit() included, is its job's end
        reason = _own_part(traceback.format_exc())
        _say(reason)
        return Report("failed", reason[-REASON_CHARACTERS:])
    return Report("done")


def _say(text: str) -> None:
    with contextlib.suppress(Exception):  # a full disk, or a program that has closed its outputs
        sys.stderr.write(text)


def _run(order: Order, folder: JobFolder, published: Callable[[], None]) -> str:
    from prefect_runtime.local import backends

    logging.basicConfig(level=order.log_level.upper(), stream=sys.stderr, force=True)
    program = _load(order)
    backend = backends.simulator(order.backend, calibration=order.calibration)
    messenger = UserMessenger(folder, published)
    try:
        result = program.main(backend, messenger, **decode(order.params))
    finally:
        messenger.close()
    return encode_result(result) if messenger.final is None else messenger.final


def _load(order: Order) -> Any:
    if order.source is None:
        return importlib.import_module(BUILT_IN[order.program_id])
    module = types.ModuleType("program")
    sys.modules["program"] = module  # dataclasses and pickle look a class's module up
    exec(compile(order.source, "program.py", "exec"), module.__dict__)  # noqa: S102 - running programs is the purpose
    return module


def _own_part(text: str) -> str:
    """Leave our own frames out of a traceback: it is the program's author who reads it."""
    lines = text.splitlines(keepends=True)
    for index, line in enumerate(lines):
        if line.lstrip().startswith('File "program.py"'):
            return lines[0] + "".join(lines[index:])
    return text


@contextlib.contextmanager
def _output_to(log: Path) -> Iterator[None]:
    """Send standard output and error, also of child processes and C code, to a file."""
    target = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
    try:
        _point_output_at(target)
        yield
    finally:
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
