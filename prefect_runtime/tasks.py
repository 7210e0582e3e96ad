"""The tasks, one per verb of the seed, and `execute`, which strings them together. What users import.

Tasks take a block, or the name of a saved one, and plain values, and return plain values: a job id crosses a task
boundary, never a live client. They do not retry by themselves (``retries=0``): what is safe to repeat is repeated one
room below, and the rest must not be. Nothing is cached: a cached status is a wrong status.
"""

from __future__ import annotations

import importlib
import logging
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from prefect_runtime import cards, journal
from prefect_runtime.artifacts import render_result
from prefect_runtime.blocks import RuntimeCredentials, load_credentials
from prefect_runtime.cards import Memory
from prefect_runtime.client import JobStatus, ResultDecoder, RuntimeJob, RuntimeService
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.client.submission import sweep
from prefect_runtime.wire.errors import (
    ConfigurationError,
    JobTimeoutError,
    QiskitRuntimeError,
    RuntimeInvalidStateError,
    RuntimeJobFailureError,
)
from prefect_runtime.wire.models import JobDocument

if TYPE_CHECKING:
    from prefect.client.schemas.objects import State, TaskRun
    from prefect.tasks import Task

    Logger = logging.Logger | logging.LoggerAdapter[logging.Logger]

_log = logging.getLogger(__name__)

CredentialsLike = RuntimeCredentials | str
OnTimeout = Literal["keep", "cancel"]
OnExisting = Literal["attach", "new"]

INTERIM_CHARACTERS_IN_LOG = 300
_NONE = object()  # no result, which None may be


