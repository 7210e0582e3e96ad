"""The blocks' fields: a slip of the pen is told by its name, and no error shows what a field holds."""

from __future__ import annotations

import pickle
from typing import Any

import cloudpickle
import pytest
from canaries.scanner import scan
from canaries.values import API_KEY, CRN, PROXIES
from prefect.serializers import PickleSerializer
from pydantic import SecretStr, ValidationError

from prefect_runtime import RuntimeCredentials, RuntimeProgram
from prefect_runtime.blocks.program import RuntimeProgramRun

SECRET = "a-hidden-token"


@pytest.mark.parametrize(
    ("block", "fields", "hint"),
    [
        (RuntimeCredentials, {"chanel": "ibm_quantum_platform"}, "no field 'chanel'; did you mean 'channel'"),
        (RuntimeCredentials, {"tokne": SECRET}, "no field 'tokne'; did you mean 'token'"),
        (RuntimeCredentials, {"zzz": 1}, "no field 'zzz'; there are api_version, "),
        (RuntimeProgram, {"program_id": "sampler", "input": {"pubs": []}}, "no field 'input'; did you mean 'inputs'"),
        (RuntimeProgram, {"program_id": "sampler", "credentials": {"chanel": "local"}}, "no field 'chanel'"),
    ],
)
def test_a_misspelt_field_is_refused_by_name_in_place_of_being_ignored(
    block: Any, fields: dict[str, Any], hint: str
) -> None:
    with pytest.raises(ValidationError, match=hint):
        block(**fields)


@pytest.mark.parametrize(
    "fields",
    [
        {"proxies": f"http://me:{SECRET}@proxy"},
        {"token": [SECRET]},
        {"chanel": "local", "token": SECRET},
    ],
)
def test_an_error_of_a_field_shows_no_value(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError) as caught:
        RuntimeCredentials(**fields)
    assert SECRET not in str(caught.value)


SECRETS = {"API key", "CRN", "proxy password"}


def with_secrets() -> list[Any]:
    block = RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=SecretStr(API_KEY),
        instance=SecretStr(CRN),
        proxies=PROXIES,  # type: ignore[arg-type]  # pydantic makes it a SecretDict
    )
    program = RuntimeProgram(credentials=block, program_id="sampler")
    return [block, program, RuntimeProgramRun(credentials=block, job_id="the-job")]


@pytest.mark.parametrize("number", range(3), ids=["credentials", "program", "run"])
def test_what_is_pickled_is_whole_and_has_the_secrets_in_it_as_security_md_says(number: int) -> None:
    thing = with_secrets()[number]
    for pickled in (pickle.dumps(thing), cloudpickle.dumps(thing), PickleSerializer().dumps(thing)):
        assert {hit.canary for hit in scan(pickled, "a pickle")} == SECRETS
    back = pickle.loads(pickle.dumps(thing))  # with no API of Prefect's to ask
    assert back == thing
    credentials = back if isinstance(back, RuntimeCredentials) else back.credentials
    assert credentials.token.get_secret_value() == API_KEY
    assert credentials.proxies.get_secret_value() == PROXIES


@pytest.mark.parametrize("number", range(3), ids=["credentials", "program", "run"])
def test_what_is_pickled_shows_no_secret_to_who_prints_it(number: int) -> None:
    thing = with_secrets()[number]
    assert not scan(f"{thing} {thing!r}", "what is shown")
