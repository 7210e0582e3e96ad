"""What a worker says to its server, and how much a program may say through it."""

from __future__ import annotations

import dataclasses
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.local.messenger import MAX_INTERIM_BYTES, MAX_INTERIM_RESULTS, TooMuchError, UserMessenger
from prefect_runtime.local.worker import MAX_REPORT_BYTES, REASON_CHARACTERS, Order, Report, _load


@pytest.mark.parametrize(
    "report", [Report("started"), Report("interim"), Report("done"), Report("failed", "because of «é»")]
)
def test_a_report_comes_out_as_it_went_in(report: Report) -> None:
    assert Report.parse(report.to_json()) == report


def test_a_reason_with_the_name_of_a_file_that_is_no_text_is_kept() -> None:
    report = Report.parse(Report("failed", "cannot open caf\udce9.txt").to_json())
    assert report.reason == "cannot open caf\\udce9.txt"


def test_the_longest_reason_fits_into_a_report() -> None:
    report = Report("failed", "\U0001f600" * REASON_CHARACTERS)
    assert len(report.to_json()) <= MAX_REPORT_BYTES
    assert Report.parse(report.to_json()) == report


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\x80\x04\x95",  # the start of a pickle
        b"[" * 100_000,
        b"5",
        b"null",
        b"[]",
        b'["done"]',
        b'["done", "", "", ""]',
        b'["done", 5, ""]',
        b'["done", "", 5]',
        b'["Completed", "", ""]',
        b'[["done"], "", ""]',
        b'{"kind": "done", "reason": ""}',
        b"\xff\xfe",
    ],
)
def test_what_is_no_report_is_not_taken_for_one(data: bytes) -> None:
    with pytest.raises(ValueError):
        Report.parse(data)


@pytest.fixture
def published() -> list[None]:
    return []


@pytest.fixture
def file() -> io.BytesIO:
    return io.BytesIO()


@pytest.fixture
def messenger(file: io.BytesIO, published: list[None]) -> UserMessenger:
    tell: Callable[[], None] = lambda: published.append(None)  # noqa: E731
    return UserMessenger(file, tell)


def test_interim_results_are_lines_of_json(messenger: UserMessenger, file: io.BytesIO, published: list[None]) -> None:
    messenger.publish({"a": [1, "two\nlines"]})
    messenger.publish(None)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [{"a": [1, "two\nlines"]}, None]
    assert len(published) == 2


class Indents(json.JSONEncoder):
    def __init__(self, **options: Any) -> None:
        super().__init__(**{**options, "indent": 1})


def test_what_an_encoder_writes_in_several_lines_is_one_interim_result(
    messenger: UserMessenger, file: io.BytesIO
) -> None:
    messenger.publish({"a": [1, "two\nlines"]}, encoder=Indents)
    assert [json.loads(line) for line in file.getvalue().splitlines()] == [{"a": [1, "two\nlines"]}]


def test_an_interim_result_that_is_too_long_is_refused_and_not_half_written(
    messenger: UserMessenger, file: io.BytesIO, published: list[None]
) -> None:
    with pytest.raises(TooMuchError, match=str(MAX_INTERIM_BYTES)):
        messenger.publish("x" * MAX_INTERIM_BYTES)
    assert (file.getvalue(), published) == (b"", [])


def test_one_interim_result_too_many_is_refused(messenger: UserMessenger, file: io.BytesIO) -> None:
    for _ in range(MAX_INTERIM_RESULTS):
        messenger.publish(0)
    with pytest.raises(TooMuchError, match=str(MAX_INTERIM_RESULTS)):
        messenger.publish(0)
    assert file.getvalue().count(b"\n") == MAX_INTERIM_RESULTS


def test_the_final_result_is_not_an_interim_one(messenger: UserMessenger, file: io.BytesIO) -> None:
    messenger.publish(5, final=True)
    assert (messenger.final, file.getvalue()) == ("5", b"")


@pytest.mark.parametrize(("first", "annotation"), [("", int), ("from __future__ import annotations", "int")])
def test_a_program_has_the_annotations_that_it_has_anywhere_else(first: str, annotation: Any, tmp_path: Path) -> None:
    source = f"{first}\ndef main(backend, user_messenger, *, count: int = 3):\n    return count\n"
    order = Order(folder=tmp_path, program_id="p", backend="b", calibration=0, log_level="INFO", params="{}")
    program = _load(dataclasses.replace(order, source=source))
    assert program.main.__annotations__ == {"count": annotation}
