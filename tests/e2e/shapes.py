"""Flows in six shapes, and ways to run them: as a script, and by `flow.serve`. Copied by ways.py to where they run."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
from prefect import flow, serve
from prefect.runtime import flow_run
from prefect.task_runners import ProcessPoolTaskRunner

from prefect_runtime import arun_program, await_for_final_state, cancel_jobs, run_program, wait_for_final_state
from prefect_runtime.client import monitor

GOES_SECONDS = 5.0  # in which the last thread or process of ours ends, once its flow run has


def begun(folder: str) -> None:
    """Tell in files that this flow run is in its body, and in which process."""
    _tell(Path(folder, f"{flow_run.id}.{flow_run.run_count}.began"), f"{os.getpid()} {flow_run.id}")
    token = os.environ.get("TOKEN")
    if token:
        _tell(Path(folder, token), str(flow_run.id))


def _tell(file: Path, text: str) -> None:
    file.with_suffix(".tmp").write_text(text)
    file.with_suffix(".tmp").rename(file)


def gate(folder: str) -> str:
    return f"{folder}/{flow_run.id}.gate"


@flow(on_cancellation=[cancel_jobs])
def direct(program: str, folder: str) -> Any:
    begun(folder)
    job_id = run_program("local", program, {"gate": gate(folder)})
    wait_for_final_state("local", job_id)
    return job_id


@flow(on_cancellation=[cancel_jobs])
def submitted(program: str, folder: str) -> Any:
    begun(folder)
    job_id = run_program.submit("local", program, {"gate": gate(folder)})
    return wait_for_final_state.submit("local", job_id).result()


@flow(on_cancellation=[cancel_jobs])
def mapped(program: str, folder: str) -> Any:
    begun(folder)
    ids = run_program.map("local", program, [{"number": number, "gate": gate(folder)} for number in range(3)])
    return wait_for_final_state.map("local", ids).result()


@flow(on_cancellation=[cancel_jobs])
async def asynchronous(program: str, folder: str) -> Any:
    begun(folder)
    job_id = await arun_program("local", program, {"gate": gate(folder)})
    return await await_for_final_state("local", job_id)


@flow(on_cancellation=[cancel_jobs])
async def mixed(program: str, folder: str) -> Any:
    begun(folder)
    job_id = run_program.submit("local", program, {"gate": gate(folder)})
    return wait_for_final_state.submit("local", job_id).result()


@flow(on_cancellation=[cancel_jobs], task_runner=ProcessPoolTaskRunner(max_workers=1))
def processes(program: str, folder: str) -> Any:
    begun(folder)
    job_id = run_program("local", program, {"gate": gate(folder)})
    return wait_for_final_state.submit("local", job_id).result()


@flow(on_crashed=[cancel_jobs])
def crashing(program: str, folder: str) -> Any:
    begun(folder)
    job_id = run_program("local", program, {"gate": gate(folder)})
    return wait_for_final_state("local", job_id)


ALL: list[Any] = [direct, submitted, mapped, asynchronous, mixed, processes]


def run_each(program: str, folder: str) -> None:
    """Run one flow for each line: its shape, and the file to tell its id in; then tell what of ours is left."""
    monitor.FEED_LINGERS = 0.5  # not ten seconds: it is to be seen going
    for line in sys.stdin:
        shape, token = line.split()
        os.environ["TOKEN"] = token
        chosen = {one.__name__: one for one in [*ALL, crashing]}[shape]
        with contextlib.suppress(Exception):  # what a flow run has come to is asked elsewhere
            outcome = chosen(program, folder)
            if chosen.isasync:
                asyncio.run(outcome)
        end = time.monotonic() + GOES_SECONDS
        while left() and time.monotonic() < end:
            time.sleep(0.1)  # who was told to end does so
        _tell(Path(folder, f"{token}.ended"), " ".join(left()))


def left() -> list[str]:
    """Name the threads that run code of ours, or are of a pool of ours, and the processes under this one."""
    gc.disable()  # a collection in the middle of it can freeze CPython 3.11 for good (python/cpython#106883)
    frames, found = sys._current_frames(), []
    gc.enable()
    for thread in threading.enumerate():
        frame, is_ours = frames.get(thread.ident or 0), thread.name.startswith(("flow-watch", "keep-jobs"))
        while frame is not None:
            is_ours |= str(frame.f_globals.get("__name__")).startswith("prefect_runtime")
            frame = frame.f_back
        if is_ours and thread is not threading.current_thread():
            found.append(thread.name)
    under = [one for one in psutil.Process().children(recursive=True) if one.status() != psutil.STATUS_ZOMBIE]
    # Python's own one of those stays for as long as this process does.
    return found + [f"process-{one.pid}" for one in under if "resource_tracker" not in " ".join(one.cmdline())]


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(*[one.to_deployment("served") for one in ALL], query_seconds=1, pause_on_shutdown=False, limit=20)
    else:
        run_each(*sys.argv[1:])
