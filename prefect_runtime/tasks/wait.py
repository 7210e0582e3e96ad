"""Tasks that wait for a job to be final, and fetch its result."""

from __future__ import annotations

import importlib
import threading
import time
from collections.abc import Sequence
from typing import Any, Literal

from prefect import task
from prefect.artifacts import create_image_artifact
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from prefect_runtime import plots
from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.client import JobStatus, ResultDecoder, RuntimeJob, RuntimeService
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.tasks.cancellation import OnCancel, no_longer_watched, watching
from prefect_runtime.tasks.names import about_job
from prefect_runtime.tasks.note import Logger, handle_of, heard, note, note_if_final
from prefect_runtime.tasks.relay import relayed
from prefect_runtime.wire.errors import (
    ConfigurationError,
    JobTimeoutError,
    QiskitRuntimeError,
    RuntimeInvalidStateError,
    WaitInterruptedError,
)
from prefect_runtime.wire.models import JobDocument

OnTimeout = Literal["keep", "cancel"]

LIVE_AFTER_SECONDS = 1.0
"""From then on the card shows that the job runs: before, nobody has opened it yet."""


@task(name="Wait for job", task_run_name=about_job("Wait for job"), retries=0, cache_policy=NO_CACHE)
def wait_for_final_state(
    credentials: CredentialsLike,
    job_id: str,
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    on_cancel: OnCancel = "cancel",
    raise_on_failure: bool = True,
) -> JobStatus:
    """Wait until a job is final and return its status. A failed poll ends nothing.

    Three clocks run, and none of them stops another: the block's ``request_timeout_seconds`` ends one request to the
    runtime; `timeout` ends the wait, and the job goes on unless told otherwise; ``max_execution_time`` ends the job.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to wait in all; None for as long as it takes.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_timeout: What happens to the job at the timeout: "keep" leaves it alone, "cancel" cancels it.
        on_cancel: What happens to the job when somebody cancels the flow run: "cancel" or "keep". What is not that, a
            worker that goes down for instance, leaves the job to the next execution in any case.
        raise_on_failure: Raise if the job failed or was cancelled, so that the flow run is not Completed.

    Raises:
        JobTimeoutError: Not final in time; the task run's state is then called TimedOut.
        RuntimeJobFailureError: The job failed (`RuntimeJobMaxTimeoutError`: it ran too long).
        RuntimeInvalidStateError: The job was cancelled, for instance with its flow run.
        WaitInterruptedError: The flow run was cancelled, and the job kept.
    """
    check_waiting(timeout=timeout, wait=wait, on_timeout=on_timeout, on_cancel=on_cancel)
    service, pause = _open(credentials, wait)
    with service:
        job = handle_of(service, job_id)
        try:
            _wait(service, job, timeout, pause, on_timeout=on_timeout, on_cancel=on_cancel)
        except JobTimeoutError:
            note_if_final(service, job)
            raise
        document = job.document()
        status = document.known_status()
        failed = raise_on_failure and status is not JobStatus.DONE
        note(service, document, delivered=failed)
        if failed:
            raise job.failure()
        return status


@task(name="Fetch result", task_run_name=about_job("Fetch result of job"), retries=0, cache_policy=NO_CACHE)
def fetch_result(
    credentials: CredentialsLike,
    job_id: str,
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    on_cancel: OnCancel = "cancel",
    decoder: type[ResultDecoder] | str | None = None,
    histogram: bool = False,
) -> Any:
    """Return a job's result, waiting for it if need be.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to wait in all; None for as long as it takes.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_timeout: What happens to the job at the timeout: "keep" or "cancel".
        on_cancel: What happens to the job when somebody cancels the flow run: "cancel" or "keep".
        decoder: A `ResultDecoder` class, or where it is: ``"package.module:Class"``.
        histogram: Also show counts as a picture, an image artifact of the run (extra ``plots``).

    Raises:
        RuntimeJobFailureError: The job failed; the message has the program's traceback.
        RuntimeInvalidStateError: The job was cancelled: it has no result.
        WaitInterruptedError: The flow run was cancelled, and the job kept.
        JobTimeoutError: Not final in time, or its result had not come by then.
        ResultDecodeError: The result cannot be read with this decoder.
        ResultLostError: It was there and can never be fetched again, such as a private one that was cut off.
    """
    check_waiting(timeout=timeout, wait=wait, on_timeout=on_timeout, on_cancel=on_cancel)
    decoder_class = check_fetching(decoder, histogram=histogram)
    service, pause = _open(credentials, wait)
    with service:
        deadline = Deadline(timeout, service.client.clock)
        job = handle_of(service, job_id)
        try:
            _wait(service, job, timeout, pause, on_timeout=on_timeout, on_cancel=on_cancel, quiet=True)
        except JobTimeoutError:
            note_if_final(service, job)
            raise
        document = job.document()
        if document.known_status() is not JobStatus.DONE:
            note(service, document, delivered=True)
            raise job.failure()
        result = job.result(None if timeout is None else deadline.remaining(), decoder=decoder_class)
        note(service, document, result=result)
        if histogram:
            _show_histogram(job_id, result)
        return result


def _show_histogram(job_id: str, result: Any) -> None:
    """Show the counts of a result as an image artifact; a picture that cannot be made costs nobody the result."""
    try:
        picture = plots.histogram(result)
        if picture is not None:
            create_image_artifact(picture, description=f"Counts of job {job_id}")
    except Exception as error:  # noqa: BLE001 - see above
        get_run_logger().warning("Job %s: its counts could not be shown as a picture (%s)", job_id, error)


