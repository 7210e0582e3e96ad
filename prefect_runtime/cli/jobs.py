"""``prefect-runtime jobs | show | cancel``: what jobs there are, what is known of one, and the end of one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter
from cyclopts.validators import Number

from prefect_runtime.cli import app
from prefect_runtime.cli.account import Account, open_service
from prefect_runtime.cli.output import (
    AsJson,
    Exit,
    Job,
    Timeout,
    add_rows,
    exit_for,
    exit_of,
    facts,
    plain,
    print_json,
    say,
)
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeInvalidStateError, RuntimeJobFailureError

if TYPE_CHECKING:
    from prefect_runtime.client import RuntimeJob, RuntimeService
    from prefect_runtime.wire.models import JobDocument


@app.command
def jobs(
    *,
    limit: Annotated[int, Parameter(validator=Number(gte=1), help="How many at most.")] = 20,
    every: Annotated[
        bool, Parameter(name="--all", negative=(), show_default=False, help="All there are, whatever the limit.")
    ] = False,
    pending: Annotated[
        bool | None, Parameter(negative="--final", help="Only unfinished ones, or only final ones; both if left out.")
    ] = None,
    program: Annotated[str | None, Parameter(help="Only those of this program.")] = None,
    backend: Annotated[str | None, Parameter(help="Only those on this backend.")] = None,
    tag: Annotated[
        list[str] | None, Parameter(negative=(), help="Only those with this tag; given again, with both.")
    ] = None,
    status: Annotated[
        list[str] | None, Parameter(negative=(), help="Only those in this status, e.g. DONE; again, also that one.")
    ] = None,
    flow_run: Annotated[str | None, Parameter(help="Only those of this flow run (its id).")] = None,
    session: Annotated[str | None, Parameter(help="Only those in this session.")] = None,
    created_after: Annotated[str | None, Parameter(help="Only those since then (ISO 8601, UTC without zone).")] = None,
    created_before: Annotated[str | None, Parameter(help="Only those until then.")] = None,
    as_json: AsJson = False,
    account: Account | None = None,
) -> None:
    """List jobs, newest first."""
    from prefect_runtime.cli import documents
    from prefect_runtime.client.finding import JobFilter, find

    wanted = JobFilter.of(
        pending=pending,
        program_id=program,
        backend=backend,
        tags=tag or (),
        session_id=session,
        created_after=created_after,
        created_before=created_before,
        status=status,
        flow_run_id=flow_run,
    )
    with open_service(account) as service:
        found = list(find(service.client, wanted, limit=None if every else limit))
        if as_json:
            print_json([documents.as_json(job, service.client.secrets) for job in found])
            return
    if not found:
        say("No jobs.")
        return
    console = facts()
    console.print(documents.listing(found, console))


@app.command
def show(
    job: Job,
    /,
    *,
    watch: Annotated[
        bool,
        Parameter(
            name=("--watch", "-w"),
            negative=(),
            show_default=False,
            help="Wait until it is final, and show how it goes on.",
        ),
    ] = False,
    timeout: Timeout = None,
    as_json: AsJson = False,
    account: Account | None = None,
) -> int:
    """Show what is known of a job; of a failed one, all of the reason.

    With --watch, the exit code says how it ended: 0 done, 4 failed, 5 cancelled, 124 not final in time.
    """
    from prefect_runtime.cli import documents
    from prefect_runtime.cli.watch import wait_for

    with open_service(account) as service:
        handle = service.handle(job)
        document = wait_for(service, handle, timeout=timeout, with_interim=True) if watch else handle.document()
        reason = reason_of(service, handle, document)
        if as_json:
            print_json(documents.as_json(document, service.client.secrets, reason))
        else:
            _print_facts(document, reason)
    return exit_of(document) if watch else Exit.OK


def reason_of(service: RuntimeService, job: RuntimeJob, document: JobDocument) -> str:
    """Return what the server or the program says of a job's end, without secrets; empty if nothing."""
    from prefect_runtime.wire.redaction import clean

    failure = job.failure() if exit_of(document) is Exit.JOB_FAILED else None
    if isinstance(failure, RuntimeJobFailureError):
        return failure.reason
    return clean(document.reason, service.client.secrets, limit=len(document.reason))


def _print_facts(document: JobDocument, reason: str) -> None:
    from rich.table import Table

    from prefect_runtime.cli.documents import lines

    console = facts()
    one_line = "\n" not in reason
    grid = Table.grid("", "", padding=(0, 2))
    grid.columns[0].style = "bold"
    add_rows(grid, lines(document, reason if one_line else ""))
    console.print(grid)
    if not one_line:
        console.print("\nreason", style="bold")
        console.print(plain(reason), soft_wrap=True)


@app.command
def cancel(
    job: Annotated[list[str], Parameter(help="The jobs' ids.")],
    /,
    *,
    as_json: AsJson = False,
    account: Account | None = None,
) -> int:
    """Cancel jobs, and print the status of each as the server then gives it.

    Exit code 1 if one is final already, but not cancelled; 3 if there is no such job. The others are cancelled.
    """
    from prefect_runtime.cli import documents

    worst = Exit.OK
    ended: list[JobDocument] = []
    with open_service(account) as service:
        for job_id in dict.fromkeys(job):
            try:
                ended.append(_cancelled(service, job_id))
            except QiskitRuntimeError as error:
                worst = max(worst, exit_for(error))
                say(f"prefect-runtime: {error}")
        if as_json:
            print_json([documents.as_json(document, service.client.secrets) for document in ended])
    console = facts()
    for document in [] if as_json else ended:
        console.print(plain(document.id), documents.status_text(document), soft_wrap=True)
    return worst


def _cancelled(service: RuntimeService, job_id: str) -> JobDocument:
    """Return a job's document after it was cancelled, by us or before us.

    Raises:
        RuntimeInvalidStateError: It ended otherwise.
    """
    try:
        service.client.cancel(job_id)
    except RuntimeInvalidStateError:
        document = service.client.job(job_id)
        if exit_of(document) is not Exit.JOB_CANCELLED:
            raise
        return document
    return service.client.job(job_id)
