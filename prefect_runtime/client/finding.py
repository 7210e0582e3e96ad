"""Finding jobs: filters, and pages that repeat no job and do not go on for ever. Used by service and tasks.

A list that gets shorter while we page loses jobs: where only pending ones are wanted and some finish between two pages,
those behind them move up, past us. No runtime has pages that stay as they are; to be sure, ask again.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from prefect_runtime.client.endpoints.jobs import JobCalls
from prefect_runtime.client.request import check_words, texts
from prefect_runtime.client.retry import is_whole_number
from prefect_runtime.client.submission import RUN_TAG_PREFIX
from prefect_runtime.wire.errors import ConfigurationError, ProtocolError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import JobDocument, JobStatus

PAGE = 200  # the most that a runtime gives at once (IBM's REST API 0.45.3)


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFilter:
    """Which jobs are wanted.

    Attributes:
        tags: With all of these.
        pending: True for queued and running ones, False for final ones, None for both.
        program_id: Of this program.
        backend: On this backend.
        session_id: In this session.
        created_after: Created at this moment or later, aware.
        created_before: Created at this moment or earlier, aware.
        statuses: In one of these; all if empty.
    """

    tags: tuple[str, ...] = ()
    pending: bool | None = None
    program_id: str | None = None
    backend: str | None = None
    session_id: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    statuses: frozenset[JobStatus] = frozenset()

    @classmethod
    def of(
        cls,
        *,
        tags: Sequence[str] = (),
        flow_run_id: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        status: JobStatus | str | Sequence[JobStatus | str] | None = None,
        pending: bool | None = None,
        program_id: str | None = None,
        backend: str | None = None,
        session_id: str | None = None,
    ) -> JobFilter:
        """Return a filter from what people write.

        Raises:
            ConfigurationError: Something that is no tag, time or status.
        """
        check_words(program_id=program_id, backend=backend, session_id=session_id)
        run_tag = [f"{RUN_TAG_PREFIX}{flow_run_id}"] if flow_run_id else []
        statuses = _statuses(status)
        if pending is None and statuses and len({one.is_final for one in statuses}) == 1:
            pending = not next(iter(statuses)).is_final  # what the server can leave out, it need not send
        return cls(
            tags=(*texts("tags", tags), *run_tag),
            pending=pending,
            program_id=program_id,
            backend=backend,
            session_id=session_id,
            created_after=_moment("created_after", created_after),
            created_before=_moment("created_before", created_before),
            statuses=statuses,
        )

    def admits(self, job: JobDocument) -> bool:
        """Tell whether a job is one of them: a server may ignore a filter that it does not know."""
        return (
            set(self.tags) <= set(job.tags)
            and (self.pending is None or job.is_final is not self.pending)
            and self.program_id in (None, job.program_id)
            and self.backend in (None, job.backend)
            and (self.session_id is None or job.session_id == self.session_id)
            and (not self.statuses or job.status in self.statuses)
            and self._is_in_time(job)
        )

    def _is_in_time(self, job: JobDocument) -> bool:
        if self.created_after is None and self.created_before is None:
            return True
        try:
            created = parse_time(job.created)
        except ProtocolError:
            created = None
        if created is None:
            return False
        after, before = self.created_after, self.created_before
        return (after is None or created >= after) and (before is None or created <= before)


def find(client: JobCalls, wanted: JobFilter, *, limit: int | None = None, skip: int = 0) -> Iterator[JobDocument]:
    """Give the jobs that are wanted, newest first, each once; see above for those that may be missed.

    Args:
        client: Asks the server.
        wanted: Which.
        limit: How many at most; None for all.
        skip: How many of the server's to leave out at the start.

    Raises:
        ConfigurationError: A limit, or a number to skip, that is none.
    """
    if limit is not None and not _is_count(limit):
        raise ConfigurationError(f"limit: must be a whole number, 0 or more, or None; got {limit!r}.")
    if not _is_count(skip):
        raise ConfigurationError(f"skip: must be a whole number, 0 or more; got {skip!r}.")
    seen: set[str] = set()
    given, offset = 0, skip
    while limit is None or given < limit:
        # Only the first page is as small as what is wanted: a later one has to be longer than what was made meanwhile.
        size = PAGE if limit is None or wanted.statuses or seen else min(PAGE, limit)
        page = client.jobs(
            limit=size,
            offset=offset,
            pending=wanted.pending,
            program=wanted.program_id,
            backend=wanted.backend,
            session_id=wanted.session_id,
            tags=wanted.tags,
            created_after=_text(wanted.created_after),
            created_before=_text(wanted.created_before),
        )
        new = [job for job in page if job.id not in seen]  # a job made while we page moves the others on
        seen.update(job.id for job in new)
        for job in new:
            if wanted.admits(job):
                yield job
                given += 1
                if given == limit:
                    return
        offset += len(page)
        if len(page) < size or not new:  # the last; or from a server that knows no pages
            return


def _is_count(value: Any) -> bool:
    return is_whole_number(value) and value >= 0


def find_summary(job: JobDocument) -> dict[str, Any]:
    """Return what is known of a job as plain values, without inputs."""
    flow_run = next((tag.removeprefix(RUN_TAG_PREFIX) for tag in job.tags if tag.startswith(RUN_TAG_PREFIX)), None)
    return {
        "job_id": job.id,
        "status": job.status.name if job.status else job.word,
        "program_id": job.program_id or None,
        "backend": job.backend or None,
        "created": job.created,
        "tags": list(job.tags),
        "flow_run_id": flow_run,
        "session_id": job.session_id,
        "usage_seconds": job.usage_seconds,
    }


def _text(moment: datetime | None) -> str | None:
    return None if moment is None else moment.isoformat().replace("+00:00", "Z")


def _moment(name: str, value: datetime | str | None) -> datetime | None:
    if isinstance(value, datetime):
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)
    try:
        return parse_time(value)
    except (ProtocolError, TypeError):
        raise ConfigurationError(f"{name}: must be a time, such as 2026-01-31T12:00:00Z.") from None


def _statuses(status: JobStatus | str | Sequence[JobStatus | str] | None) -> frozenset[JobStatus]:
    if status is None:
        return frozenset()
    if not isinstance(status, JobStatus | str | Iterable):
        raise ConfigurationError(f"status: must be a status, or a list of some; got {status!r:.80}.")
    several = [status] if isinstance(status, JobStatus | str) else list(status)
    names = [one.name if isinstance(one, JobStatus) else str(one).upper() for one in several]
    unknown = [name for name in names if name not in JobStatus.__members__]
    if unknown:
        raise ConfigurationError(f"status: {unknown[0]!r} is none of {', '.join(JobStatus.__members__)}.")
    return frozenset(JobStatus[name] for name in names)
