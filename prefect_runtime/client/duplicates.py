"""Jobs that carry a request's key: finding them, and keeping one where there are more.

Used by settling.py, and on Prefect's side.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from prefect_runtime.client.request import FINGERPRINT_TAG_PREFIX, Card, Journal
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument, JobStatus

_log = get_logger(__name__)

PAGE, MAX_PAGES = 200, 50


def fingerprint_tag(card: Card) -> str:
    """Return the tag that tells requests with the same explicit key apart."""
    return f"{FINGERPRINT_TAG_PREFIX}{card.fingerprint[:40]}"


def tagged(client: RuntimeClient, tag: str, *, pending: bool | None = None) -> Iterator[JobDocument]:
    """Give the jobs that carry a tag, newest first, also of a server that does not know the filter.

    Whoever does something to them that takes them off the list collects all of them first.
    """
    for page in range(MAX_PAGES):
        jobs = client.jobs(limit=PAGE, offset=page * PAGE, pending=pending, tags=[tag])
        yield from (job for job in jobs if tag in job.tags)
        if len(jobs) < PAGE:
            return


def jobs_of(client: RuntimeClient, key: str) -> list[JobDocument]:
    """Return the jobs that carry a request's key, newest first."""
    return list(tagged(client, key))


def sweep(client: RuntimeClient, journal: Journal, card: Card) -> None:
    """Look once more for jobs of one request: for a card whose answer was lost, when its job is final.

    Raises nothing: the result is there, and a look that fails must not keep it from its owner.
    """
    try:
        matches = [job for job in jobs_of(client, card.key) if _may_be_of(card, job)]
    except QiskitRuntimeError as error:
        _log.warning("request %s: could not look for duplicates (%s)", card.key, error)
        return
    if len(matches) > 1:
        settle_duplicates(client, journal, card, matches)


def settle_duplicates(
    client: RuntimeClient, journal: Journal, card: Card, matches: Sequence[JobDocument]
) -> JobDocument:
    """Return the one job to keep of those with the request's key; cancel the others where that is still possible.

    There is more than one only if the server's list was stale for longer than the settling time. Kept is the one the
    card names, else one that is done, else the oldest that still can be: everybody who looks decides alike.
    """
    oldest_first = sorted(matches, key=lambda job: (job.created or "", job.id))
    known = [job for job in oldest_first if job.id == card.job_id]
    done = [job for job in oldest_first if job.status is JobStatus.DONE]
    alive = [job for job in oldest_first if not job.is_final]
    kept = (known or done or alive or oldest_first)[0]
    others = [job for job in oldest_first if job.id != kept.id]
    if others:
        ids = [job.id for job in others]
        _log.warning("request %s has %d jobs: keeping %s, cancelling %s", card.key, len(matches), kept.id, ids)
        for job in others:
            _cancel_duplicate(client, job)
        journal.report_duplicates(card, kept.id, ids)
    return kept


def _may_be_of(card: Card, job: JobDocument) -> bool:
    """Tell whether a job with the card's key is of its request: an explicit key may have been given to two."""
    marks = [tag for tag in job.tags if tag.startswith(FINGERPRINT_TAG_PREFIX)]
    return not marks or (bool(card.fingerprint) and fingerprint_tag(card) in marks)


def _cancel_duplicate(client: RuntimeClient, job: JobDocument) -> None:
    if job.is_final:
        return
    try:
        client.cancel(job.id)
    except QiskitRuntimeError as error:
        _log.warning("job %s: a duplicate that could not be cancelled (%s)", job.id, error)
