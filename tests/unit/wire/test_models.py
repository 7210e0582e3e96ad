"""Documents of the wire: what two dialects and ten years of servers say, read into one form."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
import qiskit.providers
from hypothesis import example, given, settings
from hypothesis import strategies as st

from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import IBMQError, ProtocolError, UnknownJobStatusError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import JobDocument, JobStatus, ProgramDocument

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
JOB_FIELDS = [
    "id", "status", "state", "reason", "reason_code", "program", "program_id", "backend", "created", "started", "ended",
    "tags", "params", "session_id", "usage",
]  # fmt: skip
STATE_FIELDS = ["status", "reason", "reason_code", "reasonCode", "reason_solution"]
ODD = st.sampled_from(["²", "1305", 1305, 10**400, True, "Queued", "j1", {"seconds": 10**400}, {"seconds": True}])
"""Values that trip whoever takes them for what they look like."""


def job(**fields: Any) -> JobDocument:
    return JobDocument.parse({"id": "j1", "status": "Queued"} | fields)


# Status


def test_the_status_has_the_members_and_values_of_qiskits() -> None:
    theirs = {member.name: member.value for member in qiskit.providers.JobStatus}
    assert {member.name: member.value for member in JobStatus} == theirs


@pytest.mark.parametrize(
    ("word", "status"),
    [
        ("Initializing", JobStatus.INITIALIZING),
        ("Queued", JobStatus.QUEUED),
        ("Validating", JobStatus.VALIDATING),
        ("Running", JobStatus.RUNNING),
        ("Completed", JobStatus.DONE),
        ("Failed", JobStatus.ERROR),
        ("Cancelled", JobStatus.CANCELLED),
        ("Cancelled - Ran too long", JobStatus.ERROR),
    ],
)
@pytest.mark.parametrize("write", [str, str.upper, str.lower, " {} ".format])
def test_status_words_are_read_in_any_case(word: str, status: JobStatus, write: Any) -> None:
    document = job(status=write(word))
    assert document.status is document.known_status() is status
    assert document.word == write(word)
    assert document.is_final is status.is_final is (status.name in {"DONE", "CANCELLED", "ERROR"})


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "Cancelled - Ran too long"},
        {"status": None, "state": {"status": "Cancelled - Ran too long"}},
        {"status": None, "state": {"status": "Cancelled", "reason_code": 1305, "reason": "whatever"}},
        {"status": None, "state": {"status": "Cancelled", "reasonCode": "1305"}},
        {"status": None, "state": {"status": "Cancelled", "reason": "Ran too long"}},
        {"status": "Cancelled", "state": {"status": "Cancelled", "reason": "Job RAN TOO LONG."}},
        {"status": "Cancelled", "state": {"status": "Cancelled - Ran too long"}},
    ],
)
def test_every_shape_of_ran_too_long_is_an_error_that_says_so(fields: dict[str, Any]) -> None:
    document = job(**fields)
    assert document.status is JobStatus.ERROR
    assert document.ran_too_long


@pytest.mark.parametrize("status", ["Cancelled", "Completed", "Running", "Failed"])
def test_other_ends_are_not_ran_too_long(status: str) -> None:
    assert not job(status=status, state={"status": status, "reason": "on request", "reason_code": 5202}).ran_too_long


def test_a_failed_programs_traceback_may_say_that_something_ran_too_long() -> None:
    reason = "RuntimeError: the optimizer ran too long"
    assert not job(status="Failed", state={"status": "Failed", "reason": reason}).ran_too_long
    assert job(status="Failed", state={"status": "Failed", "reason": reason, "reason_code": 1305}).ran_too_long


@pytest.mark.parametrize("word", ["Pending", "Canceled", "DONE", "?"])
def test_an_unknown_word_is_no_status_and_never_final(word: str) -> None:
    document = job(status=word)
    assert document.status is None
    assert not document.is_final
    assert not document.ran_too_long
    with pytest.raises(IBMQError, match="j1.*" + repr(word).replace("?", r"\?")) as caught:
        document.known_status()
    assert isinstance(caught.value, UnknownJobStatusError)
    assert (caught.value.word, caught.value.job_id) == (word, "j1")


@pytest.mark.parametrize(
    "fields",
    [
        {"status": "Running", "state": None},
        {"status": None, "state": {"status": "Running"}},
        {"status": "Running", "state": "Running"},
        {"status": "Running", "state": {}},
    ],
)
def test_the_status_stands_at_the_top_or_in_state(fields: dict[str, Any]) -> None:
    assert job(**fields).status is JobStatus.RUNNING


def test_reasons_are_found_in_state_and_at_the_top() -> None:
    state = {"status": "Failed", "reason": "boom", "reason_code": 1517, "reason_solution": "try less"}
    document = job(status="Failed", state=state)
    assert (document.reason, document.reason_code, document.solution) == ("boom", 1517, "try less")
    classic = job(status="Failed", reason="boom", reason_code="1517")
    assert (classic.reason, classic.reason_code) == ("boom", 1517)


# The rest of a job


@pytest.mark.parametrize(
    ("params", "inputs"),
    [
        ({"a": 1}, {"a": 1}),
        ([{"a": 1}], {"a": 1}),
        (['{"a": 1}'], {"a": 1}),
        ('{"a": 1}', {"a": 1}),
        ([], {}),
        (None, {}),
        ("", {}),
        ([""], {}),
    ],
)
def test_inputs_are_found_in_every_wrapping(params: Any, inputs: dict[str, int]) -> None:
    assert json.loads(job(params=params).inputs_json()) == inputs


@pytest.mark.parametrize(
    ("usage", "seconds"),
    [
        ({"quantum_seconds": 3, "seconds": 3}, 3.0),  # until 2026-03-15
        ({"seconds": 2}, 2.0),
        ({"qpu_charge_time_seconds": 1.5, "status": "complete"}, 1.5),  # since
        ({"qpu_charge_time_seconds": 1.5, "seconds": 9}, 1.5),
        ({"status": "pending"}, None),
        (None, None),
        ("3", None),
    ],
)
def test_usage_is_read_in_the_words_of_three_api_versions(usage: Any, seconds: float | None) -> None:
    assert job(usage=usage).usage_seconds == seconds


@pytest.mark.parametrize(
    "fields", [{"program": {"id": "sampler"}}, {"program": "sampler"}, {"program_id": "sampler"}]
)  # fmt: skip
def test_the_program_is_found_in_every_shape(fields: dict[str, Any]) -> None:
    assert job(**fields).program_id == "sampler"


def test_unknown_fields_and_odd_optional_ones_are_no_matter() -> None:
    document = job(cost=600, new={"thing": [1]}, backend=None, tags=["a", 5, None, "b"], session_id="")
    assert document == job(tags=["a", "b"])
    assert document.session_id is None


def test_neither_inputs_nor_source_nor_token_are_in_a_repr() -> None:
    found = DiscoveryDocument(url="http://127.0.0.1:1", token="geheim", pid=1, instance="i", protocol=1)
    documents = [job(params={"a": "geheim"}), ProgramDocument.parse({"id": "p", "data": "geheim"}), found]
    assert "geheim" not in repr(documents)


@pytest.mark.parametrize(
    "document",
    [None, [], "job", 5, {}, {"id": "j"}, {"status": "Queued"}, {"id": 5, "status": "Queued"},
     {"id": "j", "status": 5}, {"id": "j", "state": {}}, {"id": "j", "state": ["Queued"]}],
)  # fmt: skip
def test_a_document_without_id_or_status_is_a_protocol_error(document: Any) -> None:
    with pytest.raises(ProtocolError):
        JobDocument.parse(document)


@example({"id": "j", "status": "Queued", "tags": 5})
@example({"id": "j", "status": "Queued", "reason_code": "²"})
@example({"id": "j", "status": "Queued", "usage": {"seconds": 10**400}})
@settings(deadline=None)
@given(
    JSON
    | st.fixed_dictionaries(
        {"id": st.just("j"), "status": st.just("Queued")},
        optional=dict.fromkeys(JOB_FIELDS[3:], JSON | ODD)
        | {"state": st.dictionaries(st.sampled_from(STATE_FIELDS), JSON | ODD)},
    )
    | st.dictionaries(st.sampled_from(JOB_FIELDS), JSON | ODD)
)
def test_any_json_is_a_job_document_or_a_protocol_error(document: Any) -> None:
    try:
        found = JobDocument.parse(document)
    except ProtocolError:
        return
    assert isinstance(found.id, str)
    assert isinstance(json.loads(found.inputs_json() if not isinstance(found.params, str | list) else "{}"), dict)


@example({"id": "p", "cost": 10**400})
@settings(deadline=None)
@given(JSON | st.dictionaries(st.sampled_from(["id", "name", "cost", "spec", "data", "is_public"]), JSON | ODD))
def test_any_json_is_a_program_document_or_a_protocol_error(document: Any) -> None:
    try:
        found = ProgramDocument.parse(document)
    except ProtocolError:
        return
    assert found.max_execution_time is None or isinstance(found.max_execution_time, float)


@example("[" * 100_000)
@example('{"url": "u", "token": "t", "pid": Infinity, "instance": "i", "protocol": 1}')
@settings(deadline=None)
@given(st.text() | JSON.map(json.dumps))
def test_any_text_is_a_discovery_document_or_a_protocol_error(text: str) -> None:
    try:
        DiscoveryDocument.parse(text)
    except ProtocolError:
        return


def test_a_discovery_document_survives_its_file() -> None:
    found = DiscoveryDocument(url="http://127.0.0.1:1", token="t", pid=1, instance="i", protocol=2)
    assert DiscoveryDocument.parse(found.to_json()) == found
    with pytest.raises(ProtocolError):
        DiscoveryDocument.parse(found.to_json()[:-4])


# Time

NOON = datetime(2021, 10, 4, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2021-10-04T12:00:00Z", NOON),
        ("2021-10-04T12:00:00.456851Z", NOON.replace(microsecond=456851)),
        ("2021-10-04T12:00:00.456851999Z", NOON.replace(microsecond=456851)),
        ("2021-10-04T14:00:00+02:00", NOON),
        ("2021-10-04T12:00:00", NOON),
        ("2021-10-04 12:00:00", NOON),
        ("0001-01-01T00:00:00Z", datetime(1, 1, 1, tzinfo=UTC)),
    ],
)
def test_a_timestamp_is_the_moment_it_names_in_utc(text: str, moment: datetime) -> None:
    found = parse_time(text)
    assert found == moment
    assert found is not None
    assert found.tzinfo is UTC


@pytest.mark.parametrize("text", [None, ""])
def test_no_timestamp_is_none(text: str | None) -> None:
    assert parse_time(text) is None


@pytest.mark.parametrize("text", ["yesterday", "2021-13-04T12:00:00Z", "12", "0001-01-01T00:00:00+02:00", "x" * 100])
def test_what_names_no_moment_is_a_protocol_error_with_a_short_message(text: str) -> None:
    with pytest.raises(ProtocolError) as caught:
        parse_time(text)
    assert len(str(caught.value)) < 90


@pytest.mark.parametrize("job_id", ["", "..", "a/b", "a b", "a\r\nb", "\ud800", "x" * 65])
def test_a_document_whose_id_cannot_be_one_is_refused(job_id: str) -> None:
    with pytest.raises(ProtocolError, match="id"):
        JobDocument.parse({"id": job_id, "status": "Running"})


def test_a_status_word_of_any_length_makes_no_long_message() -> None:
    document = JobDocument.parse({"id": "j1", "status": "x" * 5000})
    with pytest.raises(UnknownJobStatusError) as caught:
        document.known_status()
    assert len(str(caught.value)) < 500
    assert caught.value.word == "x" * 5000
