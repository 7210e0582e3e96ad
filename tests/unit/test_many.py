"""Which jobs a task for many waits for."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runtime.tasks.many import _checked
from prefect_runtime.wire.errors import ConfigurationError


def test_ids_that_can_be_gone_through_once_are_all_waited_for() -> None:
    assert _checked(job_id for job_id in ("a", "b", "a")) == ["a", "b"]  # type: ignore[arg-type]


@pytest.mark.parametrize("job_ids", ["a", None, [""], [5]])
def test_what_are_no_ids_is_refused(job_ids: Any) -> None:
    with pytest.raises(ConfigurationError, match="job_ids: must be a list"):
        _checked(job_ids)
