"""The embedded runtime, killed at random instants under eight clients: what it has acknowledged, it keeps."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from integration.support import Served, eventually, free_port

from prefect_runtime.client import JobStatus, RuntimeService

from .clients import (
    Books,
    Clients,
    Traces,
    check_integrity,
    started_in_order,
    upload_ledgers,
)

JOBS_A_KILL = 12
LONGEST_LIFE_SECONDS = 2.5  # of those that end at any instant: of it, Qiskit takes one or two to be there
LONGEST_JOB_SECONDS = 0.3
MAX_STARTS = 3  # recovery.MAX_STARTS


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    served = Served(tmp_path / "served", slots=2, port=free_port())
    yield served
    served.kill()


@pytest.fixture
def traces(served: Served) -> Traces:
    traces = Traces(served.folder)
    traces.note()
    return traces


@pytest.fixture
def books(tmp_path: Path) -> Books:
    return Books(ledger=tmp_path / "ledger")


def settle_all(served: Served, books: Books) -> dict[int, JobStatus]:
    """Wait for all acknowledged jobs; what one returned has to be its own."""
    with RuntimeService(served.credentials) as service:
        numbers = {job_id: number for number, job_id in books.acknowledged.items()}
        assert len(numbers) == len(books.acknowledged), "two requests were given the same job"
        statuses = {numbers[job_id]: status for job_id, status in service.wait(list(numbers), timeout=600).items()}
        for number, status in statuses.items():
            job = service.job(books.acknowledged[number])
            if status is JobStatus.DONE:
                assert job.result()["number"] == number
            else:
                assert status is JobStatus.ERROR
                assert "runtime restarted" in (job.error_message() or "")
        assert len(service.jobs(limit=None)) <= len(books.acknowledged) + len(books.refused)
        return statuses


def judge(books: Books, statuses: dict[int, JobStatus]) -> dict[str, Any]:
    """Compare what the server says of each job with what the programs did; give the figures."""
    assert statuses.keys() == books.acknowledged.keys(), "an acknowledged job is lost"
    began = books.began()
    for number, status in statuses.items():
        times = began[number]
        most = MAX_STARTS if number in books.restartable else 1
        assert times <= most, f"job {number} was executed {times} times"
        if status is JobStatus.DONE:
            assert times >= 1, f"job {number} is done and was never executed"
    for number in books.acknowledged.keys() & books.restartable:
        if statuses[number] is JobStatus.ERROR:
            assert began[number] <= MAX_STARTS
    again = sum(1 for number in books.restartable if began[number] > 1)
    return {"jobs": len(statuses), "by status": Counter(s.name for s in statuses.values()), "run again": again}


def live(books: Books, dice: random.Random) -> None:
    """Let a server live: until any instant, as a rule before the first program begins, or until some have begun."""
    if dice.random() < 0.5:
        return time.sleep(dice.uniform(0.02, LONGEST_LIFE_SECONDS))
    enough = books.began().total() + dice.randint(1, 4)
    eventually(lambda: books.began().total() >= enough, seconds=60, what="programs that begin")
    return time.sleep(dice.uniform(0, LONGEST_JOB_SECONDS))


@pytest.mark.parametrize(
    "kills",
    [
        pytest.param(10, id="pr", marks=[pytest.mark.pr, pytest.mark.timeout(300)]),
        pytest.param(200, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_server_killed_at_random_instants_loses_no_acknowledged_job_and_runs_none_twice(
    kills: int, seed: int, served: Served, traces: Traces, books: Books, tmp_path: Path
) -> None:
    dice = random.Random(seed)
    with RuntimeService(served.credentials) as service:
        programs = upload_ledgers(service)
    found, cut_short = Counter[str](), 0
    clients = Clients(served.credentials, books, programs, dice)
    try:
        for _ in range(kills):
            clients.let(JOBS_A_KILL)
            live(books, dice)
            served.kill()
            found = check_integrity(served.folder, tmp_path / "copy")
            cut_short += found["Running"]
            if dice.random() < 0.5:  # else the next one starts at once, while the processes of this are still ending
                traces.assert_none_is_left()
            served.start()
            traces.note()
        clients.let(JOBS_A_KILL)
    finally:
        clients.close()
    figures = judge(books, settle_all(served, books))
    ids = {job_id for number, job_id in books.acknowledged.items() if number not in books.restartable}
    started = started_in_order(served.folder, ids.__contains__)
    assert started == sorted(started), "the queue's order was lost"
    served.kill()
    traces.assert_none_is_left()
    assert len(traces.folders()) == 1, "folders of programs were left behind"
    print(f"{kills} kills: {figures}, {cut_short} were running at a kill, {found['Completed']} ended before the last")
    print(f"{len(books.refused)} refused: {Counter(map(type, books.refused))}")
    assert figures["jobs"] >= 10 * kills
    assert cut_short >= kills / 4
    assert found["Completed"] >= kills / 2


HOLDS_THE_LOCK = """
import ctypes, os, subprocess, sys

def main(backend, user_messenger):
    quiet = "stdout=-3, stderr=-3, start_new_session=True"
    code = f"import subprocess; p = subprocess.Popen(['sleep', '50'], {quiet}); print(p.pid, flush=True)"
    orphan = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, start_new_session=True)
    code = f"import ctypes, threading, time; {code}; threading.Thread(target=time.sleep, args=(50,)).start()"
    code += "; ctypes.CDLL(None).pthread_exit(None)"
    hidden = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True, start_new_session=True)
    user_messenger.publish([os.getpid(), int(orphan.stdout), int(hidden.stdout.readline())])
    ctypes.PyDLL(None).sleep(50)
"""
"""Leaves two processes behind, and holds Python's lock in C code, so that no thread of it runs any more.

Nobody is the parent of the one; the other's has ended its first thread, by which the system shows it as a zombie.
"""

METADATA = {"name": "short", "description": "d", "max_execution_time": 60}


def guards(served: Served) -> list[psutil.Process]:
    """What stands between the server and the process that makes all others."""
    children = psutil.Process(served.process.pid).children()
    return [child for child in children if "forkserver" in str(child.cmdline())]


@pytest.mark.parametrize("end", [Served.kill, lambda served: served.process.terminate()], ids=["killed", "stopped"])
def test_no_program_outlives_the_server_whatever_it_does(
    served: Served, traces: Traces, end: Callable[[Served], None]
) -> None:
    with RuntimeService(served.credentials) as service:
        program = service.upload_program(HOLDS_THE_LOCK, METADATA | {"name": "holds the lock"})
        short = "def main(backend, user_messenger): pass"
        service.run(service.upload_program(short, METADATA), {}).wait_for_final_state(timeout=20)
        cells = traces.folders()[0]
        eventually(lambda: not list(cells.iterdir()), what="the end of the first job's process")
        [guard] = guards(served)
        assert len(guard.children()) == 1, "what the first job's end cleared away is what sees to the second's"
        job = service.run(program, {})
        eventually(job.interim_results, seconds=20)
        [pids] = job.interim_results()
    assert set(pids) <= set(traces.processes())
    end(served)
    traces.assert_none_is_left()
