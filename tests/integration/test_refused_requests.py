"""What a client refuses before anything is sent: by name, and with no job left behind."""

from __future__ import annotations

import math
import uuid
from collections.abc import Callable
from typing import Any

import pytest
from canaries.values import API_KEY, CRN, IAM_TOKEN, PROXIES, REFRESH_TOKEN

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.wire.errors import (
    ApiError,
    BackendNotFoundError,
    ConfigurationError,
    InterimResultsUnavailableError,
    RuntimeProgramNotFound,
)

from .programs import NUMBERS
from .support import http_server, job_document


@pytest.mark.parametrize(
    ("options", "error", "said"),
    [
        ({"program_id": "no-such-program"}, RuntimeProgramNotFound, "no-such-program"),
        ({"program_id": "../jobs"}, ApiError, "jobs"),
        ({"program_id": ""}, ConfigurationError, "program_id:"),
        ({"backend": "no_such_backend"}, BackendNotFoundError, "no_such_backend"),
        ({"backend": "a/b"}, ConfigurationError, "backend:"),
        ({"inputs": None}, ConfigurationError, "inputs:"),
        ({"inputs": {"a": [1, object()]}}, ConfigurationError, r"inputs\['a'\]\[1\]"),
        ({"inputs": {"a": {(1, 2): 3}}}, ConfigurationError, r"inputs\['a'\]"),
        ({"inputs": {"a": b"bytes"}}, ConfigurationError, "bytes"),
        ({"max_execution_time": -1}, ConfigurationError, "max_execution_time:"),
        ({"max_execution_time": math.nan}, ConfigurationError, "max_execution_time:"),
        ({"max_execution_time": 0}, ConfigurationError, "max_execution_time:"),
        ({"tags": ["t"] * 5}, ConfigurationError, "tags:"),
        ({"tags": ["t" * 87]}, ConfigurationError, "tags:"),
        ({"tags": [""]}, ConfigurationError, "tags:"),
        ({"tags": "one"}, ConfigurationError, "tags:"),
        ({"log_level": "loud"}, ConfigurationError, "log_level:"),
        ({"options": {"shots": 5}}, ConfigurationError, "shots"),
        ({"options": "log_level"}, ConfigurationError, "options:"),
        ({"idempotency_key": ""}, ConfigurationError, "idempotency_key:"),
        ({"session_id": uuid.UUID(int=5)}, ConfigurationError, "session_id:"),
        ({"image": b"name:tag"}, ConfigurationError, "image:"),
        ({"private": "yes"}, ConfigurationError, "private:"),
        ({"on_existing": "guess"}, ConfigurationError, "on_existing:"),
        ({"callback": "no function"}, ConfigurationError, "callback:"),
        ({"result_decoder": 5}, ConfigurationError, "result_decoder:"),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, dict) else "",
)
def test_bad_input_is_refused_by_name_and_leaves_no_job(
    service: RuntimeService,
    upload: Callable[..., str],
    count_jobs: Callable[[], int],
    options: dict[str, Any],
    error: type[Exception],
    said: str,
) -> None:
    before = count_jobs()
    arguments = {"program_id": upload(NUMBERS), "inputs": {}, **options}
    with pytest.raises(error, match=said):
        service.run(**arguments)
    assert count_jobs() == before


@pytest.mark.parametrize("job_ids", ["a-job", None, [5]])
def test_one_id_in_place_of_several_is_refused_and_not_waited_for_letter_by_letter(
    service: RuntimeService, job_ids: Any
) -> None:
    with pytest.raises(ConfigurationError, match="job_ids: must be a list"):
        service.wait(job_ids, timeout=1)
    with pytest.raises(ConfigurationError, match="job_ids: must be a list"):
        list(service.as_completed(job_ids, timeout=1))


@pytest.mark.parametrize("name", ["request_timeout", "settle_seconds", "jobs_per_minute"])
@pytest.mark.parametrize("bad", [-1, math.nan, "30"])
def test_a_time_of_a_service_that_is_none_is_refused_by_name(name: str, bad: Any) -> None:
    with pytest.raises(ConfigurationError, match=f"{name}:"):
        RuntimeService(Credentials(channel="classic", url="http://127.0.0.1:1", token=API_KEY), **{name: bad})


def test_a_callback_is_refused_before_a_job_is_made_where_there_are_no_streams() -> None:
    posts = []

    def answer(request: Any, body: bytes) -> tuple[int, Any]:
        if request.path == "/identity/token":
            return 200, {"access_token": IAM_TOKEN, "refresh_token": REFRESH_TOKEN, "expires_in": 3600}
        if request.command == "POST":
            posts.append(body)
            return 200, {"id": "j"}
        return 200, job_document("j", "Queued")

    with http_server(answer) as url:
        credentials = Credentials(
            channel="ibm_quantum_platform", url=url, auth_url=url, token=API_KEY, instance=CRN, proxies=PROXIES
        )
        with RuntimeService(credentials, backend="b") as service, pytest.raises(InterimResultsUnavailableError):
            service.run("p", {}, callback=lambda *_: None)
    assert posts == []
