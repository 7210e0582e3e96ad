"""Tasks that ask for a job: one request, one job."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE

from prefect_runtime import journal
from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials, name_of
from prefect_runtime.client.request import check_tags, take_options
from prefect_runtime.client.retry import is_number
from prefect_runtime.memory import Memory
from prefect_runtime.tasks.cancellation import Submitting
from prefect_runtime.tasks.names import about_program, remember
from prefect_runtime.wire.errors import ConfigurationError

OnExisting = Literal["attach", "new"]


@task(name="Run program", task_run_name=about_program("Run"), retries=0, cache_policy=NO_CACHE)
def run_program(
    credentials: CredentialsLike,
    program_id: str,
    inputs: Mapping[str, Any],
    *,
    backend: str | Sequence[str] | None = None,
    options: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_execution_time: float | None = None,
    log_level: str | None = None,
    session_id: str | None = None,
    private: bool = False,
    idempotency_key: str | None = None,
    on_existing: OnExisting = "attach",
    dry_run: bool = False,
) -> str | dict[str, Any]:
    """Run a program and return the id of its job, as soon as the runtime has it.

    One request makes one job. Executed again (a retry of this task or of a task around it, a flow run run again), the
    same request finds its job.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        program_id: The program.
        inputs: Its arguments. Wrap large ones in `prefect.utilities.annotations.quote`: Prefect walks what it is given.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        options: ``{"backend_name": …, "log_level": …, "image": …}``.
        tags: Up to four, the block's included.
        max_execution_time: The longest the job may run, in seconds; then the runtime ends it.
        log_level: What the program logs: critical, error, warning, info, debug.
        session_id: Session to run in.
        private: The runtime shows no inputs, and the result once.
        idempotency_key: Names the request beyond this flow run, for instance ``"calibration-2026-11-22"``.
        on_existing: "attach" to the job of an equal request, or "new" to make another one in any case.
        dry_run: Send nothing, and return what would be sent and what it will take (`RuntimeService.preview`).

    Raises:
        ConfigurationError: Something that cannot work; nothing was sent.
        UsageLimitError: With the block's ``guard_usage``: it would take more than the instance has left.
        IdempotencyConflictError: `idempotency_key` names another request already.
        RuntimeInvalidStateError: The flow run was cancelled; nothing was sent, or the job was cancelled with it.
        WaitInterruptedError: It was cancelled while the request waited: for its turn, for another with its key, or for
            an answer that was lost.
        SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
        ApiError: The runtime refused; there is no job.
        TransportError: The runtime cannot be reached; there is no job.
    """
    given = take_options(options)
    return _submit(
        credentials,
        program_id,
        inputs,
        backend=given.get("backend_name") if backend is None or backend == "" else backend,
        log_level=log_level or given.get("log_level"),
        image=given.get("image", ""),
        tags=tags,
        max_execution_time=max_execution_time,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
        dry_run=dry_run,
    )


@task(name="Run sampler", task_run_name=about_program("Run sampler"), retries=0, cache_policy=NO_CACHE)
def run_sampler(
    credentials: CredentialsLike,
    pubs: Sequence[Any],
    *,
    shots: int | None = None,
    backend: str | Sequence[str] | None = None,
    optimization_level: int | None = 2,
    options: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_execution_time: float | None = None,
    log_level: str | None = None,
    session_id: str | None = None,
    private: bool = False,
    idempotency_key: str | None = None,
    on_existing: OnExisting = "attach",
    dry_run: bool = False,
) -> str | dict[str, Any]:
    """Sample circuits and return the id of the job; its result is a Qiskit `PrimitiveResult`.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        pubs: Circuits as written (QuantumCircuit, OpenQASM 3 text, path of a .qasm or .qpy file), alone or as
            ``(circuit, parameter values, shots)``. They are transpiled to the backend here; those that fit it already
            pass through unchanged.
        shots: Repetitions for PUBs that do not say; 4096 if None.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        optimization_level: For transpiling, 0 to 3; None to send circuits as they are, if the backend can run them.
        options: The sampler's options.
        tags: See `run_program`, as all that follows.
        max_execution_time: In seconds.
        log_level: Of the program.
        session_id: Session to run in.
        private: The runtime shows no inputs, and the result once.
        idempotency_key: Names the request beyond this flow run.
        on_existing: "attach" or "new".
        dry_run: See `run_program`.

    Raises:
        ConfigurationError: Something that cannot work, such as a circuit for the backend; nothing was sent.
        QiskitRuntimeError: See `run_program`.
    """
    return _submit(
        credentials,
        "sampler",
        primitive_inputs(pubs, options, "default_shots", shots),
        backend=backend,
        optimization_level=optimization_level,
        tags=tags,
        max_execution_time=max_execution_time,
        log_level=log_level,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
        dry_run=dry_run,
    )


@task(name="Run estimator", task_run_name=about_program("Run estimator"), retries=0, cache_policy=NO_CACHE)
def run_estimator(
    credentials: CredentialsLike,
    pubs: Sequence[Any],
    *,
    precision: float | None = None,
    backend: str | Sequence[str] | None = None,
    optimization_level: int | None = 2,
    options: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_execution_time: float | None = None,
    log_level: str | None = None,
    session_id: str | None = None,
    private: bool = False,
    idempotency_key: str | None = None,
    on_existing: OnExisting = "attach",
    dry_run: bool = False,
) -> str | dict[str, Any]:
    """Estimate expectation values and return the id of the job; its result is a Qiskit `PrimitiveResult`.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        pubs: ``(circuit, observables, parameter values, precision)``, the last two optional; see `run_sampler`.
        precision: Target standard error for PUBs that do not say; 1/64 if None.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        optimization_level: For transpiling, 0 to 3; None to send circuits as they are, if the backend can run them.
        options: The estimator's options.
        tags: See `run_program`, as all that follows.
        max_execution_time: In seconds.
        log_level: Of the program.
        session_id: Session to run in.
        private: The runtime shows no inputs, and the result once.
        idempotency_key: Names the request beyond this flow run.
        on_existing: "attach" or "new".
        dry_run: See `run_program`.

    Raises:
        ConfigurationError: Something that cannot work, such as a circuit for the backend; nothing was sent.
        QiskitRuntimeError: See `run_program`.
    """
    return _submit(
        credentials,
        "estimator",
        primitive_inputs(pubs, options, "default_precision", precision),
        backend=backend,
        optimization_level=optimization_level,
        tags=tags,
        max_execution_time=max_execution_time,
        log_level=log_level,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
        dry_run=dry_run,
    )


def primitive_inputs(
    pubs: Sequence[Any], options: Mapping[str, Any] | None, default_name: str, default: float | None
) -> dict[str, Any]:
    """Return a primitive's inputs, its default for PUBs that do not say among the options."""
    if options is not None and not isinstance(options, Mapping):
        raise ConfigurationError("options: must be a mapping from the primitive's options to values.")
    chosen = dict(options or {})
    if default is not None:
        if not is_number(default) or not 0 < default < math.inf:
            name = default_name.removeprefix("default_")
            raise ConfigurationError(f"{name}: must be a number that is more than 0; got {default!r}.")
        chosen[default_name] = default
        if default_name == "default_precision":
            chosen.pop("default_shots", None)  # which would win: what is said in the call counts
    return {"pubs": pubs, "options": chosen}


def _submit(
    credentials: CredentialsLike,
    program_id: str,
    inputs: Mapping[str, Any],
    *,
    tags: Sequence[str],
    max_execution_time: float | None,
    dry_run: bool,
    **request: Any,
) -> str | dict[str, Any]:
    block = load_credentials(credentials)
    with block.get_client() as service:
        checked = service.request(
            program_id,
            inputs,
            tags=[*block.tags, *check_tags(tags)],  # by themselves first: a text would come apart into letters here
            max_execution_time=block.max_execution_time if max_execution_time is None else max_execution_time,
            **request,
        )
        if dry_run:
            return service.preview(checked)
        submitting = Submitting(service)
        book = journal.current_journal(Memory(service.memory), block_name=name_of(block), check=submitting.check)
        with submitting.of_journal(book):
            card = service.submit(checked, book)
            remember(card.job_id, card.backend)
            submitting.made(card.job_id)
        return card.job_id
