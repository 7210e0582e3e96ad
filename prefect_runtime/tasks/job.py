"""Tasks that look at a job or cancel it, whatever its status."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger

from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.client import JobStatus, ResultDecoder
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.tasks.cancellation import OnCancel, kept_on_cards, watching
from prefect_runtime.tasks.names import about_job
from prefect_runtime.tasks.note import handle_of, note, run_logger
from prefect_runtime.tasks.progress import Progress, percent_of
from prefect_runtime.tasks.relay import MOST_LINES, Relay
from prefect_runtime.tasks.wait import check_choice
from prefect_runtime.wire.errors import JobTimeoutError, RuntimeInvalidStateError

INTERIM_CHARACTERS_IN_LOG = 300


@task(name="Fetch logs", task_run_name=about_job("Fetch log of job"), retries=0, cache_policy=NO_CACHE)
def fetch_logs(credentials: CredentialsLike, job_id: str) -> str:
    """Return a job's log, standard output and error; empty if there is none. Warns if the job is not final yet.

    Its lines stand in the run's log as well, those that a wait has not relayed already.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        job, logger = handle_of(service, job_id), get_run_logger()
        document = job.document()
        if not document.is_final:
            logger.warning("Job %s is not final yet: its log may grow", job_id)
        text = job.logs()
        Relay.of(service, job_id).text(text, logger, whole=document.is_final)
        note(service, document, log=text)
        return text


@task(name="Stream results", task_run_name=about_job("Stream results of job"), retries=0, cache_policy=NO_CACHE)
def stream_results(
    credentials: CredentialsLike, job_id: str, *, timeout: float | None = None, on_cancel: OnCancel = "cancel"
) -> list[Any]:
    """Return all interim results of a job, in order, each once, after relaying them to the run's log as they come.

    Also what was published before the task started. Ends with the job. Where the results say how far the program is
    (``{"iteration": 5, "total": 20}`` or ``{"progress": 0.25}``), a progress artifact shows it.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to listen in all; None until the job is final.
        on_cancel: What happens to the job when somebody cancels the flow run: "cancel" or "keep".

    Raises:
        JobTimeoutError: The job was not final in time.
        WaitInterruptedError: The flow run was cancelled.
        InterimResultsUnavailableError: This channel has no stream.
        TransportError: The stream broke and could not be opened again; job and result are not affected.
    """
    logger = get_run_logger()
    results: list[Any] = []
    with Progress() as progress:
        for text in _interim_texts(credentials, job_id, timeout, on_cancel):
            results.append(ResultDecoder.decode(text))
            if len(results) <= MOST_LINES:
                logger.info("Job %s: interim result %d: %s", job_id, len(results), _short(text))
            elif len(results) == MOST_LINES + 1:
                logger.warning(
                    "Job %s: more than %d interim results; all are what this task returns", job_id, MOST_LINES
                )
            _show(progress, job_id, results[-1], len(results))
    return results


def iter_results(
    credentials: CredentialsLike, job_id: str, *, timeout: float | None = None, on_cancel: OnCancel = "cancel"
) -> Iterator[Any]:
    """Give the interim results of a job as they come, in order, each once. A plain iterator, for a flow's body.

    Also what was published before it began. Ends with the job; who stops earlier leaves the job alone. In a run, a
    progress artifact shows how far the program is, where its results say so (see `stream_results`).

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to listen in all, the time between two `next` included; None until the job is final.
        on_cancel: What happens to the job when somebody cancels the flow run: "cancel" or "keep".

    Raises:
        JobTimeoutError: The job was not final in time.
        WaitInterruptedError: The flow run was cancelled.
        InterimResultsUnavailableError: This channel has no stream.
        TransportError: The stream broke and could not be opened again; job and result are not affected.
    """
    in_a_run = FlowRunContext.get() is not None or TaskRunContext.get() is not None
    with Progress() as progress:
        for count, text in enumerate(_interim_texts(credentials, job_id, timeout, on_cancel), 1):
            result = ResultDecoder.decode(text)
            if in_a_run:
                _show(progress, job_id, result, count)
            yield result


def _show(progress: Progress, job_id: str, result: Any, count: int) -> None:
    percent = percent_of(result)
    if percent is not None:
        progress.show(percent, f"Job {job_id}: {count} interim results")


def _interim_texts(
    credentials: CredentialsLike, job_id: str, timeout: float | None, on_cancel: OnCancel
) -> Iterator[str]:
    check_seconds("timeout", timeout)
    check_choice("on_cancel", on_cancel, ("keep", "cancel"))
    with load_credentials(credentials).get_client() as service:
        deadline = Deadline(timeout, service.client.clock)
        stream = InterimStream(service.client, job_id)
        count = 0
        try:
            with (
                watching(service, [job_id], on_cancel) as interrupt,
                interrupt.waking(stream.cancel),
                kept_on_cards(service, [job_id], on_cancel),
            ):
                while (text := stream.next_text(None if timeout is None else deadline.remaining())) is not None:
                    count += 1
                    yield text
                interrupt.check(job_id)
        except TimeoutError:
            raise JobTimeoutError(
                f"Job {job_id} was still publishing after {timeout:g} s; {count} interim results had come. "
                "It was left alone.",
                job_id=job_id,
            ) from None
        finally:
            stream.cancel()


@task(name="Job status", task_run_name=about_job("Status of job"), retries=0, cache_policy=NO_CACHE)
def job_status(credentials: CredentialsLike, job_id: str) -> JobStatus:
    """Return a job's status, as the runtime says it is now.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        IBMQError: The runtime gave a status that this version does not know.
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        return service.client.job(job_id).known_status()


@task(name="Cancel job", task_run_name=about_job("Cancel job"), retries=0, cache_policy=NO_CACHE)
def cancel_job(credentials: CredentialsLike, job_id: str) -> JobStatus:
    """Cancel a job and return its status as read back from the runtime; DONE if it was quicker.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        try:
            service.client.cancel(job_id)
        except RuntimeInvalidStateError:
            run_logger().info("Job %s was final already", job_id)
        document = service.client.job(job_id)
        note(service, document)
        return document.known_status()


def _short(text: str) -> str:
    return text if len(text) <= INTERIM_CHARACTERS_IN_LOG else f"{text[:INTERIM_CHARACTERS_IN_LOG]}… ({len(text)})"
