"""The rules in deployments/lost_runs.py: silent flow runs are crashed and executed again; all others are left alone.

Here nothing is executed: what a flow run says, and that it falls silent, is played; test_many_workers.py kills one.
"""

from __future__ import annotations

import contextvars
import runpy
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import State
from prefect.events import emit_event
from prefect.states import AwaitingRetry, Completed, Pending, Running, Suspended

from .support import PROJECT, eventually

SILENT_SECONDS = 15.0  # Prefect's least is 10; more, for a busy machine


@flow
def nothing_to_do() -> None:
    """Be a flow that a deployment can have."""


@contextmanager
def rules(*, times: int) -> Iterator[str]:
    """Have the rules, with less patience than people have; gives the tag they are for."""
    shipped = runpy.run_path(str(PROJECT / "deployments" / "lost_runs.py"))
    with get_client(sync_client=True) as client:
        made = [client.create_automation(rule) for rule in shipped["rules"](SILENT_SECONDS, times)]
        try:
            yield shipped["TAG"]
        finally:
            for rule in made:
                client.delete_automation(rule)


@pytest.mark.long  # it plays with 15 s of silence, which a busy machine makes of itself
@pytest.mark.timeout(300)
def test_silent_flow_runs_run_again_as_often_as_allowed_and_others_are_left_alone() -> None:
    with rules(times=1) as tag, get_client(sync_client=True) as client:
        deployment = nothing_to_do.to_deployment("lost").apply()

        def started(*states: State[None], tags: tuple[str, ...] = (tag,)) -> UUID:
            run = client.create_flow_run_from_deployment(deployment, tags=tags)
            for state in states:
                client.set_flow_run_state(run.id, state, force=True)
            return run.id

        def states(flow_run_id: UUID) -> list[str | None]:
            told = sorted(client.read_flow_run_states(flow_run_id), key=lambda state: state.timestamp)
            return [state.name for state in told]

        def ends() -> dict[UUID, str | None]:
            time.sleep(1.0)
            return {run: states(run)[-1] for run in expected}

        time.sleep(2.0)  # the server looks for new rules once a second
        silent = started(Pending(), Running())
        before_its_first_line = started(Pending())
        for_the_last_time = started(Pending(), Running(), AwaitingRetry(), Pending(), Running())
        alive = started(Pending(), Running())
        with saying(alive, tag):
            expected = {
                silent: "AwaitingRetry",
                before_its_first_line: "AwaitingRetry",
                for_the_last_time: "Crashed",
                started(Pending(), Running(), tags=()): "Running",
                started(Pending(), Running(), Completed()): "Completed",
                started(Pending(), Running(), Suspended()): "Suspended",
                alive: "Running",
            }
            eventually(lambda: ends() == expected, seconds=SILENT_SECONDS + 90.0, what="the expected states")
            for _ in range(6):  # the server looks every five seconds: nothing comes after it
                assert ends() == expected
        assert states(silent)[-2] == states(before_its_first_line)[-2] == "Crashed"
        crashed = client.read_flow_run(for_the_last_time)
        assert crashed.run_count == 2
        assert crashed.state is not None
        assert "No sign of life" in (crashed.state.message or "")


@contextmanager
def saying(flow_run_id: UUID, tag: str) -> Iterator[None]:
    """Have a flow run give signs of life, as its process does every half a minute."""
    enough = threading.Event()

    def say() -> None:
        while not enough.wait(2.0):
            emit_event(
                "prefect.flow-run.heartbeat",
                resource={"prefect.resource.id": f"prefect.flow-run.{flow_run_id}", "prefect.resource.name": "alive"},
                related=[{"prefect.resource.id": f"prefect.tag.{tag}", "prefect.resource.role": "tag"}],
            )

    thread = threading.Thread(target=contextvars.copy_context().run, args=(say,))  # Prefect's settings are in there
    thread.start()
    try:
        yield
    finally:
        enough.set()
        thread.join()