@task(name="Run program", task_run_name="run-{program_id}", retries=0, cache_policy=NO_CACHE)
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
) -> str:
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

    Raises:
        ConfigurationError: Something that cannot work; nothing was sent.
        SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
        ApiError: The runtime refused; there is no job.
        TransportError: The runtime cannot be reached; there is no job.
    """
    given = dict(options or {})
    backend_name, option_level = given.pop("backend_name", None), given.pop("log_level", None)
    return _submit(
        credentials,
        program_id,
        inputs,
        backend=backend or backend_name,
        log_level=log_level or option_level,
        image=given.pop("image", ""),
        tags=tags,
        max_execution_time=max_execution_time,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
        _unknown_options=given,
    )


@task(name="Run sampler", task_run_name="run-sampler", retries=0, cache_policy=NO_CACHE)
def run_sampler(
    credentials: CredentialsLike,
    pubs: Sequence[Any],
    *,
    shots: int | None = None,
    backend: str | Sequence[str] | None = None,
    optimization_level: int = 2,
    options: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_execution_time: float | None = None,
    log_level: str | None = None,
    session_id: str | None = None,
    private: bool = False,
    idempotency_key: str | None = None,
    on_existing: OnExisting = "attach",
) -> str:
    """Sample circuits and return the id of the job; its result is a Qiskit `PrimitiveResult`.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        pubs: Circuits as written (QuantumCircuit, OpenQASM 3 text, path of a .qasm or .qpy file), alone or as
            ``(circuit, parameter values, shots)``. They are transpiled to the backend here; those that fit it already
            pass through unchanged.
        shots: Repetitions for PUBs that do not say; 4096 if None.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        optimization_level: For transpiling, 0 to 3.
        options: The sampler's options.
        tags: See `run_program`, as all that follows.
        max_execution_time: In seconds.
        log_level: Of the program.
        session_id: Session to run in.
        private: The runtime shows no inputs, and the result once.
        idempotency_key: Names the request beyond this flow run.
        on_existing: "attach" or "new".

    Raises:
        ConfigurationError: Something that cannot work; nothing was sent.
        SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
        ApiError: The runtime refused; there is no job.
        TransportError: The runtime cannot be reached; there is no job.
    """
    return _submit(
        credentials,
        "sampler",
        _primitive_inputs(pubs, options, "default_shots", shots),
        backend=backend,
        optimization_level=optimization_level,
        tags=tags,
        max_execution_time=max_execution_time,
        log_level=log_level,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
    )


@task(name="Run estimator", task_run_name="run-estimator", retries=0, cache_policy=NO_CACHE)
def run_estimator(
    credentials: CredentialsLike,
    pubs: Sequence[Any],
    *,
    precision: float | None = None,
    backend: str | Sequence[str] | None = None,
    optimization_level: int = 2,
    options: Mapping[str, Any] | None = None,
    tags: Sequence[str] = (),
    max_execution_time: float | None = None,
    log_level: str | None = None,
    session_id: str | None = None,
    private: bool = False,
    idempotency_key: str | None = None,
    on_existing: OnExisting = "attach",
) -> str:
    """Estimate expectation values and return the id of the job; its result is a Qiskit `PrimitiveResult`.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        pubs: ``(circuit, observables, parameter values, precision)``, the last two optional; see `run_sampler`.
        precision: Target standard error for PUBs that do not say; 1/64 if None.
        backend: A name, names in order of preference, or "least_busy"; the block's if None.
        optimization_level: For transpiling, 0 to 3.
        options: The estimator's options.
        tags: See `run_program`, as all that follows.
        max_execution_time: In seconds.
        log_level: Of the program.
        session_id: Session to run in.
        private: The runtime shows no inputs, and the result once.
        idempotency_key: Names the request beyond this flow run.
        on_existing: "attach" or "new".

    Raises:
        ConfigurationError: Something that cannot work; nothing was sent.
        SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
        ApiError: The runtime refused; there is no job.
        TransportError: The runtime cannot be reached; there is no job.
    """
    return _submit(
        credentials,
        "estimator",
        _primitive_inputs(pubs, options, "default_precision", precision),
        backend=backend,
        optimization_level=optimization_level,
        tags=tags,
        max_execution_time=max_execution_time,
        log_level=log_level,
        session_id=session_id,
        private=private,
        idempotency_key=idempotency_key,
        on_existing=on_existing,
    )


def _primitive_inputs(
    pubs: Sequence[Any], options: Mapping[str, Any] | None, default_name: str, default: float | None
) -> dict[str, Any]:
    chosen = dict(options or {})
    if default is not None:
        if isinstance(default, bool) or not isinstance(default, int | float) or default <= 0:
            raise ConfigurationError(f"{default_name.removeprefix('default_')}: must be more than 0; got {default!r}.")
        chosen[default_name] = default
    return {"pubs": pubs, "options": chosen}


def _submit(
    credentials: CredentialsLike,
    program_id: str,
    inputs: Mapping[str, Any],
    *,
    tags: Sequence[str],
    max_execution_time: float | None,
    _unknown_options: Mapping[str, Any] | None = None,
    **request: Any,
) -> str:
    if _unknown_options:
        raise ConfigurationError(
            f"options: {sorted(_unknown_options)} not known; there are backend_name, log_level, image."
        )
    block = load_credentials(credentials)
    with block.get_client() as service:
        checked = service.request(
            program_id,
            inputs,
            tags=[*block.tags, *tags],
            max_execution_time=block.max_execution_time if max_execution_time is None else max_execution_time,
            **request,
        )
        return service.submit(checked, journal.current_journal(Memory(service.memory))).job_id


@task(name="Wait for job", task_run_name="wait-{job_id}", retries=0, cache_policy=NO_CACHE)
def wait_for_final_state(
    credentials: CredentialsLike,
    job_id: str,
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    raise_on_failure: bool = True,
) -> JobStatus:
    """Wait until a job is final and return its status. A failed poll ends nothing.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to wait in all; None for as long as it takes.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_timeout: What happens to the job at the timeout: "keep" leaves it alone, "cancel" cancels it.
        raise_on_failure: Raise if the job failed or was cancelled, so that the flow run is not Completed.

    Raises:
        JobTimeoutError: Not final in time; the task run's state is then called TimedOut.
        RuntimeJobFailureError: The job failed (`RuntimeJobMaxTimeoutError`: it ran too long).
        RuntimeInvalidStateError: The job was cancelled.
    """
    _check_choice("on_timeout", on_timeout, ("keep", "cancel"))
    service, pause = _open(credentials, timeout=timeout, wait=wait)
    with service:
        job = service.handle(job_id)
        try:
            _wait(job, timeout, pause, on_timeout)
        except JobTimeoutError:
            _note_if_final(service, job)
            raise
        document = job.document()
        status = document.known_status()
        failed = raise_on_failure and status is not JobStatus.DONE
        _note(service, document, delivered=failed)
        if failed:
            raise job.failure()
        return status


@task(name="Fetch result", task_run_name="result-{job_id}", retries=0, cache_policy=NO_CACHE)
def fetch_result(
    credentials: CredentialsLike,
    job_id: str,
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    decoder: type[ResultDecoder] | str | None = None,
) -> Any:
    """Return a job's result, waiting for it if need be.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to wait in all; None for as long as it takes.
        wait: The longest pause between two queries, in seconds; the block's ``wait_seconds`` if None, else adaptive.
        on_timeout: What happens to the job at the timeout: "keep" or "cancel".
        decoder: A `ResultDecoder` class, or where it is: ``"package.module:Class"``.

    Raises:
        RuntimeJobFailureError: The job failed; the message has the program's traceback.
        RuntimeInvalidStateError: The job was cancelled: it has no result.
        JobTimeoutError: Not final in time.
        ResultDecodeError: The result cannot be read with this decoder.
    """
    _check_choice("on_timeout", on_timeout, ("keep", "cancel"))
    decoder_class = _load_decoder(decoder)
    service, pause = _open(credentials, timeout=timeout, wait=wait)
    with service:
        job = service.handle(job_id)
        try:
            _wait(job, timeout, pause, on_timeout, quiet=True)
        except JobTimeoutError:
            _note_if_final(service, job)
            raise
        document = job.document()
        if document.known_status() is not JobStatus.DONE:
            _note(service, document, delivered=True)
            raise job.failure()
        result = job.result(decoder=decoder_class)
        _note(service, document, result=result)
        return result


@task(name="Fetch logs", task_run_name="logs-{job_id}", retries=0, cache_policy=NO_CACHE)
def fetch_logs(credentials: CredentialsLike, job_id: str) -> str:
    """Return a job's log, standard output and error; empty if there is none. Warns if the job is not final yet.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        job = service.handle(job_id)
        if not job.document().is_final:
            get_run_logger().warning("Job %s is not final yet: its log may grow", job_id)
        return job.logs()


