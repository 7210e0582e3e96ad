"""A hook for flows: `cancel_jobs`. What is left to do when the flow's own process cannot do it any more.

Prefect runs the hooks of a cancelled or crashed flow run in another process, which knows nothing of the tasks: what it
can find are the flow run's job cards, and at the runtime the jobs that carry the flow run's tag.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import (
    ArtifactFilter,
    ArtifactFilterFlowRunId,
    FlowRunFilter,
    FlowRunFilterParentFlowRunId,
)
from prefect.client.schemas.objects import FlowRun, State
from prefect.logging.loggers import flow_run_logger

from prefect_runtime import cards
from prefect_runtime.blocks.credentials import load_credentials
from prefect_runtime.cards import record_of
from prefect_runtime.client import RuntimeService
from prefect_runtime.client.discovery import find
from prefect_runtime.client.duplicates import tagged
from prefect_runtime.client.submission import RUN_TAG_PREFIX
from prefect_runtime.execution import lineage_of
from prefect_runtime.flow_watch import each_at_once
from prefect_runtime.memory import Memory
from prefect_runtime.orphans import heirs_of, is_to_be_kept, key_of, own_records
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.session_cards import close_left, open_sessions
from prefect_runtime.tasks.cancellation import cancel_and_read_back, has_failed
from prefect_runtime.wire.environment import home
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeJobNotFound
from prefect_runtime.wire.models import KEY_PREFIX, JobDocument

if TYPE_CHECKING:
    from prefect.flows import Flow

PAGE, MAX_PAGES = 200, 50

Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]


def cancel_jobs(flow: Flow[..., Any], flow_run: FlowRun, state: State[Any]) -> None:  # noqa: ARG001 - Prefect's signature
    """Cancel the jobs of a flow run and of its subflows that are not final; harmless when there are none, or again.

    Use it as ``@flow(on_cancellation=[cancel_jobs])``; as ``on_crashed`` too only if a flow run that crashes shall not
    find its jobs again when it is executed once more. Jobs for which somebody waits with ``on_cancel="keep"`` are left
    alone. Needs credentials that were saved as a block, or the embedded runtime; the log names the jobs of others.

    Args:
        flow: The flow.
        flow_run: Its run.
        state: What it has come to; whatever it is, the jobs are cancelled.
    """
    logger = flow_run_logger(flow_run, flow)
    with prefect_client() as client:
        root = lineage_of(client, flow_run)[0][0]
        concerned = _with_subflows(client, flow_run.id)
        records = [record for record in _records(client, concerned) if record.get("key")]
        for name in sorted({record.get("credentials", "") for record in records} | _without_cards()):
            own = [record for record in records if record.get("credentials", "") == name]
            if not name:
                _say_unreachable(own, "their credentials were never saved as a block", logger)
                continue
            try:
                with load_credentials(name).get_client() as service:
                    whole_run = root.id == flow_run.id
                    _Cancelling(service, str(root.id), own, records, logger, everything=whole_run).run()
                    _close_sessions(client, service, concerned, logger)
            except QiskitRuntimeError as error:
                _say_unreachable(own, str(error), logger)


def _without_cards() -> set[str]:
    """Return the credentials of jobs that may have no card: the embedded runtime's, which come with their ids.

    Only if it is running: it is not to be started for that.
    """
    try:
        return {"local"} if find(home()) is not None else set()
    except QiskitRuntimeError:
        return set()


def _close_sessions(
    client: SyncPrefectClient, service: RuntimeService, flow_run_ids: list[UUID], logger: Logger
) -> None:
    """Close the sessions that the flow runs have left open: they cost until their time to live is over."""
    for card in list(open_sessions(client, service, flow_run_ids=flow_run_ids)):
        session_id = record_of(card).get("session_id", "?")
        try:
            close_left(client, service, card)
        except QiskitRuntimeError as error:
            logger.warning("Session %s: could not be closed with its flow run (%s)", session_id, error)
        else:
            logger.info("Session %s: closed, its flow run is over", session_id)


def _say_unreachable(records: Sequence[Mapping[str, str]], why: str, logger: Logger) -> None:
    names = ", ".join(record.get("job_id") or f"the one with tag {record['key']}" for record in records)
    logger.warning(
        "Jobs that could not be cancelled with their flow run, if they are not final: %s (%s). Cancel them with their "
        "own credentials.",
        names,
        why,
    )


def _with_subflows(client: SyncPrefectClient, flow_run_id: UUID) -> list[UUID]:
    """Return the ids of a flow run and of all its subflows' runs."""
    found, level = [flow_run_id], [flow_run_id]
    while level:
        below = FlowRunFilter(parent_flow_run_id=FlowRunFilterParentFlowRunId(any_=level))
        level = []
        for page in range(MAX_PAGES):
            runs = client.read_flow_runs(flow_run_filter=below, limit=PAGE, offset=page * PAGE)
            level += [run.id for run in runs]
            if len(runs) < PAGE:
                break
        found += level
    return found


