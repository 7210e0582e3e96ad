"""What the embedded runtime accepts: bodies of requests -> jobs and programs. The same rules for every dialect."""

from __future__ import annotations

import base64
import binascii
import json
import logging
import secrets
from collections.abc import Mapping
from typing import Any

from prefect_runtime.local import source_check
from prefect_runtime.local.backends import CATALOGUE, spec_of
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.schemas import check_inputs, check_schema
from prefect_runtime.local.store import Job
from prefect_runtime.local.uploads import Program, Programs
from prefect_runtime.local.worker import BUILT_IN

MAX_TAGS, MAX_TAG_LENGTH = 8, 86  # IBM's REST API 0.45.3: job.tags
MAX_SECONDS = 10_800  # IBM's REST API 0.45.3: the largest `cost`
MAX_PARAMS_BYTES = 64 * 1024 * 1024
MAX_SOURCE_CHARACTERS = 1024 * 1024
MAX_TEXT_CHARACTERS = 10_000
DEFAULT_SECONDS = 600  # the classic service's default for a program without a limit

BACKEND_NAMES = tuple(spec.name for spec in CATALOGUE)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object in a request's body; a Content-Type is not asked for (the classic client sends none).

    Raises:
        Refusal: 400, not JSON, not an object, or a text in it is none.
    """
    try:
        value = json.loads(body)
    except (ValueError, RecursionError):
        raise Refusal(400, 400, "The body is not JSON.") from None
    if not isinstance(value, dict):
        raise Refusal(400, 400, "The body must be a JSON object.")
    for name, member in value.items():
        # JSON can write half of a surrogate pair, which neither the database nor an answer can. Inputs stay JSON.
        if not _is_text(json.dumps([name, member] if name != "params" else name, ensure_ascii=False)):
            raise Refusal(400, 400, f"{name}: has half of a surrogate pair in it, which is no text.")
    return value


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def new_job(body: Mapping[str, Any], programs: Programs) -> Job:
    """Read a job request. May take seconds, when the program's schema is slow: not on the event loop.

    Raises:
        Refusal: 400 or 404; the message names the field.
    """
    program_id = _text(body, "program_id", required=True)
    program = None if program_id in BUILT_IN else programs.get(program_id)
    if program is None and program_id not in BUILT_IN:
        raise Refusal(404, 404, f"program_id: there is no program {program_id!r} here.")
    backend = _text(body, "backend") or BACKEND_NAMES[0]
    if backend not in BACKEND_NAMES:
        raise Refusal(404, 404, f"backend: there is no backend {backend!r} here; there are {', '.join(BACKEND_NAMES)}.")
    params = body.get("params") or {}
    if not isinstance(params, dict):
        raise Refusal(400, 400, "params: must be a JSON object; its members become the program's arguments.")
    text = json.dumps(params)
    if len(text) > MAX_PARAMS_BYTES:
        solution = "Split the request into several jobs."
        raise Refusal(413, 413, f"params: more than {MAX_PARAMS_BYTES} bytes as JSON.", solution=solution)
    limit = _seconds(body, "cost") or _seconds(body, "max_execution_time")
    if program is not None:
        _check_against(program, backend, params, limit)
    return Job(
        id=secrets.token_hex(10),  # made here, so that no text of a user is ever part of a path
        program_id=program_id,
        backend=backend,
        params=text,
        tags=tags_of(body.get("tags")),
        log_level=_log_level(_text(body, "log_level")),
        max_execution_time=limit,
        session_id=_text(body, "session_id") or None,
        private=body.get("private") is True,
        image=_text(body, "runtime") or None,
    )


def _check_against(program: Program, backend: str, params: dict[str, Any], limit: float | None) -> None:
    """Refuse what the program's own metadata rules out."""
    if limit is not None and limit > program.cost:
        raise Refusal(
            400, 400, f"max_execution_time: {limit:g} s is more than the program's own limit, {program.cost:g} s."
        )
    needed, offered = _min_qubits(program.spec), spec_of(backend).num_qubits
    if offered < needed:
        raise Refusal(
            400, 400, f"backend: {backend!r} has {offered} qubits; the program asks for at least {needed} (its spec)."
        )
    if program.spec.get("parameters"):
        check_inputs(params, program.spec["parameters"])


def _min_qubits(spec: Mapping[str, Any]) -> int:
    number = (spec.get("backend_requirements") or {}).get("min_num_qubits") or 0
    if isinstance(number, bool) or not isinstance(number, int) or number < 0:
        raise Refusal(400, 400, "spec.backend_requirements.min_num_qubits: must be a whole number.")
    return number