@task(name="Stream results", task_run_name="stream-{job_id}", retries=0, cache_policy=NO_CACHE)
def stream_results(credentials: CredentialsLike, job_id: str, *, timeout: float | None = None) -> list[Any]:
    """Return all interim results of a job, in order, each once, after relaying them to the run's log as they come.

    Also what was published before the task started. Ends with the job.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.
        timeout: Seconds to listen in all; None until the job is final.

    Raises:
        JobTimeoutError: The job was not final in time.
        InterimResultsUnavailableError: This channel has no stream.
        TransportError: The stream broke and could not be opened again; job and result are not affected.
    """
    check_seconds("timeout", timeout)
    logger = get_run_logger()
    with load_credentials(credentials).get_client() as service:
        deadline = Deadline(timeout, service.client.clock)
        stream = InterimStream(service.client, job_id)
        results: list[Any] = []
        try:
            while (text := stream.next_text(None if timeout is None else deadline.remaining())) is not None:
                results.append(ResultDecoder.decode(text))
                logger.info("Job %s: interim result %d: %s", job_id, len(results), _short(text))
        except TimeoutError:
            raise JobTimeoutError(
                f"Job {job_id} was still publishing after {timeout:g} s; {len(results)} interim results had come. "
                "It was left alone.",
                job_id=job_id,
            ) from None
        finally:
            stream.cancel()
        return results


@task(name="Job status", task_run_name="status-{job_id}", retries=0, cache_policy=NO_CACHE)
def job_status(credentials: CredentialsLike, job_id: str) -> JobStatus:
    """Return a job's status, as the runtime says it is now.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        IBMQError: The runtime gave a status that this version does not know.
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        return service.client.job(job_id).known_status()


@task(name="Cancel job", task_run_name="cancel-{job_id}", retries=0, cache_policy=NO_CACHE)
def cancel_job(credentials: CredentialsLike, job_id: str) -> JobStatus:
    """Cancel a job and return its status as read back from the runtime; DONE if it was quicker.

    Args:
        credentials: A block, or the name of a saved one.
        job_id: The job.

    Raises:
        QiskitRuntimeError: The runtime could not be asked, or does not know the job.
    """
    with load_credentials(credentials).get_client() as service:
        try:
            service.client.cancel(job_id)
        except RuntimeInvalidStateError:
            get_run_logger().info("Job %s was final already", job_id)
        document = service.client.job(job_id)
        _note(service, document)
        return document.known_status()


def execute(
    credentials: CredentialsLike,
    program_id: str,
    inputs_or_pubs: Mapping[str, Any] | Sequence[Any],
    *,
    timeout: float | None = None,
    wait: float | None = None,
    on_timeout: OnTimeout = "keep",
    decoder: type[ResultDecoder] | str | None = None,
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
        decoder: Class that decodes the result, or where it is.
        options: As for `run_sampler`, `run_estimator` or `run_program`.

    Raises:
        RuntimeJobFailureError: The job failed.
        JobTimeoutError: Not final in time.
        QiskitRuntimeError: See the tasks.
    """
    job_id = _run_by_name(credentials, program_id, inputs_or_pubs, options)
    try:
        wait_for_final_state(credentials, job_id, timeout=timeout, wait=wait, on_timeout=on_timeout)
    except RuntimeJobFailureError:
        _fetch_logs_if_possible(credentials, job_id)  # what the program said is wanted most when it failed
        raise
    result = fetch_result(credentials, job_id, decoder=decoder)
    _fetch_logs_if_possible(credentials, job_id)
    return result


def _fetch_logs_if_possible(credentials: CredentialsLike, job_id: str) -> None:
    """Fetch the log; a failure to do so must neither hide the job's own nor cost its result."""
    try:
        fetch_logs(credentials, job_id)
    except QiskitRuntimeError as error:
        _log.warning("job %s: its log could not be fetched (%s)", job_id, error)


