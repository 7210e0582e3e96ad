"""What the benchmarks share: how they print. Each measures both sides in one run, in turns, and asserts the ratio."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Let nothing else run beside a benchmark."""
    for item in items:
        if item.path.is_relative_to(HERE):
            item.add_marker(pytest.mark.alone)


@pytest.fixture
def report(record_property: Callable[[str, object], None]) -> Callable[[str], None]:
    """Keeps a line that the end of the run shows, also for a test that passes."""
    return lambda line: record_property("figures", line)


@pytest.fixture
def milliseconds() -> Callable[[Sequence[float]], str]:
    """Formats a sample of seconds as its median and worst."""

    def text(sample: Sequence[float]) -> str:
        return f"median {1000 * statistics.median(sample):.1f} ms, worst {1000 * max(sample):.1f} ms of {len(sample)}"

    return text
