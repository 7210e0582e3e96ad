"""A bound that was missed once is measured again; one that is missed each time stays missed."""

from __future__ import annotations

import pytest
from undisturbed import undisturbed


@pytest.mark.parametrize(
    ("taken", "least", "measured"),
    [
        pytest.param([1, 9, 9], 1, 1, id="kept at once"),
        pytest.param([9, 1, 9], 1, 2, id="disturbed"),
        pytest.param([9, 9, 1, 9], 1, 3, id="disturbed twice"),
        pytest.param([9, 8, 9, 1], 8, 3, id="a fault"),
    ],
)
def test_a_missed_bound_is_measured_up_to_three_times_and_the_least_counts(
    taken: list[float], least: float, measured: int
) -> None:
    left = iter(taken)
    assert undisturbed(lambda: next(left), below=2) == least
    assert len(list(left)) == len(taken) - measured
