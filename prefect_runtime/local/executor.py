"""Runs the queue: one thread a slot takes the next job, hands it to a process and writes down how it ended.

Built-in primitives run in a warm process that a slot keeps; an uploaded program gets a fresh one, gone with its job.
Imported by the server process only.
"""

from __future__ import annotations

import contextlib
import signal
import sqlite3
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from prefect_runtime.local.bulletin import Bulletin
from prefect_runtime.local.calibration import Calibration
from prefect_runtime.local.cells import Cell, Cells
from prefect_runtime.local.disk import in_words
from prefect_runtime.local.endings import Endings, complain
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.process import HOW_IS_UNKNOWN, Ending, WorkerProcess
from prefect_runtime.local.store import CANCELLED, FAILED, QUEUED, Job, Store
from prefect_runtime.local.worker import BUILT_IN, Order
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

IDLE_PAUSE_SECONDS = 1.0  # a lost wake-up costs a second, not a job
DELAYED_PAUSE_SECONDS = 0.1  # nobody wakes us when a delay is over
CANCEL_SECONDS = 3.0  # the disk may refuse its end for longer; who asked is told so, and asks again


class ProgramGoneError(Exception):
    """A job's program was deleted before the job began; the message says so."""


class NoProcessError(Exception):
    """The machine has no room for a process now; the message says why."""


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
        self._running: dict[str, WorkerProcess | None] = {}  # None: its process is still being made
        self._cancelled: set[str] = set()
        self._closing = False
        self._endings = Endings(store, self._closes_within_pause)
        self._threads = [
            threading.Thread(target=self._slot, args=(n,), name=f"slot-{n}", daemon=True) for n in range(slots)
        ]

    def start(self) -> None:
        """Start working through the queue."""
        for thread in self._threads:
            thread.start()

    def take_no_more(self) -> None:
        """Leave what is in the queue there: the server is about to end."""
        with self._news:
            self._closing = True
            self._news.notify_all()

    def close(self) -> None:
        """End every process; what was running is settled by the next start."""
        self.take_no_more()
        with self._news:
            processes = [process for process in self._running.values() if process is not None]
        with ThreadPoolExecutor(len(self._threads)) as together:  # each may take seconds
            list(together.map(WorkerProcess.end, processes))
        for thread in self._threads:
            if thread.is_alive():  # not where the start failed
                thread.join(10)
        self._cells.remove()

    def folder(self, job_id: str) -> JobFolder:
        """Return the files of a job."""
        return JobFolder(self._root / job_id)

    def wake(self) -> None:
        """Say that there is a new job in the queue; waits while a slot takes one from it."""
        with self._news:
            self._news.notify_all()

    def cancel(self, job_id: str) -> bool:
        """Cancel a queued job at once, or a running one with its whole process tree; False where it ended otherwise."""
        with self._news:
            if job_id in self._running:
                self._cancelled.add(job_id)
            process = self._running.get(job_id)
            if process is None:  # in the queue, or its process is still being made: nothing of it has run
                return self._store.move(job_id, CANCELLED)
        process.end()
        with self._news:  # the slot writes the end down; wait for it, so that a look after the answer sees it
            self._news.wait_for(lambda: job_id not in self._running, timeout=CANCEL_SECONDS)
        job = self._store.job(job_id)
        return job is not None and job.status == CANCELLED

    def _closes_within_pause(self) -> bool:
        with self._news:
            return self._news.wait_for(lambda: self._closing, timeout=IDLE_PAUSE_SECONDS)

    def _slot(self, number: int) -> None:
        """Work until closed; whatever goes wrong with one job, the slot takes the next."""
        while True:
            try:
                return self._work_through(number)
            except NoProcessError as error:
                _log.error("no process can be started (%s): jobs stay in the queue until one can", error)
            except Exception:  # noqa: BLE001 - a slot that is gone would be missed for ever
                _log.exception("a slot stumbled; it goes on with a new process")
            if self._closes_within_pause():
                return None

    def _work_through(self, slot: int) -> None:
        warm: list[WorkerProcess] = []  # at most one, kept for the next built-in primitive
        try:
            warm.append(_new_process())
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
            complain(error)
        job = self._next_job()
        if job is not None:
            self._run_safely(job, slot, warm)
        return job is not None or not self._closing

    def _next_job(self) -> Job | None:
        """Take the next job, which is ours from then on; None when none came within a pause, or once closed."""
        with self._news:
            job = None if self._closing else self._take_next()
            if job is not None:
                self._running[job.id] = None
            elif not self._closing:
                self._news.wait(timeout=self._pause)
            return job

    def _take_next(self) -> Job | None:
        try:
            return self._store.take_next(self._delays)
        except sqlite3.Error as error:  # the job is in the queue as before
            complain(error)
            return None

    def _run_safely(self, job: Job, slot: int, warm: list[WorkerProcess]) -> None:
        """Run a job; whatever goes wrong around it, it does not stay Running.

        Raises:
            NoProcessError: There is none for it; it is back in the queue, in its old place.
        """
        cell, process, survived, no_process = None, None, False, None
        try:
            cell = None if job.program_id in BUILT_IN else self._cells.open(job.id, slot)
            order, limit = self._order(job, cell)
            process = self._start(job, order, warm)
            if process is not None:
                survived = self._watch(job, process, limit, cell)
        except ProgramGoneError as gone:
            self._endings.end(job.id, FAILED, reason=str(gone))
        except NoProcessError as error:
            no_process = error
            if cell is not None:  # before the job is back in the queue: another slot makes one of the same name
                self._cells.close(cell)
                cell = None
        except Exception as error:  # noqa: BLE001 - a job that stays Running keeps its waiters for ever
            _log.exception("job %s: could not be run", job.id)
            why = in_words(error) if isinstance(error, OSError | sqlite3.Error) else type(error).__name__
            self._endings.end(job.id, FAILED, reason=f"The runtime could not run it ({why}).")
        with self._news:
            # With the lock held, so that no other slot takes it before this one has let go.
            given_back = no_process is not None and self._give_back(job.id)
            self._running.pop(job.id, None)
            cancelled = job.id in self._cancelled  # a cancel comes in as long as the job is in _running
            self._cancelled.discard(job.id)
            self._news.notify_all()
        if process is not None and survived and cell is None and not cancelled:
            warm.append(process)
            return
        try:
            if process is not None:
                process.end()
        finally:
            if cell is not None:
                self._cells.close(cell)
        if no_process is not None:
            if not given_back:
                self._endings.end(job.id, FAILED, reason=f"No process could be started for it ({no_process}).")
            raise no_process

    def _order(self, job: Job, cell: Cell | None) -> tuple[Order, float | None]:
        """Return a job as a process takes it, and the seconds that it may run.

        Raises:
            ProgramGoneError: There is nothing to run any more.
        """
        program = self._store.programs.get(job.program_id)
        if program is None and job.program_id not in BUILT_IN:
            raise ProgramGoneError(f"The program {job.program_id!r} was deleted while the job was in the queue.")
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
        return order, job.max_execution_time or (program.cost if program else None)

    def _start(self, job: Job, order: Order, warm: list[WorkerProcess]) -> WorkerProcess | None:
        """Give a job to a process, the one that is kept or else a new one; None once it is settled that none has it."""
        while True:
            is_kept = bool(warm) and job.program_id in BUILT_IN
            process = warm.pop() if is_kept else _new_process()
            if self._may_have(job.id, process) and process.take(order):
                return process
            process.end()
            if self._withdraw(job.id):
                return None
            if not is_kept:
                self._endings.write(job.id, self.folder(job.id), process.death())
                return None
            _log.warning("the process that was kept for job %s is gone; it gets another", job.id)

    def _may_have(self, job_id: str, process: WorkerProcess) -> bool:
        """Note that a process is about to have a job; False where it no longer should."""
        with self._news:
            if self._closing or job_id in self._cancelled:
                return False
            self._running[job_id] = process
            return True

    def _withdraw(self, job_id: str) -> bool:
        """Settle a job that was cancelled, or was to start when the server ends; False where it is neither."""
        with self._news:
            self._running[job_id] = None
            closing, cancelled = self._closing, job_id in self._cancelled
        if cancelled:
            self._endings.end(job_id, CANCELLED)
        elif closing:
            self._give_back(job_id)
        return cancelled or closing

    def _give_back(self, job_id: str) -> bool:
        """Put a job of which nothing has run back into the queue, unless it was cancelled; False if the disk fails."""
        try:
            self._store.discount_start(job_id)  # first: of a job in the queue nothing is left to fail
            self._store.move(job_id, QUEUED)
        except sqlite3.Error as error:
            complain(error)
            return False
        return True

    def _watch(self, job: Job, process: WorkerProcess, limit: float | None, cell: Cell | None) -> bool:
        """See a job to its end and write that down; return whether the process can take another."""
        ending = process.watch(
            lambda: self._bulletin.post_interim(job.id),
            seconds=limit,
            look=lambda: self._cells.too_full(cell) if cell else None,
        )
        if self._ends_with_server(job.id, ending):  # the next start settles it (recovery.py)
            with contextlib.suppress(sqlite3.Error):  # this one counts, that is all
                self._store.discount_start(job.id)
            return False
        with self._news:
            cancelled = job.id in self._cancelled
        self._endings.write(job.id, self.folder(job.id), ending, limit=limit, cancelled=cancelled)
        return ending.report is not None

    def _ends_with_server(self, job_id: str, ending: Ending) -> bool:
        """Tell whether a job was cut short because the server ends."""
        with self._news:
            cancelled = job_id in self._cancelled
        if cancelled or ending.too_long or ending.broke:
            return False
        if ending.report is not None:
            return ending.report.kind == "failed" and ending.was_ended
        # Who ends a service, or a session, may send SIGTERM to all of its processes: we need not be the first to hear.
        if ending.exit_code in (-signal.SIGTERM, HOW_IS_UNKNOWN, None):
            return self._closes_within_pause()
        return self._closing


def _new_process() -> WorkerProcess:
    try:
        return WorkerProcess()
    except OSError as error:  # no memory, no more processes
        raise NoProcessError(in_words(error)) from error
