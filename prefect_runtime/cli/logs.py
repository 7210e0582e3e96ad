"""``prefect-runtime logs``: what a job wrote, all at once or as it comes."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from prefect_runtime.cli import app
from prefect_runtime.cli.account import Account, open_service
from prefect_runtime.cli.output import Exit, Job, Timeout, exit_of, say, write
from prefect_runtime.wire.errors import JobTimeoutError, QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger

if TYPE_CHECKING:
    from prefect_runtime.client import RuntimeClient
    from prefect_runtime.client.log_tail import LogTail
    from prefect_runtime.client.retry import Deadline
    from prefect_runtime.wire.models import JobDocument

_log = get_logger(__name__)

Pauses = tuple[float, float]
"""Seconds between two looks at a log: while something comes, and at most."""

PAUSES: Pauses = (1.0, 10.0)
LOCAL_PAUSES: Pauses = (0.1, 0.5)  # asking the embedded runtime costs nothing
GROWTH = 1.5


@app.command
def logs(
    job: Job,
    /,
    *,
    follow: Annotated[
        bool,
        Parameter(
            name=("--follow", "-f"),
            negative=(),
            show_default=False,
            help="Go on with what is added, until the job is final.",
        ),
    ] = False,
    timeout: Timeout = None,
    account: Account | None = None,
) -> int:
    """Print a job's log: standard output and error of the program.

    With --follow, the exit code says how the job ended: 0 done, 4 failed, 5 cancelled, 124 not final in time.
    """
    from prefect_runtime.client.log_tail import LogTail
    from prefect_runtime.client.retry import Deadline, check_seconds

    check_seconds("timeout", timeout)
    with open_service(account) as service:
        log = LogTail(service.client, job)
        if follow:
            pauses = LOCAL_PAUSES if service.client.has_feed else PAUSES
            deadline = Deadline(timeout, service.client.clock)
            return exit_of(follow_to_the_end(service.client, log, deadline, pauses))
        while _print_more(log):
            pass
        write(log.rest())
    return Exit.OK


class End(threading.Thread):
    """Waits for a job beside what else is done meanwhile.

    Attributes:
        reached: Set once nothing more is waited for: the job is final, the time is up, or there is an error.
    """

    def __init__(self, client: RuntimeClient, job_id: str, deadline: Deadline) -> None:
        super().__init__(name=f"end-{job_id}", daemon=True)
        self._client = client
        self._job_id = job_id
        self._deadline = deadline
        self._document: JobDocument | None = None
        self._error: QiskitRuntimeError | None = None
        self.reached = threading.Event()
        self.start()

    def run(self) -> None:
        """Wait."""
        try:
            known = self._client.monitor.wait([self._job_id], deadline=self._deadline, on_change=self._tell)
            self._document = known.get(self._job_id)
        except QiskitRuntimeError as error:
            self._error = error
        finally:
            self.reached.set()

    def _tell(self, document: JobDocument) -> None:
        if not document.is_final:  # a log that stays empty is a riddle without it
            say(f"{document.id} {document.status.name if document.status else document.word}")

    def document(self) -> JobDocument:
        """Return the final document.

        Raises:
            JobTimeoutError: The job was not final in time.
            QiskitRuntimeError: There is no such job, or the sign-in failed.
        """
        if self._error is not None:
            raise self._error
        if self._document is None or not self._document.is_final:
            raise JobTimeoutError(f"Job {self._job_id} was not final in time. It was left alone.", job_id=self._job_id)
        return self._document


def _print_more(log: LogTail) -> bool:
    """Print what there is more by now; True if that was not all."""
    text, not_all = log.more()
    write(text)
    return not_all


def follow_to_the_end(client: RuntimeClient, log: LogTail, deadline: Deadline, pauses: Pauses) -> JobDocument:
    """Print a log as it grows until the job is final, and return how it ended."""
    first, longest = pauses
    client.job(log.job_id)  # a wrong id is said at once
    end = End(client, log.job_id, deadline)
    pause = first
    while True:
        over = end.reached.is_set()  # looked at before we ask: what was written by then is in the answer
        read = log.read
        try:
            more = _print_more(log)
        except QiskitRuntimeError as error:
            if over or not error.retryable:
                raise
            _log.warning("job %s: its log cannot be read now, will try again: %s", log.job_id, error)
            more = False
        if more:
            continue
        if over:
            break
        pause = first if log.read > read else min(pause * GROWTH, longest)
        end.reached.wait(pause)
    write(log.rest())
    return end.document()
