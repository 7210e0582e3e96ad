"""Runs the command line: in this process, where what is said and the exit code is the point, or in one of its own."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from canaries import sinks
from canaries.scanner import scan

from prefect_runtime.cli import main

BREAK_IN_A_BOX = re.compile(" *│\n│ *")
"""Between two lines of one text, where cyclopts says what is wrong with a command."""


class CommandLine:
    """The command line on one embedded runtime."""

    def __init__(self, data_dir: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self._options = ["--data-dir", str(data_dir)]
        self._capsys = capsys
        self.said = ""
        """What the last command printed on standard error."""

    def __call__(self, *arguments: str, code: int = 0) -> str:
        """Run a command that ends with an exit code; gives what it printed on standard output."""
        self._capsys.readouterr()
        with pytest.raises(SystemExit) as ended:
            main([*arguments, *self._options])
        printed, self.said = self._capsys.readouterr()
        said = BREAK_IN_A_BOX.sub("", self.said)
        sinks.assert_clean(scan(printed, "what a command prints"), scan(said, "what a command says"))
        assert int(ended.value.code or 0) == code, (printed, self.said)
        return printed

    def json(self, *arguments: str, code: int = 0) -> Any:
        """Run a command with --json; gives what all of standard output stands for."""
        return json.loads(self(*arguments, "--json", code=code))

    def start(self, *arguments: str) -> AbstractContextManager[subprocess.Popen[str]]:
        """Start a command as a process, with pipes in place of a terminal; it has ended when the block ends."""
        return start([*arguments, *self._options])


@contextmanager
def start(arguments: list[str], **environment: str) -> Iterator[subprocess.Popen[str]]:
    """Start the command line as a process of its own.

    Buffered as usual: with PYTHONUNBUFFERED, Python 3.11 does not say that a reader has gone half-way through a text.
    """
    inherited = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "prefect_runtime.cli", *arguments]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env={**inherited, **environment}) as process:
        try:
            yield process
        finally:
            process.kill()
