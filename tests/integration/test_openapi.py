"""The server against its own OpenAPI document: whatever is sent to whichever route, it answers, and never with 5xx.

Requests come from schemathesis: valid ones and ones that are wrong in a chosen way, route by route.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import requests
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st
from schemathesis.checks import not_a_server_error
from schemathesis.generation import GenerationMode

from prefect_runtime.client import RuntimeService

from .programs import ECHO, NUMBERS
from .support import Served

METADATA = {"description": "of a test", "max_execution_time": 5}


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    served = Served(tmp_path_factory.mktemp("openapi"), slots=1)
    yield served
    served.kill()


@pytest.fixture(scope="module")
def known(served: Served) -> dict[str, list[str]]:
    """Ids that lead somewhere, so that requests get beyond "there is no such"."""
    with RuntimeService(served.credentials) as service:
        programs = [service.upload_program(s, {**METADATA, "name": f"p{n}"}) for n, s in enumerate((ECHO, NUMBERS))]
        jobs = [service.run(program, {}).job_id() for program in programs]
        service.wait(jobs, timeout=30)
    session = requests.post(
        f"{served.found.url}/api/v1/sessions",
        json={"backend": "generic_5q"},
        headers={"X-Access-Token": served.found.token},
        timeout=10,
    )
    names = {"job_id": jobs, "program_id": [*programs, "sampler"], "session_id": [session.json()["id"]]}
    return {**names, "name": ["generic_5q", "aer_simulator"], "visibility": ["public", "private"]}


def test_the_document_names_every_route_and_is_for_those_with_the_token(served: Served) -> None:
    url = f"{served.found.url}/openapi.json"
    assert requests.get(url, timeout=10).status_code == 401
    document = requests.get(url, headers={"X-Access-Token": served.found.token}, timeout=10).json()
    assert {"/jobs", "/programs", "/api/v1/jobs", "/api/v1/sessions", "/identity/token"} <= set(document["paths"])
    assert "requestBody" in document["paths"]["/jobs"]["post"]


@pytest.mark.parametrize(
    "cases",
    [
        pytest.param(400, id="400 cases", marks=pytest.mark.pr),
        pytest.param(3000, id="3000 cases", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_no_request_is_answered_with_5xx(served: Served, known: dict[str, list[str]], cases: int, seed: int) -> None:
    headers = {"X-Access-Token": served.found.token}
    schema = schemathesis.openapi.from_url(f"{served.found.url}/openapi.json", headers=headers)
    operations = [found.ok() for found in schema.get_all_operations()]
    asked: dict[str, int] = {}
    statuses: dict[int, int] = {}

    def generated(operation: Any) -> st.SearchStrategy[Any]:
        return st.one_of(*(operation.as_strategy(generation_mode=mode) for mode in GenerationMode))

    @settings(
        max_examples=cases,
        deadline=None,
        suppress_health_check=list(HealthCheck),
        phases=[Phase.generate, Phase.shrink],
        database=None,
    )
    @given(case=st.sampled_from(operations).flatmap(generated), data=st.data())
    def ask(case: Any, data: st.DataObject) -> None:
        for name in case.path_parameters or ():
            if name in known and data.draw(st.integers(0, 3)):
                case.path_parameters[name] = data.draw(st.sampled_from(known[name]))
        if isinstance(case.body, dict) and "program_id" in case.body and data.draw(st.booleans()):
            case.body["program_id"] = data.draw(st.sampled_from(known["program_id"]))
        answer = case.call(headers=headers)
        asked[case.operation.label] = asked.get(case.operation.label, 0) + 1
        statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1
        case.validate_response(answer, checks=[not_a_server_error])

    seeded(seed)(ask)()
    print(f"{sum(asked.values())} requests to {len(asked)} of {len(operations)} operations: {sorted(statuses.items())}")
    assert sum(asked.values()) >= cases
    assert any(status < 300 for status in statuses)
    assert requests.get(f"{served.found.url}/jobs?limit=1", headers=headers, timeout=10).status_code == 200
