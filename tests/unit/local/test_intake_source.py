"""What is taken for the source of a program."""

from __future__ import annotations

import base64

import pytest

from prefect_runtime.local.intake import source_text

SOURCE = "def main(backend, user_messenger):\n    return 1\n"


@pytest.mark.parametrize("mark", ["", "\ufeff"])
def test_a_source_may_begin_with_the_mark_that_some_editors_write(mark: str) -> None:
    assert source_text(mark + SOURCE) == SOURCE
    assert source_text(base64.b64encode((mark + SOURCE).encode()).decode()) == SOURCE
