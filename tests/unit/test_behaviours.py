"""The table of behaviours is whole, and the tests it names are there."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
TEST_NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")

ROWS = [
    [cell.strip() for cell in line.strip().strip("|").split("|")]
    for line in (TESTS / "BEHAVIOURS.md").read_text(encoding="utf-8").splitlines()
    if re.match(r"\| *\d", line)
]
"""Number, behaviour, tests, remark."""


@cache
def functions_of(path: Path) -> frozenset[str]:
    """Names of the functions in a module."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


def test_every_behaviour_is_in_the_table_once() -> None:
    assert [number for number, *_ in ROWS] == [str(number) for number in range(1, 51)]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row[0])
def test_a_behaviour_has_tests_that_exist_or_a_reason(row: list[str]) -> None:
    _, behaviour, shown_by, remark = row
    assert behaviour
    named = TEST_NAME.findall(shown_by)
    assert TEST_NAME.sub("", shown_by).strip() == "", "not the name of a test"
    assert named or remark, "neither a test nor a reason"
    for file, function in named:
        assert function.startswith("test_")
        assert function in functions_of(TESTS / file), f"tests/{file} has no {function}"
