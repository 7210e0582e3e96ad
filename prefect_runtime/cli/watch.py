"""Waits for a job and shows how it goes on, on standard error: live on a terminal, else a line for each change."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Iterator

from rich.live import Live
from rich.spinner import Spinner
from rich.text import Text

from prefect_runtime.cli.documents import status_text
from prefect_runtime.cli.output import asides, plain
from prefect_runtime.client import RuntimeJob, RuntimeService
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.models import JobDocument

LINE_SECONDS = 1.0  # between two lines about interim results, where lines are not rewritten
LAST_SECONDS = 2.0  # for interim results that are on their way when the job is final


class Progress:
    """How a job goes on, for who looks."""

    def __init__(self, document: JobDocument) -> None:
        self._console = asides()
        self._live = self._console.is_interactive
        self._spinner = Spinner("dots")
        self._document = document
        self._began = time.monotonic()
        self._interim = self._told = 0
        self._told_at = 0.0
        self._tell_status()

    @contextlib.contextmanager
    def shown(self) -> Iterator[None]:
        """Show it while the block runs; the last word stays."""
        view = Live(get_renderable=self._line, console=self._console, transient=True, refresh_per_second=8)
        with view if self._live else contextlib.nullcontext():
            yield
        self._tell_interim()

    def take(self, document: JobDocument) -> None:
        """Take in what the server says; a status that is known already is not told again."""
        known, self._document = self._document, document
        if known.word != document.word:
            self._tell_status()

    def count_interim(self) -> None:
        """Take in that an interim result came; called from another thread."""
        self._interim += 1
        if not self._live and time.monotonic() - self._told_at >= LINE_SECONDS:
            self._tell_interim()

    def _tell_status(self) -> None:
        if not self._live:
            self._console.print(plain(self._document.id), status_text(self._document), soft_wrap=True)

    def _tell_interim(self) -> None:
        if self._interim == self._told:
            return
        self._told, self._told_at = self._interim, time.monotonic()
        self._console.print(_interim_text(self._told), soft_wrap=True)

    def _line(self) -> Spinner:
        seconds, backend = time.monotonic() - self._began, self._document.backend
        parts = [plain(self._document.id), Text(" "), status_text(self._document)]
        parts.append(plain(f" on {backend}, {seconds:.0f} s" if backend else f", {seconds:.0f} s"))
        parts.append(Text(f", {_interim_text(self._interim)}" if self._interim else ""))
        self._spinner.update(text=Text.assemble(*parts))
        return self._spinner


def _interim_text(count: int) -> str:
    return f"{count} interim result{'' if count == 1 else 's'}"


def wait_for(
    service: RuntimeService, job: RuntimeJob, *, timeout: float | None, with_interim: bool = False
) -> JobDocument:
    """Wait until a job is final, showing how it goes on, and return its document.

    Raises:
        RuntimeJobNotFound: There is no such job.
        JobTimeoutError: Not final in time. The job is left alone.
    """
    document = job.document()
    if document.is_final:
        return document
    progress = Progress(document)
    counting = _counting(service, job.job_id(), progress) if with_interim else contextlib.nullcontext()
    with progress.shown(), counting:
        job.wait_for_final_state(timeout=timeout, wait=None, on_change=progress.take)
    return job.document()


@contextlib.contextmanager
def _counting(service: RuntimeService, job_id: str, progress: Progress) -> Iterator[None]:
    """Count a job's interim results while the block runs, where the channel has them."""
    if not service.client.has_streams:
        yield
        return
    stream = InterimStream(service.client, job_id)

    def count() -> None:
        with contextlib.suppress(QiskitRuntimeError):  # the number is a courtesy; what counts is the status
            for _ in stream:
                progress.count_interim()

    thread = threading.Thread(target=count, name=f"interim-{job_id}", daemon=True)
    thread.start()
    try:
        yield
        thread.join(LAST_SECONDS)
    finally:
        stream.cancel()
