"""50 jobs at once through Prefect, by our async twins and by prefect-qiskit's block, one after the other in one run.

Both run the same circuits on the same embedded runtime (its platform dialect), sign in at the same place, which takes
300 ms as a real one does, and write to the same Prefect server. Needs the package index, for prefect-qiskit.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
from e2e.support import running_server

from prefect_runtime.local.platform import instance_crn

SCRIPT = Path(__file__).with_name("beside_prefect_qiskit.py")
JOBS = 50
SIGN_IN_SECONDS = 0.3
MOST_TIMES = 0.8  # quiet 0.1: theirs signs in anew for every call, on the event loop
LATEST_TICK = 0.05  # seconds by which the event loop may be late, in one round of three; quiet 0.04
# All that it needs and we have not. Into a folder of their own: its wheel brings packages called `tests` and `docs`.
THEIRS = ["prefect-qiskit==0.2.1", "aiohttp", "aiohappyeyeballs", "aiosignal", "diskcache"]
THEIRS += ["frozenlist", "multidict", "propcache", "yarl"]


@contextmanager
def sign_in_service(runtime_url: str) -> Iterator[tuple[str, list[str]]]:
    """Run a sign-in service that is slow and has the runtime issue the tokens; gives its URL and what it was asked."""
    asked: list[str] = []

    class SlowSignIn(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            asked.append(self.path)
            time.sleep(SIGN_IN_SECONDS)
            form = self.rfile.read(int(self.headers["Content-Length"]))
            request = urllib.request.Request(f"{runtime_url}/identity/token", data=form)
            with urllib.request.urlopen(request, timeout=30) as answer:
                token = answer.read()
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(token)))
            self.end_headers()
            self.wfile.write(token)

        def log_message(self, format: str, *args: Any) -> None: ...

    with ThreadingHTTPServer(("127.0.0.1", 0), SlowSignIn) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}", asked
        server.shutdown()


@pytest.fixture(scope="module")
def prefect_qiskit(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with prefect-qiskit and what of its needs is not installed."""
    folder = tmp_path_factory.mktemp("prefect-qiskit")
    command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--target", str(folder), *THEIRS]
    subprocess.run(command, check=True, timeout=120)
    return folder


@pytest.mark.long
@pytest.mark.timeout(600)
def test_50_jobs_at_once_take_less_time_than_with_prefect_qiskit_and_stall_no_event_loop(
    prefect_qiskit: Path, runtime: Any, tmp_path: Path, report: Callable[[str], None]
) -> None:
    known = runtime.found
    with running_server(tmp_path) as url, sign_in_service(known.url) as (sign_in, asked):
        path = os.pathsep.join(filter(None, [os.environ.get("PYTHONPATH"), str(prefect_qiskit)]))
        environment = {**os.environ, "PREFECT_API_URL": url, "PREFECT_HOME": str(tmp_path), "PYTHONPATH": path}
        arguments = [known.token, f"{known.url}/api/v1", sign_in, instance_crn(known.token), str(JOBS)]
        command = [sys.executable, str(SCRIPT), *arguments]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=500, check=True)
    ours, theirs = json.loads(done.stdout.splitlines()[-1])
    ratio = ours["seconds"] / theirs["seconds"]
    for name, side in (("ours", ours), ("prefect-qiskit", theirs)):
        report(
            f"{JOBS} jobs, {name}: {side['seconds']:.1f} s; event loop late by {1000 * side['worst']:.0f} ms at worst, "
            f"{side['stalled']:.2f} s in stalls over 50 ms"
        )
    report(f"{ratio:.2f} times; {len(asked)} sign-ins of both")
    assert ratio <= MOST_TIMES
    assert ours["worst"] <= LATEST_TICK
