"""Jobs that their flow run has left behind, and whose they are now. Used by deferral.py, hooks.py and the CLI."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    FlowRunFilter,
    FlowRunFilterId,
    FlowRunFilterState,
    FlowRunFilterStateType,
)
from prefect.client.schemas.objects import StateType

from prefect_runtime.cards import read_all_cards, record_of
from prefect_runtime.client import RuntimeService
from prefect_runtime.client.duplicates import tagged
from prefect_runtime.client.submission import RUN_TAG_PREFIX
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import KEY_PREFIX, TAG, JobDocument

_log = get_logger(__name__)

Record = Mapping[str, str]

AT_ONCE = 100  # flow runs or cards in one request to Prefect, which gives 200: a request may have two cards


def unfinished(service: RuntimeService) -> Iterator[JobDocument]:
    """Give the account's unfinished jobs that this package has made, newest first, however many there are."""
    yield from (job for job in tagged(service.client, TAG, pending=True) if not job.is_final)


def records_of(prefect: SyncPrefectClient, jobs: Sequence[JobDocument]) -> dict[str, list[Record]]:
    """Return the records of the jobs' cards, by job id."""
    keys = sorted({key_of(job) for job in jobs} - {""})
    found: list[Record] = []
    for start in range(0, len(keys), AT_ONCE):
        found += map(record_of, read_all_cards(prefect, keys[start : start + AT_ONCE]))
    return {job.id: own_records(job, found) for job in jobs}


def own_records(job: JobDocument, records: Iterable[Record]) -> list[Record]:
    """Return those of some records that are of a job's cards: one, or two after a takeover; none of its duplicates'."""
    key = key_of(job)
    return [record for record in records if record.get("key") == key and record.get("job_id", job.id) == job.id]


def is_to_be_kept(records: Iterable[Record]) -> bool:
    """True if a wait was told to leave the job alone when its flow run is cancelled."""
    return any(record.get("on_cancel") == "keep" for record in records)


def heirs_of(records: Iterable[Record], root_run_id: str) -> set[str]:
    """Return the outermost flow runs that have asked for a job last; most often the one it was made for."""
    return {record.get("root_run") or root_run_id for record in records} or {root_run_id}


def key_of(job: JobDocument) -> str:
    """Return the key of a job's request; empty if it has none."""
    return next((tag for tag in job.tags if tag.startswith(KEY_PREFIX)), "")


def cancel_orphans(
    service: RuntimeService, prefect: SyncPrefectClient, jobs: Sequence[JobDocument]
) -> Iterator[JobDocument]:
    """Cancel those of some jobs whose flow run was cancelled, and give what the runtime says of each then.

    One whose wait was told to keep it (``on_cancel="keep"``, on its card) goes on, as where a hook sees the end; and so
    does one that another flow run has asked for since.
    """
    candidates = _of_cancelled_runs(prefect, jobs)
    records = records_of(prefect, candidates)
    for job in candidates:
        own_run = str(_run_of(job))
        if is_to_be_kept(records[job.id]) or own_run not in heirs_of(records[job.id], own_run):
            continue
        try:
            service.client.cancel(job.id)
            yield service.client.job(job.id)
        except QiskitRuntimeError as error:
            _log.warning("job %s: its flow run was cancelled, and it could not be (%s)", job.id, error)


def _of_cancelled_runs(prefect: SyncPrefectClient, jobs: Sequence[JobDocument]) -> list[JobDocument]:
    run_of = {job.id: _run_of(job) for job in jobs}
    runs = sorted({run_id for run_id in run_of.values() if run_id is not None})
    cancelled: set[UUID] = set()
    for start in range(0, len(runs), AT_ONCE):
        chosen = FlowRunFilter(
            id=FlowRunFilterId(any_=runs[start : start + AT_ONCE]),
            state=FlowRunFilterState(type=FlowRunFilterStateType(any_=[StateType.CANCELLED])),
        )
        cancelled |= {run.id for run in prefect.read_flow_runs(flow_run_filter=chosen, limit=AT_ONCE)}
    return [job for job in jobs if run_of[job.id] in cancelled]


def _run_of(job: JobDocument) -> UUID | None:
    """Return the outermost flow run that a job was made for."""
    tag = next((tag for tag in job.tags if tag.startswith(RUN_TAG_PREFIX)), "")
    try:
        return UUID(tag.removeprefix(RUN_TAG_PREFIX))
    except ValueError:
        return None
