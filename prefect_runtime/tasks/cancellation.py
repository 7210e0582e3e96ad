"""A cancelled flow run cancels its jobs: what the tasks put around submitting and waiting. hooks.py uses it too.

Three things can happen to who waits. A person cancels the flow run: Prefect's API says so, the watch of the flow run
(flow_watch.py) cancels the job, and the wait ends. Prefect ends the process for that reason: its signal is raised in
the main thread, and the watch is asked to look at once, before the process is gone. Or the infrastructure goes down
(SIGTERM to a worker, an eviction): the same signal, but nobody has cancelled anything, so that the job is left for the
next execution, which attaches to it.
"""

from __future__ import annotations

import contextlib
import contextvars
import time
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from typing import Literal

from prefect.runtime import flow_run as current_flow_run

from prefect_runtime.client import RuntimeService
from prefect_runtime.client.duplicates import jobs_of
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.submission import RUN_TAG_PREFIX
from prefect_runtime.flow_watch import AT_ONCE, LAST_WORDS_SECONDS, FlowWatches, Guard, each_at_once, watches
from prefect_runtime.journal import PrefectJournal
from prefect_runtime.tasks.note import Logger, note, run_logger
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeInvalidStateError
from prefect_runtime.wire.models import JobDocument, JobStatus

OnCancel = Literal["cancel", "keep"]

READ_BACK_SECONDS = 3.0  # some runtimes take a moment from the request to the end of the job
KEPT_SECONDS = 2.0  # for which a wait that is over lets it be written down that its jobs are to be kept
LATE_JOB_PAUSES = (0.2, 0.5, 1.0)  # seconds in which a request whose answer will never be read may become a job

WHY = "because its flow run was cancelled"


@contextlib.contextmanager
def watching(
    service: RuntimeService,
    job_ids: Sequence[str],
    on_cancel: OnCancel,
    *,
    left: Collection[str] | None = None,
    of: FlowWatches = watches,
) -> Iterator[Interrupt]:
    """Give what ends a wait when a person cancels the flow run; the jobs are then cancelled, or kept.

    Args:
        service: Where the jobs are.
        job_ids: What is waited for.
        on_cancel: What happens to the jobs that are not final: "cancel" or "keep".
        left: Those of the jobs that are not known to be final, kept up to date by the caller; all if None.
        of: The watches of this process.
    """
    interrupt = Interrupt()
    flow_run_id = current_flow_run.id
    logger = run_logger()
    if not flow_run_id:  # nobody can cancel it
        with _told_of_ctrl_c(service, job_ids if left is None else left, interrupt, logger):
            yield interrupt
        return

    def act() -> None:
        if on_cancel == "keep":
            interrupt.set(f"{WHY}; it was left alone")
            return
        try:
            cancel_all(service, job_ids, logger)
        finally:
            interrupt.set(f"{WHY}; it was to be cancelled, the log says whether it was")

    guard = Guard(act, jobs=job_ids)
    if on_cancel == "keep":
        of.forget(job_ids)
    of.add(flow_run_id, guard)
    try:
        with (
            _told_of_ctrl_c(service, job_ids if left is None else left, interrupt, logger),
            last_words(of=of),
        ):
            yield interrupt
    finally:
        of.remove(flow_run_id, guard)


@contextlib.contextmanager
def kept_on_cards(service: RuntimeService, job_ids: Sequence[str], on_cancel: OnCancel) -> Iterator[None]:
    """Have it written on cards that their jobs are to be kept, if so: a hook in another process reads it there.

    Beside the wait, whose deadline is exact; what cannot be asked or written costs it nothing.
    """
    if on_cancel != "keep":
        yield
        return
    pool = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="keep-jobs")
    noting: list[Future[None]] = []
    patience = 0.0  # by a signal: the process may be gone with the next breath
    try:
        with contextlib.suppress(RuntimeError):  # no more threads
            noting += [pool.submit(contextvars.copy_context().run, _note_kept, service, one) for one in job_ids]
        yield
        patience = KEPT_SECONDS
    except (Exception, GeneratorExit):
        patience = KEPT_SECONDS
        raise
    finally:
        wait(noting, patience)
        pool.shutdown(wait=False, cancel_futures=True)


def _note_kept(service: RuntimeService, job_id: str) -> None:
    try:
        document = service.client.job(job_id)
    except QiskitRuntimeError as error:
        run_logger().warning("Job %s: to be kept, which could not be written on its card (%s)", job_id, error)
        return
    if not document.is_final:
        note(service, document, kept=True)


@contextlib.contextmanager
def _told_of_ctrl_c(
    service: RuntimeService, left: Collection[str], interrupt: Interrupt, logger: Logger
) -> Iterator[None]:
    """Say, when Ctrl-C ends a wait, that its jobs go on, and what ends them: people think otherwise."""
    try:
        yield
    except KeyboardInterrupt:
        if left and not interrupt.is_set:  # else a person has cancelled the flow run as well
            account = service.credentials
            option = "" if account.channel == "local" and not account.url else " --block NAME"
            logger.warning(
                "Interrupted; what was waited for goes on. To end it: prefect-runtime cancel%s %s",
                option,
                " ".join(left),
            )
        raise


