"""What the tasks make of a primitive's arguments."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runtime.tasks.run import primitive_inputs
from prefect_runtime.tasks.usage import estimate_usage
from prefect_runtime.wire.errors import ConfigurationError


def test_the_precision_of_a_call_counts_although_its_options_name_shots() -> None:
    inputs = primitive_inputs(["pub"], {"default_shots": 1000, "seed": 1}, "default_precision", 0.1)
    assert inputs == {"pubs": ["pub"], "options": {"default_precision": 0.1, "seed": 1}}


def test_without_one_the_options_stay_as_they_are() -> None:
    options = {"default_shots": 1000}
    assert primitive_inputs(["pub"], options, "default_precision", None)["options"] == options


@pytest.mark.parametrize("shots", [0, -1, True, "many", float("nan"), float("inf")])
def test_what_is_no_number_of_shots_is_refused_by_name(shots: object) -> None:
    with pytest.raises(ConfigurationError, match="shots: must be a number that is more than 0"):
        primitive_inputs(["pub"], None, "default_shots", shots)  # type: ignore[arg-type]


@pytest.mark.parametrize("options", ["default_shots", ["default_shots"], [("seed", 1)]])
def test_options_that_are_no_mapping_are_refused_by_name(options: object) -> None:
    with pytest.raises(ConfigurationError, match="options: must be a mapping"):
        primitive_inputs(["pub"], options, "default_shots", None)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("asked", "name"),
    [
        ({"precision": 0.1}, "precision"),
        ({"program_id": "estimator", "shots": 1000}, "shots"),
        ({"program_id": "estimater"}, "program_id"),
    ],
)
def test_an_estimate_is_refused_that_would_leave_out_what_was_asked_for(asked: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        estimate_usage.fn("local", ["OPENQASM 3.0; bit c; qubit q; c = measure q;"], **asked)
