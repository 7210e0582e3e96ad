"""The blocks' fields: a slip of the pen is told by its name, and no error shows what a field holds."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from prefect_runtime import RuntimeCredentials, RuntimeProgram

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
