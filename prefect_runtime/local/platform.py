"""The platform dialect: what clients of IBM Quantum Platform speak, at ``/api/v1``, and the services around it.

Source: IBM's REST API 0.45.3 and what qiskit-ibm-runtime 0.51 asks (methods, paths, bodies, status codes). A client is
pointed here by ``IAM_URL`` and ``GLOBAL_SEARCH_URL`` (this server's root) and ``GLOBAL_CATALOG_URL`` (``/api/v1``).
"""

from __future__ import annotations

import hashlib
import hmac
import time
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from prefect_runtime.local import bodies, tokens
from prefect_runtime.local.job_routes import Dialect, add_job_routes
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.session_routes import add_session_routes

if TYPE_CHECKING:
    from prefect_runtime.local.app import Runtime

PREFIX = "/api/v1"
API_VERSIONS = ("2026-04-15", "2026-03-15", "2026-02-01")
"""Values of ``IBM-API-Version`` that are understood; all get the newest shape."""

PLAN = "embedded-plan"
APIKEY_GRANT = "urn:ibm:params:oauth:grant-type:apikey"
MIN_TAG_SEARCH = 3  # IBM's REST API 0.45.3: GET /tags?search=


def instance_crn(token: str) -> str:
    """Return the cloud resource name of the one instance here: the same as long as the data folder is."""
    digest = hashlib.sha256(f"instance of {token}".encode()).hexdigest()
    return f"crn:v1:bluemix:public:quantum-computing:us-east:a/{digest[:32]}:{uuid.UUID(digest[32:])}::"


def router(runtime: Runtime) -> APIRouter:
    """Return all routes of the dialect."""
    routes = APIRouter(prefix=PREFIX)
    _instance_routes(routes, runtime)
    add_session_routes(routes, runtime)
    add_job_routes(routes, runtime, Dialect(has_sessions=True, needs_backend=True, log_is_there=False))
    return routes


def cloud_router(runtime: Runtime) -> APIRouter:
    """Return the services around the platform: signing in, and finding the instance."""
    routes = APIRouter()
    _sign_in_routes(routes, runtime)
    return routes


def _sign_in_routes(routes: APIRouter, runtime: Runtime) -> None:
    @routes.post("/identity/token", openapi_extra=bodies.SIGN_IN)
    async def identity_token(request: Request) -> Response:
        form = parse_qs((await request.body()).decode(errors="replace"))
        if form.get("grant_type") != [APIKEY_GRANT]:
            return _iam_error("BXNIM0122E", f"grant_type: must be {APIKEY_GRANT}.")
        given = form.get("apikey", [""])[0]
        if not hmac.compare_digest(given.encode(), runtime.token.encode()):
            return _iam_error("BXNIM0415E", "Provided API key could not be found.")
        token, expires = tokens.issue(runtime.token, instance_crn(runtime.token), seconds=runtime.token_seconds)
        answer = {
            "access_token": token,
            "refresh_token": "not_supported",
            "token_type": "Bearer",
            "expires_in": max(0, expires - int(time.time())),
            "expiration": expires,
            "scope": "ibm openid",
        }
        return JSONResponse(answer)

    @routes.post("/v3/resources/search")
    def search() -> dict[str, Any]:
        item = {
            "crn": instance_crn(runtime.token),
            "name": "embedded",
            "service_plan_unique_id": PLAN,
            "doc": {"extensions": [{"name": "backends"}]},  # IBM's client leaves out an instance without
            "tags": [],
        }
        return {"items": [item], "limit": 100}

    @routes.get(f"{PREFIX}/{PLAN}")
    def plan() -> dict[str, Any]:
        return {
            "id": PLAN,
            "name": PLAN,
            "overview_ui": {"en": {"display_name": "Embedded"}},
            "metadata": {"pricing": {"type": "free"}},
        }

    @routes.get("/v2/resource_instances")
    def resource_instances(name: str | None = None) -> dict[str, Any]:
        found = [{"crn": instance_crn(runtime.token), "name": "embedded"}] if name in (None, "embedded") else []
        return {"rows_count": len(found), "resources": found, "next_url": None}


def _iam_error(code: str, message: str) -> Response:
    return JSONResponse({"errorCode": code, "errorMessage": message, "context": {}}, status_code=400)


def _instance_routes(routes: APIRouter, runtime: Runtime) -> None:
    pages = runtime.backends

    @routes.get("/versions")
    def versions() -> dict[str, Any]:
        newest, *older = API_VERSIONS
        deprecated = [{"version": version, "status": "deprecated"} for version in older]
        return {"versions": [{"version": newest, "status": "live"}, *deprecated]}

    @routes.get("/instance")
    def instance() -> dict[str, Any]:
        return {"instance_id": instance_crn(runtime.token), "plan_id": PLAN}

    @routes.get("/instances/usage")
    def usage() -> dict[str, Any]:
        consumed = runtime.store.seconds_run()
        found = {"instance_id": instance_crn(runtime.token), "plan_id": PLAN, "usage_consumed_seconds": consumed}
        limit = runtime.usage_limit_seconds
        if limit is None:
            return found
        return {**found, "usage_limit_seconds": limit, "usage_limit_reached": consumed >= limit}

    @routes.get("/tags")
    def tags(search: str = "", type: str = "job") -> dict[str, Any]:
        if type != "job":
            raise Refusal(400, 400, "type: only job.")
        if len(search) < MIN_TAG_SEARCH:
            raise Refusal(400, 400, f"search: at least {MIN_TAG_SEARCH} characters.")
        return {"tags": runtime.store.tags_like(search)}

    @routes.get("/backends")
    def backends(fields: str = "") -> dict[str, Any]:
        return {"devices": pages.devices(with_wait="wait_time_seconds" in fields.split(","))}

    @routes.get("/backends/{name}/status")
    def backend_status(name: str) -> dict[str, Any]:
        return pages.status(name)

    @routes.get("/backends/{name}/configuration")
    def configuration(name: str) -> Any:
        return pages.page(name, "configuration")

    @routes.get("/backends/{name}/properties")
    def properties(name: str) -> Any:
        return pages.page(name, "properties") or {}

    @routes.get("/backends/{name}/defaults")
    def defaults(name: str) -> Any:
        pages.check(name)
        return {}
