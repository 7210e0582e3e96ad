"""Waiting without a worker: a flow submits, is suspended, and goes on when its job is final. Used by flows.

While a job queues for hours, no process waits and no worker's slot is taken: the flow run is `Suspended` in Prefect.
Three parts do it:

- `run_deferred`, in a flow with a deployment: submits, and suspends the flow run if the job is not final soon. Resumed,
  the flow's body runs from the top; each request finds its job on its card, and nothing is sent twice.
- `watch_jobs`, a small flow on a schedule: looks which flow runs are suspended for which jobs, asks the runtime for
  those jobs with one list request, and emits ``prefect-runtime.job.finished`` (or ``failed``, ``cancelled``,
  ``overdue``) for each that is final. It looks at what is there now, so nothing is lost when it was down.
- an automation that resumes the flow run of such an event: ``prefect-runtime automation install``.

What a flow run is suspended for stands in the key of its suspension, where Prefect keeps it for us.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, unquote
from uuid import UUID, uuid4

from prefect import flow, suspend_flow_run
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterState, FlowRunFilterStateName
from prefect.client.schemas.objects import FlowRun
from prefect.context import FlowRunContext, TaskRunContext
from prefect.logging import get_run_logger

from prefect_runtime import events
from prefect_runtime.blocks import CredentialsLike, load_credentials
from prefect_runtime.client import ResultDecoder, RuntimeService
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.orphans import cancel_orphans, unfinished
from prefect_runtime.prefect_api import AT_ONCE, prefect_client
from prefect_runtime.tasks.note import note
from prefect_runtime.tasks.together import outcome, run_by_name
from prefect_runtime.tasks.wait import OnTimeout, check_fetching, check_waiting
from prefect_runtime.wire.errors import ConfigurationError, ProtocolError, QiskitRuntimeError, RuntimeJobNotFound
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import TAG, JobDocument

_log = get_logger(__name__)

SUSPEND_AFTER_SECONDS = 10.0
PAGE, MAX_PAGES = 200, 5
KEY_PREFIX = "prefect-runtime"
GONE = "gone"
"""The word for a job that the runtime does not know (any more): who is suspended for it goes on, and asks for it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Suspension:
    """What a flow run is suspended for.

    Attributes:
        block: Name of the block whose account the job is in; "local" for the embedded runtime.
        job_id: The job.
        until: When the flow run wants to go on in any case, in seconds since 1970; 0 for never.
    """

    block: str
    job_id: str
    until: float = 0.0

    @property
    def key(self) -> str:
        """A key for Prefect, another one each time: it suspends only once for each."""
        return "/".join([KEY_PREFIX, quote(self.block, safe=""), self.job_id, f"{self.until:.0f}", uuid4().hex[:8]])

    @classmethod
    def of(cls, key: str | None) -> Suspension | None:
        """Return what a key says; None for one that is not of ours."""
        parts = (key or "").split("/")
        if len(parts) != 5 or parts[0] != KEY_PREFIX or not parts[3].isdecimal():
            return None
        return cls(block=unquote(parts[1]), job_id=parts[2], until=float(parts[3]))


