"""The far end of the reliability tests: a runtime shaped like IBM's that writes down every job it accepts.

Unlike the embedded runtime it does not know a request's key: a second POST makes a second job, as at the real service.
Its list may lag behind. Its ledger, one line a job, is the only judge of what really happened.
"""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from canaries.values import IAM_TOKEN, REFRESH_TOKEN

KEY_PREFIX = "prt1-"


@dataclass
class LedgerJob:
    """One accepted job."""

    id: str
    number: int
    params: str
    tags: list[str]
    accepted_at: float
    created: str
    cancelled: bool = False

    @property
    def key(self) -> str:
        """The request's key among the tags; empty if there is none."""
        return next((tag for tag in self.tags if tag.startswith(KEY_PREFIX)), "")

    @property
    def result(self) -> dict[str, str]:
        """What the job computes: a digest of its inputs."""
        return {"sha256": digest(self.params)}


def digest(params: str) -> str:
    """Return what a job with these inputs computes."""
    return hashlib.sha256(json.dumps(json.loads(params), sort_keys=True).encode()).hexdigest()


@dataclass
class Ledger:
    """What the server knows, and how it behaves.

    Attributes:
        path: File with one line a job, synced before the answer; None keeps it in memory.
        lag: Seconds until a new job shows in the list.
        queue_seconds: Seconds a job is queued.
        run_seconds: Seconds a job runs after that.
        answer_delay: Seconds between taking a job and answering.
        queues: Backends and the lengths of their queues.
    """

    path: Path | None = None
    lag: float = 0.0
    queue_seconds: float = 0.0
    run_seconds: float = 0.02
    answer_delay: float = 0.0
    queues: dict[str, int] = field(default_factory=lambda: {"far_end": 0})
    jobs: dict[str, LedgerJob] = field(default_factory=dict)
    requests: list[tuple[str, str]] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, body: Mapping[str, Any]) -> LedgerJob:
        """Take a job in."""
        with self.lock:
            number = len(self.jobs)
            job = LedgerJob(
                id=f"job-{number:06d}",
                number=number,
                params=json.dumps(body.get("params") or {}),
                tags=list(body.get("tags") or []),
                accepted_at=time.monotonic(),
                created=datetime.now(UTC).isoformat(timespec="microseconds").replace("+00:00", "Z"),
            )
            self.jobs[job.id] = job
            if self.path is not None:
                with self.path.open("a") as file:
                    file.write(json.dumps({"id": job.id, "key": job.key, "params": job.params}) + "\n")
                    file.flush()
                    os.fsync(file.fileno())
            return job

    def state(self, job: LedgerJob) -> str:
        """Return a job's status word."""
        if job.cancelled:
            return "Cancelled"
        age = time.monotonic() - job.accepted_at
        if age < self.queue_seconds:
            return "Queued"
        return "Running" if age < self.queue_seconds + self.run_seconds else "Completed"

    def document(self, job: LedgerJob) -> dict[str, Any]:
        """Return a job's document (IBM's REST API 0.45.3)."""
        word = self.state(job)
        return {
            "id": job.id,
            "created": job.created,
            "program": {"id": "echo"},
            "backend": "far_end",
            "status": word,
            "state": {"status": word},
            "cost": 600,
            "tags": job.tags,
        }

    def by_key(self) -> dict[str, list[LedgerJob]]:
        """Return the jobs of each request."""
        groups: dict[str, list[LedgerJob]] = defaultdict(list)
        with self.lock:
            for job in self.jobs.values():
                groups[job.key].append(job)
        return dict(groups)

    def duplicates(self) -> dict[str, list[LedgerJob]]:
        """Return the requests with more jobs than one."""
        return {key: jobs for key, jobs in self.by_key().items() if len(jobs) > 1}

    def executed_twice(self) -> dict[str, list[LedgerJob]]:
        """Return the requests of which more jobs than one were not cancelled."""
        alive = {key: [job for job in jobs if not job.cancelled] for key, jobs in self.by_key().items()}
        return {key: jobs for key, jobs in alive.items() if len(jobs) > 1}


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Say nothing: a client that breaks off is what these tests are about."""


class LedgerServer:
    """Serves a ledger on a free loopback port: the platform's dialect under ``/api/v1``, the classic one at ``/``."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        handler = type("Handler", (_Handler,), {"ledger": ledger})
        self._server = _Server(("127.0.0.1", 0), handler)
        self.port = self._server.server_address[1]
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True).start()

    def close(self) -> None:
        """Stop serving."""
        self._server.shutdown()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    ledger: Ledger
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def log_message(self, *_: Any) -> None:
        pass

    def _send(self, status: int, value: Any = None, *, text: str | None = None) -> None:
        body = b"" if value is None and text is None else (text or json.dumps(value)).encode()
        head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n"
        self.wfile.write(head.encode() + body)

    def _job(self, job_id: str) -> LedgerJob | None:
        with self.ledger.lock:
            return self.ledger.jobs.get(job_id)

    def _route(self) -> list[str]:
        path = urlsplit(self.path).path.removeprefix("/api/v1")
        with self.ledger.lock:
            self.ledger.requests.append((self.command, path))
        return path.strip("/").split("/")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        match self._route():
            case ["identity", "token"]:
                tokens = {"access_token": IAM_TOKEN, "refresh_token": REFRESH_TOKEN, "token_type": "Bearer"}
                self._send(200, {**tokens, "expires_in": 3600})
            case ["jobs"]:
                job = self.ledger.accept(json.loads(body))
                time.sleep(self.ledger.answer_delay)
                self._send(200, {"id": job.id, "backend": "far_end"})
            case ["jobs", job_id, "cancel"]:
                self._cancel(job_id)
            case _:
                self._send(404, {"errors": [{"code": 404, "message": "no such route"}]})

    def _cancel(self, job_id: str) -> None:
        job = self._job(job_id)
        if job is None:
            return self._send(404, {"errors": [{"code": 3250, "message": "no such job"}]})
        if self.ledger.state(job) in ("Completed", "Cancelled"):
            return self._send(409, {"errors": [{"code": 409, "message": "final already"}]})
        job.cancelled = True
        return self._send(204)

    def do_GET(self) -> None:
        route = self._route()
        if route == ["jobs"]:
            return self._list()
        if route == ["backends"]:
            devices = [{"name": name, "queue_length": length} for name, length in self.ledger.queues.items()]
            return self._send(200, {"devices": devices})
        if route[0] == "backends":
            return self._send(
                200, {"state": True, "status": "active", "length_queue": 0} if route[-1] == "status" else {}
            )
        job = self._job(route[1]) if len(route) > 1 else None
        if job is None:
            return self._send(404, {"errors": [{"code": 3250, "message": "no such job"}]})
        match route[2:]:
            case []:
                return self._send(200, self.ledger.document(job))
            case ["results"]:
                return self._send(200, job.result) if self.ledger.state(job) == "Completed" else self._send(204)
            case ["logs"]:
                return self._send(200, text=f"log of {job.id}")
        return self._send(404, {})

    def _list(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        wanted = set(query.get("tags", []))
        visible_before = time.monotonic() - self.ledger.lag
        with self.ledger.lock:
            jobs = [job for job in self.ledger.jobs.values() if job.accepted_at <= visible_before]
        matching = [job for job in reversed(jobs) if wanted <= set(job.tags)]
        limit, offset = int(query.get("limit", ["200"])[0]), int(query.get("offset", ["0"])[0])
        page = matching[offset : offset + limit]
        self._send(200, {"jobs": [self.ledger.document(job) for job in page], "count": len(matching)})
