"""Hooks that look for canaries after every test: in what it printed and logged, in its failure, in its processes.

Also in what its processes printed, as far as that is read to their end: `subprocess.run` and `Popen.communicate`.

Each process of the tests (pytest-xdist) looks after its own. Folders are scanned by who has made them, with
`sinks.folder`: the fixtures of runtimes and of Prefect's servers.
"""

from __future__ import annotations

import contextlib
import logging
import pickle
import subprocess
import time
import traceback
from collections.abc import Generator
from typing import Any

import pytest

from .allowed import leaks
from .scanner import Hit, scan
from .sinks import processes

WITH_PROCESSES = ("tests/integration/", "tests/e2e/")  # a prober of the reliability tests has a token in its arguments
PAUSE_SECONDS = 1.0
"""Between two looks at the processes: one takes 10 ms."""

_heard: list[Hit] = []
"""Since the last test, in logs and in what processes printed."""

_looked_at = 0.0


def pytest_configure() -> None:
    """Have all looked at that is logged and read of processes from now on."""
    _look_at_logs()
    _look_at_what_processes_print()


def _look_at_logs() -> None:
    """Look at every record of every logger of this process, also of those that no handler of pytest's hears."""
    make = logging.getLogRecordFactory()

    def look(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        said = [str(record.msg)]
        with contextlib.suppress(TypeError, ValueError):  # arguments that do not fit: its handler says so
            said.append(record.getMessage())
        if record.exc_info:
            said += traceback.format_exception(*record.exc_info)
        _heard.extend(scan("\n".join(said), f"the log: {record.name}"))
        return record

    logging.setLogRecordFactory(look)


def _look_at_what_processes_print() -> None:
    """Look at all that is captured of a process: a test reads it, and pytest never gets to see it."""
    communicate: Any = subprocess.Popen.communicate

    def look(process: subprocess.Popen[Any], *args: Any, **kwargs: Any) -> tuple[Any, Any]:
        printed: tuple[Any, Any] = communicate(process, *args, **kwargs)
        for text, where in zip(printed, ("standard output", "standard error"), strict=True):
            _heard.extend(scan(text or b"", f"a process's {where}"))
        return printed

    subprocess.Popen.communicate = look  # type: ignore[method-assign]  # subprocess.run comes here as well


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Generator[None, Any, Any]:
    """Fail a test that has let one out."""
    report: pytest.TestReport = yield
    hits = _of_error(call.excinfo.value) if call.excinfo else []
    hits += scan(report.longreprtext, "the failure's text")
    if report.when == "teardown":
        hits += [hit for title, text in report.sections for hit in scan(text, title)]
        hits += _heard
        _heard.clear()
    if report.when == "call" and item.nodeid.startswith(WITH_PROCESSES):
        hits += _of_processes(item)
    found = leaks(hits)
    if found:
        report.outcome = "failed"
        report.longrepr = "canaries where they must not be:\n  " + "\n  ".join(map(str, sorted(set(found))))
    return report


def _of_error(error: BaseException) -> list[Hit]:
    with contextlib.suppress(Exception):  # not all can be pickled
        return scan(pickle.dumps(error), "a pickled exception")
    return []


def _of_processes(item: pytest.Item) -> list[Hit]:
    global _looked_at
    now = time.monotonic()
    if now - _looked_at < PAUSE_SECONDS:
        return []
    _looked_at = now
    # Of this process of the tests alone.
    factory: pytest.TempPathFactory = item.config._tmp_path_factory  # type: ignore[attr-defined]
    return list(processes(factory.getbasetemp()))
