"""One job's life: `RuntimeJob`, with the methods, defaults and errors of the Qiskit runtime's own.

Used by service.py and by people. Where the classic implementation broke its own contract, the contract is kept: a
cancelled job has no result, a status is never made up, a deadline is exact, a failed poll ends nothing.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, NoReturn

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.callbacks import Callbacks
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.interrupt import Interrupt
from prefect_runtime.client.job_failure import JobFailure
from prefect_runtime.client.job_result import JobResult
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.wire.codec import ResultDecoder, decode
from prefect_runtime.wire.errors import (
    ConfigurationError,
    InterimResultsUnavailableError,
    JobTimeoutError,
    ProtocolError,
    QiskitRuntimeError,
    ResultDecodeError,
    RuntimeInvalidStateError,
    RuntimeJobNotFound,
)
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.metrics import JobMetrics
from prefect_runtime.wire.models import JobDocument, JobStatus

_log = get_logger(__name__)

Decoder = type[ResultDecoder]


class RuntimeJob:
    """One execution of a program at a runtime.

    Not picklable, because it would carry the token: hand on ``job.job_id()`` and get the job again with
    `RuntimeService.job`.

    Args:
        backend: Where it runs.
        api_client: For connecting to the server.
        credentials: The account.
        job_id: Job id.
        program_id: The program.
        params: Its inputs.
        creation_date: In UTC, ISO 8601.
        user_callback: Called with ``(job_id, interim_result)`` for every interim result, from now on.
        result_decoder: Class that decodes results and interim results.
        document: What the server last said of the job; it is not asked again of one that is final.
    """

    def __init__(
        self,
        backend: Backend,
        api_client: RuntimeClient,
        credentials: Credentials,
        job_id: str,
        program_id: str,
        params: Mapping[str, Any] | None = None,
        creation_date: str | None = None,
        user_callback: Callable[[str, Any], None] | None = None,
        result_decoder: Decoder = ResultDecoder,
        *,
        document: JobDocument | None = None,
    ) -> None:
        self._backend = backend
        self._client = api_client
        self._credentials = credentials
        self._job_id = job_id
        self._program_id = program_id
        self._params: Mapping[str, Any] = {} if params is None else params
        self._creation_date = creation_date
        self._decoder = result_decoder
        self._document = document
        self._result = JobResult(api_client, job_id)
        self._failure = JobFailure(api_client, job_id)
        self._decoded: dict[Decoder, Any] = {}
        self._callbacks = Callbacks(api_client, job_id)
        if user_callback is not None:
            self._callbacks.start(user_callback, result_decoder)

    def __repr__(self) -> str:
        return f"<RuntimeJob {self._job_id!r} of {self._program_id!r} on {self._backend.name!r}>"

    def __reduce__(self) -> NoReturn:
        raise TypeError("A RuntimeJob carries a token and cannot be pickled: hand on its job_id().")

    # What it is

    def job_id(self) -> str:
        """Return a unique id of the job."""
        return self._job_id

    def backend(self) -> Backend:
        """Return the backend where this job runs or ran."""
        return self._backend

    @property
    def program_id(self) -> str:
        """The program this job is for."""
        return self._program_id

    @property
    def inputs(self) -> Mapping[str, Any]:
        """Input parameters of this job; empty if there are none."""
        return self._params

    @property
    def creation_date(self) -> datetime | None:
        """When the job was created, in local time (aware); None if the server does not say.

        Raises:
            ProtocolError: What the server says is no time.
        """
        if self._creation_date is None:
            self._creation_date = (self._document or self._refresh()).created
        moment = parse_time(self._creation_date)
        try:
            return None if moment is None else moment.astimezone()
        except (ValueError, OverflowError, OSError):  # the first or last day there is, in our zone
            raise ProtocolError("Not a timestamp of this age.", job_id=self._job_id) from None

    # How it is

    def status(self) -> JobStatus:
        """Return the job's status, asked for now unless it is known to be final.

        Raises:
            IBMQError: The server gave a status that this version does not know (`UnknownJobStatusError`).
            QiskitRuntimeError: The server could not be asked.
        """
        return self.document().known_status()

    def document(self) -> JobDocument:
        """Return all the server says of the job, asked for now unless it is known to be final."""
        known = self._document
        return known if known is not None and known.is_final else self._refresh()

    @property
    def known_document(self) -> JobDocument | None:
        """What the server last said of the job, without asking; None if it was never asked."""
        return self._document

    def _refresh(self) -> JobDocument:
        return self._remember(self._client.job(self._job_id))

    def _remember(self, document: JobDocument) -> JobDocument:
        known = self._document
        if known is None or not known.is_final:
            self._document = document
        return document

    def error_message(self) -> str | None:
        """Return why the job failed, or None if it has not."""
        document = self.document()
        return self._failure.message(document) if document.status is JobStatus.ERROR else None

    def failure(self) -> QiskitRuntimeError:
        """Return the error that a job stands for which is final but not DONE."""
        return self._failure.error(self.document())

    def metrics(self) -> Mapping[str, Any]:
        """Return the job's timestamps and usage, as the server gives them."""
        return self._client.metrics(self._job_id)

    def usage(self) -> JobMetrics:
        """Return when the job was made, ran and ended, and the QPU seconds that are charged for it."""
        return JobMetrics.parse(self.metrics())

    # Waiting for it

    def wait_for_final_state(
        self,
        timeout: float | None = None,
        wait: float | None = 5,
        *,
        on_change: Callable[[JobDocument], None] | None = None,
        interrupt: Interrupt | None = None,
    ) -> None:
        """Wait until the job is DONE, CANCELLED or ERROR. Raises for none of them; a failed poll ends nothing.

        Args:
            timeout: Seconds to wait in all; None for as long as it takes.
            wait: The longest pause between two queries, in seconds; None leaves it to us, up to 60 s.
            on_change: Called with the job's document after each change of its status.
            interrupt: Ends the wait when it is set, from another thread.

        Raises:
            JobTimeoutError: Not final in time. The job is left alone.
            WaitInterruptedError: `interrupt` was set. The job is left alone.
            ConfigurationError: A time that is none.
        """
        check_seconds("timeout", timeout)
        check_seconds("wait", wait)
        if self._document is not None and self._document.is_final:
            return
        deadline = Deadline(timeout, self._client.clock)
        known = self._client.monitor.wait(
            [self._job_id], deadline=deadline, longest_pause=wait, on_change=on_change, interrupt=interrupt
        )
        document = known.get(self._job_id)
        if document is not None:
            self._remember(document)
            if document.is_final:
                return
        said = f"its status was {document.word!r}" if document else "its status could not be asked for"
        raise JobTimeoutError(
            f"Job {self._job_id} was not final after {timeout:g} s; {said}. It was left alone: wait for it again with "
            "its id, or cancel it.",
            job_id=self._job_id,
        )

    def result(self, timeout: float | None = None, wait: float | None = 5, decoder: Decoder | None = None) -> Any:
        """Wait for the job and return its result. The text is fetched once.

        Args:
            timeout: Seconds to wait in all, for the job and then for its result; None for as long as it takes. The one
                read of a private result, once begun, has the time of a request at least: cut off, it would be lost.
            wait: The longest pause between two queries, in seconds.
            decoder: Class that decodes the result; the job's own if None.

        Raises:
            RuntimeJobFailureError: The job failed (`RuntimeJobMaxTimeoutError`: it ran too long).
            RuntimeInvalidStateError: The job was cancelled: it has no result.
            JobTimeoutError: Not final in time, or its result had not come by then. The job is left alone.
            ResultDecodeError: The result cannot be read with this decoder.
            ResultLostError: The job is done, but the server has no result (any more).
            ConfigurationError: A time, or a decoder, that is none.
        """
        check_seconds("timeout", timeout)
        used = self._chosen(decoder)  # refused now, not after hours in the queue
        deadline = Deadline(timeout, self._client.clock)
        self.wait_for_final_state(timeout=timeout, wait=wait)
        document = self.document()
        if document.status is not JobStatus.DONE:
            raise self._failure.error(document, deadline)
        if used not in self._decoded:
            self._decoded[used] = self._decode(used, self._result.fetch(deadline, private=document.private))
        return self._decoded[used]

    def _chosen(self, decoder: Decoder | None) -> Decoder:
        """Return the decoder of a call, else the job's own."""
        used = decoder or self._decoder
        if not callable(getattr(used, "decode", None)):
            raise ConfigurationError("decoder: must be a class with a decode method.")
        return used

    def _decode(self, decoder: Decoder, text: str) -> Any:
        try:
            return decoder.decode(text)
        except ResultDecodeError as error:
            if error.job_id is not None or type(error) is not ResultDecodeError:  # it has been said, or is not ours
                raise
            raise ResultDecodeError(f"Job {self._job_id}: {error.message}", job_id=self._job_id) from None

    # Doing something about it

    def cancel(self) -> None:
        """Cancel the job; its status is then what the server says it is, at the latest when that is next asked for.

        Raises:
            RuntimeInvalidStateError: It is final already.
            QiskitRuntimeError: The server could not be asked to, or refused.
        """
        if self._document is not None and self._document.is_final:
            raise RuntimeInvalidStateError(
                f"Job {self._job_id} is final already ({self._document.word}): it cannot be cancelled.",
                job_id=self._job_id,
            )
        self._client.cancel(self._job_id)
        self.cancel_result_streaming()
        try:
            self._refresh()
        except QiskitRuntimeError as error:  # which does not undo it
            _log.warning("job %s: cancelled, but its status is not known now (%s)", self._job_id, error)

    def logs(self) -> str:
        """Return the job's log, standard output and error; empty if there is none. Warns if the job is not final yet.

        Raises:
            QiskitRuntimeError: The server could not be asked.
        """
        if not self.document().is_final:
            _log.warning("job %s is not final yet: its log may grow", self._job_id)
        try:
            return self._client.logs(self._job_id)
        except RuntimeJobNotFound:
            return ""

    # Its interim results

    def interim_results(self, decoder: Decoder | None = None) -> list[Any]:
        """Return the interim results so far, in the order the server keeps them.

        Raises:
            InterimResultsUnavailableError: This channel has none.
        """
        if not self._client.has_streams:
            raise InterimResultsUnavailableError(
                f"Job {self._job_id}: this channel keeps no interim results.", job_id=self._job_id
            )
        used = self._chosen(decoder)
        return [used.decode(text) for text in self._client.interim_results(self._job_id)]

    def stream_results(self, callback: Callable[[str, Any], None], decoder: Decoder | None = None) -> None:
        """Start streaming interim results; returns at once.

        Args:
            callback: Called as ``callback(job_id, interim_result)``, from a thread of its own, in order, each once.
                What it raises is logged, and the stream goes on.
            decoder: Class that decodes interim results; the job's own if None.

        Raises:
            ConfigurationError: A callback that cannot be called, or a decoder that is none.
            RuntimeInvalidStateError: A callback is streaming already, or the job is final.
            InterimResultsUnavailableError: This channel has no streams.
        """
        if not callable(callback):
            raise ConfigurationError(f"callback: must be callable, not {type(callback).__name__}.")
        used = self._chosen(decoder)
        if self.document().is_final:
            raise RuntimeInvalidStateError(
                f"Job {self._job_id} is final: there is nothing left to stream. interim_results() has what came.",
                job_id=self._job_id,
            )
        self._callbacks.start(callback, used)

    def wait_for_stream(self, timeout: float | None = None) -> None:
        """Wait until the callback has had every interim result. Harmless when nothing streams or has streamed.

        Args:
            timeout: Seconds to wait; None for as long as it takes.

        Raises:
            JobTimeoutError: It still streams. Job and stream are left alone.
            StreamClosedError: The stream broke, and interim results may be missing.
            QiskitRuntimeError: The stream could not be opened.
        """
        check_seconds("timeout", timeout)
        self._callbacks.wait(timeout)

    def cancel_result_streaming(self) -> None:
        """Stop streaming: at most a callback that was about to start still does. Harmless when nothing streams."""
        self._callbacks.cancel()


def inputs_of(document: JobDocument) -> dict[str, Any]:
    """Return a job's inputs as they came back from the server, decoded by the same safe rules as results."""
    try:
        value = decode(document.inputs_json())
    except json.JSONDecodeError:
        raise ProtocolError(f"The inputs of job {document.id} are not JSON.", job_id=document.id) from None
    return value if isinstance(value, dict) else {}
