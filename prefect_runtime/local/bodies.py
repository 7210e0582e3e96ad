"""What the OpenAPI document (``/openapi.json``, with the token) says of requests' bodies.

The routes read bodies themselves: classic clients send JSON without a Content-Type, and a refusal names the field in
the words of the API (intake.py). So the document has to be told.
"""

from __future__ import annotations

from typing import Any

TEXT: dict[str, Any] = {"type": "string"}
TAGS: dict[str, Any] = {"type": "array", "items": {"type": "string", "minLength": 1, "maxLength": 86}, "maxItems": 8}
SECONDS: dict[str, Any] = {"type": "number", "exclusiveMinimum": 0, "maximum": 10_800}
OBJECT: dict[str, Any] = {"type": "object"}
FLAG: dict[str, Any] = {"type": "boolean"}


def takes(*required: str, form: bool = False, **members: dict[str, Any]) -> dict[str, Any]:
    """Return what `openapi_extra` of a route is that takes these members.

    Args:
        required: Names of those that must be there.
        form: The body is a form, not JSON.
        members: JSON Schema of each.
    """
    schema = {"type": "object", "properties": members, "required": list(required)}
    kind = "application/x-www-form-urlencoded" if form else "application/json"
    return {"requestBody": {"required": True, "content": {kind: {"schema": schema}}}}


def takes_text() -> dict[str, Any]:
    """Return what `openapi_extra` of a route is that takes a text."""
    return {"requestBody": {"required": True, "content": {"application/octet-stream": {"schema": TEXT}}}}


JOB = takes(
    "program_id",
    program_id=TEXT,
    backend=TEXT,
    params=OBJECT,
    tags=TAGS,
    log_level={"enum": ["critical", "error", "warning", "info", "debug"]},
    cost=SECONDS,
    max_execution_time=SECONDS,
    session_id=TEXT,
    private=FLAG,
    runtime=TEXT,
)
PROGRAM = takes(
    "name",
    "data",
    name=TEXT,
    data=TEXT,
    description=TEXT,
    cost=SECONDS,
    max_execution_time=SECONDS,
    is_public=FLAG,
    spec=OBJECT,
)
PROGRAM_CHANGES = takes(name=TEXT, description=TEXT, cost=SECONDS, max_execution_time=SECONDS, spec=OBJECT)
SESSION = takes("backend", backend=TEXT, mode={"enum": ["dedicated", "batch"]}, max_ttl={"type": "number"})
SIGN_IN = takes("grant_type", "apikey", form=True, grant_type=TEXT, apikey=TEXT)
