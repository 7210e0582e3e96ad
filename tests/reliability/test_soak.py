"""Two hundred waits for as long as it takes, over a line that breaks all the time: nothing may grow."""

from __future__ import annotations

import gc
import logging
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import psutil
import pytest
from integration.support import eventually, our_threads

from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import JobTimeoutError, QiskitRuntimeError

from .conftest import platform
from .ledger import Ledger, LedgerServer
from .proxy import FaultProxy, at_random

WAITS = 200
WAIT_SECONDS = 8.0
"""Of one wait; a thread whose wait is over begins the next, on a job that is done or on one that never is."""

RSS_MB_A_MINUTE = 1.0
"""Slope of the memory, by least squares over the second half: a leak of 10 kB a query would be ten times that."""

FDS_SPREAD, THREADS_SPREAD = 60, 12
"""Sockets come and go with faults, and the far end, which is in this process, has two for each."""


@dataclass(frozen=True)
class Sample:
    """How the process is at a moment."""

    at: float
    rss: float
    threads: int
    ours: int
    fds: int


def slope(samples: list[Sample]) -> float:
    """MB of memory a minute."""
    mean_at = sum(sample.at for sample in samples) / len(samples)
    mean = sum(sample.rss for sample in samples) / len(samples)
    spread = sum((sample.at - mean_at) ** 2 for sample in samples)
    return 60 * sum((sample.at - mean_at) * (sample.rss - mean) for sample in samples) / spread


@pytest.mark.parametrize(
    "seconds",
    [
        pytest.param(20.0, id="pr", marks=pytest.mark.pr),
        pytest.param(600.0, id="long", marks=[pytest.mark.long, pytest.mark.timeout(900)]),
    ],
)
def test_two_hundred_waits_through_a_broken_line_leave_memory_threads_and_files_flat(
    seconds: float,
    seed: int,
    far_end: Callable[..., LedgerServer],
    proxy: Callable[..., FaultProxy],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.ERROR, "prefect_runtime")  # pytest keeps each line: 5 MB a minute, and not ours
    ledger = Ledger(run_seconds=3600)
    line = proxy(far_end(ledger).port, at_random(0.3), seed, hang_seconds=0.5)
    me = psutil.Process()
    over, samples, odd = threading.Event(), list[Sample](), list[str]()
    before = our_threads()
    outcomes: list[bool] = []
    with RuntimeService(platform(line.url), backend="far_end", request_timeout=2.0) as service:
        direct = platform(f"http://127.0.0.1:{line.upstream_port}")
        with RuntimeService(direct, backend="far_end") as quiet:
            ids = [
                quiet.run("echo", {"n": number}, idempotency_key=f"soak-{number}").job_id() for number in range(WAITS)
            ]

        def one(job_id: str) -> None:
            while not over.is_set():
                try:
                    service.handle(job_id).wait_for_final_state(timeout=min(WAIT_SECONDS, seconds / 4), wait=1.0)
                except JobTimeoutError:
                    outcomes.append(False)
                except QiskitRuntimeError as error:
                    odd.append(f"{type(error).__name__}: {error}")
                else:
                    outcomes.append(True)
                    over.wait(0.5)

        with ThreadPoolExecutor(WAITS) as pool:
            done = [pool.submit(one, job_id) for job_id in ids]
            start, cpu = time.monotonic(), sum(me.cpu_times()[:2])
            while (at := time.monotonic() - start) < seconds:
                ledger.requests.clear()  # the far end's memory is not what is measured
                if at > seconds / 2:  # half of the jobs end
                    for job in list(ledger.jobs.values())[::2]:
                        job.cancelled = True
                gc.collect()
                threads = threading.active_count()
                samples.append(Sample(at, me.memory_info().rss / 2**20, threads, len(our_threads()), me.num_fds()))
                time.sleep(seconds / 60)
            share = (sum(me.cpu_times()[:2]) - cpu) / (time.monotonic() - start)
            over.set()
        for future in done:
            future.result()

    later = samples[len(samples) // 2 :]
    growth = slope(later)
    fds, ours = [sample.fds for sample in later], {sample.ours for sample in samples[5:]}
    print(
        f"{seconds:g} s, {len(outcomes)} waits ended ({sum(outcomes)} final), {sum(line.done.values())} requests, "
        f"{line.faulted:.0%} faulted; {growth:+.2f} MB/min, {min(fds)}-{max(fds)} files, threads of ours {ours}, "
        f"{share:.0%} of a core with far end and proxy"
    )
    assert odd == []
    assert line.faulted > 0.2
    assert True in outcomes
    assert False in outcomes
    assert ours == {1}, "one watcher serves them all"
    assert max(fds) - min(fds) <= FDS_SPREAD
    third = len(later) // 3
    assert sum(fds[-third:]) / third - sum(fds[:third]) / third <= FDS_SPREAD / 4, "files grow"
    counts = [sample.threads for sample in later]
    assert max(counts[-third:]) - max(counts[:third]) <= THREADS_SPREAD, "threads grow"
    if seconds >= 60:  # in less, noise is more than any slope
        assert growth <= RSS_MB_A_MINUTE
    else:
        assert later[-1].rss - later[0].rss <= 15
    eventually(lambda: our_threads() <= before, seconds=15, what="the end of the watcher")
