"""What Prefect adds to one job: the four tasks and the card, beside the same four calls without Prefect.

Asserted is the ratio to what Prefect itself takes for four empty tasks with as many calls of its API as a card
needs, one after the other, measured in turns in one flow: less than that, because only the claim, the look-up and the
intent are waited for. What a call costs is decided by the server: after each task it is busy writing that down (on
SQLite, on two cores, a call takes 30 ms then, and 10 ms when the server has nothing else to do).
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from e2e.support import running_server

from prefect_runtime.client import RuntimeService

SCRIPT = Path(__file__).with_name("prefect_overhead.py")
MOST_TIMES = 1.0


def test_prefect_adds_hardly_more_than_bare_tasks_and_calls_take(
    service: RuntimeService,
    tmp_path: Path,
    report: Callable[[str], None],
    milliseconds: Callable[[Sequence[float]], str],
) -> None:
    known = service.credentials
    with running_server(tmp_path) as url:
        environment = {
            **os.environ,
            "PREFECT_API_URL": url,
            "PREFECT_HOME": str(tmp_path),
            "PREFECT_RUNTIME_TOKEN": known.token or "",
        }
        command = [sys.executable, str(SCRIPT), known.url or ""]
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, timeout=100, check=True)
    without, inside, bare = json.loads(done.stdout.splitlines()[-1])
    added = statistics.median(inside) - statistics.median(without)
    ratio = added / statistics.median(bare)
    report(
        f"four calls: {milliseconds(without)}; four tasks and the card: {milliseconds(inside)}; "
        f"Prefect adds {1000 * added:.0f} ms, {ratio:.2f} times what it takes bare ({milliseconds(bare)})"
    )
    assert ratio <= MOST_TIMES
