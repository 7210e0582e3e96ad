"""Talks to a runtime. Usable without Prefect; loads neither Prefect nor Qiskit nor NumPy until a value needs them.

Data flows service -> submission -> preparing, primitives -> rest -> endpoints -> transport; a `job_id` comes back up:

    service       what is there, start one, find one                 -> RuntimeService; service_*.py have its parts
    fingerprint   the same request has the same name in every process
    submission    one request becomes one job; request.py has its words, settling.py finds one whose answer was lost,
                  duplicates.py what is left over
    preparing     its backend (backends.py) and its text
    primitives    circuits as written: transpile, coerce; primitive_options.py: which options there are
    circuits/     what has to be known of a circuit: what it was written in, what a backend cannot run of it (isa), what
                  makes two equal (fingerprint), how well it would run (fidelity); PUBs for workers without Qiskit
    usage         what it will cost; preview.py shows it
    pace          how fast job requests are sent, once the server has said that they are too many
    named_requests  those with an idempotency key: one at a time in this process
    choice        which backend is best for a piece of work
    finding       jobs by every filter, page by page
    sessions      sessions and batches                               -> RuntimeSession
    job           one job's life                                     -> RuntimeJob; job_*.py, private_results.py
    monitor, feed one watcher per account for every job that somebody waits for; board.py, inquiry.py
    streaming     interim results over a WebSocket
    rest          one method per endpoint                            -> RuntimeClient
    endpoints/    those methods, a module for each resource; line.py: one request, what is tried again
    transport/    one exchange or one socket, with a deadline, limits and typed errors
    auth, signing, instances, saved_accounts                         getting in
    credentials, discovery, retry, accounts, interrupt               what those stand on
"""

from __future__ import annotations

from prefect_runtime.client.credentials import Credentials
from prefect_runtime.client.job import RuntimeJob
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.service import RuntimeService
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.models import JobStatus

__all__ = ["Credentials", "JobStatus", "ResultDecoder", "RuntimeClient", "RuntimeJob", "RuntimeService"]
