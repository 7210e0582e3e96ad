"""``prefect-runtime reap``: jobs whose flow run is over and that nobody waits for any more. Asks Prefect's API.

For what no hook saw: a worker that was stopped hard, a suspended run that was cancelled, a machine that went down.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated
from uuid import UUID

from cyclopts import Parameter
from cyclopts.validators import Number
from rich.console import Console
from rich.table import Table

from prefect_runtime.cli import app

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

    from prefect_runtime.client import RuntimeService
    from prefect_runtime.wire.models import JobDocument

HEARTBEAT = "prefect.flow-run.heartbeat"  # an event that a flow's process sends (Prefect 3.8.8)
UNFOLDED = 250  # columns


@app.command
def reap(
    *,
    block: Annotated[
        list[str] | None, Parameter(help="Saved blocks whose accounts to look at; the embedded runtime if left out.")
    ] = None,
    cancel: Annotated[bool, Parameter(help="Cancel the jobs found, and close the sessions.", negative=())] = False,
    adopt: Annotated[
        bool, Parameter(help="Leave them running, and bring their cards up to date.", negative=())
    ] = False,
    silent_minutes: Annotated[
        float | None,
        Parameter(
            validator=Number(gt=0),  # with less, or nan, every flow run that is at work would be over
            help="Also count flow runs as over that Prefect says are running, but that have sent no sign of life "
            "(Prefect's heartbeat event) for so many minutes: those of a worker that was stopped hard. Heartbeats come "
            "every three minutes or so; flow runs that never sent one are left out.",
        ),
    ] = None,
) -> int:
    """List unfinished jobs, and open sessions, whose flow run is over; with --cancel or --adopt, deal with them.

    A flow run that was cancelled counts as over, also where whoever should have ended it is gone and it stays
    Cancelling. Left alone are jobs that another flow run has asked for since, and those that a wait was told to keep
    (on_cancel="keep"). Claims that killed processes have left behind are removed along with either of the two.

    Exit code 0: none found, or all dealt with. 4: some found and left alone. 5: some could not be cancelled.
    """
    import httpx

    from prefect_runtime.wire.errors import ConfigurationError

    if cancel and adopt:
        raise ConfigurationError("reap: --cancel and --adopt exclude each other.")
    table = Table("block", "job", "status", "backend", "created", "flow run", "is", "done")
    ends = Ends(silent_minutes)
    try:
        failed = sum(_deal_with(name, table, ends, cancel=cancel, adopt=adopt) for name in block or ["local"])
        claims = _sweep_claims(ends, remove=cancel or adopt)
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect's own word when its API is not there at all
        raise ConfigurationError(
            f"reap: Prefect's API cannot be asked ({type(error).__name__}); is PREFECT_API_URL right?"
        ) from None
    found = table.row_count
    console = Console()
    if not console.is_terminal:
        console = Console(width=UNFOLDED)  # read by a program: a line a job
    console.print(table if found else "No unfinished job and no open session of a flow run that is over.")
    if claims:
        console.print(f"{claims} claims of flow runs that are over{': removed.' if cancel or adopt else '.'}")
    if (found or claims) and not (cancel or adopt):
        console.print("Nothing was changed. Say --cancel or --adopt.")
        return 4 if found else 0
    return 5 if failed else 0


def _deal_with(name: str, table: Table, ends: Ends, *, cancel: bool, adopt: bool) -> int:
    """Put the orphans of an account into the table and do with them what was said; return how often that failed."""
    from prefect_runtime.blocks.credentials import load_credentials
    from prefect_runtime.cards import note_job
    from prefect_runtime.memory import Memory
    from prefect_runtime.prefect_api import prefect_client
    from prefect_runtime.wire.errors import QiskitRuntimeError

    failed = 0
    with prefect_client() as client, load_credentials(name).get_client() as service:
        for job, flow_run_id, state in orphans(service, client, ends):
            done = "-"
            try:
                if cancel:
                    done = _cancel(service, job.id)
                if adopt:
                    document = service.client.job(job.id)
                    note_job(document, Memory(service.memory), secrets=service.client.secrets)
                    done = "card brought up to date"
            except QiskitRuntimeError as error:
                failed += 1
                done = str(error)
            table.add_row(name, job.id, job.word, job.backend, job.created or "", flow_run_id, state, done)
        failed += _deal_with_sessions(name, service, client, table, ends, close=cancel)
    return failed


def _cancel(service: RuntimeService, job_id: str) -> str:
    from prefect_runtime.wire.errors import RuntimeInvalidStateError

    try:
        service.client.cancel(job_id)
    except RuntimeInvalidStateError:
        return "final meanwhile"
    return "cancelled"


def _deal_with_sessions(
    name: str, service: RuntimeService, prefect: SyncPrefectClient, table: Table, ends: Ends, *, close: bool
) -> int:
    """Put the sessions that flow runs have left open into the table, and close them; return how often that failed."""
    from prefect_runtime.cards import record_of
    from prefect_runtime.session_cards import close_left, open_sessions
    from prefect_runtime.wire.errors import QiskitRuntimeError

    failed = 0
    for card in list(open_sessions(prefect, service)):
        fields = record_of(card)
        state = ends.of(fields.get("root_run", ""), prefect)
        if state is None:
            continue
        done = "-"
        if close:
            try:
                close_left(prefect, service, card)
                done = "closed"
            except QiskitRuntimeError as error:
                failed += 1
                done = str(error)
        row = (f"session {fields['session_id']}", "open", fields.get("backend", ""), fields["intended_at"])
        table.add_row(name, *row, fields["root_run"], state, done)
    return failed


def _sweep_claims(ends: Ends, *, remove: bool) -> int:
    """Return how many claims there are of flow runs that are over; what is removed nobody would believe any more."""
    from prefect_runtime.card_writer import remove_claims
    from prefect_runtime.claims import all_claims, root_run_of
    from prefect_runtime.prefect_api import prefect_client

    with prefect_client() as prefect:
        stale = [claim for claim in all_claims(prefect) if ends.of(root_run_of(claim), prefect) is not None]
        if remove:
            remove_claims(prefect, [str(claim.id) for claim in stale])
        return len(stale)


def orphans(service: RuntimeService, prefect: SyncPrefectClient, ends: Ends) -> Iterator[tuple[JobDocument, str, str]]:
    """Give the unfinished jobs of flow runs that are over, with the flow run's id and what became of it.

    All are listed before the first is given: what is cancelled leaves the list. Left out are jobs that another flow run
    has asked for since and may wait for, and those that a wait was told to keep.
    """
    from prefect_runtime.client.submission import RUN_TAG_PREFIX
    from prefect_runtime.orphans import heirs_of, is_to_be_kept, records_of, unfinished

    over: list[tuple[JobDocument, str, str]] = []
    for job in unfinished(service):
        tag = next((tag for tag in job.tags if tag.startswith(RUN_TAG_PREFIX)), None)
        if tag is None:
            continue  # submitted without a flow: it has an owner that we cannot ask
        flow_run_id = tag.removeprefix(RUN_TAG_PREFIX)
        state = ends.of(flow_run_id, prefect)
        if state is not None:
            over.append((job, flow_run_id, state))
    records = records_of(prefect, [job for job, _, _ in over])
    for job, flow_run_id, state in over:
        heirs = heirs_of(records[job.id], flow_run_id)
        if not is_to_be_kept(records[job.id]) and all(ends.of(heir, prefect) is not None for heir in heirs):
            yield job, flow_run_id, state


class Ends:
    """How flow runs have ended; each is asked for once.

    Args:
        silent_minutes: How long a flow run that is running may be silent before it counts as stopped; None: for ever.
    """

    def __init__(self, silent_minutes: float | None = None) -> None:
        self._silent_minutes = silent_minutes
        self._known: dict[str, str | None] = {}

    def of(self, flow_run_id: str, prefect: SyncPrefectClient) -> str | None:
        """Return how a flow run ended, "deleted" if Prefect does not know it, None if it is not over."""
        if flow_run_id not in self._known:
            self._known[flow_run_id] = self._ask(flow_run_id, prefect)
        return self._known[flow_run_id]

    def _ask(self, flow_run_id: str, prefect: SyncPrefectClient) -> str | None:
        from prefect.exceptions import ObjectNotFound

        try:
            flow_run = prefect.read_flow_run(UUID(flow_run_id))
        except ObjectNotFound:
            return "deleted"
        except ValueError:
            return None
        state = flow_run.state
        if state is None:
            return None
        if state.is_final() or state.is_cancelling():
            return state.name
        silent = None if self._silent_minutes is None else _silent_minutes(flow_run_id, prefect)
        if silent is None or self._silent_minutes is None or silent < self._silent_minutes:
            return None
        return f"{state.name}, silent for {silent:.0f} min"


def _silent_minutes(flow_run_id: str, prefect: SyncPrefectClient) -> float | None:
    """Return the minutes since a flow run's last sign of life; None if it never gave one."""
    body = {
        "filter": {
            "event": {"name": [HEARTBEAT]},
            "resource": {"id": [f"prefect.flow-run.{flow_run_id}"]},
            "order": "DESC",
        },
        "limit": 1,
    }
    events = prefect.request("POST", "/events/filter", json=body).json()["events"]
    if not events:
        return None
    last = datetime.fromisoformat(events[0]["occurred"])
    return (datetime.now(UTC) - last).total_seconds() / 60
