"""JSON text of somebody else's: what anybody means is read, what nobody means is refused before it costs much."""

from __future__ import annotations

import json
import math
import sys
import time

import pytest

from prefect_runtime.wire.json_text import MAX_CONTAINERS, MAX_DEPTH, MAX_DIGITS, read_json


def nested(depth: int) -> str:
    return "[" * depth + "]" * depth


@pytest.mark.parametrize(
    "text", ["1", "[]", '{"a": [1, NaN]}', json.dumps(["[[" * 300]), json.dumps({"\\": '"[{' * 300})]
)
def test_what_somebody_means_is_read(text: str) -> None:
    assert repr(read_json(text)) == repr(json.loads(text)) == repr(read_json(text.encode()))


def test_not_a_number_and_infinity_are_read() -> None:
    """NumPy and Qiskit write them."""
    assert read_json("[Infinity, -Infinity]") == [math.inf, -math.inf]
    assert math.isnan(read_json("NaN"))


@pytest.mark.parametrize("wide", ["", "[], " * 1000])
def test_depth_has_a_limit_that_does_not_depend_on_python(wide: str) -> None:
    assert read_json(f"[{wide}{nested(MAX_DEPTH - 1)}]")
    for text in (f"[{wide}{nested(MAX_DEPTH)}]", '{"a":' * (MAX_DEPTH + 1) + "1" + "}" * (MAX_DEPTH + 1)):
        with pytest.raises(ValueError, match="levels deep"):
            read_json(text)
        with pytest.raises(ValueError, match="levels deep"):
            read_json(text.encode())


def test_lists_and_objects_have_a_limit() -> None:
    with pytest.raises(ValueError, match="lists and objects"):
        read_json("[" + "[]," * MAX_CONTAINERS + "1]")


@pytest.mark.parametrize(
    "text",
    [
        *("[" * 5_000_000, nested(2_000_000), '["' * 2_000_000, '"\\' * 2_000_000, "[" * 300 + '"' + "\\" * 3_000_000),
        "[" * 201 + '"' + '\\"' * 2_000_000,
    ],
)
def test_a_text_made_for_it_does_not_keep_us_busy(text: str) -> None:
    start = time.thread_time()
    with pytest.raises(ValueError):
        read_json(text)
    assert time.thread_time() - start < 2


@pytest.mark.parametrize("end", ["", "\\", '\\"', "\\\\"])
def test_brackets_in_a_text_that_has_no_end_do_not_count(end: str) -> None:
    with pytest.raises(json.JSONDecodeError):
        read_json("[" * 100 + '"' + "[" * 300 + end)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_another_encoding_hides_no_depth(encoding: str) -> None:
    """In these, half of a letter can be a quote: what follows would be taken for a text."""
    text = f'["\u2200", {nested(2 * MAX_DEPTH)}]'
    with pytest.raises(ValueError, match="not UTF-8"):
        read_json(text.encode(encoding))


@pytest.mark.parametrize("limit", [0, MAX_DIGITS, 10**6], ids=["no limit", "Python's own", "a larger one"])
def test_the_digits_of_a_number_have_a_limit_whatever_pythons_is(limit: int) -> None:
    before = sys.get_int_max_str_digits()
    sys.set_int_max_str_digits(limit)
    try:
        assert read_json(f"[{'9' * MAX_DIGITS}]")[0] % 10 == 9
        for text in ("9" * 600_000, f"[-{'9' * (MAX_DIGITS + 1)}]"):
            start = time.thread_time()
            with pytest.raises(ValueError, match="digits"):
                read_json(text)
            assert time.thread_time() - start < 0.5
    finally:
        sys.set_int_max_str_digits(before)
