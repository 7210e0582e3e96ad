"""What a flow run is suspended for, as it stands in the key of its suspension."""

from __future__ import annotations

import pytest

from prefect_runtime.deferral import Suspension


@pytest.mark.parametrize("block", ["local", "my block/with ünusual names", "a%2Fb"])
@pytest.mark.parametrize("until", [0.0, 1_795_377_142.0])
def test_a_key_says_what_it_was_made_of(block: str, until: float) -> None:
    made = Suspension(block=block, job_id="c3f0-11", until=until)
    assert Suspension.of(made.key) == made


def test_no_two_suspensions_share_a_key() -> None:
    made = Suspension(block="local", job_id="c3f0")
    assert made.key != made.key, "Prefect suspends only once for each key"


@pytest.mark.parametrize("key", [None, "", "1", "prefect-runtime", "a/b/c/d/e", "prefect-runtime/local/j/soon/x"])
def test_keys_of_others_are_left_alone(key: str | None) -> None:
    assert Suspension.of(key) is None
