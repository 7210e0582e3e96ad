"""`execute`, all steps of one job, and when Prefect may repeat a task."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect_runtime.blocks.credentials import CredentialsLike
from prefect_runtime.client import ResultDecoder
from prefect_runtime.tasks.cancellation import OnCancel, last_words
from prefect_runtime.tasks.job import fetch_logs
from prefect_runtime.tasks.run import run_estimator, run_program, run_sampler
from prefect_runtime.tasks.wait import OnTimeout, check_fetching, check_waiting, fetch_result, wait_for_final_state
from prefect_runtime.wire.errors import ConfigurationError, QiskitRuntimeError, RuntimeJobFailureError
from prefect_runtime.wire.logs import get_logger

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

_log = get_logger(__name__)


def execute(
    credentials: CredentialsLike,
    program_id: str,
    inputs_or_pubs: Mapping[str, Any] | Sequence[Any],
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    on_cancel: OnCancel = "cancel",
    decoder: type[ResultDecoder] | str | None = None,
    histogram: bool = False,
    **options: Any,
) -> Any:
    """Run a program, wait, and return its result; each step is a task of its own. A plain function, for use in flows.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        program_id: The program; "sampler" and "estimator" take a list of PUBs.
        inputs_or_pubs: Inputs (a mapping), or PUBs (a list).
        timeout: Seconds to wait for the job; None for as long as it takes.
        wait: The longest pause between two queries, in seconds.
        on_timeout: What happens to the job at the timeout: "keep" or "cancel".
        on_cancel: What happens to the job when somebody cancels the flow run: "cancel" or "keep".
        decoder: Class that decodes the result, or where it is.
        histogram: Also show counts as a picture (extra ``plots``).
        options: As for `run_sampler`, `run_estimator` or `run_program`; with ``dry_run=True``, nothing is sent and what
            would be is returned.

    Raises:
        ConfigurationError: Something that cannot work, of the wait and the result too; nothing was sent.
        RuntimeJobFailureError: The job failed.
        JobTimeoutError: Not final in time.
        QiskitRuntimeError: See the tasks.
    """
    check_waiting(timeout=timeout, wait=wait, on_timeout=on_timeout, on_cancel=on_cancel)
    check_fetching(decoder, histogram=histogram)
    with last_words():  # a signal may also come between the tasks
        submitted = run_by_name(credentials, program_id, inputs_or_pubs, options)
        if isinstance(submitted, dict):  # dry_run
            return submitted
        return outcome(
            credentials,
            submitted,
            timeout=timeout,
            wait=wait,
            on_timeout=on_timeout,
            on_cancel=on_cancel,
            decoder=decoder,
            histogram=histogram,
        )


def outcome(
    credentials: CredentialsLike,
    job_id: str,
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    on_cancel: OnCancel = "cancel",
    decoder: type[ResultDecoder] | str | None = None,
    histogram: bool = False,
) -> Any:
    """Wait for a job and return its result; each step is a task of its own. See `execute` for the arguments."""
    try:
        wait_for_final_state(
            credentials, job_id, timeout=timeout, wait=wait, on_timeout=on_timeout, on_cancel=on_cancel
        )
    except RuntimeJobFailureError:
        _fetch_logs_if_possible(credentials, job_id)  # what the program said is wanted most when it failed
        raise
    result = fetch_result(credentials, job_id, decoder=decoder, on_cancel=on_cancel, histogram=histogram)
    _fetch_logs_if_possible(credentials, job_id)
    return result


def _fetch_logs_if_possible(credentials: CredentialsLike, job_id: str) -> None:
    """Fetch the log; a failure to do so must neither hide the job's own nor cost its result."""
    try:
        fetch_logs(credentials, job_id)
    except QiskitRuntimeError as error:
        _log.warning("job %s: its log could not be fetched (%s)", job_id, error)


def run_by_name(
    credentials: CredentialsLike,
    program_id: str,
    inputs_or_pubs: Mapping[str, Any] | Sequence[Any],
    options: Mapping[str, Any],
) -> str | dict[str, Any]:
    """Submit with the task that takes these inputs and return the job's id; with ``dry_run``, what that gives."""
    submit, arguments = submission_of(program_id, inputs_or_pubs)
    submitted: str | dict[str, Any] = submit(credentials, *arguments, **options)
    return submitted


def submission_of(
    program_id: str, inputs_or_pubs: Mapping[str, Any] | Sequence[Any]
) -> tuple[Task[..., str | dict[str, Any]], tuple[Any, ...]]:
    """Return the task that submits such a request, and its arguments after the credentials.

    Raises:
        ConfigurationError: A list of PUBs for a program that is no primitive.
    """
    if isinstance(inputs_or_pubs, Mapping):
        return run_program, (program_id, inputs_or_pubs)
    if program_id == "sampler":
        return run_sampler, (inputs_or_pubs,)
    if program_id == "estimator":
        return run_estimator, (inputs_or_pubs,)
    raise ConfigurationError(f"inputs: program {program_id!r} takes a mapping of arguments, not a list of PUBs.")


def retry_if_safe(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Tell Prefect to retry a task only after an error that says that this can help and cannot do harm.

    Use it as ``task.with_options(retries=3, retry_condition_fn=retry_if_safe)``. It must be this very function: Prefect
    never retries with a partial or a callable object.
    """
    error = state.data
    return isinstance(error, QiskitRuntimeError) and error.retryable
