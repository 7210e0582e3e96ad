"""What the benchmarks share: how they print. Each measures both sides in one run, in turns, and asserts the ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

import pytest


@pytest.fixture
def report(capsys: pytest.CaptureFixture[str]) -> Callable[[str], None]:
    """Prints a line that `pytest tests/benchmarks` shows, also for a test that passes."""

    def write(line: str) -> None:
        with capsys.disabled():
            print(f"\n  {line}")

    return write


@pytest.fixture
def milliseconds() -> Callable[[Sequence[float]], str]:
    """Formats a sample of seconds as its median and worst."""

    def text(sample: Sequence[float]) -> str:
        return f"median {1000 * statistics.median(sample):.1f} ms, worst {1000 * max(sample):.1f} ms of {len(sample)}"

    return text
