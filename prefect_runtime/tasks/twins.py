"""The async twins of the tasks: the sync name with an `a` before it, the same in all else, for async flows.

A twin is a real Prefect task of the same name, arguments and options. The sync task's body does the work, in a thread
of its own: the event loop is never blocked, and what is true of the one is true of the other.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from typing import Any, ParamSpec, TypeVar

from prefect.tasks import Task

from prefect_runtime.blocks.credentials import CredentialsLike
from prefect_runtime.client import ResultDecoder
from prefect_runtime.tasks import find, job, many, run, sessions, together, usage, wait
from prefect_runtime.tasks.aside import aside, at_work, hold_aside, iterate_aside, turn
from prefect_runtime.tasks.cancellation import OnCancel
from prefect_runtime.tasks.wait import OnTimeout, check_fetching, check_waiting
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeJobFailureError
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

P = ParamSpec("P")
R = TypeVar("R")

Submitted = str | dict[str, Any]
"""What a task that submits returns: a job's id, or with ``dry_run`` what would have been sent."""


class TwinTask(Task[P, R]):
    """A task whose runs begin one after the other in an event loop, so that many at once do not hold it up.

    Prefect needs some milliseconds to begin a run, in one go: 50 that are gathered stop the loop for 0.3 s.
    """

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Return the run as a coroutine, as every async task does."""
        return _in_turn(super().__call__(*args, **kwargs))

    def with_options(self, **options: Any) -> TwinTask[P, R]:
        """Return the task with other options."""
        changed = super().with_options(**options)
        changed.__class__ = type(self)  # Prefect makes a plain task of it
        assert isinstance(changed, TwinTask)  # noqa: S101 - tells it to the type checker
        return changed


async def _in_turn(run: Coroutine[Any, Any, Any]) -> Any:
    try:
        await turn()
    except BaseException:
        run.close()
        raise
    return await run


def twin(sync: Task[P, R], *, waits: bool = False) -> Task[P, Coroutine[Any, Any, R]]:
    """Return the async twin of a task: it never blocks the event loop, and a caller that is cancelled ends its wait.

    Args:
        sync: The task.
        waits: It does little else than wait for jobs. All who do may go on at once; of the others, so many as the event
            loop can have beside itself.
    """

    @functools.wraps(sync.fn)  # so that Prefect, and help(), see the sync one's arguments and documentation
    async def body(*args: P.args, **kwargs: P.kwargs) -> R:
        call = functools.partial(sync.fn, *args, **kwargs)
        if waits:
            return await aside(call, body.__name__, task=sync)
        async with at_work():
            return await aside(call, body.__name__, task=sync)

    _name(body, sync.fn.__name__)
    return TwinTask(
        body,
        name=sync.name,
        task_run_name=sync.task_run_name,
        retries=sync.retries,
        cache_policy=sync.cache_policy,
    )


def iterator_twin(sync: Callable[P, Iterator[R]]) -> Callable[P, AsyncIterator[R]]:
    """Return the async twin of a function that gives an iterator; close it (`aclose`) if you stop before its end."""

    @functools.wraps(sync)
    def body(*args: P.args, **kwargs: P.kwargs) -> AsyncIterator[R]:
        return iterate_aside(functools.partial(sync, *args, **kwargs), body.__name__)

    _name(body, sync.__name__)
    return body


def context_twin(
    sync: Callable[P, contextlib.AbstractContextManager[R]],
) -> Callable[P, contextlib.AbstractAsyncContextManager[R]]:
    """Return the async twin of a function that gives a context manager, for ``async with``."""

    @functools.wraps(sync)
    def body(*args: P.args, **kwargs: P.kwargs) -> contextlib.AbstractAsyncContextManager[R]:
        return hold_aside(functools.partial(sync, *args, **kwargs), body.__name__)

    _name(body, sync.__name__)
    return body


def _name(body: Callable[..., Any], sync_name: str) -> None:
    body.__name__ = body.__qualname__ = f"a{sync_name}"
    body.__module__ = __name__


arun_program = twin(run.run_program)
arun_sampler = twin(run.run_sampler)
arun_estimator = twin(run.run_estimator)
await_for_final_state = twin(wait.wait_for_final_state, waits=True)
afetch_result = twin(wait.fetch_result, waits=True)
afetch_logs = twin(job.fetch_logs)
astream_results = twin(job.stream_results, waits=True)
ajob_status = twin(job.job_status)
achoose_backend = twin(find.choose_backend)
afind_jobs = twin(find.find_jobs)
aestimate_usage = twin(usage.estimate_usage)
acancel_job = twin(job.cancel_job)
await_for_jobs = twin(many.wait_for_jobs, waits=True)
aas_completed = iterator_twin(many.as_completed)
aiter_results = iterator_twin(job.iter_results)
aruntime_session = context_twin(sessions.runtime_session)
aruntime_batch = context_twin(sessions.runtime_batch)


async def aexecute(
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
    """Run a program, wait, and return its result; see `execute`, whose async twin this is.

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
    check = functools.partial(check_fetching, decoder, histogram=histogram)
    if histogram or isinstance(decoder, str):  # an import, which takes its time
        await aside(check, "aexecute")
    else:
        check()
    submit, arguments = together.submission_of(program_id, inputs_or_pubs)
    submitted = await _SUBMIT[submit](credentials, *arguments, **options)
    if isinstance(submitted, dict):  # dry_run
        return submitted
    job_id = submitted
    try:
        await await_for_final_state(
            credentials, job_id, timeout=timeout, wait=wait, on_timeout=on_timeout, on_cancel=on_cancel
        )
    except RuntimeJobFailureError:
        await _fetch_logs_if_possible(credentials, job_id)  # what the program said is wanted most when it failed
        raise
    result = await afetch_result(credentials, job_id, decoder=decoder, on_cancel=on_cancel, histogram=histogram)
    await _fetch_logs_if_possible(credentials, job_id)
    return result


_SUBMIT: Mapping[Task[..., Submitted], Task[..., Coroutine[Any, Any, Submitted]]] = {
    run.run_program: arun_program,
    run.run_sampler: arun_sampler,
    run.run_estimator: arun_estimator,
}


async def _fetch_logs_if_possible(credentials: CredentialsLike, job_id: str) -> None:
    try:
        await afetch_logs(credentials, job_id)
    except QiskitRuntimeError as error:
        _log.warning("job %s: its log could not be fetched (%s)", job_id, error)
