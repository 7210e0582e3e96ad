"""A program with its inputs as a job block, for people who use Prefect's: a stored call of our tasks, no other way.

Each verb here is one of the tasks, called where the block is used: the job card, the look-up before anything is sent,
the log lines and what happens when the flow is cancelled are theirs. They are imported when one is called: a server
that only registers blocks has no use for them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

from prefect.blocks.abstract import JobBlock, JobRun
from pydantic import ConfigDict, Field, HttpUrl, model_validator

from prefect_runtime.blocks.credentials import LOGO_URL, RuntimeCredentials
from prefect_runtime.blocks.known_fields import refuse_unknown
from prefect_runtime.client import JobStatus, ResultDecoder


@dataclass(frozen=True, kw_only=True)
class RuntimeProgramRun(JobRun[Any]):
    """One job of a `RuntimeProgram`: wait for it, fetch its result and log, cancel it.

    Attributes:
        credentials: The account.
        job_id: The job. What another process needs, beside the block's name, to go on with it.
        timeout: Seconds to wait for it in all; None for as long as it takes.
        on_timeout: What happens to the job then: "keep" or "cancel".
    """

    credentials: RuntimeCredentials
    job_id: str
    timeout: float | None = None
    on_timeout: Literal["keep", "cancel"] = "keep"

    # Prefect's abstract methods are async. Flows that use job blocks are mostly sync, and a method that blocks must not
    # look as if it did not; async flows have the ones with an `a`.

    def wait_for_completion(self) -> JobStatus:  # type: ignore[override]
        """Wait until the job is final and return its status, DONE.

        Raises:
            JobTimeoutError: Not final in time.
            RuntimeJobFailureError: The job failed (`RuntimeJobMaxTimeoutError`: it ran too long).
            RuntimeInvalidStateError: The job was cancelled.
        """
        from prefect_runtime.tasks import wait_for_final_state

        return wait_for_final_state(self.credentials, self.job_id, timeout=self.timeout, on_timeout=self.on_timeout)

    def fetch_result(self, *, decoder: type[ResultDecoder] | str | None = None) -> Any:
        """Return the job's result, waiting for it if need be.

        Args:
            decoder: A `ResultDecoder` class, or where it is: ``"package.module:Class"``.

        Raises:
            JobTimeoutError: Not final in time.
            RuntimeJobFailureError: The job failed; the message has the program's traceback.
            RuntimeInvalidStateError: The job was cancelled: it has no result.
        """
        from prefect_runtime.tasks import fetch_result

        return fetch_result(
            self.credentials, self.job_id, timeout=self.timeout, on_timeout=self.on_timeout, decoder=decoder
        )

    def logs(self) -> str:
        """Return the job's log; empty if there is none."""
        from prefect_runtime.tasks import fetch_logs

        return fetch_logs(self.credentials, self.job_id)

    def status(self) -> JobStatus:
        """Return the job's status, as the runtime says it is now."""
        from prefect_runtime.tasks import job_status

        return job_status(self.credentials, self.job_id)

    def cancel(self) -> JobStatus:
        """Cancel the job and return its status as read back from the runtime; DONE if it was quicker."""
        from prefect_runtime.tasks import cancel_job

        return cancel_job(self.credentials, self.job_id)

    # For async flows

    async def await_for_completion(self) -> JobStatus:
        """Wait until the job is final, without blocking the event loop; see `wait_for_completion`."""
        from prefect_runtime.tasks import await_for_final_state

        return await await_for_final_state(
            self.credentials, self.job_id, timeout=self.timeout, on_timeout=self.on_timeout
        )

    async def afetch_result(self, *, decoder: type[ResultDecoder] | str | None = None) -> Any:
        """Return the job's result, without blocking the event loop; see `fetch_result`."""
        from prefect_runtime.tasks import afetch_result

        return await afetch_result(
            self.credentials, self.job_id, timeout=self.timeout, on_timeout=self.on_timeout, decoder=decoder
        )

    async def alogs(self) -> str:
        """Return the job's log, without blocking the event loop."""
        from prefect_runtime.tasks import afetch_logs

        return await afetch_logs(self.credentials, self.job_id)

    async def astatus(self) -> JobStatus:
        """Return the job's status, without blocking the event loop."""
        from prefect_runtime.tasks import ajob_status

        return await ajob_status(self.credentials, self.job_id)

    async def acancel(self) -> JobStatus:
        """Cancel the job, without blocking the event loop; see `cancel`."""
        from prefect_runtime.tasks import acancel_job

        return await acancel_job(self.credentials, self.job_id)


