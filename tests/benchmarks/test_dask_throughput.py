"""64 sampler tasks on a Dask cluster: two machines beside one, each with one core and an embedded runtime of its own.

On two cores the second machine has to share its core with Prefect's server, the flow and Dask's scheduler, which in the
turn of the one machine have that core for themselves: twice the throughput is not to be had there, and none at all
while other programs keep both cores busy. So what is asserted is that the second machine does no harm; the figure is
reported.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from e2e.dask_cluster import running_cluster
from e2e.postgres import prefect_on_postgres

SCRIPT = Path(__file__).with_name("dask_throughput.py")
TASKS, TURNS = 64, 2
LEAST_TIMES = 0.7


@pytest.mark.long
@pytest.mark.timeout(1800)
def test_sampler_tasks_on_two_machines_beside_one(tmp_path: Path, report: Callable[[str], None]) -> None:
    rates: dict[int, list[float]] = {1: [], 2: []}
    # PostgreSQL: on SQLite it is the server's lock that is measured.
    with prefect_on_postgres(tmp_path), pytest.MonkeyPatch.context() as patch:
        patch.setenv("PREFECT_HOME", str(tmp_path))
        for turn in range(TURNS):
            for machines, measured in rates.items():
                folder = tmp_path / f"{turn}-{machines}"
                folder.mkdir()
                with running_cluster(folder, machines, one_core_each=True) as cluster:
                    command = [sys.executable, str(SCRIPT), cluster.address, str(TASKS), str(machines)]
                    done = subprocess.run(
                        command, env=dict(os.environ), stdout=subprocess.PIPE, text=True, timeout=600, check=True
                    )
                    assert all(cluster.jobs()), "every machine had its part"
                measured.append(TASKS / float(done.stdout.splitlines()[-1]))
    one, two = statistics.median(rates[1]), statistics.median(rates[2])
    report(f"{TASKS} sampler tasks: {one:.2f}/s on one machine, {two:.2f}/s on two, {two / one:.2f} times")
    assert two >= LEAST_TIMES * one
