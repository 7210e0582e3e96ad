"""The classic dialect: routes of the runtime API that the seed's client speaks, at the server's root.

Source: qiskit-ibmq-provider 0.20.2 (methods, paths, bodies, status codes). Ours on top: ``tags``, ``session_id`` and
``private`` in a job's body, the list's filters by tag and time, ``/backends`` as on IBM Quantum Platform, ``/runtime``.
"""

from __future__ import annotations

import hmac
import json
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.concurrency import run_in_threadpool
from fastapi.responses import FileResponse, PlainTextResponse

from prefect_runtime.local import intake
from prefect_runtime.local.documents import built_in_documents, job_document, program_document
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.store import COMPLETED, FAILED, RAN_TOO_LONG, Job, KeyTakenError, Program
from prefect_runtime.local.worker import BUILT_IN
from prefect_runtime.wire.models import PROTOCOL

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime

MAX_PAGE = 200
SMALL_BYTES = 1024 * 1024  # read at once; a larger result is sent in pieces, so that it never is in memory whole


def router(runtime: Runtime) -> APIRouter:
    """Return all routes of the dialect."""
    routes = APIRouter()
    _account_routes(routes, runtime)
    _backend_routes(routes, runtime)
    _program_routes(routes, runtime)
    _submit_routes(routes, runtime)
    _job_routes(routes, runtime)
    return routes


def _account_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/users/loginWithToken")
    async def login(request: Request) -> dict[str, Any]:
        given = str(intake.parse_object(await request.body()).get("apiToken"))
        if not hmac.compare_digest(given.encode(), runtime.token.encode()):
            raise Refusal(401, 1201, "apiToken: not the token of this server.")
        return {"id": runtime.token, "ttl": 1_209_600}

    @routes.get("/runtime")
    def who() -> dict[str, Any]:
        return {"instance": runtime.instance, "protocol": PROTOCOL}


def _backend_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.get("/backends")
    def backends() -> dict[str, Any]:
        return {"devices": runtime.backends.devices()}

    @routes.get("/backends/{name}/status")
    def backend_status(name: str) -> dict[str, Any]:
        return runtime.backends.status(name)

    @routes.get("/backends/{name}/configuration")
    def configuration(name: str) -> Any:
        return runtime.backends.page(name, "configuration")

    @routes.get("/backends/{name}/properties")
    def properties(name: str) -> Any:
        return runtime.backends.page(name, "properties") or {}


def _program_routes(routes: APIRouter, runtime: Runtime) -> None:
    store = runtime.store

    def stored(program_id: str) -> Program:
        if program_id in BUILT_IN:
            raise Refusal(403, 1200, f"{program_id!r} is a built-in program: it cannot be changed.")
        program = store.program(program_id)
        if program is None:
            raise Refusal(404, 404, f"There is no program {program_id!r} here.")
        return program

    @routes.get("/programs")
    def programs(limit: int = MAX_PAGE, offset: int = 0) -> dict[str, Any]:
        every = built_in_documents() + [program_document(p, with_data=False) for p in store.programs()]
        return {"programs": every[offset : offset + limit], "count": len(every)}

    @routes.post("/programs", status_code=201)
    async def upload(request: Request) -> dict[str, str]:
        program = intake.new_program(intake.parse_object(await request.body()))
        if not await run_in_threadpool(store.save_program, program):
            raise Refusal(409, 409, f"name: there is a program {program.name!r} already.")
        return {"id": program.id}

    @routes.get("/programs/{program_id}")
    def program(program_id: str) -> dict[str, Any]:
        built_in = next((doc for doc in built_in_documents() if doc["id"] == program_id), None)
        return built_in or program_document(stored(program_id), with_data=True)

    @routes.patch("/programs/{program_id}", status_code=204)
    async def update(program_id: str, request: Request) -> Response:
        changes = intake.parse_object(await request.body())
        old = stored(program_id)
        # Checked by the same rules as an upload, with what is not given as it was.
        merged = {"name": old.name, "description": old.description, "cost": old.cost, "spec": old.spec, **changes}
        new = replace(intake.new_program({**merged, "data": old.data, "is_public": old.is_public}), id=old.id)
        if not await run_in_threadpool(store.save_program, replace(new, created=old.created)):
            raise Refusal(409, 409, f"name: there is a program {new.name!r} already.")
        return Response(status_code=204)

    @routes.put("/programs/{program_id}/data", status_code=204)
    async def update_data(program_id: str, request: Request) -> Response:
        data = intake.source_text((await request.body()).decode(errors="replace"))
        await run_in_threadpool(store.save_program, replace(stored(program_id), data=data))
        return Response(status_code=204)

    @routes.put("/programs/{program_id}/{visibility}", status_code=204)
    def set_visibility(program_id: str, visibility: str) -> Response:
        if visibility not in ("public", "private"):
            raise Refusal(404, 404, f"A program is public or private, not {visibility!r}.")
        store.save_program(replace(stored(program_id), is_public=visibility == "public"))
        return Response(status_code=204)

    @routes.delete("/programs/{program_id}", status_code=204)
    def delete(program_id: str) -> Response:
        store.delete_program(stored(program_id).id)
        return Response(status_code=204)


