"""Finding jobs: every filter, on servers that know none, and pages while jobs come and go."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from prefect_runtime.client.finding import PAGE, JobFilter, find, find_summary
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.models import JobDocument, JobStatus

RUN = "0a1b2c3d-0000-0000-0000-000000000000"


def job(number: int, **members: Any) -> JobDocument:
    day = f"2026-08-{1 + number:02}T10:00:00Z"
    return JobDocument.parse({"id": f"j{number}", "status": "Completed", "created": day, **members})


class Server:
    """Lists jobs, newest first, and ignores every filter; keeps what it was asked."""

    def __init__(self, *jobs: JobDocument) -> None:
        self.jobs_there = list(jobs)
        self.asked: list[dict[str, Any]] = []
        self.meanwhile: Callable[[], None] = lambda: None

    def jobs(self, *, limit: int, offset: int, **filters: Any) -> list[JobDocument]:
        self.asked.append({**filters, "limit": limit, "offset": offset})
        page = self.jobs_there[offset : offset + limit]
        self.meanwhile()
        return page


def ids(server: Server, wanted: JobFilter, **options: Any) -> list[str]:
    return [found.id for found in find(server, wanted, **options)]  # type: ignore[arg-type]


JOBS = (
    job(4, tags=["a", "b", f"prt-run-{RUN}"], program={"id": "sampler"}, status="Running"),
    job(3, tags=["a"], program={"id": "sampler"}, backend="ibm_x", session_id="s1"),
    job(2, tags=["b"], program={"id": "estimator"}, status="Failed"),
    job(1, status="Cancelled", state={"reason": "Ran too long"}),
    job(0, status="Something new"),
)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, ["j4", "j3", "j2", "j1", "j0"]),
        ({"tags": ["a"]}, ["j4", "j3"]),
        ({"tags": ["a", "b"]}, ["j4"]),
        ({"flow_run_id": RUN}, ["j4"]),
        ({"program_id": "estimator"}, ["j2"]),
        ({"backend": "ibm_x"}, ["j3"]),
        ({"session_id": "s1"}, ["j3"]),
        ({"pending": True}, ["j4", "j0"]),
        ({"pending": False}, ["j3", "j2", "j1"]),
        ({"status": "done"}, ["j3"]),
        ({"status": JobStatus.ERROR}, ["j2", "j1"]),
        ({"status": ["RUNNING", JobStatus.DONE]}, ["j4", "j3"]),
        ({"created_after": "2026-08-03T10:00:00Z"}, ["j4", "j3", "j2"]),
        ({"created_after": datetime(2026, 8, 3, 10, 0, 1)}, ["j4", "j3"]),
        ({"created_before": datetime(2026, 8, 2, 10, tzinfo=UTC)}, ["j1", "j0"]),
    ],
    ids=repr,
)
def test_every_filter_holds_on_a_server_that_knows_none(given: dict[str, Any], expected: list[str]) -> None:
    assert ids(Server(*JOBS), JobFilter.of(**given)) == expected


def test_a_server_is_asked_for_what_it_can_leave_out() -> None:
    server = Server()
    when = datetime(2026, 8, 1, tzinfo=UTC)
    wanted = JobFilter.of(
        tags=["a"], flow_run_id="r", status="DONE", program_id="p", backend="b", session_id="s", created_after=when
    )
    assert ids(server, wanted) == []
    assert server.asked == [
        {
            "limit": PAGE, "offset": 0, "pending": False, "program": "p", "backend": "b", "session_id": "s",
            "tags": ("a", "prt-run-r"), "created_after": "2026-08-01T00:00:00Z", "created_before": None,
        }
    ]  # fmt: skip


@pytest.mark.parametrize("number", [0, 1, PAGE - 1, PAGE, PAGE + 1, 3 * PAGE])
def test_all_pages_are_read_and_each_job_comes_once(number: int) -> None:
    server = Server(*(job(0, id=f"j{index}") for index in range(number)))
    assert ids(server, JobFilter()) == [f"j{index}" for index in range(number)]


def test_a_job_that_is_made_while_we_page_neither_hides_one_nor_repeats_one() -> None:
    server = Server(*(job(0, id=f"j{index}") for index in range(2 * PAGE)))
    server.meanwhile = lambda: server.jobs_there.insert(0, job(0, id=f"new{len(server.jobs_there)}"))
    found = ids(server, JobFilter())
    assert len(found) == len(set(found))
    assert {f"j{index}" for index in range(2 * PAGE)} <= set(found)
    assert len(server.asked) < 6


@pytest.mark.parametrize(("made", "limit"), [(1, PAGE + 1), (60, PAGE + 50), (PAGE - 1, 2 * PAGE)])
def test_a_limit_is_reached_though_jobs_are_made_while_we_page(made: int, limit: int) -> None:
    server = Server(*(job(0, id=f"j{index}") for index in range(3 * PAGE)))
    more = [job(0, id=f"new{index}") for index in range(made)]

    def make() -> None:
        server.jobs_there[:0] = more
        more.clear()

    server.meanwhile = make
    assert ids(server, JobFilter(), limit=limit) == [f"j{index}" for index in range(limit)]


def test_a_server_that_knows_no_pages_is_asked_twice_at_most() -> None:
    server = Server(*(job(0, id=f"j{index}") for index in range(PAGE + 5)))
    everything = list(server.jobs_there)
    server.jobs = lambda **given: (server.asked.append(given), everything)[1]  # type: ignore[assignment, func-returns-value]
    assert len(ids(server, JobFilter())) == PAGE + 5
    assert len(server.asked) == 2


def test_a_limit_counts_what_fits_not_what_was_read() -> None:
    server = Server(*(job(0, id=f"j{index}", tags=["odd"] if index % 2 else []) for index in range(50)))
    assert ids(server, JobFilter.of(tags=["odd"]), limit=3) == ["j1", "j3", "j5"]
    assert ids(server, JobFilter.of(tags=["odd"]), limit=0) == []


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ({"tags": "a"}, "tags"),
        ({"tags": None}, "tags"),
        ({"tags": [5]}, "tags"),
        ({"program_id": 5}, "program_id"),
        ({"backend": ["b"]}, "backend"),
        ({"session_id": 5}, "session_id"),
        ({"created_after": "yesterday"}, "created_after"),
        ({"status": "FINE"}, "status"),
        ({"status": 5}, "status"),
    ],
)
def test_what_is_no_filter_is_refused_with_its_name(given: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        JobFilter.of(**given)


def test_a_summary_is_plain_and_says_the_flow_run() -> None:
    assert find_summary(JOBS[0]) == {
        "job_id": "j4", "status": "RUNNING", "program_id": "sampler", "backend": None,
        "created": "2026-08-05T10:00:00Z", "tags": ["a", "b", f"prt-run-{RUN}"], "flow_run_id": RUN,
        "session_id": None, "usage_seconds": None,
    }  # fmt: skip
    assert find_summary(JOBS[4])["status"] == "Something new"


def test_tags_that_can_be_gone_through_once_are_a_filter_too() -> None:
    assert JobFilter.of(tags=(tag for tag in ["a", "b"])).tags == ("a", "b")  # type: ignore[arg-type]


@pytest.mark.parametrize("skip", [-1, "1", None, True])
def test_what_is_no_number_to_skip_is_refused(skip: Any) -> None:
    with pytest.raises(ConfigurationError, match="skip:"):
        list(find(Server(), JobFilter.of(), skip=skip))  # type: ignore[arg-type]
