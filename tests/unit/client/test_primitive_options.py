"""Options that a primitive does not have are refused before anything is sent; those that IBM's service has are not."""

from __future__ import annotations

import importlib
import typing
from collections.abc import Iterator
from typing import Any

import pytest
from pydantic import BaseModel

from prefect_runtime.client.primitive_options import KNOWN, check_options
from prefect_runtime.wire.errors import ConfigurationError


def names_of(model: type[BaseModel], group: str = "") -> Iterator[str]:
    """The names of IBM's own model; what can be a model or something else is not looked into."""
    for name, field in model.model_fields.items():
        kinds = [kind for kind in (field.annotation, *typing.get_args(field.annotation)) if isinstance(kind, type)]
        inner = [kind for kind in kinds if issubclass(kind, BaseModel)]
        dotted = f"{group}{name}"
        if inner and name not in ("noise_model", "layer_noise_model"):
            yield from names_of(inner[0], f"{dotted}.")
        else:
            yield dotted


@pytest.mark.parametrize("program_id", ["sampler", "estimator"])
def test_the_names_are_those_of_ibms_schemas_and_the_resilience_level(program_id: str) -> None:
    model = importlib.import_module(f"ibm_quantum_schemas.{program_id}.version_0_1.options").OptionsModel
    assert KNOWN[program_id] == {*names_of(model), "resilience_level"}


@pytest.mark.parametrize(
    ("program_id", "options"),
    [
        ("sampler", {"default_shots": 10, "twirling": {"enable_gates": True}, "execution": None, "seed": 7}),
        ("sampler", {"simulator": {"seed_simulator": 3, "noise_model": {"errors": []}}, "dynamical_decoupling": {}}),
        ("estimator", {"resilience": {"zne": {"noise_factors": [1, 3]}, "layer_noise_model": {"any": 1}}}),
        ("estimator", {"resilience_level": 2, "experimental": {"of": {"tomorrow": 1}}}),
    ],
)
def test_options_that_there_are_pass(program_id: str, options: dict[str, Any]) -> None:
    check_options(program_id, options, embedded=True)


@pytest.mark.parametrize(
    ("program_id", "options", "said"),
    [
        ("estimator", {"resiliance_level": 1}, "Did you mean 'resilience_level'"),
        ("estimator", {"resilience": {"zne_mitigaton": True}}, "Did you mean 'resilience.zne_mitigation'"),
        ("sampler", {"colour": "red"}, "It has default_shots, dynamical_decoupling.enable"),
        ("sampler", {"dynamical_decoupling": True}, "'dynamical_decoupling' is a group"),
        ("sampler", {"environment": {"job_tags": ["a"]}}, "give tags and log_level as arguments"),
        ("sampler", {"seed": 7}, "has no 'seed'"),
    ],
)
def test_what_there_is_not_is_refused_and_the_message_helps(
    program_id: str, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_options(program_id, options, embedded=False)