def run_deferred(
    credentials: str,
    program_id: str,
    inputs_or_pubs: Mapping[str, Any] | Sequence[Any],
    *,
    timeout: float | None = None,
    on_timeout: OnTimeout = "keep",
    suspend_after: float = SUSPEND_AFTER_SECONDS,
    decoder: type[ResultDecoder] | str | None = None,
    histogram: bool = False,
    **options: Any,
) -> Any:
    """Run a program and return its result, like `execute`, but give the worker back while the job is not final.

    A plain function, for the body of a flow that has a deployment. It ends the process by suspending the flow run; when
    that is resumed, the body runs from the top and comes by here again. So build the inputs the same way each time, and
    keep what must not be done twice in tasks with persisted results. In a flow without a deployment, and in a subflow,
    which Prefect cannot suspend, it waits like `execute`, and says so in the log.

    Args:
        credentials: The name of a saved block; "local" is the embedded runtime.
        program_id: The program; "sampler" and "estimator" take a list of PUBs.
        inputs_or_pubs: Inputs (a mapping), or PUBs (a list).
        timeout: Seconds to wait for the job since it was created, by the runtime's clock; None for as long as it takes.
        on_timeout: What happens to the job at the timeout: "keep" or "cancel".
        suspend_after: Seconds to wait here first: a job that takes less is not worth a suspension.
        decoder: Class that decodes the result, or where it is.
        histogram: Also show counts as a picture (extra ``plots``).
        options: As for `run_sampler`, `run_estimator` or `run_program`.

    Raises:
        RuntimeJobFailureError: The job failed.
        JobTimeoutError: Not final in time.
        ConfigurationError: `credentials` is a block and not its name: the flow that looks after the job needs a name.
        QiskitRuntimeError: See the tasks.
    """
    check_waiting(timeout=timeout, on_timeout=on_timeout)
    check_seconds("suspend_after", suspend_after)
    check_fetching(decoder, histogram=histogram)
    block = _name_of(credentials)
    submitted = run_by_name(credentials, program_id, inputs_or_pubs, options)
    if isinstance(submitted, dict):  # dry_run
        return submitted
    job_id = submitted
    document = _look(credentials, job_id, suspend_after if timeout is None else min(suspend_after, timeout))
    until = _until(document, timeout, begun=_first_start())
    if document is not None and document.is_final:  # however late the flow run was resumed: it waits no more
        until = None
    elif until is None or until > time.time():
        _suspend(Suspension(block=block, job_id=job_id, until=until or 0.0))
    else:
        get_run_logger().info("Job %s: not final in %g s; this is the last look", job_id, timeout)
    left = None if until is None else max(0.0, until - time.time())
    return outcome(credentials, job_id, timeout=left, on_timeout=on_timeout, decoder=decoder, histogram=histogram)


def _name_of(credentials: CredentialsLike) -> str:
    if isinstance(credentials, str):
        return credentials
    raise ConfigurationError("credentials: a flow that is suspended needs the name of a saved block, not the block.")


def _look(credentials: CredentialsLike, job_id: str, seconds: float) -> JobDocument | None:
    """Wait that long for the job and return what is known of it."""
    with load_credentials(credentials).get_client() as service:
        client = service.client
        return client.monitor.wait([job_id], deadline=Deadline(seconds, client.clock)).get(job_id)


def _first_start() -> float:
    """Return when the flow run began, in seconds since 1970; a resumption does not change that."""
    context = FlowRunContext.get()
    start = context.flow_run.start_time if context is not None and context.flow_run is not None else None
    return time.time() if start is None else start.timestamp()


def _until(document: JobDocument | None, timeout: float | None, *, begun: float) -> float | None:
    """Return when the wait is over, in seconds since 1970: it outlives this process, so it is on the wall clock.

    It counts from the job's creation; from `begun` where that is not known, or written in a server's own way.
    """
    if timeout is None:
        return None
    try:
        created = parse_time(document.created) if document is not None else None
    except ProtocolError:
        created = None
    return (begun if created is None else created.timestamp()) + timeout


def _suspend(suspension: Suspension) -> None:
    """Suspend the flow run and end the process; return where that is not possible."""
    context = FlowRunContext.get()
    flow_run = context.flow_run if context is not None else None
    logger = get_run_logger()
    if flow_run is None or flow_run.deployment_id is None or flow_run.parent_task_run_id or TaskRunContext.get():
        logger.info("Job %s: waited for here; only a flow run of a deployment can be suspended", suspension.job_id)
        return
    logger.info("Job %s: not final yet; this flow run is suspended until it is", suspension.job_id)
    suspend_flow_run(key=suspension.key, **AT_ONCE)


