"""What may be asked for: refused by name before anything is sent, because later it would cost somebody a job."""

from __future__ import annotations

import json
from typing import Any

import pytest

from prefect_runtime.client import Credentials, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.finding import JobFilter
from prefect_runtime.client.request import check_backend, check_tags
from prefect_runtime.tasks.many import as_completed, wait_for_jobs
from prefect_runtime.tasks.run import run_program
from prefect_runtime.wire.errors import ConfigurationError


@pytest.mark.parametrize("tag", ["prt1-l6im3iqj7dk4mmq6ennwftpv3f", "prt-fp-0123456789abcdef"])
def test_a_job_cannot_be_marked_as_that_of_another_request(tag: str) -> None:
    with pytest.raises(ConfigurationError, match="mark of another job's request"):
        check_tags(["mine", tag])


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


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ("aer", "must be a mapping, of backend_name"),
        (["log_level"], "must be a mapping"),
        ({"backend": "aer"}, r"\['backend'\] not known; there are backend_name, log_level, image"),
        ({1: 2}, r"\['1'\] not known"),
    ],
)
def test_options_that_cannot_be_are_refused_in_words(options: Any, said: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^options: {said}"):
        run_program.fn("local", "mine", {}, options=options)
    with RuntimeService() as service, pytest.raises(ConfigurationError, match=f"^options: {said}"):
        service.run("mine", {}, options)


@pytest.mark.parametrize("job_ids", [None, 5, "j1", [None]])
def test_what_is_no_list_of_job_ids_is_refused_in_words(job_ids: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"^job_ids: must be a list"):
        wait_for_jobs.fn("local", job_ids)
    with pytest.raises(ConfigurationError, match=r"^job_ids: must be a list"):
        next(as_completed("local", job_ids))


def test_what_cannot_be_told_of_progress_is_refused_before_the_wait() -> None:
    with pytest.raises(ConfigurationError, match=r"^on_progress: must be a function"):
        wait_for_jobs.fn("local", ["j1"], on_progress="print")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wanted", "name"), [({"status": 5}, "status"), ({"tags": None}, "tags"), ({"tags": 5}, "tags")]
)
def test_a_filter_that_is_none_is_refused_by_name(wanted: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"^{name}: "):
        JobFilter.of(**wanted)
