"""Waits that are interrupted from outside: a process that sleeps, a clock that jumps, a network that goes and returns.

A deadline is a moment of the monotonic clock. That clock goes on while a process is stopped (SIGSTOP, a debugger, a
frozen container), so a timeout that passes meanwhile has passed; but the job may have become final while nobody could
look, so the server is asked once more, for a second at most: its result is there, or `JobTimeoutError`, and the job is
left alone. While a laptop sleeps, Linux holds CLOCK_MONOTONIC too: a timeout then means time awake.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import AuthenticationError, ConnectFailedError

from .conftest import platform
from .ledger import Ledger, LedgerServer
from .proxy import FaultProxy, Request

REQUEST_SECONDS = 5.0  # of the waiter's requests: one that a busy machine delays may take as long

WAITER = """
import json, sys, time
from reliability.conftest import platform
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import JobTimeoutError

url, job_id, timeout, jump, request_timeout = json.loads(sys.argv[1])
clock = time.time
def show(**said):
    print(json.dumps(said), flush=True)

with RuntimeService(platform(url), request_timeout=request_timeout) as service:
    job = service.job(job_id)
    show(state="waiting")
    if jump:  # an hour forth and a day back, by turns
        begun = time.monotonic()
        time.time = lambda: clock() + (jump if int((time.monotonic() - begun) * 10) % 2 else -24 * jump)
    start = time.monotonic()
    try:
        job.wait_for_final_state(timeout=timeout, wait=0.2)
    except JobTimeoutError:
        show(state="timeout", seconds=time.monotonic() - start)
    else:
        show(state=job.status().name, seconds=time.monotonic() - start)
