"""Runs the queue: one thread a slot takes the next job, hands it to a process and writes down how it ended.

Built-in primitives run in a warm process that a slot keeps; an uploaded program gets a fresh one, gone with its job.
Imported by the server process only.
"""

from __future__ import annotations

import signal
import sqlite3
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.cells import Cell, Cells
from prefect_runtime.local.disk import in_words
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.process import Ending, WorkerProcess
from prefect_runtime.local.store import CANCELLED, COMPLETED, FAILED, RAN_TOO_LONG, Job, Store
from prefect_runtime.local.worker import BUILT_IN, Order
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import RAN_TOO_LONG_CODE

_log = get_logger(__name__)

IDLE_PAUSE_SECONDS = 1.0  # a lost wake-up costs a second, not a job
DELAYED_PAUSE_SECONDS = 0.1  # nobody wakes us when a delay is over
CANCEL_SECONDS = 3.0  # the disk may refuse its end for longer; who asked is told so, and asks again


class Executor:
    """The slots and the processes in them.

    Args:
        store: Where the jobs are.
        jobs_root: Folder with one folder a job.
        bulletin: Told of interim results.
        slots: Jobs that run at the same time.
        cells: Where uploaded programs run.
        calibration: Which calibration the noisy backends have.
        delays: Seconds that jobs of a backend stay in the queue at least, by the backend's name.
        before_each: Called before a job is taken from the queue.
    """

    def __init__(
        self,
        store: Store,
        jobs_root: Path,
        bulletin: Bulletin,
        *,
        slots: int,
        cells: Cells,
        calibration: Calibration,
        delays: Mapping[str, float],
        before_each: Callable[[], None] = lambda: None,
    ) -> None:
        self._store = store
        self._root = jobs_root
        self._bulletin = bulletin
        self._cells = cells
        self._calibration = calibration
        self._delays = delays
        self._before_each = before_each
        self._pause = DELAYED_PAUSE_SECONDS if delays else IDLE_PAUSE_SECONDS
        self._news = threading.Condition()  # guards the three below
        self._running: dict[str, WorkerProcess] = {}
        self._cancelled: set[str] = set()
        self._closing = False
        self._threads = [
            threading.Thread(target=self._slot, args=(n,), name=f"slot-{n}", daemon=True) for n in range(slots)
        ]

    def start(self) -> None:
        """Start working through the queue."""
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """End every process; what was running is failed by the next start."""
        with self._news:
            self._closing = True
            processes = list(self._running.values())
            self._news.notify_all()
        for process in processes:
            process.end()
        for thread in self._threads:
            thread.join(10)
        self._cells.remove()

    def folder(self, job_id: str) -> JobFolder:
        """Return the files of a job."""
        return JobFolder(self._root / job_id)

    def wake(self) -> None:
        """Say that there is a new job in the queue."""
        with self._news:
            self._news.notify_all()

    def cancel(self, job_id: str) -> bool:
        """Cancel a queued job at once, or a running one with its whole process tree; False where it ended otherwise."""
        with self._news:
            process = self._running.get(job_id)
            if process is None:
                return self._store.move(job_id, CANCELLED)
            self._cancelled.add(job_id)
        process.end()
        with self._news:  # the slot writes the end down; wait for it, so that a look after the answer sees it
            self._news.wait_for(lambda: job_id not in self._running, timeout=CANCEL_SECONDS)
        job = self._store.job(job_id)
        return job is not None and job.status == CANCELLED

    def _slot(self, number: int) -> None:
        """Work until closed; whatever goes wrong with one job, the slot takes the next."""
        while True:
            try:
                return self._work_through(number)
            except Exception:  # noqa: BLE001 - a slot that is gone would be missed for ever
                _log.exception("a slot stumbled; it goes on with a new process")
            with self._news:
                self._news.wait_for(lambda: self._closing, timeout=IDLE_PAUSE_SECONDS)

    def _work_through(self, slot: int) -> None:
        warm: list[WorkerProcess] = []  # at most one, kept for the next built-in primitive
        try:
            warm.append(WorkerProcess())
            while self._work(slot, warm):
                pass
        finally:
            for process in warm:
                process.end()

    def _work(self, slot: int, warm: list[WorkerProcess]) -> bool:
        """Run the next job, or wait for one; return whether there is more to do."""
        try:
            self._before_each()
        except (sqlite3.Error, OSError) as error:
            self._complain(error)
        with self._news:
            job = None if self._closing else self._take_next()
            if job is None:
                if not self._closing:
                    self._news.wait(timeout=self._pause)
                return not self._closing
            built_in = job.program_id in BUILT_IN
            try:
                process = warm.pop() if built_in and warm else WorkerProcess()
            except OSError as error:  # no memory, no more processes
                self._end_job(job.id, FAILED, reason=f"No process could be started for it ({error.strerror}).")
                return True
            self._running[job.id] = process
        survived, cell = self._run_safely(job, process, slot)
        with self._news:
            self._running.pop(job.id, None)
            cancelled = job.id in self._cancelled  # a cancel comes in as long as the job is in _running
            self._cancelled.discard(job.id)
            self._news.notify_all()
        if built_in and survived and not cancelled:
            warm.append(process)
            return True
        process.end()
        if cell is not None:
            self._cells.close(cell)
        return True

    def _take_next(self) -> Job | None:
        try:
            return self._store.take_next(self._delays)
        except sqlite3.Error as error:  # the job is in the queue as before
            self._complain(error)
            return None

    def _run_safely(self, job: Job, process: WorkerProcess, slot: int) -> tuple[bool, Cell | None]:
        """Run a job; whatever goes wrong around it, it does not stay Running.

        Returns:
            Whether the process can take another, and where the job's program ran.
        """
        cell: Cell | None = None
        try:
            cell = None if job.program_id in BUILT_IN else self._cells.open(job.id, slot)
            return self._run(job, process, cell), cell
        except Exception as error:  # noqa: BLE001 - a job that stays Running keeps its waiters for ever
            _log.exception("job %s: could not be run", job.id)
            why = in_words(error) if isinstance(error, OSError | sqlite3.Error) else type(error).__name__
            self._end_job(job.id, FAILED, reason=f"The runtime could not run it ({why}).")
            return False, cell

    def _run(self, job: Job, process: WorkerProcess, cell: Cell | None) -> bool:
        """Run a job to its end and write that down; return whether the process can take another."""
        program = self._store.programs.get(job.program_id)
        folder = self.folder(job.id)
        folder.create()
        order = Order(
            folder=folder.path,
            program_id=job.program_id,
            backend=job.backend,
            calibration=self._calibration.number,
            log_level=job.log_level,
            params=job.params,
            source=program.data if program else None,
            cell=cell,
        )
        limit = job.max_execution_time or (program.cost if program else None)
        ending = process.run(
            order,
            lambda: self._bulletin.post_interim(job.id),
            seconds=limit,
            look=lambda: self._cells.too_full(cell) if cell else None,
        )
        with self._news:
            closing, cancelled = self._closing, job.id in self._cancelled
        if not (closing and ending.report is None):
            self._write_end(job, ending, limit, cancelled=cancelled)
        return ending.report is not None and not cancelled

    def _write_end(self, job: Job, ending: Ending, limit: float | None, *, cancelled: bool) -> None:
        report, folder = ending.report, self.folder(job.id)
        if report is not None and report.kind == "done":
            self._write_done(job.id, folder, report.digest)
            return
        folder.drop_result()
        if report is not None:
            self._end_job(job.id, FAILED, reason=report.reason)
        elif cancelled:
            self._end_job(job.id, CANCELLED)
        elif ending.too_long:
            reason = f"Ran too long: more than max_execution_time, {limit:g} s."
            self._end_job(job.id, RAN_TOO_LONG, reason=reason, reason_code=RAN_TOO_LONG_CODE)
        elif ending.broke:
            self._end_job(job.id, FAILED, reason=ending.broke)
        else:
            _log.warning("job %s: its process died (%s)", job.id, ending.exit_code)
            self._end_job(job.id, FAILED, reason=_how_it_died(ending.exit_code))

    def _write_done(self, job_id: str, folder: JobFolder, digest: str) -> None:
        try:
            folder.finish_result(digest)
        except OSError as error:
            self._end_job(job_id, FAILED, reason=f"The job's result could not be written: {in_words(error)}.")
        else:
            self._end_job(job_id, COMPLETED)

    def _end_job(self, job_id: str, status: str, *, reason: str = "", reason_code: int | None = None) -> None:
        """Write down how a job ended. Where the disk does not take it, wait until it does, or until closed.

        The job stays Running meanwhile. Should the server end first, its successor settles the job (recovery.py).
        """
        while True:
            try:
                self._store.move(job_id, status, reason=reason, reason_code=reason_code)
                return
            except sqlite3.Error as error:
                self._complain(error)
            with self._news:
                if self._news.wait_for(lambda: self._closing, timeout=IDLE_PAUSE_SECONDS):
                    return

    def _complain(self, error: sqlite3.Error | OSError) -> None:
        _log.error("the disk fails (%s); it is tried again", in_words(error))


def _how_it_died(exit_code: int | None) -> str:
    if exit_code is not None and exit_code < 0:
        known = {number.value: number.name for number in signal.Signals}
        name = known.get(-exit_code, f"signal {-exit_code}")
        return f"The program's process was ended by {name}: the program crashed, or the system ran out of memory."
    return f"The program's process ended without a result (exit code {exit_code}): the program called os._exit()?"
