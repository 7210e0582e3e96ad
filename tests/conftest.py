"""Fixtures that several rooms' tests share: a real embedded runtime over a real socket, and programs for it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from canaries import sinks
from canaries.hooks import pytest_configure, pytest_runtest_makereport
from canaries.values import PROGRAM_SOURCE, PROXIES, give_token
from side_by_side import pytest_runtest_protocol, pytest_terminal_summary, pytest_xdist_make_scheduler

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument

__all__ = [  # hooks
    "pytest_configure",
    "pytest_runtest_makereport",
    "pytest_runtest_protocol",
    "pytest_terminal_summary",
    "pytest_xdist_make_scheduler",
]

START_SECONDS = 60.0

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # As a shell starts what it runs in the background. Prefect's workers inherit it, and end by that signal.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# For all workers of Dask's that tests start. Its profiler asks for all threads' frames a hundred times a second, which
# can freeze CPython 3.11 for good (python/cpython#106883): 2 of 27 runs of one test, three at once on 2 cores.
os.environ["DASK_DISTRIBUTED__WORKER__PROFILE__ENABLED"] = "False"


class EmbeddedRuntime:
    """A `prefect-runtime serve` of a test's own, on a free port, with everything in one folder."""

    def __init__(self, data_dir: Path) -> None:
        self.data_dir = data_dir
        give_token(data_dir)
        self.start()

    def start(self) -> None:
        """Start it and wait for its READY line."""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "prefect_runtime.cli", "serve", "--data-dir", str(self.data_dir)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line.startswith("READY http://127.0.0.1:"), line
        self.found = DiscoveryDocument.parse((self.data_dir / "runtime.json").read_text())

    def stop(self, number: int = signal.SIGTERM) -> None:
        """End it and wait for the end."""
        self.process.send_signal(number)
        self.process.wait(20)
        assert self.process.stdout is not None
        self.process.stdout.close()

    def look_for_canaries(self) -> None:
        """Fail if one is in the folder that has no business there."""
        sinks.assert_clean(sinks.folder(self.data_dir, "runtime"))

    @property
    def credentials(self) -> Credentials:
        """Credentials for exactly this runtime."""
        return Credentials(channel="local", url=self.found.url, token=self.found.token, proxies=PROXIES)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Path:
    """A folder that programs can write to as well: where this is root, they run as other users."""
    if os.geteuid() == 0:
        tmp_path.chmod(0o777)
        for parent in (tmp_path.parent, tmp_path.parent.parent):  # pytest's own: for this user only
            parent.chmod(parent.stat().st_mode | 0o011)
    return tmp_path


@pytest.fixture(scope="session")
def runtime(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedRuntime]:
    """The session's embedded runtime; tests look at the jobs they made, not at all there are."""
    runtime = EmbeddedRuntime(tmp_path_factory.mktemp("runtime"))
    yield runtime
    runtime.stop()
    runtime.look_for_canaries()


@pytest.fixture
def own_runtime(tmp_path: Path) -> Iterator[EmbeddedRuntime]:
    """A runtime for one test, which may count all its jobs, and stop or kill it."""
    runtime = EmbeddedRuntime(tmp_path / "runtime")
    yield runtime
    if runtime.process.poll() is None:
        runtime.stop()
    runtime.look_for_canaries()


@pytest.fixture
def service(runtime: EmbeddedRuntime) -> Iterator[RuntimeService]:
    """A client of the session's runtime."""
    with RuntimeService(runtime.credentials) as service:
        yield service


@pytest.fixture
def seed() -> int:
    """The run's seed: printed by a failing test, set by PREFECT_RUNTIME_TEST_SEED to replay it."""
    given = os.environ.get("PREFECT_RUNTIME_TEST_SEED")
    chosen = int(given) if given else random.SystemRandom().randrange(2**32)
    print(f"seed: PREFECT_RUNTIME_TEST_SEED={chosen}")
    return chosen


@pytest.fixture(scope="session")
def upload(runtime: EmbeddedRuntime) -> Callable[..., str]:
    """Uploads a program to the session's runtime and gives its id; equal sources are uploaded once."""
    ids: dict[tuple[str, float], str] = {}

    def upload(source: str, *, max_execution_time: float = 60) -> str:
        key = (source, max_execution_time)
        if key not in ids:
            with RuntimeService(runtime.credentials) as service:
                name = f"test-{len(ids)}-{os.getpid()}"
                metadata = {"name": name, "description": "of a test", "max_execution_time": max_execution_time}
                ids[key] = service.upload_program(f"{source}\n# {PROGRAM_SOURCE}\n", metadata)
        return ids[key]

    return upload
