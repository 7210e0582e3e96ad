"""The routes of jobs, which both dialects share: the classic one at the root, the platform's at ``/api/v1``.

Source: qiskit-ibmq-provider 0.20.2 and IBM's REST API 0.45.3 (methods, paths, bodies, status codes); where they differ,
`Dialect` says so. Ours on top: 409 with the first job's id for a second request with the same key, ``Range`` for logs,
``interim_results`` on the platform.
"""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import IO, TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse, StreamingResponse

from prefect_runtime.local import bodies, intake
from prefect_runtime.local.database import as_text
from prefect_runtime.local.documents import job_document
from prefect_runtime.local.files import JobFolder
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.store import COMPLETED, FAILED, RAN_TOO_LONG, Job, KeyTakenError
from prefect_runtime.wire import digests
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.fields import parse_time

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime

MAX_PAGE = 200
CANCEL_RETRY_SECONDS = 1
QUEUE_RETRY_SECONDS = 5
SMALL_BYTES = 1024 * 1024  # read at once; a larger result is sent in pieces, so that it never is in memory whole


@dataclass(frozen=True, slots=True, kw_only=True)
class Dialect:
    """What is different from dialect to dialect.

    Attributes:
        has_sessions: A session that a job names must be there and open; else open, if it is there.
        needs_backend: A job without a backend is refused; else it gets the first one.
        log_is_there: There is an (empty) log before the program has started; else 404.
    """

    has_sessions: bool = False
    needs_backend: bool = False
    log_is_there: bool = True


def add_job_routes(routes: APIRouter, runtime: Runtime, dialect: Dialect) -> None:
    """Add the routes of jobs to those of a dialect."""
    _submit_routes(routes, runtime, dialect)
    _look_routes(routes, runtime)
    _output_routes(routes, runtime, dialect)
    _end_routes(routes, runtime)


def _known(runtime: Runtime, job_id: str, *, with_params: bool = False) -> Job:
    job = runtime.store.job(job_id, with_params=with_params)
    if job is None:
        raise Refusal(404, 3250, f"There is no job {job_id!r} here.")
    return job


def _submit_routes(routes: APIRouter, runtime: Runtime, dialect: Dialect) -> None:
    @routes.post("/jobs", openapi_extra=bodies.JOB)
    async def run(request: Request) -> dict[str, Any]:
        body = intake.parse_object(await request.body())
        try:
            # Of a request that has its job already no more is asked: its program may have been deleted since.
            await run_in_threadpool(runtime.store.check_key, intake.tags_of(body.get("tags")))
            if dialect.needs_backend and not body.get("backend"):
                raise Refusal(400, 400, "backend: is required.")
            job = await run_in_threadpool(intake.new_job, body, runtime.store.programs)
            await run_in_threadpool(_add, runtime, dialect, job)
        except KeyTakenError as taken:
            extra = {"id": taken.job_id}
            raise Refusal(409, 409, f"This request has its job already: {taken.job_id}.", extra=extra) from None
        answer: dict[str, Any] = {"id": job.id, "backend": job.backend}
        return {**answer, "session_id": job.session_id} if job.session_id else answer


def _add(runtime: Runtime, dialect: Dialect, job: Job) -> None:
    """Put a job into the queue where that has room and its session, if it names one, takes jobs."""

    def admit() -> None:
        if runtime.store.count_pending() >= runtime.max_pending:
            full = f"{runtime.max_pending} jobs are queued or running already."
            raise Refusal(429, 429, full, solution="Wait until some have ended.", retry_after=QUEUE_RETRY_SECONDS)
        if job.session_id is not None and (dialect.has_sessions or runtime.sessions.has(job.session_id)):
            runtime.sessions.check_accepts(job.session_id)

    runtime.store.add_job(job, admit)
    runtime.executor.wake()


def _look_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.get("/jobs")
    def jobs(
        limit: int = MAX_PAGE,
        offset: int = 0,
        pending: bool | None = None,
        program: str | None = None,
        backend: str | None = None,
        session_id: str | None = None,
        tags: Annotated[list[str] | None, Query()] = None,
        created_after: str | None = None,
        created_before: str | None = None,
        sort: str = "DESC",
        exclude_params: bool = True,
    ) -> Response:
        limit = limit if 1 <= limit <= MAX_PAGE else MAX_PAGE  # as IBM's: out of range is the default
        page, count = runtime.store.jobs(
            limit=limit,
            offset=min(max(0, offset), 2**62),  # what SQLite can count to
            pending=pending,
            program=program,
            backend=backend,
            session_id=session_id,
            tags=tags or (),
            created_after=_moment("created_after", created_after),
            created_before=_moment("created_before", created_before),
            ascending=sort.upper() == "ASC",
            with_params=not exclude_params,
        )
        documents = [_with_params(job) if not exclude_params else job_document(job) for job in page]
        return _json({"jobs": documents, "count": count, "limit": limit, "offset": offset})

    @routes.get("/jobs/{job_id}")
    def job_page(job_id: str, exclude_params: bool = False) -> Response:
        job = _known(runtime, job_id, with_params=not exclude_params)
        return _json(job_document(job) if exclude_params else _with_params(job))

    @routes.get("/jobs/{job_id}/metrics")
    def metrics(job_id: str) -> dict[str, Any]:
        job = _known(runtime, job_id)
        return {
            "timestamps": {"created": job.created, "running": job.started, "finished": job.ended},
            "usage": job_document(job)["usage"],
            "qiskit_version": _qiskit_version(),
        }

    @routes.put("/jobs/{job_id}/tags", status_code=204, openapi_extra=bodies.takes(tags=bodies.TAGS))
    async def set_tags(job_id: str, request: Request) -> Response:
        tags = intake.tags_of(intake.parse_object(await request.body()).get("tags"))
        job = await run_in_threadpool(_known, runtime, job_id)
        await run_in_threadpool(runtime.store.set_tags, job.id, tags)
        return Response(status_code=204)


