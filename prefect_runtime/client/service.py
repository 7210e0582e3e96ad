"""What is there, start one, find one: `RuntimeService`, the door to a runtime. Used by the block and by people."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, NoReturn, Self

from prefect_runtime.client import accounts, primitives, submission, usage
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.backends import Backends
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.endpoints.line import REQUEST_SECONDS
from prefect_runtime.client.job import Decoder, RuntimeJob
from prefect_runtime.client.preparing import Preparing
from prefect_runtime.client.preview import preview
from prefect_runtime.client.primitive_options import check_options
from prefect_runtime.client.request import (
    Card,
    Journal,
    NoJournal,
    Request,
    check_backend,
    check_log_level,
    check_tags,
    check_terms,
    check_words,
    check_work,
    take_options,
    whole,
)
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import check_seconds
from prefect_runtime.client.service_backends import ServiceBackends
from prefect_runtime.client.service_jobs import ServiceJobs
from prefect_runtime.client.service_programs import ServicePrograms
from prefect_runtime.client.sessions import Mode, RuntimeSession, check_max_ttl, open_session
from prefect_runtime.wire.codec import ResultDecoder, encode_inputs
from prefect_runtime.wire.errors import (
    ConfigurationError,
    InterimResultsUnavailableError,
    QiskitRuntimeError,
)
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)


class RuntimeService(ServiceBackends, ServiceJobs, ServicePrograms):
    """A runtime, seen from one account. Use it as a context manager, or call `close`.

    Services of equal credentials share connections, token and watcher; all methods may be called from any thread.

    Args:
        credentials: The account; the embedded runtime if None.
        backend: What to run on if a call does not say: a name, names in order of preference, or "least_busy".
        settle_seconds: How long a job whose answer was lost may take to turn up in the server's list; None: 0 on the
            local channel, 300 elsewhere.
        guard_usage: Refuse a job that is estimated to take more seconds than the instance has left, where it has a
            limit (IBM Quantum Platform): one more request a job.
        generation: Of the primitives: the server's own programs, or "client": IBM's client builds a program for
            ``executor`` here (extra ``ibm``).
        request_timeout: Total time for one request with its retries, in seconds.
        jobs_per_minute: A fixed rate of submission, shared by all who ask for one with this account in this process;
            None (or 0) for as fast as the server takes them.
    """

    def __init__(
        self,
        credentials: Credentials | None = None,
        *,
        backend: str | Sequence[str] | None = None,
        settle_seconds: float | None = None,
        guard_usage: bool = False,
        generation: Literal["server", "client"] = "server",
        request_timeout: float = REQUEST_SECONDS,
        jobs_per_minute: float | None = None,
    ) -> None:
        check_seconds("settle_seconds", settle_seconds)
        check_seconds("request_timeout", request_timeout)
        if not request_timeout:
            raise ConfigurationError("request_timeout: must be more than 0 seconds.")
        if generation not in ("server", "client"):
            raise ConfigurationError(f"primitives: {generation!r} is none of 'server', 'client'.")
        self._guard_usage = guard_usage
        self._client_side = generation == "client"
        check_seconds("jobs_per_minute", jobs_per_minute)
        self.credentials = credentials or Credentials()
        self._asked_backend = check_backend(backend)
        self._settle = settle_seconds
        self._per_minute = jobs_per_minute
        self._account = accounts.acquire(self.credentials, request_timeout=request_timeout)
        self._backends = Backends(self._account)
        self._preparing = Preparing(self._account.client, self._backends)
        self._release = weakref.finalize(self, accounts.release, self._account)

    def __repr__(self) -> str:
        return f"RuntimeService({self.credentials!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> NoReturn:
        raise TypeError("A RuntimeService holds connections and a token and cannot be pickled: hand on a block's name.")

    def close(self) -> None:
        """Give the account back. A job got from this service goes on working."""
        self._release()

    @property
    def client(self) -> RuntimeClient:
        """The REST API."""
        return self._account.client

    @property
    def memory(self) -> dict[str, object]:
        """What callers remember of this account's jobs in this process, shared by all services of the account."""
        return self._account.memory

    # Start one

    def run(
        self,
        program_id: str,
        inputs: Mapping[str, Any],
        options: Mapping[str, Any] | None = None,
        callback: Callable[[str, Any], None] | None = None,
        result_decoder: Decoder | None = None,
        image: str = "",
        *,
        backend: str | Sequence[str] | None = None,
        log_level: str | None = None,
        tags: Sequence[str] = (),
        session_id: str | None = None,
        max_execution_time: float | None = None,
        private: bool = False,
        idempotency_key: str | None = None,
        on_existing: Literal["attach", "new"] = "attach",
        optimization_level: int | None = 2,
    ) -> RuntimeJob:
        """Run a program and return its job; for one request there is one job, whatever the network does.

        Args:
            program_id: The program.
            inputs: Its arguments. "sampler" and "estimator" take ``{"pubs": […], "options": {…}}`` with circuits as
                written: they are transpiled to the backend here.
            options: ``{"backend_name": …, "log_level": …, "image": …}``, the Qiskit runtime's way to say these.
            callback: Called with ``(job_id, interim_result)`` for every interim result, from now on.
            result_decoder: Class that decodes results and interim results.
            image: Runtime image, where the server has several.
            backend: A name, names in order of preference, or "least_busy"; the service's own if None.
            log_level: What the program logs: critical, error, warning, info, debug.
            tags: Up to four tags of up to 86 characters; ``prt1-…`` and ``prt-fp-…`` are ours.
            session_id: Session to run in.
            max_execution_time: The longest it may run, in seconds; then the server ends it.
            private: The server shows no inputs, and the result once.
            idempotency_key: Names the request: everybody who asks for the same under this name gets the same job.
            on_existing: "attach" to the job of an equal request, or "new" to make another one in any case.
            optimization_level: For transpiling, 0 to 3; None to send circuits as they are, if the backend can run them.

        Raises:
            ConfigurationError: Something that cannot work; nothing was sent.
            InterimResultsUnavailableError: A callback, and this channel has no stream; nothing was sent.
            UsageLimitError: With `guard_usage`: it would take more than the instance has left; nothing was sent.
            IdempotencyConflictError: `idempotency_key` names another request already.
            SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
            ApiError: The server refused; there is no job.
            TransportError: The server cannot be reached; there is no job.
        """
        given = take_options(options)
        request = self.request(
            program_id,
            inputs,
            backend=given.get("backend_name") if backend is None or backend == "" else backend,
            log_level=log_level or given.get("log_level"),
            image=image or given.get("image", ""),
            tags=tags,
            session_id=session_id,
            max_execution_time=max_execution_time,
            private=private,
            idempotency_key=idempotency_key,
            on_existing=on_existing,
            optimization_level=optimization_level,
        )
        self._check_listener(callback, result_decoder)
        card = self.submit(request, NoJournal())
        return RuntimeJob(
            self._backend_of(card),
            self.client,
            self.credentials,
            card.job_id,
            program_id,
            params=inputs,
            user_callback=callback,
            result_decoder=result_decoder or ResultDecoder,
        )

    def _check_listener(self, callback: object, decoder: object) -> None:
        """Refuse what would only fail once the job is made."""
        if decoder is not None and not hasattr(decoder, "decode"):
            raise ConfigurationError("result_decoder: must be a class with a decode method. Nothing was sent.")
        if callback is None:
            return
        if not callable(callback):
            raise ConfigurationError(f"callback: must be callable, not {type(callback).__name__}. Nothing was sent.")
        if not self.client.has_streams:
            raise InterimResultsUnavailableError(
                "callback: IBM Quantum Platform has no stream of interim results. Nothing was sent."
            )

    def _backend_of(self, card: Card) -> Backend:
        """Return the backend of a job just made; a look that fails must not hide the job."""
        try:
            return self._backends.known(card.backend or self.client.job(card.job_id).backend)
        except QiskitRuntimeError as error:
            _log.warning("job %s: nothing could be learned about its backend (%s)", card.job_id, error)
            return Backend(card.backend or "unknown")

    def request(
        self,
        program_id: str,
        inputs: Mapping[str, Any],
        *,
        backend: str | Sequence[str] | None = None,
        log_level: str | None = None,
        image: str = "",
        tags: Sequence[str] = (),
        session_id: str | None = None,
        max_execution_time: float | None = None,
        private: bool = False,
        idempotency_key: str | None = None,
        on_existing: Literal["attach", "new"] = "attach",
        optimization_level: int | None = 2,
    ) -> Request:
        """Return a checked request, ready to be submitted; see `run` for the arguments. Sends nothing.

        Raises:
            ConfigurationError: Something that cannot work; the message names the field.
        """
        check_work(program_id, inputs)
        check_terms(on_existing, optimization_level, idempotency_key, max_execution_time, private)
        check_words(session_id=session_id, image=image)
        if primitives.is_primitive(program_id, inputs):
            inputs = primitives.read(program_id, inputs)
            channel = self.client.credentials.channel
            if channel != "classic" and not self._client_side:  # whose options are others, or checked by IBM's client
                check_options(program_id, primitives.options_of(inputs), embedded=channel == "local")
        else:
            encode_inputs(inputs)  # refused here, not half-way through a submission
        others = {
            "log_level": check_log_level(log_level),
            "runtime": image or None,
            "session_id": session_id,
            "cost": None if max_execution_time is None else whole(max_execution_time),
            "private": private or None,
        }
        return Request(
            program_id=program_id,
            inputs=inputs,
            backend=check_backend(backend) or self._asked_backend,
            tags=check_tags(tags),
            optimization_level=optimization_level,
            idempotency_key=idempotency_key,
            on_existing=on_existing,
            others={name: value for name, value in others.items() if value is not None},
            client_side=self._client_side and primitives.is_primitive(program_id, inputs),
        )

    def submit(self, request: Request, journal: Journal) -> Card:
        """Return the card of a request's one job, made or found; `journal` is where it is kept."""
        return submission.submit(
            request,
            self.client,
            journal,
            lambda: self._preparing.prepare(request, guard_usage=self._guard_usage),
            settle_seconds=self._settle,
            jobs_per_minute=self._per_minute,
        )

    def preview(self, request: Request) -> dict[str, Any]:
        """Return what `submit` would send, in sizes and numbers, and what it will take; sends no job.

        Returns:
            Plain data: program_id, backend, options, tags, transpiled, params_bytes, pubs, usage (see `estimate_usage`)
            and remaining_seconds of the instance, None where it has no limit.

        Raises:
            ConfigurationError: It could not be sent.
        """
        prepared = self._preparing.prepare(request)
        left = usage.remaining_seconds(self.client.usage()) if self.client.counts_usage else None
        return preview(request, prepared, self._preparing.estimate(request, prepared), left)

    def estimate_usage(
        self,
        program_id: str,
        pubs: Sequence[Any],
        *,
        options: Mapping[str, Any] | None = None,
        backend: str | Sequence[str] | None = None,
        optimization_level: int | None = 2,
    ) -> usage.UsageEstimate:
        """Return the seconds of a QPU that PUBs will take, by IBM's published formula, and their parts.

        Args:
            program_id: "sampler" or "estimator".
            pubs: As for `run`.
            options: The primitive's options.
            backend: As for `run`.
            optimization_level: As for `run`.

        Raises:
            ConfigurationError: Something that could not be run, or Qiskit is not installed.
        """
        inputs = {"pubs": pubs, "options": dict(options or {})}
        request = self.request(program_id, inputs, backend=backend, optimization_level=optimization_level)
        estimated = self._preparing.estimate(request, self._preparing.prepare(request))
        if estimated is None:
            raise ConfigurationError(
                "usage: can be estimated for sampler and estimator only, and needs Qiskit: "
                "pip install 'prefect-runtime[local]'."
            )
        return estimated

    def session(self, backend: str | Sequence[str] | None = None, *, max_ttl: float | None = None) -> RuntimeSession:
        """Open a session: its jobs run next to each other, and it bills from its first job until it is closed.

        Args:
            backend: A name, names in order of preference, or "least_busy"; the service's own if None.
            max_ttl: Its time to live, in seconds; without one the log has a warning.

        Raises:
            SessionUnknownError: The answer was lost: there may be one now. Not asked for again.
            ApiError: The server refused: there is none.
            ConnectFailedError: The server cannot be reached: there is none.
        """
        return self._open("dedicated", backend, max_ttl)

    def batch(self, backend: str | Sequence[str] | None = None, *, max_ttl: float | None = None) -> RuntimeSession:
        """Open a batch: jobs that are all there at once run as close together as they can; see `session`."""
        return self._open("batch", backend, max_ttl)

    def _open(self, mode: Mode, backend: str | Sequence[str] | None, max_ttl: float | None) -> RuntimeSession:
        life = check_max_ttl(max_ttl)
        name = self.backend_name(backend)
        document = open_session(self.client, mode=mode, backend=name, max_ttl=life)
        return RuntimeSession(self, document, mode=mode, backend=name)