@flow(name="Watch runtime jobs", flow_run_name="watch-jobs-{credentials}")
def watch_jobs(credentials: str = "local", for_seconds: float = 0.0, every_seconds: float = 10.0) -> int:
    """Have the flow runs resumed that are suspended for a job that is final; return for how many that was said.

    Run it on a schedule, one deployment for each block. A pass costs one request to Prefect and one list request to
    the runtime; more where flow runs can go on, or somebody has cancelled one.

    Args:
        credentials: The name of the block whose account is looked at; "local" is the embedded runtime.
        for_seconds: How long to go on looking; 0 for one pass. A little less than the schedule's interval saves
            starting a process each time.
        every_seconds: Pause between two passes.

    Raises:
        QiskitRuntimeError: The runtime could not be asked.
    """
    told = 0
    with load_credentials(credentials).get_client() as service, prefect_client() as prefect:
        deadline = Deadline(for_seconds, service.client.clock)
        while True:
            told += _pass(credentials, service, prefect)
            if deadline.remaining() <= every_seconds:
                return told
            service.client.clock.sleep(every_seconds)


def _pass(block: str, service: RuntimeService, prefect: SyncPrefectClient) -> int:
    """Emit the events of the jobs that somebody is suspended for; return how many."""
    waiting = [(run, reason) for run, reason in _suspended(prefect) if reason.block == block]
    documents = _documents(service, {reason.job_id for _, reason in waiting})
    told = 0
    for run, reason in waiting:
        try:
            told += _told(service, run, reason, documents.get(reason.job_id))
        except Exception as error:  # noqa: BLE001 - one job must not keep the others' flow runs suspended
            _log.warning("job %s: its flow run was not told (%s)", reason.job_id, error)
    open_jobs = [document for document in documents.values() if not document.is_final]
    for document in cancel_orphans(service, prefect, open_jobs):
        get_run_logger().info("Job %s: %s, as its flow run", document.id, document.word)
        note(service, document)
    return told


def _told(service: RuntimeService, run: UUID, reason: Suspension, document: JobDocument | None) -> bool:
    """Emit the event that a flow run is suspended for, if it has come; True if it has."""
    if document is None:  # the runtime cannot tell now, which stops no clock
        document = JobDocument(id=reason.job_id, word="not known", status=None)
    if document.is_final:
        note(service, document)
        events.tell_end(document, flow_run_id=run, suspended=True)
    elif document.word == GONE or 0 < reason.until <= time.time():
        events.tell("overdue", document, flow_run_id=run, suspended=True)
    else:
        return False
    get_run_logger().info("Job %s: %s; its flow run %s can go on", document.id, document.word, run)
    return True


def _suspended(prefect: SyncPrefectClient) -> Iterator[tuple[UUID, Suspension]]:
    """Give the flow runs that are suspended for a job, and for which."""
    chosen = FlowRunFilter(state=FlowRunFilterState(name=FlowRunFilterStateName(any_=["Suspended"])))
    for page in itertools.count():
        runs: list[FlowRun] = prefect.read_flow_runs(flow_run_filter=chosen, limit=PAGE, offset=page * PAGE)
        for run in runs:
            reason = Suspension.of(run.state.state_details.pause_key if run.state is not None else None)
            if reason is not None:
                yield run.id, reason
        if len(runs) < PAGE:
            return


def _documents(service: RuntimeService, wanted: set[str]) -> dict[str, JobDocument]:
    """Return all our unfinished jobs, and those that are wanted; most often it is one page of a list.

    What the runtime cannot tell now is left out.
    """
    found = {job.id: job for job in unfinished(service)}
    for page in range(MAX_PAGES if wanted - found.keys() else 0):
        documents = service.client.jobs(limit=PAGE, offset=page * PAGE, tags=[TAG])
        found |= {document.id: document for document in documents if TAG in document.tags}
        if len(documents) < PAGE or wanted <= found.keys():
            break
    for job_id in wanted - found.keys():
        try:
            found[job_id] = service.client.job(job_id)
        except RuntimeJobNotFound:
            found[job_id] = JobDocument(id=job_id, word=GONE, status=None)
        except QiskitRuntimeError as error:
            _log.warning("job %s: a flow run is suspended for it, and nothing can be learned of it (%s)", job_id, error)
    return found
