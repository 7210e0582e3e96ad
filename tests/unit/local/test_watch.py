"""When a server ends by itself, and what it mends until then."""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from prefect_runtime.local.watch import Place, until_needless

IDLE = 600.0


class Scene:
    """A runtime that is asked now and then, on a clock of its own; each look takes five seconds."""

    def __init__(self, folder: Path, events: dict[float, dict[str, Any]]) -> None:
        self.now = 0.0
        self.pending = 0
        store = SimpleNamespace(count_pending=lambda: self.pending)
        sessions = SimpleNamespace(end_overdue=lambda: None)
        self.runtime: Any = SimpleNamespace(open_requests=0, last_request=0.0, store=store, sessions=sessions)
        self.folder = folder
        self.events = events
        self.written = 0

    def _write(self) -> None:
        self.written += 1
        (self.folder / "runtime.json").touch()

    async def sleep(self, seconds: float) -> None:
        self.now += seconds
        for event in [moment for moment in self.events if moment <= self.now]:
            for name, value in self.events.pop(event).items():
                if name == "pending":
                    self.pending = value
                elif name == "remove":
                    (self.folder / value).unlink()
                else:
                    setattr(self.runtime, name, value)

    def run(self, idle_seconds: float | None = IDLE) -> float:
        """Return when it ended."""
        self._write()
        with (self.folder / "runtime.lock").open("w") as lock:
            place = Place(
                lock=lock,
                lock_path=self.folder / "runtime.lock",
                discovery=self.folder / "runtime.json",
                write_discovery=self._write,
            )
            asyncio.run(until_needless(self.runtime, place, idle_seconds, clock=lambda: self.now, sleep=self.sleep))
        return self.now


@pytest.mark.parametrize(
    ("events", "ends"),
    [
        ({}, IDLE),
        ({300.0: {"last_request": 300.0}}, 300 + IDLE),
        ({10.0: {"pending": 1}, 5000.0: {"pending": 0}}, 5000 + IDLE),
        ({10.0: {"open_requests": 1}, 7000.0: {"open_requests": 0}}, 7000 + IDLE),  # a stream
    ],
    ids=["nothing", "a request", "a job", "a stream"],
)
def test_it_ends_ten_minutes_after_the_last_request_job_or_stream(
    tmp_path: Path, events: dict[float, dict[str, Any]], ends: float
) -> None:
    assert abs(Scene(tmp_path, events).run() - ends) <= 10


def test_a_discovery_file_that_somebody_removed_is_put_back(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {100.0: {"remove": "runtime.json"}})
    scene.run()
    assert scene.written == 2
    assert (tmp_path / "runtime.json").exists()


def test_a_server_whose_folder_is_gone_ends_although_it_never_should(tmp_path: Path) -> None:
    scene = Scene(tmp_path, {100.0: {"remove": "runtime.lock"}})
    assert scene.run(idle_seconds=None) <= 110
