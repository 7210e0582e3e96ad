"""What a caller may say of a request."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runtime.client import RuntimeService
from prefect_runtime.client.request import check_backend
from prefect_runtime.tasks.run import run_program
from prefect_runtime.wire.errors import ConfigurationError


@pytest.mark.parametrize("nothing", [None, ""])
def test_no_backend_leaves_the_choice_to_the_account(nothing: str | None) -> None:
    assert check_backend(nothing) is None


@pytest.mark.parametrize("empty", [[], ()])
def test_a_list_of_no_backends_is_refused_and_no_other_is_taken(empty: Any) -> None:
    with pytest.raises(ConfigurationError, match="backend: the list of names is empty"):
        run_program.fn("local", "mine", {}, backend=empty)
    with RuntimeService() as service, pytest.raises(ConfigurationError, match="backend: the list of names is empty"):
        service.run("mine", {}, backend=empty)


@pytest.mark.parametrize("tags", ["ibm", None, 5, ["night", 1]])
def test_tags_that_are_no_list_of_texts_are_refused_and_no_letters_become_tags(tags: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^tags: must be a list of texts"):
        run_program.fn("local", "mine", {}, tags=tags)
