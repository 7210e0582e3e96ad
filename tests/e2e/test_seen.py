"""What a person sees of a job in Prefect: its log as it comes, its progress, its status, events for automations."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from uuid import UUID

import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification
from prefect.states import StateType

from prefect_runtime import fetch_logs, run_program, stream_results, wait_for_final_state
from prefect_runtime.tasks import job

from .proxy import Proxy
from .support import PUBLISHES, artifacts, cards, eventually, job_events, log_lines, run_id, shown

Upload = Callable[..., str]

TALKS = '''
import time

def main(backend, user_messenger, *, lines=1000, results=200, seconds=4.0):
    """Write lines and publish results for some seconds, in turns."""
    for number in range(lines):
        print(f"line {number}")
        if number % (lines // results) == 0:
            done = number // (lines // results)
            user_messenger.publish({"iteration": done + 1, "total": results})
            time.sleep(seconds / results)
    return "said"
'''

FAILS = """
def main(backend, user_messenger):
    raise ValueError("on purpose")
"""


SCRIPT = """
import sys
from prefect import flow
from prefect.runtime import flow_run
from prefect_runtime import execute

@flow
def fails(program):
    print(flow_run.id, flush=True)
    execute("local", program, {})

fails(sys.argv[1], return_state=True)
"""
"""A process of its own: Prefect's worker for events keeps to the server that it has first sent to."""


@pytest.mark.pr
def test_a_thousand_lines_and_200_interim_results_are_in_the_runs_log_each_once_in_order(
    upload: Upload, proxy: Proxy
) -> None:
    program = upload(TALKS)

    @flow
    def watched() -> None:
        job_id = run_program("local", program, {})
        listening = stream_results.submit("local", job_id)
        wait_for_final_state("local", job_id)
        listening.result()
        fetch_logs("local", job_id)
        fetch_logs("local", job_id)

    state = watched(return_state=True)
    assert state.is_completed()
    found = log_lines(run_id(state), until="line 999")
    said = [match[1] for line in found if (match := re.search(r"\[job \w+\] line (\d+)$", line))]
    assert said == [str(number) for number in range(1000)]
    interim = [match[1] for line in found if (match := re.search(r"interim result (\d+):", line))]
    assert interim == [str(number) for number in range(1, 201)]
    progress = [one for one in artifacts(run_id(state)) if one.type == "progress"]
    assert [one.data for one in progress] == [100.0]
    updates = proxy.seen("PATCH /api/artifacts/")
    assert len(updates) <= 15, "of progress and card together, in about five seconds"
    (card,) = cards(run_id(state))
    assert shown(card)["Log"] == "1000 lines"
    assert re.fullmatch(r"(QUEUED .* → )?RUNNING [\d:]+ → DONE [\d:]+ UTC", shown(card)["Seen"])


def test_of_very_many_interim_results_the_log_has_the_first_and_the_task_returns_all(
    upload: Upload, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(job, "MOST_LINES", 5)
    program = upload(PUBLISHES)

    @flow
    def watched() -> int:
        return len(stream_results("local", run_program("local", program, {"count": 8})))

    state = watched(return_state=True)
    assert state.result() == 8
    found = [line for line in log_lines(run_id(state), until="more than 5 interim") if "interim result" in line]
    assert len(found) == 6


def test_the_card_of_a_failed_job_says_why_and_its_events_tell_an_automation(upload: Upload) -> None:
    program = upload(FAILS)
    name = "test: a job has failed"
    rule = AutomationCore(
        name=name,
        trigger=EventTrigger(
            expect={"prefect-runtime.job.failed"},
            match=ResourceSpecification({"prefect-runtime.program": program}),
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[ChangeFlowRunState(state=StateType.FAILED, name="NoticedByAutomation", force=True)],
    )

    with get_client(sync_client=True) as client:
        automation = client.create_automation(rule)
        try:
            command = [sys.executable, "-c", SCRIPT, program]
            done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=60, check=True)
            flow_run_id = UUID(done.stdout.strip())
            eventually(lambda: "failed" in job_events(flow_run_id), seconds=30, what="the event")
            eventually(lambda: "NoticedByAutomation" in _states_of(flow_run_id), seconds=30, what="the automation")
        finally:
            client.delete_automation(automation)
    (card,) = cards(flow_run_id)
    assert "ValueError: on purpose" in shown(card)["Why"]
    said = job_events(flow_run_id)
    assert [word for word in said if word in ("submitted", "failed")] == ["submitted", "failed"]


def _states_of(flow_run_id: UUID) -> list[str]:
    """Return the names of all states a flow run has been in: its own end may come after the automation's."""
    with get_client(sync_client=True) as client:
        answer = client.request("GET", "/flow_run_states/", params={"flow_run_id": str(flow_run_id)})
    return [state["name"] for state in answer.json()]