def _run_by_name(
    credentials: CredentialsLike,
    program_id: str,
    inputs_or_pubs: Mapping[str, Any] | Sequence[Any],
    options: Mapping[str, Any],
) -> str:
    if isinstance(inputs_or_pubs, Mapping):
        return str(run_program(credentials, program_id, inputs_or_pubs, **options))
    if program_id == "sampler":
        return str(run_sampler(credentials, inputs_or_pubs, **options))
    if program_id == "estimator":
        return str(run_estimator(credentials, inputs_or_pubs, **options))
    raise ConfigurationError(f"inputs: program {program_id!r} takes a mapping of arguments, not a list of PUBs.")


def retry_if_safe(task: Task[Any, Any], task_run: TaskRun, state: State[Any]) -> bool:  # noqa: ARG001 - Prefect's signature
    """Tell Prefect to retry a task only after an error that says that this can help and cannot do harm.

    Use it as ``task.with_options(retries=3, retry_condition_fn=retry_if_safe)``. It must be this very function: Prefect
    never retries with a partial or a callable object.
    """
    error = state.data
    return isinstance(error, QiskitRuntimeError) and error.retryable


def _open(
    credentials: CredentialsLike, *, timeout: float | None = None, wait: float | None = None
) -> tuple[RuntimeService, float | None]:
    """Return a client, and the longest pause between two looks at a job: the call's, else the block's."""
    check_seconds("timeout", timeout)
    check_seconds("wait", wait)
    block = load_credentials(credentials)
    return block.get_client(), block.wait_seconds if wait is None else wait


def _wait(
    job: RuntimeJob, timeout: float | None, pause: float | None, on_timeout: OnTimeout, *, quiet: bool = False
) -> None:
    """Wait, with a log line for each change of status; `quiet` leaves it out for a job that was final before."""
    logger = get_run_logger()
    waited = False

    def tell(document: JobDocument) -> None:
        nonlocal waited
        if quiet and document.is_final and not waited:
            return
        waited = True
        word = document.status.name if document.status else document.word
        logger.info("Job %s: %s%s", document.id, word, f" on {document.backend}" if document.backend else "")

    try:
        job.wait_for_final_state(timeout=timeout, wait=pause, on_change=tell)
    except JobTimeoutError as error:
        if on_timeout != "cancel":
            raise
        _cancel_after_timeout(job, logger)
        words = error.message.partition(" It was left alone")[0]
        raise JobTimeoutError(
            f"{words} It was to be cancelled then; the log says whether it was.", job_id=job.job_id()
        ) from None


def _note(service: RuntimeService, document: JobDocument, *, result: Any = _NONE, delivered: bool = False) -> None:
    """Bring the job's card up to date, and look once more for a duplicate where an answer was lost on the way.

    The card is for people: what goes wrong with it must not cost a result, or hide a failure.
    """
    memory = Memory(service.memory)
    try:
        section = "" if result is _NONE else render_result(result)
        card = cards.note_job(document, memory, secrets=service.client.secrets, result=section, delivered=delivered)
        if card is not None and (card.attached or card.posts > 1):
            sweep(service.client, journal.current_journal(memory), card)
    except Exception as error:  # noqa: BLE001 - see above
        name = type(error).__name__
        get_run_logger().warning("Job %s: its card could not be brought up to date (%s)", document.id, name)


def _note_if_final(service: RuntimeService, job: RuntimeJob) -> None:
    """Show on the card what a timeout has led to: the job may have been cancelled."""
    document = job.known_document
    if document is not None and document.is_final:
        _note(service, document)


def _cancel_after_timeout(job: RuntimeJob, logger: Logger) -> None:
    try:
        job.cancel()
    except RuntimeInvalidStateError:
        logger.info("Job %s became final just now: not cancelled", job.job_id())
    except QiskitRuntimeError as error:
        logger.warning("Job %s could not be cancelled after the timeout: %s", job.job_id(), error)
    else:
        logger.info("Job %s: cancelled after the timeout, now %s", job.job_id(), job.status().name)


def _check_choice(name: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise ConfigurationError(f"{name}: {value!r} is none of {', '.join(choices)}.")


def _load_decoder(decoder: type[ResultDecoder] | str | None) -> type[ResultDecoder] | None:
    if not isinstance(decoder, str):
        return decoder
    module, colon, name = decoder.partition(":")
    try:
        found = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigurationError(f"decoder: {decoder!r} cannot be loaded ({type(error).__name__}).") from None
    if not colon or not hasattr(found, "decode"):
        raise ConfigurationError(f"decoder: {decoder!r} must name a class with a decode method: package.module:Class.")
    loaded: type[ResultDecoder] = found
    return loaded


def _short(text: str) -> str:
    return text if len(text) <= INTERIM_CHARACTERS_IN_LOG else f"{text[:INTERIM_CHARACTERS_IN_LOG]}… ({len(text)})"
