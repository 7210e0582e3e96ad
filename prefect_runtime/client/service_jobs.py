"""The jobs of an account, as `RuntimeService` finds them, waits for them and deletes them."""

from __future__ import annotations

import abc
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from typing import Any

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.backends import Backends
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.finding import JobFilter, find
from prefect_runtime.client.job import RuntimeJob, inputs_of
from prefect_runtime.client.request import texts
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.wire.errors import QiskitRuntimeError
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument, JobStatus

_log = get_logger(__name__)


class ServiceJobs(abc.ABC):
    """What a service can do with jobs that there are.

    Attributes:
        credentials: The account.
    """

    credentials: Credentials
    _backends: Backends

    @property
    @abc.abstractmethod
    def client(self) -> RuntimeClient:
        """The REST API."""

    def job(self, job_id: str) -> RuntimeJob:
        """Return a job made before, here or elsewhere.

        Raises:
            RuntimeJobNotFound: The account has no such job.
        """
        document = self.client.job(job_id, with_params=True)
        return self._as_job(document, self._backend_named(document.backend))

    def handle(self, job_id: str, *, known: JobDocument | None = None) -> RuntimeJob:
        """Return a job without asking the server for it: enough to wait for it and to fetch its result and log.

        Args:
            job_id: The job.
            known: What the server said of it when it was final: it is not asked for that again.
        """
        return RuntimeJob(Backend("unknown"), self.client, self.credentials, job_id, "", document=known)

    def jobs(
        self,
        limit: int | None = 10,
        skip: int = 0,
        pending: bool | None = None,
        program_id: str | None = None,
        *,
        tags: Sequence[str] = (),
        backend: str | None = None,
        session_id: str | None = None,
        created_after: datetime | str | None = None,
        created_before: datetime | str | None = None,
        status: JobStatus | str | Sequence[JobStatus | str] | None = None,
        flow_run_id: str | None = None,
    ) -> list[RuntimeJob]:
        """Return jobs of the account, newest first.

        Args:
            limit: How many at most; None for all.
            skip: How many to leave out at the start.
            pending: True for queued and running ones, False for final ones, None for both.
            program_id: Only those of this program.
            tags: Only those with all of these tags.
            backend: Only those on this backend.
            session_id: Only those in this session.
            created_after: Only those created then or later; a time without a zone is UTC.
            created_before: Only those created then or earlier.
            status: Only those in this status, or in one of these.
            flow_run_id: Only those submitted in this (outermost) flow run.
        """
        wanted = JobFilter.of(
            tags=tags,
            flow_run_id=flow_run_id,
            created_after=created_after,
            created_before=created_before,
            status=status,
            pending=pending,
            program_id=program_id,
            backend=backend,
            session_id=session_id,
        )
        documents = list(find(self.client, wanted, limit=limit, skip=skip))
        backends = {name: self._backend_named(name) for name in {document.backend for document in documents}}
        return [self._as_job(document, backends[document.backend]) for document in documents]

    def _backend_named(self, name: str) -> Backend:
        try:
            return self._backends.known(name)
        except QiskitRuntimeError as error:  # retired since, or not to be had now: its jobs are in reach without it
            _log.info("backend %s: nothing could be learned about it (%s)", name, error)
            return Backend(name)

    def _as_job(self, document: JobDocument, backend: Backend) -> RuntimeJob:
        return RuntimeJob(
            backend,
            self.client,
            self.credentials,
            document.id,
            document.program_id,
            params=_inputs(document),
            creation_date=document.created,
        )

    def delete_job(self, job_id: str) -> None:
        """Delete a job that is final, with its result and log."""
        self.client.delete_job(job_id)

    def wait(self, job_ids: Collection[str], timeout: float | None = None) -> dict[str, JobStatus]:
        """Wait until jobs are final and return their statuses; at the timeout, as far as they are known.

        A job whose status is a word that this version does not know is left out, as one that nothing is known of.

        Args:
            job_ids: The jobs.
            timeout: Seconds to wait in all; None for as long as it takes.

        Raises:
            ConfigurationError: No list of ids, or a time that is none.
        """
        check_seconds("timeout", timeout)
        ids = texts("job_ids", job_ids)  # of one id alone, each letter would be waited for
        documents = self.client.monitor.wait(ids, deadline=Deadline(timeout, self.client.clock))
        return {job_id: document.status for job_id, document in documents.items() if document.status is not None}

    def as_completed(self, job_ids: Collection[str], timeout: float | None = None) -> Iterator[tuple[str, JobStatus]]:
        """Give each job's id and status as it becomes final, the first first; ends at the timeout with what there is.

        Args:
            job_ids: The jobs.
            timeout: Seconds to wait in all; None for as long as it takes.

        Raises:
            ConfigurationError: No list of ids, or a time that is none.
        """
        check_seconds("timeout", timeout)
        deadline = Deadline(timeout, self.client.clock)
        for document in self.client.monitor.as_completed(texts("job_ids", job_ids), deadline=deadline):
            yield document.id, document.known_status()


def _inputs(document: JobDocument) -> Mapping[str, Any]:
    """Return a job's inputs; as they came where they cannot be decoded: who wants its result does without them."""
    try:
        return inputs_of(document)
    except QiskitRuntimeError as error:
        _log.warning("job %s: its inputs cannot be decoded (%s)", document.id, error)
        return document.params if isinstance(document.params, Mapping) else {}