"""


class Waiter:
    """A process that waits for a job."""

    def __init__(self, url: str, job_id: str, timeout: float | None, *, jump: float = 0.0) -> None:
        given = json.dumps([url, job_id, timeout, jump, REQUEST_SECONDS])
        self.process = subprocess.Popen(
            [sys.executable, "-c", WAITER, given],
            stdout=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in Path(__file__).parents[1:3])},
        )
        assert self.said()["state"] == "waiting"

    def said(self) -> dict[str, Any]:
        """What it says next."""
        assert self.process.stdout is not None
        said: dict[str, Any] = json.loads(self.process.stdout.readline())
        return said

    def stop_for(self, seconds: float, *, meanwhile: Callable[[], None] = lambda: None) -> None:
        """Let it sleep; `meanwhile` is called when it does."""
        time.sleep(0.5)  # it has begun to wait
        self.process.send_signal(signal.SIGSTOP)
        meanwhile()
        time.sleep(seconds)
        self.process.send_signal(signal.SIGCONT)

    def end(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait(10)
        assert self.process.stdout is not None
        self.process.stdout.close()


@pytest.fixture
def waiter() -> Iterator[Callable[..., Waiter]]:
    """Starts waiting processes, and ends them with the test."""
    started: list[Waiter] = []

    def start(*given: Any, **options: Any) -> Waiter:
        started.append(Waiter(*given, **options))
        return started[-1]

    yield start
    for one in started:
        one.end()


def submit(url: str) -> str:
    """Start a job and give its id."""
    with RuntimeService(platform(url), backend="far_end") as service:
        job_id: str = service.run("echo", {"n": 1}).job_id()
    return job_id


def finish(server: LedgerServer) -> None:
    """Let its jobs be done."""
    server.ledger.run_seconds = 0.0


naps = pytest.mark.parametrize(
    "nap",
    [
        pytest.param(3.0, id="pr", marks=pytest.mark.pr),
        pytest.param(30.0, id="long", marks=[pytest.mark.long, pytest.mark.timeout(200)]),
    ],
)


# Where the time asleep is what the test is about: more of it than a busy machine is given.
naps_that_count = pytest.mark.parametrize(
    "nap",
    [
        pytest.param(8.0, id="pr", marks=pytest.mark.pr),
        pytest.param(30.0, id="long", marks=[pytest.mark.long, pytest.mark.timeout(200)]),
    ],
)


@naps
@pytest.mark.parametrize("ends", ["while it sleeps", "after it has woken"])
def test_a_wait_without_timeout_outlives_a_sleep_of_its_process(
    nap: float, ends: str, far_end: Callable[..., LedgerServer], waiter: Callable[..., Waiter]
) -> None:
    server = far_end(Ledger(run_seconds=600))
    url = f"http://127.0.0.1:{server.port}"
    waiting = waiter(url, submit(url), None)
    time.sleep(0.5)
    finishing = threading.Timer(nap / 2 if ends == "while it sleeps" else nap + 2.0, finish, args=(server,))
    waiting.stop_for(nap, meanwhile=finishing.start)
    woken = time.monotonic()
    said = waiting.said()
    finishing.join()
    assert said["state"] == "DONE"
    if ends == "while it sleeps":
        assert time.monotonic() - woken < 2.0 + REQUEST_SECONDS, "the job was final long since"
    assert said["seconds"] > nap


@naps_that_count
@pytest.mark.parametrize("job_ends", [True, False])
def test_after_a_sleep_longer_than_the_timeout_the_server_is_asked_once_more(
    nap: float, job_ends: bool, far_end: Callable[..., LedgerServer], waiter: Callable[..., Waiter]
) -> None:
    server = far_end(Ledger(run_seconds=600))
    url = f"http://127.0.0.1:{server.port}"
    waiting = waiter(url, submit(url), nap * 0.8)
    finishing = threading.Timer(nap / 2, finish, args=(server,))
    waiting.stop_for(nap, meanwhile=finishing.start if job_ends else lambda: None)
    woken = time.monotonic()
    assert waiting.said()["state"] == ("DONE" if job_ends else "timeout")
    assert time.monotonic() - woken < REQUEST_SECONDS, "the time asleep counts: else it were 0.8 * nap"
    finishing.cancel()


@naps_that_count
def test_a_timeout_longer_than_a_sleep_is_kept_to_the_second(
    nap: float, far_end: Callable[..., LedgerServer], waiter: Callable[..., Waiter]
) -> None:
    server = far_end(Ledger(run_seconds=600))
    url = f"http://127.0.0.1:{server.port}"
    waiting = waiter(url, submit(url), nap + 2.0)
    waiting.stop_for(nap)
    said = waiting.said()
    assert said["state"] == "timeout"
    assert nap + 1.99 <= said["seconds"] < nap + 2.0 + REQUEST_SECONDS


@pytest.mark.pr
def test_a_wall_clock_that_jumps_neither_ends_nor_stretches_a_wait(
    far_end: Callable[..., LedgerServer], waiter: Callable[..., Waiter]
) -> None:
    endless, short = far_end(Ledger(run_seconds=600)), far_end(Ledger(run_seconds=600))
    urls = [f"http://127.0.0.1:{server.port}" for server in (endless, short)]
    jobs = [submit(url) for url in urls]
    in_vain, lucky = (waiter(url, job, 6.0, jump=3600.0) for url, job in zip(urls, jobs, strict=True))
    time.sleep(3.0)
    finish(short)
    assert lucky.said()["state"] == "DONE"
    said = in_vain.said()
    assert said["state"] == "timeout"
    assert 5.99 <= said["seconds"] < 8.0 + REQUEST_SECONDS


def dead(request: Request, dice: Any) -> str | None:
    """The line is there, and nothing comes through."""
    return dice.choice(["reset_at_once", "hang_before", "reset_before"])


@pytest.fixture
def relay() -> Iterator[Callable[[int, int], None]]:
    """Makes a port that was closed lead to another one again, until the end of the test."""
    running: list[socketserver.ThreadingTCPServer] = []

    def start(port: int, target: int) -> None:
        class Relay(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with socket.create_connection(("127.0.0.1", target)) as there:
                    back = threading.Thread(target=pump, args=(there, self.request), daemon=True)
                    back.start()
                    pump(self.request, there)
                    back.join(5)

        class Server(socketserver.ThreadingTCPServer):
            allow_reuse_address = True
            daemon_threads = True

        running.append(Server(("127.0.0.1", port), Relay))
        threading.Thread(target=running[-1].serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    """Pass on what comes, and the end."""
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with contextlib.suppress(OSError):
        sink.shutdown(socket.SHUT_RDWR)


@pytest.mark.pr
@pytest.mark.parametrize("gone", ["nobody listens", "nothing comes through"])
def test_a_wait_outlives_a_network_that_goes_and_comes_back(
    gone: str,
    seed: int,
    far_end: Callable[..., LedgerServer],
    relay: Callable[[int, int], None],
) -> None:
    server = far_end(Ledger(run_seconds=3.0))
    line = FaultProxy(server.port, lambda *_: None, seed, hang_seconds=0.5)
    with (
        contextlib.ExitStack() as stack,
        RuntimeService(platform(line.url), backend="far_end", request_timeout=1.0) as service,
    ):
        job = service.run("echo", {"n": 1})
        waiting = threading.Thread(target=job.wait_for_final_state, kwargs={"timeout": 60, "wait": 0.2}, daemon=True)
        waiting.start()
        time.sleep(0.5)
        if gone == "nobody listens":
            line.close()
            with (
                pytest.raises((ConnectFailedError, AuthenticationError)),
                RuntimeService(platform(line.url), request_timeout=0.5) as other,
            ):
                other.job(job.job_id())
        else:
            stack.callback(line.close)
            line.schedule = dead
        time.sleep(4.0)
        assert waiting.is_alive(), "nobody can have told it that the job is final"
        back = time.monotonic()
        if gone == "nobody listens":
            relay(line.port, server.port)
        line.schedule = lambda *_: None
        waiting.join(20)
        assert not waiting.is_alive()
        assert time.monotonic() - back < 6.0
        assert job.status().name == "DONE"
