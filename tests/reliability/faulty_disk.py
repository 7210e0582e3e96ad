"""Makes system calls of running processes fail on chosen files, as a full or broken disk does. Needs strace."""

from __future__ import annotations

import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

FOR_EVER, ONCE_ONLY = "1+", "1"
_WHEN = [ONCE_ONLY, "2", "3", "1..2", "2..4", FOR_EVER]


@dataclass(frozen=True, slots=True)
class Fault:
    """One kind of failure.

    Attributes:
        call: The system call that fails.
        error: How it fails.
        when: Which of the calls, counted by thread (strace's words).
    """

    call: str
    error: str
    when: str

    @classmethod
    def drawn(cls, dice: random.Random, calls: Sequence[str]) -> Fault:
        """Return a fault of one of some system calls."""
        call = dice.choice(calls)
        errors = ["EIO"] if call in ("fsync", "fdatasync") else ["EIO", "ENOSPC", "ENOSPC", "EROFS"]
        return cls(call, dice.choice(errors), dice.choice(_WHEN))

    def arguments(self, paths: Sequence[Path], output: Path) -> list[str]:
        """Return strace's command line for it, without what it is about."""
        files = [part for path in paths for part in ("-P", str(path))]
        inject = f"inject={self.call}:error={self.error}:when={self.when}"
        return ["strace", "-f", "-o", str(output), *files, "-e", f"trace={self.call}", "-e", inject]


class Hits:
    """How often a fault has struck so far."""

    def __init__(self, output: Path) -> None:
        self._output = output

    def count(self) -> int:
        """Return the number of failed calls."""
        return self._output.read_text(errors="replace").count("(INJECTED)") if self._output.exists() else 0


@contextmanager
def faulty(fault: Fault, pid: int, paths: Sequence[Path], scratch: Path) -> Iterator[Hits]:
    """Let a process and all that it forks meanwhile have a fault, on some files."""
    output, said = scratch / "strace.out", scratch / "strace.err"
    output.unlink(missing_ok=True)
    with said.open("w") as stderr:
        tracer = subprocess.Popen([*fault.arguments(paths, output), "-p", str(pid)], stderr=stderr)
        try:
            end = time.monotonic() + 10
            while "attached" not in said.read_text():
                assert tracer.poll() is None, said.read_text()
                assert time.monotonic() < end, "strace does not attach"
                time.sleep(0.005)
            yield Hits(output)
        finally:
            _end(tracer)


def _end(tracer: subprocess.Popen[Any]) -> None:
    tracer.terminate()
    try:
        tracer.wait(2)
    except subprocess.TimeoutExpired:  # it waits for a thread of a process that was killed meanwhile
        tracer.kill()
        tracer.wait(10)


def starts_under(
    fault: Fault, folder: Path, paths: Sequence[Path], scratch: Path
) -> tuple[subprocess.CompletedProcess[str] | None, Hits]:
    """Start a server with a fault from its first moment; give how it ended, or None where it started all the same.

    One that has started is killed.
    """
    output = scratch / "strace.out"
    output.unlink(missing_ok=True)
    command = [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", str(folder), "--slots", "1"]
    process = subprocess.Popen(
        [*fault.arguments(paths, output), "--seccomp-bpf", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        if process.stdout.readline().startswith("READY"):
            return None, Hits(output)
        stderr = process.stderr.read()
        return subprocess.CompletedProcess(command, process.wait(30), "", stderr), Hits(output)
    finally:
        for child in _children(process.pid):
            child.kill()
        _end(process)
        process.stdout.close()
        process.stderr.close()


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children()
    except psutil.NoSuchProcess:
        return []
