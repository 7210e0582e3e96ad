"""Hooks for running tests in several processes side by side (pytest-xdist), which most of them spend waiting.

Whoever needs the same server stays in one process; the end-to-end tests share three, those of other folders go by file.
A test that measures time is marked `alone`: it begins when no other runs, and no other begins before it has ended.
"""

from __future__ import annotations

import fcntl
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

END_TO_END = {
    "outside": ("cancelled", "deferral", "killed", "timeouts", "many_workers"),
    "scripts": ("bell_state", "deployments", "flows", "notebook", "page", "readme", "dask", "cli"),
}
"""Words in the names of end-to-end tests that share a server of their own, beside that of all others: of flows that run
in processes of their own, and of what people run and look at. Each of the three takes about as long as the others, most
of it waiting."""

DOOR, ROOM = Path(__file__), Path(__file__).with_name("conftest.py")


class ByServer(LoadScopeScheduling):
    """Hands out tests file by file, and all that share a server to one process."""

    def _split_scope(self, nodeid: str) -> str:
        path = nodeid.partition("::")[0]
        if "tests/e2e/" not in path:
            return path
        name = path.rpartition("/")[2]
        return next((group for group, words in END_TO_END.items() if any(word in name for word in words)), "e2e")

    def remove_node(self, node: WorkerController) -> str | None:
        """Hand out again what a dead process has left, but not the test it died in; return that one.

        xdist 3.8 hands out that test too, and files of which nothing is left: whoever gets such a file waits for ever.
        """
        units = self.assigned_work.pop(node).items()
        left = {scope: {test: done for test, done in unit.items() if not done} for scope, unit in units}
        died_in = next((test for unit in left.values() for test in unit), None)
        for scope, unit in left.items():
            unit.pop(died_in or "", None)
            if unit:
                self.workqueue[scope] = unit
        for other in self.nodes:
            self._reschedule(other)
        return died_in

    def schedule(self) -> None:
        """Twice for a process that comes late: it begins its first test when it knows of a second, or of the end."""
        late = self.collection is not None
        super().schedule()
        if late:
            super().schedule()


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByServer:
    """Use it. The marks that xdist has for groups do nothing with pytest 9.2 (xdist 3.8)."""
    return ByServer(config, log)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Generator[None, Any, Any]:
    """Have tests wait for one that measures time, and that one for all others."""
    with _in_turn(alone=item.get_closest_marker("alone") is not None):
        return (yield)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Show the figures that benchmarks have kept; what a test in another process prints is not seen."""
    passed = [report for kind in ("passed", "failed") for report in terminalreporter.getreports(kind)]
    lines = [(report.nodeid, text) for report in passed for name, text in report.user_properties if name == "figures"]
    if lines:
        terminalreporter.section("figures")
    for nodeid, text in lines:
        terminalreporter.line(f"{nodeid.rpartition('::')[2]}\n  {text}")


@contextmanager
def _in_turn(*, alone: bool) -> Iterator[None]:
    """Be in the room, alone or with others; who is about to enter holds the door, so that nobody overtakes.

    Two files that are there anyway are locked; a process that is killed lets go of them.
    """
    with DOOR.open("rb") as door, ROOM.open("rb") as room:
        fcntl.flock(door, fcntl.LOCK_EX)
        fcntl.flock(room, fcntl.LOCK_EX if alone else fcntl.LOCK_SH)
        fcntl.flock(door, fcntl.LOCK_UN)
        yield