def tags_of(value: Any) -> tuple[str, ...]:
    """Return the tags in a request's body.

    Raises:
        Refusal: 400, not texts, too many or too long.
    """
    tags = value or []
    if not isinstance(tags, list) or not all(isinstance(tag, str) for tag in tags):
        raise Refusal(400, 1204, "tags: must be a list of texts.")
    if len(tags) > MAX_TAGS or any(not 0 < len(tag) <= MAX_TAG_LENGTH for tag in tags):
        raise Refusal(400, 1204, f"tags: at most {MAX_TAGS} of at most {MAX_TAG_LENGTH} characters.")
    return tuple(tags)


def _log_level(word: str) -> str:
    level = word.upper() or "WARNING"
    if level not in logging.getLevelNamesMapping():
        raise Refusal(400, 400, f"log_level: {word!r} is none of critical, error, warning, info, debug.")
    return level


def _seconds(body: Mapping[str, Any], name: str) -> float | None:
    value = body.get(name)
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= MAX_SECONDS:
        raise Refusal(400, 400, f"{name}: must be a number of seconds, more than 0 and at most {MAX_SECONDS}.")
    return float(value)


def _text(body: Mapping[str, Any], name: str, *, required: bool = False, most: int = MAX_TEXT_CHARACTERS) -> str:
    value = body.get(name)
    if isinstance(value, str) and len(value) > most:
        raise Refusal(413, 413, f"{name}: more than {most} characters.", solution="Make it shorter.")
    if isinstance(value, str) and (value or not required):
        return value
    if value is None and not required:
        return ""
    raise Refusal(400, 400, f"{name}: must be a text{' and is required' if required else ''}.")


def new_program(body: Mapping[str, Any]) -> Program:
    """Read an uploaded program. May take seconds, when its source is long: not on the event loop.

    Raises:
        Refusal: 400; the message names the field.
    """
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise Refusal(400, 400, "spec: must be a JSON object.")
    if "restartable" in body:
        spec = {**spec, "restartable": body["restartable"]}
    _check_spec(spec)
    name = _text(body, "name", required=True)
    if name in BUILT_IN:
        raise Refusal(409, 409, f"name: {name!r} is a built-in program.")
    return Program(
        id=f"{_slug(name)}-{secrets.token_hex(5)}",
        name=name,
        data=source_text(_text(body, "data", required=True, most=2 * MAX_SOURCE_CHARACTERS)),  # base64 makes it longer
        description=_text(body, "description"),
        cost=_seconds(body, "cost") or _seconds(body, "max_execution_time") or DEFAULT_SECONDS,
        is_public=body.get("is_public") is True,
        spec=spec,
    )


def _check_spec(spec: Mapping[str, Any]) -> None:
    """Refuse metadata that no job could be checked against.

    Source: qiskit-ibmq-provider 0.20.2, metadata of a program.
    """
    requirements = spec.get("backend_requirements")
    if requirements is not None and not isinstance(requirements, dict):
        raise Refusal(400, 400, "spec.backend_requirements: must be a JSON object.")
    _min_qubits(spec)
    if not isinstance(spec.get("restartable", False), bool):
        raise Refusal(400, 400, "spec.restartable: must be true or false.")
    for part in ("parameters", "return_values", "interim_results"):
        if spec.get(part):
            check_schema(spec[part], f"spec.{part}")


def _slug(name: str) -> str:
    kept = "".join(c if c.isascii() and c.isalnum() else "-" for c in name.lower())
    return kept.strip("-")[:40] or "program"


def source_text(data: str) -> str:
    """Return a program's source from base64 (classic clients) or from plain text. May take seconds, as `new_program`.

    Raises:
        Refusal: 400, not Python, or no ``main`` in it.
    """
    try:
        text = base64.b64decode(data, validate=True).decode()
    except (binascii.Error, ValueError):
        text = data
    text = text.removeprefix("\ufeff")  # the mark some editors begin a file with: Python reads such files
    if len(text) > MAX_SOURCE_CHARACTERS:
        solution = "Give large data as inputs of the job."
        raise Refusal(413, 413, f"data: more than {MAX_SOURCE_CHARACTERS} characters.", solution=solution)
    fault = source_check.find_fault(text)
    if fault is not None:
        raise Refusal(400, 400, f"data: {fault}")
    return text
