"""Ctrl-C ends a wait and cancels nothing: it is said, with the command that does."""

from __future__ import annotations

import pytest

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.tasks.cancellation import watching

LOCAL = Credentials(channel="local")
ELSEWHERE = Credentials(channel="classic", url="https://runtime.example", token="t")


@pytest.mark.parametrize(
    ("account", "left", "said"),
    [
        (LOCAL, ["a", "b"], ["To end it: prefect-runtime cancel a b"]),
        (LOCAL, ["b"], ["To end it: prefect-runtime cancel b"]),
        (ELSEWHERE, ["a", "b"], ["To end it: prefect-runtime cancel --block NAME a b"]),
        (LOCAL, [], []),
    ],
)
def test_ctrl_c_says_which_jobs_go_on_and_what_ends_them(
    account: Credentials, left: list[str], said: list[str], caplog: pytest.LogCaptureFixture
) -> None:
    with (
        RuntimeService(account) as service,
        pytest.raises(KeyboardInterrupt),
        watching(service, ["a", "b"], "cancel", left=left),
    ):
        raise KeyboardInterrupt
    assert [line.partition("goes on. ")[2] for line in caplog.messages] == said


def test_a_wait_that_a_persons_cancel_ends_does_not_say_that_its_job_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    with (
        RuntimeService(LOCAL) as service,
        pytest.raises(KeyboardInterrupt),
        watching(service, ["a"], "cancel") as interrupt,
    ):
        interrupt.set("because its flow run was cancelled")
        raise KeyboardInterrupt
    assert caplog.messages == []