class RuntimeProgram(JobBlock):  # type: ignore[type-arg]  # its parameter would be a model of another name
    """A program for a quantum runtime with its inputs and the backend to run on; each trigger is one job.

    Nothing is asked of a server when a block is made, saved or loaded. Triggered in a flow run that is executed again,
    it finds the job it has made: one request, one job.

    Attributes:
        credentials: Credentials for the runtime.
        program_id: The program.
        inputs: Its arguments.
        backend: Backend to run on; the credentials' own if empty.
        options: Log level and runtime image.
        tags: Tags for every job.
        max_execution_time: The longest a job may run, in seconds.
        timeout_seconds: The longest to wait for a job, in seconds.
        on_timeout: What happens to the job then.

    Example:
        Load a saved block, run it and fetch the result:
        ```python
        from prefect import flow
        from prefect_runtime import RuntimeProgram

        @flow
        def calibrate():
            program = RuntimeProgram.load("BLOCK_NAME")
            run = program.trigger()
            run.wait_for_completion()
            return run.fetch_result()
        ```
    """

    model_config = ConfigDict(hide_input_in_errors=True)  # inputs are nobody's business

    _block_type_name: ClassVar[str | None] = "Quantum Runtime Program"
    _block_type_slug: ClassVar[str | None] = "quantum-runtime-program"
    _logo_url: ClassVar[HttpUrl | None] = LOGO_URL
    _description: ClassVar[str | None] = (
        "A program for a quantum runtime with its inputs and the backend to run on. Each trigger makes one job."
    )
    _documentation_url: ClassVar[HttpUrl | None] = HttpUrl(
        "https://github.com/prefect-runtime/prefect-runtime#a-program-as-a-block"
    )

    credentials: RuntimeCredentials = Field(
        default_factory=RuntimeCredentials,
        title="Credentials",
        description="Credentials for the runtime. Left as they are: the embedded runtime, on this machine.",
    )
    program_id: str = Field(
        min_length=1,
        title="Program",
        description="The program's id.",
        examples=["sampler", "estimator"],
    )
    inputs: dict[str, Any] = Field(
        default_factory=dict,
        title="Inputs",
        description='The program\'s arguments; for a sampler {"pubs": ["circuit.qasm"]}, with OpenQASM 3 texts or '
        "paths as circuits. Not for secrets: they are stored as they are.",
    )
    backend: str | list[str] = Field(
        default="",
        title="Backend",
        description="A name, names in order of preference, or least_busy. If empty, the credentials' own.",
        examples=["aer_simulator", "least_busy"],
    )
    options: dict[str, Any] = Field(
        default_factory=dict,
        title="Options",
        description="How to run the program: log_level and image.",
    )
    tags: list[str] = Field(
        default_factory=list,
        title="Tags",
        description="Tags for every job; a job takes four, those of the credentials included.",
    )
    max_execution_time: float | None = Field(
        default=None,
        gt=0,
        title="Longest execution (seconds)",
        description="The longest a job may run before the runtime ends it. If empty, as the credentials say.",
    )
    timeout_seconds: float | None = Field(
        default=None,
        ge=0,
        title="Longest wait (seconds)",
        description="The longest to wait for a job in all. If empty, for as long as it takes.",
    )
    on_timeout: Literal["keep", "cancel"] = Field(
        default="keep",
        title="After the longest wait",
        description="What happens to a job that was not final in time: it is kept or cancelled.",
    )

    @model_validator(mode="before")
    @classmethod
    def _refuse_unknown(cls, given: Any) -> Any:
        refuse_unknown(given, cls.model_fields)
        return given

    def trigger(  # type: ignore[override]  # async in Prefect; see RuntimeProgramRun
        self, *, inputs: Mapping[str, Any] | None = None, idempotency_key: str | None = None
    ) -> RuntimeProgramRun:
        """Run the program and return its job, as soon as the runtime has it. See `run_program`.

        Args:
            inputs: Arguments for this job only, over the block's own.
            idempotency_key: Names the request beyond this flow run.

        Raises:
            ConfigurationError: Something that cannot work; nothing was sent.
            SubmissionUnknownError: The answer was lost, and whether a job exists cannot be proved.
            ApiError: The runtime refused; there is no job.
            TransportError: The runtime cannot be reached; there is no job.
        """
        from prefect_runtime.tasks import run_program

        return self._run_of(run_program(**self._call(inputs, idempotency_key)))

    async def atrigger(
        self, *, inputs: Mapping[str, Any] | None = None, idempotency_key: str | None = None
    ) -> RuntimeProgramRun:
        """Run the program and return its job, without blocking the event loop; see `trigger`."""
        from prefect_runtime.tasks import arun_program

        return self._run_of(await arun_program(**self._call(inputs, idempotency_key)))

    def _call(self, inputs: Mapping[str, Any] | None, idempotency_key: str | None) -> dict[str, Any]:
        return {
            "credentials": self.credentials,
            "program_id": self.program_id,
            "inputs": {**self.inputs, **(inputs or {})},
            "backend": self.backend or None,
            "options": self.options,
            "tags": self.tags,
            "max_execution_time": self.max_execution_time,
            "idempotency_key": idempotency_key,
        }

    def _run_of(self, job_id: str) -> RuntimeProgramRun:
        return RuntimeProgramRun(
            credentials=self.credentials, job_id=job_id, timeout=self.timeout_seconds, on_timeout=self.on_timeout
        )
