"""The classic dialect: routes of the Qiskit runtime's first API, at the server's root.

Source: qiskit-ibmq-provider 0.20.2 (methods, paths, bodies, status codes). Jobs are in job_routes.py. Ours on top:
``tags``, ``session_id`` and ``private`` in a job's body, the list's filters by tag and time, ``/backends`` as on IBM
Quantum Platform, ``/runtime``.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response
from fastapi.concurrency import run_in_threadpool

from prefect_runtime.local import bodies, intake
from prefect_runtime.local.documents import NETWORK, built_in_documents, program_document
from prefect_runtime.local.job_routes import MAX_PAGE, Dialect, add_job_routes
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.session_routes import add_session_routes
from prefect_runtime.local.uploads import NameTakenError, Program
from prefect_runtime.local.worker import BUILT_IN
from prefect_runtime.wire.models import PROTOCOL

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime


_CHANGEABLE = {
    "name": "name",
    "description": "description",
    "cost": "cost",
    "max_execution_time": "cost",
    "spec": "spec",
    "restartable": "spec",
}
"""What may be changed of a program, and which of its members that is."""


def router(runtime: Runtime) -> APIRouter:
    """Return all routes of the dialect."""
    routes = APIRouter()
    _account_routes(routes, runtime)
    _backend_routes(routes, runtime)
    _program_routes(routes, runtime)
    add_session_routes(routes, runtime)
    add_job_routes(routes, runtime, Dialect())
    return routes


def _account_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/users/loginWithToken", openapi_extra=bodies.takes("apiToken", apiToken=bodies.TEXT))
    async def login(request: Request) -> dict[str, Any]:
        given = str(intake.parse_object(await request.body()).get("apiToken"))
        if not hmac.compare_digest(given.encode(), runtime.token.encode()):
            raise Refusal(401, 1201, "apiToken: not the token of this server.")
        return {"id": runtime.token, "ttl": 1_209_600}

    @routes.post("/logout", status_code=204)
    def logout() -> Response:
        return Response(status_code=204)

    @routes.get("/version")
    def version() -> dict[str, str]:
        return {"api-auth": "0.1", "new_api": "true"}  # a client takes a URL with "api-auth" for a sign-in service

    @routes.get("/users/me")
    def me(request: Request) -> dict[str, Any]:
        host, safe = request.headers["host"], request.url.scheme == "https"  # the host is checked: one of our own names
        root, stream = (f"https://{host}", f"wss://{host}") if safe else (f"http://{host}", f"ws://{host}")
        return {"id": "embedded", "email": "", "urls": {"http": root, "ws": stream, "services": {"runtime": root}}}

    @routes.get("/Network")
    def network() -> list[dict[str, Any]]:
        hub, group, project = NETWORK
        return [{"name": hub, "groups": {group: {"projects": {project: {"isDefault": True}}}}}]

    @routes.get("/runtime")
    def who() -> dict[str, Any]:
        return {"instance": runtime.instance, "protocol": PROTOCOL}

    @routes.post("/runtime/recalibrate")
    def recalibrate() -> dict[str, int]:
        return {"calibration": runtime.calibration.redraw()}


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
    programs = runtime.store.programs

    def stored(program_id: str) -> Program:
        if program_id in BUILT_IN:
            raise Refusal(403, 1200, f"{program_id!r} is a built-in program: it cannot be changed.")
        program = programs.get(program_id)
        if program is None:
            raise Refusal(404, 404, f"There is no program {program_id!r} here.")
        return program

    def change(program_id: str, **members: Any) -> None:
        try:
            if not programs.change(stored(program_id).id, **members):
                stored(program_id)  # deleted in between: refused
        except NameTakenError:
            raise Refusal(409, 409, f"name: there is a program {members['name']!r} already.") from None

    @routes.get("/programs")
    def listed(limit: int = MAX_PAGE, offset: int = 0) -> dict[str, Any]:
        every = built_in_documents() + [program_document(p, with_data=False) for p in programs.all()]
        first, limit = max(0, offset), limit if limit >= 1 else MAX_PAGE  # as with jobs
        return {"programs": every[first : first + limit], "count": len(every)}

    @routes.post("/programs", status_code=201, openapi_extra=bodies.PROGRAM)
    async def upload(request: Request) -> dict[str, str]:
        program = await run_in_threadpool(intake.new_program, intake.parse_object(await request.body()))
        if not await run_in_threadpool(programs.add, program):
            raise Refusal(409, 409, f"name: there is a program {program.name!r} already.")
        return {"id": program.id}

    @routes.get("/programs/{program_id}")
    def program(program_id: str) -> dict[str, Any]:
        built_in = next((doc for doc in built_in_documents() if doc["id"] == program_id), None)
        return built_in or program_document(stored(program_id), with_data=True)

    @routes.patch("/programs/{program_id}", status_code=204, openapi_extra=bodies.PROGRAM_CHANGES)
    async def update(program_id: str, request: Request) -> Response:
        changes = intake.parse_object(await request.body())
        old = stored(program_id)
        # Checked by the same rules as an upload, with what is not given as it was.
        kept = {"name": old.name, "description": old.description, "cost": old.cost, "spec": old.spec}
        if changes.get("max_execution_time") is not None:
            del kept["cost"]  # the other name of the same
        merged = {**kept, **changes}
        merged |= {"data": old.data, "is_public": old.is_public}
        new = await run_in_threadpool(intake.new_program, merged)
        given = {member: getattr(new, member) for name, member in _CHANGEABLE.items() if name in changes}
        await run_in_threadpool(change, program_id, **given)
        return Response(status_code=204)

    @routes.put("/programs/{program_id}/data", status_code=204, openapi_extra=bodies.takes_text())
    async def update_data(program_id: str, request: Request) -> Response:
        data = await run_in_threadpool(intake.source_text, (await request.body()).decode(errors="replace"))
        await run_in_threadpool(change, program_id, data=data)
        return Response(status_code=204)

    @routes.put("/programs/{program_id}/{visibility}", status_code=204)
    def set_visibility(program_id: str, visibility: str) -> Response:
        if visibility not in ("public", "private"):
            raise Refusal(404, 404, f"A program is public or private, not {visibility!r}.")
        change(program_id, is_public=visibility == "public")
        return Response(status_code=204)

    @routes.delete("/programs/{program_id}", status_code=204)
    def delete(program_id: str) -> Response:
        programs.delete(stored(program_id).id)
        return Response(status_code=204)
