"""Waiting for many jobs at once: one task with one progress artifact, or an iterator in a flow's body."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.client.request import texts
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.tasks.cancellation import OnCancel, kept_on_cards, no_longer_watched, watching
from prefect_runtime.tasks.note import note, run_logger
from prefect_runtime.tasks.progress import Progress
from prefect_runtime.tasks.wait import check_choice
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, RuntimeJobFailureError
from prefect_runtime.wire.models import JobDocument

OnProgress = Callable[[int, int, str, JobStatus], None]
"""Called with how many jobs are final, how many there are, and the id and status of the one that has just become so."""

NAMED_IN_ERRORS = 5


@task(name="Wait for jobs", task_run_name="Wait for jobs", retries=0, cache_policy=NO_CACHE)
def wait_for_jobs(
    credentials: CredentialsLike,
    job_ids: Sequence[str],
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_progress: OnProgress | None = None,
    on_cancel: OnCancel = "cancel",
    raise_on_failure: bool = True,
) -> dict[str, JobStatus]:
    """Wait until all jobs are final and return their statuses, in one task, with one progress artifact.

    Args:
        credentials: A block, or the name of a saved one.
        job_ids: The jobs; one that is named twice is waited for once.
        timeout: Seconds to wait in all; None for as long as it takes. The jobs are left alone.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_progress: Called after each job that became final, with the number of those, of all, its id and its status.
            What it raises ends the wait.
        on_cancel: What happens to the jobs that are not final when somebody cancels the flow run: "cancel" or "keep".
        raise_on_failure: Raise, when all are final, if one failed or was cancelled.

    Raises:
        JobTimeoutError: Not all were final in time; names those that were not.
        RuntimeJobFailureError: Not all are DONE; names those that are not. The others' results can be fetched.
        WaitInterruptedError: The flow run was cancelled.
    """
    ids = _checked(job_ids)
    check_choice("on_cancel", on_cancel, ("keep", "cancel"))
    if on_progress is not None and not callable(on_progress):  # else the first job's end would end the wait
        raise ConfigurationError(f"on_progress: must be a function; got {on_progress!r:.80}.")
    block = load_credentials(credentials)
    statuses: dict[str, JobStatus] = {}
    failed: list[JobDocument] = []
    with block.get_client() as service:
        with Progress(_so_many(0, len(ids))) as progress:
            pause = block.wait_seconds if wait is None else wait
            for document in _final(service, ids, timeout, pause, on_cancel):
                status = statuses[document.id] = document.known_status()
                failed += [document] if status is not JobStatus.DONE else []
                note(service, document)
                progress.show(100 * len(statuses) / len(ids), _so_many(len(statuses), len(ids)))
                if on_progress is not None:
                    on_progress(len(statuses), len(ids), document.id, status)
        if failed and raise_on_failure:
            for document in failed:
                note(service, document, delivered=True)
            raise _failure(failed, len(ids))
    return {job_id: statuses[job_id] for job_id in ids}


def _so_many(done: int, total: int) -> str:
    return f"{done} of {total} jobs are final"


def _failure(failed: Sequence[JobDocument], total: int) -> RuntimeJobFailureError:
    words = ", ".join(f"{document.id} ({document.word})" for document in failed[:NAMED_IN_ERRORS])
    more = f" and {len(failed) - NAMED_IN_ERRORS} more" if len(failed) > NAMED_IN_ERRORS else ""
    return RuntimeJobFailureError(
        f"{len(failed)} of {total} jobs did not end well: {words}{more}. fetch_result says why, job by job.",
        job_id=failed[0].id,
    )


def as_completed(
    credentials: CredentialsLike,
    job_ids: Sequence[str],
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_cancel: OnCancel = "cancel",
) -> Iterator[tuple[str, JobStatus]]:
    """Give each job's id and status as it becomes final, the first first. A plain iterator, for a flow's body.

    Args:
        credentials: A block, or the name of a saved one.
        job_ids: The jobs; one that is named twice is given once.
        timeout: Seconds to wait in all, the time between two `next` included; None for as long as it takes.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_cancel: What happens to the jobs that are not final when somebody cancels the flow run: "cancel" or "keep".

    Raises:
        JobTimeoutError: Not all were final in time; names those that were not.
        WaitInterruptedError: The flow run was cancelled.
    """
    ids = _checked(job_ids)
    check_choice("on_cancel", on_cancel, ("keep", "cancel"))
    block = load_credentials(credentials)
    with block.get_client() as service:
        for document in _final(service, ids, timeout, block.wait_seconds if wait is None else wait, on_cancel):
            note(service, document)
            yield document.id, document.known_status()


def _checked(job_ids: Sequence[str]) -> list[str]:
    ids = dict.fromkeys(texts("job_ids", job_ids))
    if "" in ids:
        raise ConfigurationError("job_ids: must be a list of job ids.")
    return list(ids)


def _final(
    service: RuntimeService, ids: Sequence[str], timeout: float | None, wait: float | None, on_cancel: OnCancel
) -> Iterator[JobDocument]:
    """Give the documents of jobs as they become final, with a line in the run's log.

    Raises:
        JobTimeoutError: Not all were in time.
        WaitInterruptedError: The flow run was cancelled.
    """
    check_seconds("timeout", timeout)
    check_seconds("wait", wait)
    left = dict.fromkeys(ids)
    deadline = Deadline(timeout, service.client.clock)
    monitor = service.client.monitor
    watched = watching(service, ids, on_cancel, left=left)
    with watched as interrupt, kept_on_cards(service, ids, on_cancel):
        for document in monitor.as_completed(ids, deadline=deadline, longest_pause=wait, interrupt=interrupt):
            del left[document.id]
            no_longer_watched([document.id])
            run_logger().info("Job %s: %s (%d of %d)", document.id, document.word, len(ids) - len(left), len(ids))
            yield document
    if left:
        names = ", ".join(list(left)[:NAMED_IN_ERRORS]) + (", …" if len(left) > NAMED_IN_ERRORS else "")
        raise JobTimeoutError(
            f"{len(left)} of {len(ids)} jobs were not final after {timeout:g} s: {names}. They were left alone.",
            job_id=next(iter(left)),
        )
