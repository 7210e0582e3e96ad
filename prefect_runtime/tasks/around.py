"""What people put around our tasks: a limit to open jobs on a backend, and a job that goes with its transaction."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Iterator

from prefect.client.orchestration import get_client
from prefect.concurrency.asyncio import concurrency as async_concurrency
from prefect.concurrency.sync import concurrency
from prefect.exceptions import ObjectAlreadyExists
from prefect.transactions import BaseTransaction, get_transaction

from prefect_runtime.blocks.credentials import CredentialsLike
from prefect_runtime.client.retry import check_seconds
from prefect_runtime.prefect_api import prefect_client
from prefect_runtime.tasks.job import cancel_job
from prefect_runtime.tasks.note import run_logger
from prefect_runtime.wire.errors import ConfigurationError


@contextlib.contextmanager
def open_jobs(backend: str, limit: int, *, timeout: float | None = None) -> Iterator[None]:
    """Hold one of `limit` places for open jobs on a backend, from before the submission until after the wait.

    The places are a global concurrency limit of Prefect called ``prefect-runtime-<backend>``, made or changed here:
    they count for every flow run of the same Prefect server that asks for them. A place whose holder has died is free
    again after five minutes. Who waits for a place asks every few seconds.

    Example:
        ```python
        @task
        def measure(circuit):
            with open_jobs("ibm_torino", 3):
                return execute("production", "sampler", [circuit], backend="ibm_torino")
        ```

    Args:
        backend: The backend, or any other name for what is limited.
        limit: How many may be open; the last one who says it counts.
        timeout: Seconds to wait for a place; None for as long as it takes.

    Raises:
        TimeoutError: No place was free in time.
        ConfigurationError: A name, a limit or a timeout that is none.
    """
    name = _checked(backend, limit, timeout)
    with contextlib.suppress(ObjectAlreadyExists), prefect_client() as client:  # made by another just now
        client.upsert_global_concurrency_limit_by_name(name, limit)
    # A renewal that fails must not end a wait of hours: strict alone would have it do so.
    with concurrency(name, timeout_seconds=timeout, strict=True, raise_on_lease_renewal_failure=False):
        yield


@contextlib.asynccontextmanager
async def aopen_jobs(backend: str, limit: int, *, timeout: float | None = None) -> AsyncIterator[None]:
    """Hold one of `limit` places for open jobs on a backend; see `open_jobs`, whose async twin this is."""
    name = _checked(backend, limit, timeout)
    async with get_client() as client:
        with contextlib.suppress(ObjectAlreadyExists):
            await client.upsert_global_concurrency_limit_by_name(name, limit)
    async with async_concurrency(name, timeout_seconds=timeout, strict=True, raise_on_lease_renewal_failure=False):
        yield


def _checked(backend: str, limit: int, timeout: float | None) -> str:
    """Return the limit's name; None for a backend would be a limit that all share who leave the choice to a block."""
    if not isinstance(backend, str) or not backend or set(backend) & set("/%&><"):  # Prefect's own rule
        raise ConfigurationError(f"backend: must be a name without / % & > <; got {backend!r}.")
    check_seconds("timeout", timeout)
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise ConfigurationError(f"limit: must be a whole number of at least 1; got {limit!r}.")
    return f"prefect-runtime-{backend}"


def cancel_on_rollback(credentials: CredentialsLike, job_id: str) -> None:
    """Have the job cancelled if the transaction that this is called in is rolled back. A final job stays as it is.

    Only an exception rolls a transaction back; a process that is killed does not.

    Example:
        ```python
        with transaction():
            job_id = run_sampler("production", [circuit])
            cancel_on_rollback("production", job_id)
            reserve_the_lab()
        ```

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        ConfigurationError: There is no transaction here.
    """
    transaction = get_transaction()
    if transaction is None:
        raise ConfigurationError("cancel_on_rollback: call it inside `with transaction():`.")

    def cancel_the_job(_: BaseTransaction) -> None:
        # Not as a task, and raising nothing: a hook that fails ends the rollback before the other jobs' turn, and a
        # task that fails in one begins it anew, again and again (Prefect 3.8.8).
        try:
            cancel_job.fn(credentials, job_id)
        except Exception as error:  # noqa: BLE001 - see above
            run_logger().warning("Job %s: could not be cancelled with its transaction (%s)", job_id, error)

    transaction.on_rollback_hooks.append(cancel_the_job)
