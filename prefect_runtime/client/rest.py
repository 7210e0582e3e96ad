"""A runtime's REST API, one method per endpoint -> `RuntimeClient`; the methods are in endpoints/, by resource."""

from __future__ import annotations

import os
import weakref

from prefect_runtime.client.auth import Access
from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.endpoints.backends import BackendCalls
from prefect_runtime.client.endpoints.jobs import JobCalls
from prefect_runtime.client.endpoints.line import REQUEST_SECONDS, path_of_job
from prefect_runtime.client.endpoints.programs import ProgramCalls
from prefect_runtime.client.endpoints.sessions import SessionCalls
from prefect_runtime.client.monitor import JobMonitor
from prefect_runtime.client.retry import SYSTEM_CLOCK, Clock, Deadline
from prefect_runtime.client.transport.exchange import Transport
from prefect_runtime.client.transport.sockets import Socket, SocketOptions
from prefect_runtime.wire.errors import InterimResultsUnavailableError


class RuntimeClient(JobCalls, BackendCalls, ProgramCalls, SessionCalls):
    """A runtime's REST API. Safe to share between threads; closes its connections on `close`.

    Args:
        credentials: The account.
        request_timeout: Total time for one call, retries included, in seconds.
        clock: Where the time comes from.
        transport: Sends the requests.
    """

    def __init__(
        self,
        credentials: Credentials,
        *,
        request_timeout: float = REQUEST_SECONDS,
        clock: Clock = SYSTEM_CLOCK,
        transport: Transport | None = None,
    ) -> None:
        super().__init__(credentials, request_timeout=request_timeout, clock=clock, transport=transport)
        self._given_transport = transport
        self._monitor: JobMonitor | None = None
        _clients.add(self)

    def _start_afresh(self) -> None:
        """Share nothing with the parent process: of one connection each would read the other's answers.

        Nor does a lock, a token's renewal or a watcher come along whose thread is not in this process.
        """
        RuntimeClient.__init__(
            self,
            self.credentials,
            request_timeout=self.request_timeout,
            clock=self.clock,
            transport=self._given_transport,
        )

    def __repr__(self) -> str:
        return f"RuntimeClient({self.credentials!r})"

    def close(self) -> None:
        """Close all connections. A later call opens new ones."""
        with self._lock:
            if self._monitor is not None:
                self._monitor.close()
        self._transport.close()

    @property
    def monitor(self) -> JobMonitor:
        """The one watcher of this account's jobs."""
        with self._lock:
            if self._monitor is None:
                self._monitor = JobMonitor(self, clock=self.clock)
            return self._monitor

    @property
    def has_streams(self) -> bool:
        """True where the channel streams interim results (IBM removed its endpoint in 2024)."""
        return self.credentials.channel != "ibm_quantum_platform"

    @property
    def has_feed(self) -> bool:
        """True where the server tells of status changes by itself."""
        return self.credentials.channel == "local"

    @property
    def knows_keys(self) -> bool:
        """True where the server makes no second job of a request's key (local/job_routes.py: 409, with the first's)."""
        return self.credentials.channel == "local"

    @property
    def counts_usage(self) -> bool:
        """True where jobs are charged by the second, and instances may have a limit."""
        return self.credentials.channel == "ibm_quantum_platform"

    # Streams

    def open_stream(self, job_id: str, *, after: int) -> Socket:
        """Open the stream of a job's interim results; `after` is for servers that can leave the first ones out.

        Raises:
            InterimResultsUnavailableError: This channel has no streams.
            StreamClosedError: The handshake failed.
        """
        if not self.has_streams:
            raise InterimResultsUnavailableError(
                f"Job {job_id}: IBM Quantum Platform has no stream of interim results (IBM removed it in 2024).",
                job_id=job_id,
            )
        query = f"?after={after}" if self.has_feed else ""
        return self._open(f"/stream{path_of_job(job_id)}{query}")

    def open_feed(self) -> Socket:
        """Open the stream of all jobs' status changes (embedded runtime only)."""
        return self._open("/stream/changes")

    def _open(self, path: str) -> Socket:
        deadline = Deadline(self.request_timeout, self.clock)
        options = SocketOptions(verify=self.credentials.verify, proxies=self.credentials.proxies)

        def connect(access: Access) -> Socket:
            return Socket.connect(access.base_url + path, access.headers, options, deadline)

        return self._with_access(connect, deadline)


_clients: weakref.WeakSet[RuntimeClient] = weakref.WeakSet()
"""Those of this process, for the moment after a fork; who made one before goes on using it in the child."""


def _start_all_afresh() -> None:
    for client in list(_clients):
        client._start_afresh()


os.register_at_fork(after_in_child=_start_all_afresh)
