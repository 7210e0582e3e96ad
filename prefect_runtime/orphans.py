"""Jobs that their flow run has left behind, and whose they are now. Used by deferral.py, hooks.py and the CLI."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
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

AT_ONCE = 100  # flow runs or cards in one request to Prefect, which gives 200: a request may have two cards


def unfinished(service: RuntimeService) -> Iterator[JobDocument]:
    """Give the account's unfinished jobs that this package has made, newest first, however many there are."""
    yield from (job for job in tagged(service.client, TAG, pending=True) if not job.is_final)


def records_of(prefect: SyncPrefectClient, jobs: Sequence[JobDocument]) -> dict[str, dict[str, str]]:
    """Return the records of the jobs' cards, by job id, as far as they have cards."""
    keys = sorted({tag for job in jobs for tag in job.tags if tag.startswith(KEY_PREFIX)})
    found: dict[str, dict[str, str]] = {}
    for start in range(0, len(keys), AT_ONCE):
        for record in map(record_of, read_all_cards(prefect, keys[start : start + AT_ONCE])):
            found[record.get("job_id", "")] = record
    return found


def is_to_be_kept(record: Mapping[str, str]) -> bool:
    """True if a wait was told to leave the job alone when its flow run is cancelled."""
    return record.get("on_cancel") == "keep"


def heir_of(record: Mapping[str, str], root_run_id: str) -> str:
    """Return the outermost flow run that has asked for a job last; most often the one it was made for."""
    return record.get("root_run") or root_run_id


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
        record, own_run = records.get(job.id, {}), str(_run_of(job))
        if is_to_be_kept(record) or heir_of(record, own_run) != own_run:
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
