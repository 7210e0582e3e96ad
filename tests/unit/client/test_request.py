"""What may be asked for: refused by name before anything is sent, because later it would cost somebody a job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeJob
from prefect_runtime.client.backend import Backend
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


@pytest.mark.parametrize("decoder", ["package.module:Decoder", 5, json])
def test_a_decoder_that_is_none_is_refused_before_the_wait_and_not_for_each_result(decoder: Any) -> None:
    client = RuntimeClient(Credentials(channel="classic", url="http://127.0.0.1:1", token="a-token"))
    job = RuntimeJob(Backend("b"), client, client.credentials, "some-job", "p")
    for call in (job.result, job.interim_results, lambda **given: job.stream_results(print, **given)):
        with pytest.raises(ConfigurationError, match="decoder: must be a class with a decode method"):
            call(decoder=decoder)