def _output_routes(routes: APIRouter, runtime: Runtime, dialect: Dialect) -> None:
    @routes.get("/jobs/{job_id}/results")
    def results(job_id: str) -> Response:
        job = _known(runtime, job_id)
        if job.status in (FAILED, RAN_TOO_LONG):
            return PlainTextResponse(job.reason)
        if job.status != COMPLETED:
            return Response(status_code=204)  # none yet, or none ever
        folder = runtime.executor.folder(job_id)
        return _only_answer(folder) if job.private else _answer(folder)

    @routes.get("/jobs/{job_id}/interim_results")
    def interim_results(job_id: str) -> Response:
        return _json(runtime.executor.folder(_known(runtime, job_id).id).read_interim())

    @routes.get("/jobs/{job_id}/logs")
    def logs(job_id: str, range: Annotated[str, Header()] = "") -> Response:
        folder = runtime.executor.folder(_known(runtime, job_id).id)
        if not dialect.log_is_there and not folder.log.exists():
            raise Refusal(404, 404, f"Job {job_id} has no log yet.")
        wanted = re.fullmatch(r"bytes=(\d{1,15})-", range.replace(" ", ""))  # for who follows a log that grows
        if wanted is None:
            return PlainTextResponse(folder.read_log())
        start = int(wanted[1])
        part, size = folder.read_log_from(start)
        if not part:
            return Response(status_code=416, headers={"Content-Range": f"bytes */{size}"})
        span = f"bytes {start}-{start + len(part) - 1}/{size}"
        return Response(part, 206, {"Content-Range": span}, media_type="text/plain; charset=utf-8")


def _answer(folder: JobFolder) -> Response:
    file, headers = folder.result, digests.header_for(folder.digest)
    if not file.exists():
        return Response(status_code=204)
    if file.stat().st_size > SMALL_BYTES:
        return FileResponse(file, headers=headers, media_type="application/json")
    return Response(file.read_bytes(), headers=headers, media_type="application/json")


def _only_answer(folder: JobFolder) -> Response:
    """Return a private result to its only reader: all of it, whatever part was asked for; there is no second time."""
    headers = digests.header_for(folder.digest)
    file = folder.take_result()
    if file is None:
        return Response(status_code=204)  # read before
    headers["Content-Length"] = str(os.fstat(file.fileno()).st_size)
    return StreamingResponse(_pieces(file), headers=headers, media_type="application/json")


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(SMALL_BYTES):
            yield piece


def _end_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/jobs/{job_id}/cancel", status_code=204)
    def cancel(job_id: str) -> Response:
        _known(runtime, job_id)
        if not runtime.executor.cancel(job_id):
            if not _known(runtime, job_id).is_final:  # the disk does not take it, or its processes take their time
                raise Refusal(
                    503,
                    503,
                    f"Job {job_id} is being ended, and that could not be written down yet.",
                    solution="Ask for its status in a moment.",
                    retry_after=CANCEL_RETRY_SECONDS,
                )
            raise Refusal(409, 409, f"Job {job_id} is final already: it cannot be cancelled.")
        return Response(status_code=204)

    @routes.delete("/jobs/{job_id}", status_code=204)
    def delete(job_id: str) -> Response:
        if not runtime.store.delete_job(_known(runtime, job_id).id):
            raise Refusal(409, 409, f"Job {job_id} is not final yet: cancel it first.")
        runtime.executor.folder(job_id).remove()
        return Response(status_code=204)


def _with_params(job: Job) -> dict[str, Any]:
    return {**job_document(job), "params": {} if job.private else json.loads(job.params)}


def _json(document: Any) -> Response:
    return Response(json.dumps(document), media_type="application/json")  # NaN in params passes through


def _moment(name: str, text: str | None) -> str | None:
    """Return a time of a filter as the tables have it: they compare texts."""
    if text is None:
        return None
    try:
        moment = parse_time(text.replace(" ", "+"))  # a plus sign that was not quoted
    except ProtocolError:
        moment = None
    if moment is None:
        raise Refusal(400, 400, f"{name}: must be a time like 2026-01-31T12:00:00Z.")
    return as_text(moment)


@lru_cache
def _qiskit_version() -> str | None:
    try:
        return importlib.metadata.version("qiskit")
    except importlib.metadata.PackageNotFoundError:
        return None
