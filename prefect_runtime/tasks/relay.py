"""A job's log in the run's log: as it comes while somebody waits, the rest when the log is fetched."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import re
import threading
from collections.abc import Iterator

from prefect_runtime.client import RuntimeService
from prefect_runtime.client.log_tail import LogTail
from prefect_runtime.memory import Memory
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.redaction import clean

_log = get_logger(__name__)

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

BEGIN_AFTER_SECONDS = 1.0
"""A job that is quicker than this has its log relayed when that is fetched: nobody can read so fast anyway."""

FIRST_PAUSE, LONGEST_PAUSE, GROWTH = 0.5, 10.0, 1.5  # seconds between two looks at a log
LAST_LOOK_SECONDS = 2.0
"""For which a wait that has ended well lets the rest of the log come; later lines come when they come."""

ENDING_SECONDS = 0.1  # for which one that has not ended well waits: its deadline is exact, and a log may hang
MOST_LINES = 2_000
"""Of one job's log, or interim results: a program that writes without end is not to fill Prefect's database."""

MOST_CHARACTERS = 2_000  # of one line
_LEVEL = re.compile(r"\b(CRITICAL|ERROR|WARNING)\b")


class Relay:
    """Puts a job's log into a run's log, each line once in this process, however many tasks have a part in it.

    Args:
        service: The account.
        job_id: The job.
    """

    def __init__(self, service: RuntimeService, job_id: str) -> None:
        self._tail = LogTail(service.client, job_id)
        self._secrets = service.client.secrets
        self._lock = threading.Lock()  # a wait and the task that fetches the log may meet
        self._begun = ""  # a line whose end has not come
        self._lines = self._characters = 0  # so far
        self._followed = 0  # characters that the tail has given

    @classmethod
    def of(cls, service: RuntimeService, job_id: str) -> Relay:
        """Return the relay of a job in this process, with what it has relayed so far."""
        return Memory(service.memory).relay(job_id, lambda: cls(service, job_id))

    def more(self, logger: Logger) -> bool:
        """Relay the lines that are complete by now; True if there were any.

        Raises:
            QiskitRuntimeError: The log could not be asked for.
        """
        with self._lock:
            before, not_all = self._lines, True
            while not_all:
                text, not_all = self._tail.more()
                ahead = max(0, self._characters - self._followed)  # who had the whole text was quicker
                self._followed += len(text)
                self._take(text[ahead:], logger)
            return self._lines > before

    def text(self, text: str, logger: Logger, *, whole: bool) -> None:
        """Relay what is new in the whole text of the log; `whole` if it will not grow: then the last line has ended."""
        with self._lock:
            new = text[self._characters :]
            self._take(new, logger)
            if whole and self._begun:
                last, self._begun = self._begun, ""
                self._tell(last, logger)

    def _take(self, new: str, logger: Logger) -> None:
        self._characters += len(new)
        *lines, self._begun = (self._begun + new).split("\n")
        for line in lines:
            self._tell(line, logger)

    def _tell(self, line: str, logger: Logger) -> None:
        self._lines += 1
        if self._lines > MOST_LINES:
            if self._lines == MOST_LINES + 1:
                logger.warning(
                    "[job %s] … more than %d lines; the whole log is what fetch_logs returns",
                    self._tail.job_id,
                    MOST_LINES,
                )
            return
        text = clean(line.rstrip("\r"), self._secrets, limit=MOST_CHARACTERS)
        found = _LEVEL.search(text[:80])
        level = logging.getLevelNamesMapping()[found[1]] if found else logging.INFO
        logger.log(level, "[job %s] %s", self._tail.job_id, text)


@contextlib.contextmanager
def relayed(service: RuntimeService, job_id: str, logger: Logger, running: threading.Event) -> Iterator[None]:
    """Relay a job's log for the time of a wait, from the moment on in which it runs.

    Only where a log can be read while the job runs. What cannot be read costs nobody a job, nor a deadline.
    """
    if not service.client.has_streams:
        yield
        return
    over, last_look = threading.Event(), threading.Event()
    relay = Relay.of(service, job_id)
    work = contextvars.copy_context().run  # the run that the lines belong to
    given = (relay, logger, running, over, last_look)
    thread = threading.Thread(target=work, args=(_relay, *given), name="log-relay", daemon=True)
    thread.start()
    patience = 0.0  # by a signal: whoever is to cancel the job must not come late
    try:
        yield
        last_look.set()
        patience = LAST_LOOK_SECONDS
    except Exception:
        patience = ENDING_SECONDS
        raise
    finally:
        over.set()
        running.set()
        thread.join(patience)


def _relay(
    relay: Relay, logger: Logger, running: threading.Event, over: threading.Event, last_look: threading.Event
) -> None:
    running.wait()
    if over.wait(BEGIN_AFTER_SECONDS):
        return
    pause = FIRST_PAUSE
    while True:
        last = over.is_set()  # looked at before we ask: what was written by then is in the answer
        if last and not last_look.is_set():
            return
        try:
            more = relay.more(logger)
        except QiskitRuntimeError as error:
            _log.info("a job's log cannot be relayed now (%s)", type(error).__name__)
            more = False
        if last:
            return
        pause = FIRST_PAUSE if more else min(pause * GROWTH, LONGEST_PAUSE)
        over.wait(pause)
