"""The command line starts quickly: it costs little more than the libraries that it stands on."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest

LIBRARIES = ["-c", "import requests, websocket, tenacity, rich.console, cyclopts"]  # what `jobs` needs of them
ROUNDS, MOST_ROUNDS = 3, 12
MOST = 2.0
HEAVY = ("prefect", "qiskit", "qiskit_aer", "numpy", "fastapi", "uvicorn", "prefect_runtime.local", "rich.markdown")
LOADED = f"""
import sys
from prefect_runtime.cli import main
try:
    main(sys.argv[1:])
finally:
    sys.stderr.write("LOADED" + " ".join(name for name in {HEAVY!r} if name in sys.modules))
"""


def seconds(arguments: list[str]) -> float:
    """How long an interpreter takes from its start to its end."""
    began = time.perf_counter()
    subprocess.run([sys.executable, *arguments], capture_output=True, check=True)
    return time.perf_counter() - began


@pytest.mark.parametrize("command", [pytest.param("--help", marks=pytest.mark.pr), "jobs"])
def test_a_command_starts_in_at_most_twice_the_time_of_its_libraries(
    runtime: Any, report: Callable[[str], None], command: str
) -> None:
    ours = ["-m", "prefect_runtime.cli", command]
    if command == "jobs":
        ours += ["--data-dir", str(runtime.data_dir)]
    seconds(ours)  # the first fills the file cache
    alone, started = list[float](), list[float]()
    ratio = float("inf")
    while ratio > MOST and len(alone) < MOST_ROUNDS:  # what disturbs only adds: more rounds come closer
        for _ in range(ROUNDS):
            alone.append(seconds(LIBRARIES))
            started.append(seconds(ours))
        ratio = min(started) / min(alone)
    report(
        f"start: {command} {1000 * min(started):.0f} ms, its libraries {1000 * min(alone):.0f} ms, "
        f"ratio {ratio:.2f} (at most {MOST})"
    )
    assert ratio <= MOST


@pytest.mark.parametrize("command", [["jobs"], ["result", "none"]])
def test_a_command_loads_neither_prefect_nor_qiskit_nor_numpy(runtime: Any, command: list[str]) -> None:
    arguments = ["-c", LOADED, *command, "--data-dir", str(runtime.data_dir)]
    done = subprocess.run([sys.executable, *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == (3 if "none" in command else 0)
    assert done.stderr.rpartition("LOADED")[1:] == ("LOADED", "")