def _open(credentials: CredentialsLike, wait: float | None) -> tuple[RuntimeService, float | None]:
    """Return a client, and the longest pause between two looks at a job: the call's, else the block's."""
    block = load_credentials(credentials)
    return block.get_client(), block.wait_seconds if wait is None else wait


def _wait(
    service: RuntimeService,
    job: RuntimeJob,
    timeout: float | None,
    pause: float | None,
    *,
    on_timeout: OnTimeout,
    on_cancel: OnCancel,
    quiet: bool = False,
) -> None:
    """Wait, with a log line for each change of status; `quiet` leaves it out for a job that was final before."""
    logger = get_run_logger()
    tell = _Telling(service, logger, kept=on_cancel == "keep", quiet=quiet)
    known = job.known_document
    if known is not None and known.is_final:  # by an earlier task: nothing to wait for, nothing to cancel
        tell(known)
        no_longer_watched([known.id])
        return
    try:
        with (
            watching(service, [job.job_id()], on_cancel) as interrupt,
            relayed(service, job.job_id(), logger, tell.running),
        ):
            job.wait_for_final_state(timeout=timeout, wait=pause, on_change=tell, interrupt=interrupt)
        no_longer_watched([job.job_id()])
    except WaitInterruptedError:
        if not _is_final_now(job):
            raise
    except JobTimeoutError as error:
        if on_timeout != "cancel":
            raise
        _cancel_after_timeout(job, logger)
        words = error.message.partition(" It was left alone")[0]
        raise JobTimeoutError(
            f"{words} It was to be cancelled then; the log says whether it was.", job_id=job.job_id()
        ) from None


class _Telling:
    """Tells what becomes of a job while it is waited for: events, its card, and a line in the run's log.

    Args:
        service: The account.
        logger: Of the run.
        kept: The job is to go on if its flow run is cancelled; a hook in another process reads that on the card.
        quiet: No line for a job of which the first news is that it is final.

    Attributes:
        running: Set once the job runs.
    """

    def __init__(self, service: RuntimeService, logger: Logger, *, kept: bool, quiet: bool) -> None:
        self.running = threading.Event()
        self._service, self._logger = service, logger
        self._kept, self._quiet = kept, quiet
        self._begun = time.monotonic()
        self._is_first = True

    def __call__(self, document: JobDocument) -> None:
        heard(self._service, document)
        self._on_card(document)
        if not (self._quiet and self._is_first and document.is_final):
            word = document.status.name if document.status else document.word
            where = f" on {document.backend}" if document.backend else ""
            self._logger.info("Job %s: %s%s", document.id, word, where)
        self._is_first = False

    def _on_card(self, document: JobDocument) -> None:
        if document.status is JobStatus.RUNNING:
            self.running.set()
            if time.monotonic() - self._begun > LIVE_AFTER_SECONDS:
                note(self._service, document)
        if self._kept and self._is_first and not document.is_final:
            note(self._service, document, kept=True)


def _cancel_after_timeout(job: RuntimeJob, logger: Logger) -> None:
    try:
        job.cancel()
    except RuntimeInvalidStateError:
        logger.info("Job %s became final just now: not cancelled", job.job_id())
    except QiskitRuntimeError as error:
        logger.warning("Job %s could not be cancelled after the timeout: %s", job.job_id(), error)
    else:
        known = job.known_document  # nothing is asked any more: whatever came of that would hide the timeout
        logger.info(
            "Job %s: cancelled after the timeout, last known as %s", job.job_id(), known.word if known else "unknown"
        )


def _is_final_now(job: RuntimeJob) -> bool:
    try:
        return job.document().is_final
    except QiskitRuntimeError:
        return False


def check_waiting(
    *, timeout: float | None, wait: float | None = None, on_timeout: str, on_cancel: str = "cancel"
) -> None:
    """Refuse what no wait could be told. Who submits first asks this before, so that no job is made in vain.

    Raises:
        ConfigurationError: An argument that cannot be; the message names it.
    """
    check_choice("on_timeout", on_timeout, ("keep", "cancel"))
    check_choice("on_cancel", on_cancel, ("keep", "cancel"))
    check_seconds("timeout", timeout)
    check_seconds("wait", wait)


def check_fetching(decoder: type[ResultDecoder] | str | None, *, histogram: bool) -> type[ResultDecoder] | None:
    """Return the class that decodes, if one is given; make sure that the result can be shown as asked for.

    Raises:
        ConfigurationError: It cannot be loaded, or what makes pictures is not installed.
    """
    if histogram:
        plots.check_installed()
    return _load_decoder(decoder)


def check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    """Refuse a word that is none of the choices.

    Raises:
        ConfigurationError: It is not.
    """
    if value not in choices:
        raise ConfigurationError(f"{name}: {value!r} is none of {', '.join(choices)}.")


def _load_decoder(decoder: type[ResultDecoder] | str | None) -> type[ResultDecoder] | None:
    if decoder is None:
        return None
    if not isinstance(decoder, str):
        if not hasattr(decoder, "decode"):
            raise ConfigurationError(f"decoder: {decoder!r:.80} must be a class with a decode method.")
        return decoder
    module, colon, name = decoder.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"decoder: {decoder!r} cannot be loaded ({type(error).__name__}).") from None
    if not colon or not hasattr(found, "decode"):
        raise ConfigurationError(f"decoder: {decoder!r} must name a class with a decode method: package.module:Class.")
    loaded: type[ResultDecoder] = found
    return loaded