@contextlib.contextmanager
def last_words(*, of: FlowWatches = watches) -> Iterator[None]:
    """When this thread is ended by a signal: first cancel this process's jobs, if it is a person who cancels."""
    try:
        yield
    except (Exception, GeneratorExit):  # no signal
        raise
    except BaseException:
        of.look_now(LAST_WORDS_SECONDS)
        raise


def no_longer_watched(job_ids: Sequence[str], *, of: FlowWatches = watches) -> None:
    """Say that jobs are final."""
    of.forget(job_ids)


class Submitting:
    """The time in which a request becomes a job, and after it, while nobody waits for the job yet.

    Args:
        service: Where it is sent.
        of: The watches of this process.
    """

    def __init__(self, service: RuntimeService, *, of: FlowWatches = watches) -> None:
        self._service = service
        self._of = of
        self._flow_run_id = current_flow_run.id or ""
        self._journal: PrefectJournal | None = None
        self._guard = Guard(self._act, lasting=True)
        self._logger: Logger | None = None
        self._interrupt = Interrupt()
        self._cancelled = False
        self._sent = False
        self._job_id = ""

    @contextlib.contextmanager
    def of_journal(self, journal: object) -> Iterator[None]:
        """Be on guard while the journal's request is submitted; and for its job, once `made` has said which it is."""
        if not self._flow_run_id or not isinstance(journal, PrefectJournal):
            yield
            return
        self._journal, self._logger = journal, run_logger()
        self._of.add(self._flow_run_id, self._guard)
        try:
            with last_words(of=self._of), self._interrupt.around():
                yield
        except BaseException:
            self._of.remove(self._flow_run_id, self._guard)
            raise

    def check(self) -> None:
        """Refuse to send a request for a flow run that was cancelled.

        Raises:
            RuntimeInvalidStateError: It was.
        """
        if not self._cancelled and self._flow_run_id and self._of.known_cancelled(self._flow_run_id):
            self._of.look_now(LAST_WORDS_SECONDS)  # it may have been executed again since
        if self._cancelled:
            raise RuntimeInvalidStateError("The flow run was cancelled: its request was not sent, there is no job.")
        self._sent = True

    def made(self, job_id: str) -> None:
        """Say which job it has become.

        Raises:
            RuntimeInvalidStateError: The flow run was cancelled meanwhile, and the job with it.
        """
        self._guard.jobs = {job_id}
        self._job_id = job_id
        if self._cancelled:  # while the request was under way: what was made of it was not there to be seen
            cancel_all(self._service, [job_id], self._logger or run_logger())
            raise RuntimeInvalidStateError(
                f"Job {job_id}: its flow run was cancelled while it was submitted.", job_id=job_id
            )

    def _act(self) -> None:
        self._cancelled = True
        self._interrupt.set(WHY)  # it may have minutes to wait: for its turn, or for an answer that was lost
        logger = self._logger or run_logger()
        for pause in (*(LATE_JOB_PAUSES if self._sent else ()), None):
            found = [self._job_id] if self._job_id else self._own_jobs()
            if found or pause is None:
                cancel_all(self._service, found, logger)
                return
            time.sleep(pause)

    def _own_jobs(self) -> list[str]:
        """Return the unfinished jobs with the request's key; not one that another flow run has made."""
        if self._journal is None or not self._journal.key:
            return []
        own = f"{RUN_TAG_PREFIX}{self._journal.run_tag()}"
        try:
            jobs = jobs_of(self._service.client, self._journal.key)
        except QiskitRuntimeError:
            return []
        return [job.id for job in jobs if own in job.tags and not job.is_final]


def cancel_all(service: RuntimeService, job_ids: Sequence[str], logger: Logger) -> None:
    """Cancel jobs, read them back, and write it on their cards; says in the log what became of each. Raises nothing."""
    if len(job_ids) == 1:
        _cancel(service, job_ids[0], logger)
    elif job_ids:
        each_at_once(lambda job_id: _cancel(service, job_id, logger), job_ids)


def _cancel(service: RuntimeService, job_id: str, logger: Logger) -> None:
    try:
        document = cancel_and_read_back(service, job_id)
    except QiskitRuntimeError as error:
        logger.warning(
            "Job %s: its flow run was cancelled, but the job could not be (%s). `prefect-runtime reap` finds it.",
            job_id,
            error,
        )
        return
    if has_failed(document):
        logger.info("Job %s: its flow run was cancelled, now %s", job_id, document.word)
    else:
        logger.info("Job %s: its flow run was cancelled, but the job is %s", job_id, document.word)
    note(service, document, delivered=has_failed(document))  # who runs the flow run again wants a new one
    if document.is_final:  # else it would be cancelled, and said to be, once more when the process ends
        no_longer_watched([job_id])


def has_failed(document: JobDocument) -> bool:
    """True if a job is final without a result: cancelled, or it was an error that came first."""
    return document.is_final and document.status is not JobStatus.DONE


def cancel_and_read_back(service: RuntimeService, job_id: str) -> JobDocument:
    """Cancel a job, and return what the runtime says of it then; one that is final already is left as it is.

    Raises:
        QiskitRuntimeError: The runtime could not be asked, or refused.
    """
    client = service.client
    with contextlib.suppress(RuntimeInvalidStateError):
        client.cancel(job_id)
    deadline = Deadline(READ_BACK_SECONDS, client.clock)
    document = client.job(job_id)
    while not document.is_final and not deadline.expired:
        client.clock.sleep(0.1)
        document = client.job(job_id)
    return document
