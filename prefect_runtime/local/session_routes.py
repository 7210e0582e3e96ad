"""The routes of sessions, of the platform's dialect; at the root too: flows can be rehearsed without an account.

Source: IBM's REST API 0.45.3, ``/sessions``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request, Response

from prefect_runtime.local import bodies, intake, sessions
from prefect_runtime.local.intake import BACKEND_NAMES
from prefect_runtime.local.refusals import Refusal

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime


def add_session_routes(routes: APIRouter, runtime: Runtime) -> None:
    """Add them to those of a dialect."""
    table = runtime.sessions

    @routes.post("/sessions", openapi_extra=bodies.SESSION)
    async def open_session(request: Request) -> dict[str, Any]:
        given = sessions.check_new(intake.parse_object(await request.body()), BACKEND_NAMES)
        return table.document(table.open(**given))

    @routes.get("/sessions/{session_id}")
    def session(session_id: str) -> dict[str, Any]:
        return table.document(table.get(session_id))

    @routes.patch("/sessions/{session_id}", status_code=204, openapi_extra=bodies.takes(accepting_jobs=bodies.FLAG))
    async def change_session(session_id: str, request: Request) -> Response:
        body = intake.parse_object(await request.body())
        if body.get("accepting_jobs") is not False:
            raise Refusal(400, 400, "accepting_jobs: a session can only be closed (false).")
        table.close(table.get(session_id).id)
        return Response(status_code=204)

    @routes.delete("/sessions/{session_id}/close", status_code=204)
    def cancel_session(session_id: str) -> Response:
        table.cancel(table.get(session_id).id)
        return Response(status_code=204)
