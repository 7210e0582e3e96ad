"""A worker process as the server sees it: start, give it a job, end it. Imported by executor.py only.

Processes are forked from a server process that has Qiskit imported ("forkserver"), so that a fresh one costs
milliseconds, while the HTTP server itself never loads Qiskit.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from prefect_runtime.local import worker
from prefect_runtime.local.process_tree import SERVER_VARIABLE, descendants
from prefect_runtime.local.worker import Order, Report

TERM_GRACE_SECONDS = 0.5
"""Between SIGTERM and SIGKILL: a cancel has to be through within 2 s, the kill of the whole tree included."""

_PRELOAD = [
    "prefect_runtime.local.keeper",  # first, while it is small: it forks
    "prefect_runtime.local.worker",
    "prefect_runtime.local.programs.sampler",
    "prefect_runtime.local.programs.estimator",
    "prefect_runtime.local.device",
    "prefect_runtime.wire.qiskit_values",
    "qiskit_aer.primitives",
]


def _context() -> Any:
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOAD)
    return context


_CONTEXT = _context()


@dataclass(frozen=True, slots=True)
class Ending:
    """How a job's process came to its end: `report` is None when the process died without one."""

    report: Report | None
    too_long: bool = False
    exit_code: int | None = None


class WorkerProcess:
    """One worker, alive from construction to `end`."""

    def __init__(self) -> None:
        self._pipe, theirs = _CONTEXT.Pipe()
        self._process = _CONTEXT.Process(
            target=worker.main, args=(theirs,)
        )  # not daemon: programs may use multiprocessing
        os.environ[SERVER_VARIABLE] = str(os.getpid())  # for the forkserver, which may be started now
        self._process.start()
        theirs.close()
        self._ending = threading.Lock()

    def run(self, order: Order, on_interim: Callable[[], None], *, seconds: float | None) -> Ending:
        """Give it a job and return how that ended; blocks until then.

        Args:
            order: The job.
            on_interim: Called after each interim result.
            seconds: The longest it may take; then the process is ended.
        """
        limit = None if seconds is None else time.monotonic() + seconds
        try:
            self._pipe.send(order)
            while True:
                left = None if limit is None else limit - time.monotonic()
                # Also a program that never stops publishing has its time: a full pipe does not extend it.
                if left is not None and (left <= 0 or not self._pipe.poll(left)):
                    self.end()
                    return Ending(None, too_long=True)
                report: Report = self._pipe.recv()
                if report.kind != "interim":
                    return Ending(report)
                on_interim()
        except (EOFError, OSError):
            self._process.join(TERM_GRACE_SECONDS)
            return Ending(None, exit_code=self._process.exitcode)

    def end(self) -> None:
        """End the process and all that it started: TERM, a grace, KILL. Harmless when it is gone."""
        with self._ending:
            escaped = descendants(self._process.pid or 0)  # looked for while their parents are alive
            for number, grace in ((signal.SIGTERM, TERM_GRACE_SECONDS), (signal.SIGKILL, 5.0)):
                self._signal_group(number)
                self._process.join(grace)
                if not self._process.is_alive():
                    break
            self._signal_group(signal.SIGKILL)  # what the program started and left behind
            for pid in escaped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def _signal_group(self, number: int) -> None:
        # No such group: all gone, or the process is about to make it, so signal it alone.
        try:
            os.killpg(self._process.pid, number)
        except ProcessLookupError:
            if self._process.is_alive():
                os.kill(self._process.pid, number)
