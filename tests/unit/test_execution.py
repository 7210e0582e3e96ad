"""Executions: what is whose when a flow run, a subflow or a task around ours is retried or resumed."""

from __future__ import annotations

from uuid import UUID

import pytest

from prefect_runtime.execution import Execution

TASK_RUN = UUID("00000000-0000-0000-0000-00000000aaaa")


def execution(chain: str) -> Execution:
    """An execution in which our task run acts."""
    root = chain.split(":", maxsplit=1)[0]
    return Execution(flow_run_id=TASK_RUN, task_run_id=TASK_RUN, scope=root, root_run_id=root, chain=chain)


@pytest.mark.parametrize(
    ("before", "now", "later", "retry"),
    [
        ("f:1:10.0", "f:1:10.0", False, False),
        ("f:1:10.0", "f:2:20.0", True, True),
        ("f:2:20.0", "f:1:10.0", False, False),
        pytest.param("f:1:10.0", "f:1:30.0", True, False, id="resumed"),
        pytest.param("f:1:10.0/t:1:11.0", "f:1:10.0/t:2:12.0", True, True, id="a task around ours retried"),
        pytest.param("f:1:10.0/t:2:12.0", "f:1:10.0/t:1:11.0", False, False, id="its try before"),
        pytest.param("f:1:10.0/t:1:11.0", "f:1:10.0/u:1:12.0", False, False, id="siblings"),
        pytest.param("f:1:10.0/t:1:11.0", "f:2:20.0/u:1:21.0", True, True, id="beneath a flow run retried"),
        pytest.param("f:1:10.0", "f:1:10.0/t:2:11.0", False, False, id="in the flow itself and in a task"),
        pytest.param("f:1:10.0", "g:1:5.0", True, True, id="another flow run"),
        pytest.param("f:9:10.0", "f:10:11.0", True, True, id="numbers, not texts"),
    ],
)
def test_later_and_retried(before: str, now: str, later: bool, retry: bool) -> None:
    assert execution(now).is_later_than(before) is later
    assert execution(now).is_retry_of(before) is retry


def test_a_card_of_the_last_execution_is_free_for_all_and_one_of_an_earlier_try_is_ours_alone() -> None:
    now = execution("f:2:20.0/t:2:22.0")
    left, ours, theirs = "f:1:10.0/t:1:11.0|x", "f:2:20.0/t:1:21.0|y", "f:2:20.0/u:1:21.0|z"
    assert [now.is_mine_or_free(claim) for claim in (left, ours, theirs)] == [True, True, False]
    assert [now.is_mine(claim) for claim in (left, ours, theirs)] == [False, True, False]
    assert now.is_mine(f"f:2:20.0/t:2:22.0|{TASK_RUN}")


def test_a_claim_of_an_earlier_execution_of_the_same_flow_run_is_dead() -> None:
    now = execution("f:2:20.0")
    assert now.succeeds("f:1:10.0|x")
    assert not now.succeeds("g:1:10.0|x")
    assert not now.succeeds("f:2:20.0|y")


def test_a_claim_of_an_earlier_try_of_a_task_is_alive_as_what_it_submitted_may_be() -> None:
    now = execution("f:2:20.0/t:2:22.0")
    assert not now.succeeds("f:2:20.0/t:1:21.0|x")
    assert now.succeeds("f:1:10.0/t:1:11.0|x")


def test_an_execution_knows_that_it_is_not_the_first() -> None:
    assert not execution("f:1:10.0/t:1:11.0").is_again
    assert execution("f:1:10.0/t:2:11.0").is_again
    assert execution("f:2:10.0").is_again