def _records(client: SyncPrefectClient, flow_run_ids: list[UUID]) -> Iterator[dict[str, str]]:
    """Give the records of all job cards of some flow runs."""
    chosen = ArtifactFilter(flow_run_id=ArtifactFilterFlowRunId(any_=flow_run_ids))
    for page in range(MAX_PAGES):
        artifacts = client.read_artifacts(artifact_filter=chosen, limit=PAGE, offset=page * PAGE)
        yield from (record_of(artifact) for artifact in artifacts if (artifact.key or "").startswith(KEY_PREFIX))
        if len(artifacts) < PAGE:
            return


@dataclass(frozen=True, slots=True)
class _Cancelling:
    """The jobs of one account.

    Attributes:
        service: The account.
        root_run_id: The outermost flow run, whose id all jobs carry.
        own: Records of the account's cards of the flow runs that are concerned.
        records: Of all their cards, whichever block they name: two blocks may be of the same server.
        logger: Of the flow run.
        everything: The outermost flow run itself is concerned.
    """

    service: RuntimeService
    root_run_id: str
    own: Sequence[Mapping[str, str]]
    records: Sequence[Mapping[str, str]]
    logger: Logger
    everything: bool = False

    def run(self) -> None:
        """Cancel them; what goes wrong with one is said in the log."""
        each_at_once(self._cancel, self._unfinished())

    def _unfinished(self) -> list[JobDocument]:
        """Return the jobs to cancel: those of the cards, and those that carry the tag, whose id no card has yet."""
        keys = {record["key"] for record in self.own}
        carrying = list(tagged(self.service.client, f"{RUN_TAG_PREFIX}{self.root_run_id}"))
        found = {job.id: job for job in carrying if self.everything or key_of(job) in keys}
        for job_id in {record["job_id"] for record in self.own if record.get("job_id")} - set(found):
            try:
                found[job_id] = self.service.client.job(job_id)
            except RuntimeJobNotFound:
                continue  # deleted
            except QiskitRuntimeError as error:
                self.logger.warning("Job %s: not known whether it goes on (%s)", job_id, error)
        unfinished = [job for job in found.values() if not job.is_final]
        reasons = {job.id: self._reason_to_keep(job) for job in unfinished}
        for job_id, reason in sorted(reasons.items()):
            if reason:
                self.logger.info("Job %s: goes on, %s", job_id, reason)
        return [job for job in unfinished if not reasons[job.id]]

    def _reason_to_keep(self, job: JobDocument) -> str:
        """Return why a job is to be left alone; empty if it is not."""
        records = own_records(job, self.records)
        if is_to_be_kept(records):
            return "as its wait was told with on_cancel"
        if self.root_run_id not in heirs_of(records, self.root_run_id):
            return "another flow run has asked for it since"
        return ""

    def _cancel(self, job: JobDocument) -> None:
        try:
            document = cancel_and_read_back(self.service, job.id)
        except QiskitRuntimeError as error:
            self.logger.warning(
                "Job %s: could not be cancelled with its flow run (%s). `prefect-runtime reap` finds it.", job.id, error
            )
            return
        self.logger.info("Job %s: its flow run is over, now %s", job.id, document.word)
        claims = [record["claim"] for record in own_records(job, self.records) if record.get("claim")]
        heard = claims[0].partition("|")[0] if claims else ""  # who runs the flow run again wants a new one
        secrets = self.service.client.secrets
        try:
            cards.note_job(
                document,
                Memory(self.service.memory),
                secrets=secrets,
                delivered=bool(heard) and has_failed(document),
                delivered_to=heard,
            )
        except Exception as error:  # noqa: BLE001 - the card is for people; the job is cancelled
            self.logger.warning("Job %s: its card could not be brought up to date (%s)", job.id, type(error).__name__)