def _submit_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/jobs")
    async def run(request: Request) -> Any:
        body = intake.parse_object(await request.body())
        job = intake.new_job(body, runtime.store)
        try:
            await run_in_threadpool(runtime.store.add_job, job)
        except KeyTakenError as taken:
            extra = {"id": taken.job_id}
            raise Refusal(409, 409, f"This request has its job already: {taken.job_id}.", extra=extra) from None
        runtime.executor.wake()
        return {"id": job.id, "backend": job.backend}

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
    ) -> dict[str, Any]:
        limit = limit if 1 <= limit <= MAX_PAGE else MAX_PAGE  # as IBM's: out of range is the default
        page, count = runtime.store.jobs(
            limit=limit,
            offset=min(max(0, offset), 2**62),  # what SQLite can count to
            pending=pending,
            program=program,
            backend=backend,
            session_id=session_id,
            tags=tags or (),
            created_after=created_after,
            created_before=created_before,
            ascending=sort.upper() == "ASC",
        )
        return {"jobs": [job_document(job) for job in page], "count": count, "limit": limit, "offset": offset}


def _job_routes(routes: APIRouter, runtime: Runtime) -> None:
    def known(job_id: str, *, with_params: bool = False) -> Job:
        job = runtime.store.job(job_id, with_params=with_params)
        if job is None:
            raise Refusal(404, 3250, f"There is no job {job_id!r} here.")
        return job

    @routes.get("/jobs/{job_id}")
    def job_page(job_id: str, exclude_params: bool = False) -> Response:
        job = known(job_id, with_params=not exclude_params)
        document = job_document(job)
        if not exclude_params:
            document["params"] = {} if job.private else json.loads(job.params)
        return Response(json.dumps(document), media_type="application/json")  # NaN in params passes through

    @routes.get("/jobs/{job_id}/results")
    def results(job_id: str) -> Response:
        job = known(job_id)
        if job.status in (FAILED, RAN_TOO_LONG):
            return PlainTextResponse(job.reason)
        if job.status == COMPLETED:
            file = runtime.executor.folder(job_id).result
            if file.stat().st_size > SMALL_BYTES:
                return FileResponse(file, media_type="application/json")
            return Response(file.read_bytes(), media_type="application/json")
        return Response(status_code=204)  # none yet, or none ever

    @routes.get("/jobs/{job_id}/interim_results")
    def interim_results(job_id: str) -> list[str]:
        return runtime.executor.folder(known(job_id).id).read_interim()

    @routes.get("/jobs/{job_id}/logs")
    def logs(job_id: str) -> PlainTextResponse:
        return PlainTextResponse(runtime.executor.folder(known(job_id).id).read_log())

    @routes.get("/jobs/{job_id}/metrics")
    def metrics(job_id: str) -> dict[str, Any]:
        job = known(job_id)
        times = {"created": job.created, "running": job.started, "finished": job.ended}
        return {"timestamps": times, "usage": job_document(job)["usage"]}

    @routes.post("/jobs/{job_id}/cancel", status_code=204)
    def cancel(job_id: str) -> Response:
        known(job_id)
        if not runtime.executor.cancel(job_id):
            raise Refusal(409, 409, f"Job {job_id} is final already: it cannot be cancelled.")
        return Response(status_code=204)

    @routes.delete("/jobs/{job_id}", status_code=204)
    def delete(job_id: str) -> Response:
        if not runtime.store.delete_job(known(job_id).id):
            raise Refusal(409, 409, f"Job {job_id} is not final yet: cancel it first.")
        runtime.executor.folder(job_id).remove()
        return Response(status_code=204)
