"""What may be asked for: refused by name before anything is sent, because later it would cost somebody a job."""

from __future__ import annotations

from typing import Any

import pytest

from prefect_runtime.client.request import check_tags
from prefect_runtime.wire.errors import ConfigurationError


@pytest.mark.parametrize("tag", ["prt1-l6im3iqj7dk4mmq6ennwftpv3f", "prt-fp-0123456789abcdef"])
def test_a_job_cannot_be_marked_as_that_of_another_request(tag: str) -> None:
    with pytest.raises(ConfigurationError, match="mark of another job's request"):
        check_tags(["mine", tag])


@pytest.mark.parametrize("tags", [None, 5, "one", [5]])
def test_what_is_no_list_of_tags_is_refused_by_name(tags: Any) -> None:
    with pytest.raises(ConfigurationError, match="tags: must be a list of texts"):
        check_tags(tags)


def test_a_list_that_can_be_gone_through_once_is_one() -> None:
    assert check_tags(tag for tag in ("a", "b")) == ("a", "b")  # type: ignore[arg-type]


def test_the_flow_run_that_a_job_belongs_to_may_be_said() -> None:
    assert check_tags(["mine", "prt-run-0f3b2c1d"]) == ("mine", "prt-run-0f3b2c1d")
