"""Two rules of Prefect that bring back the flow runs of a worker, or of a whole machine, that is gone.

Nobody tells Prefect that a machine is gone: its flow runs stay `Running` for ever. What there is are heartbeats, which
a flow's process sends. So the first rule crashes a flow run that has been silent for too long, and the second schedules
it again; a worker that is alive executes it, and its requests find the jobs they had.

Both are only for flow runs with the tag `run-again-if-lost`. Tag a deployment with it if

- its flow may be executed twice, even at the same time: one that is silent may be alive, behind a broken network. The
  jobs of our tasks are safe then (one request, one job), an e-mail that the flow sends is not;
- its flow runs send heartbeats in time: set PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30, Prefect's least, where they run
  (`job_variables` in prefect.yaml does). Prefect's default is 180.

Source: Prefect 3.8.8, flow_engine.py (heartbeats), server/events/triggers.py (rules), run against a killed worker in
tests/e2e/test_many_workers.py.
"""

from __future__ import annotations

from datetime import timedelta

from prefect.client.schemas.objects import StateType
from prefect.events.actions import ChangeFlowRunState
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.events.schemas.events import ResourceSpecification

TAG = "run-again-if-lost"
SILENT_SECONDS = 90.0
"""Three heartbeats of 30 s; also how long a flow run may take from its worker to its first line."""
TIMES_AGAIN = 3

_OF_A_FLOW_RUN = "prefect.flow-run."
_MESSAGE = "No sign of life"
_TAGGED = ResourceSpecification({"prefect.resource.role": "tag", "prefect.resource.id": f"prefect.tag.{TAG}"})


def rules(silent_seconds: float = SILENT_SECONDS, times: int = TIMES_AGAIN) -> list[AutomationCore]:
    """Return both rules.

    Args:
        silent_seconds: How long without a sign of life makes a flow run lost; more than two heartbeats.
        times: How often a flow run is executed again: one that kills its machine each time has an end.
    """
    return [_crash_the_silent(silent_seconds), _run_again(times)]


def _crash_the_silent(seconds: float) -> AutomationCore:
    """Any word of a flow run counts as a sign of life; where a process should be at work, silence is a crash."""
    return AutomationCore(
        name="Crash flow runs that have gone silent",
        description=f"Flow runs tagged {TAG}; see deployments/lost_runs.py.",
        trigger=EventTrigger(
            # From the moment when a worker has taken it: one killed before the flow begins never sends a heartbeat.
            after={_OF_A_FLOW_RUN + word for word in ("Pending", "Submitting", "Running", "Retrying", "heartbeat")},
            expect={_OF_A_FLOW_RUN + "*"},
            match=ResourceSpecification({"prefect.resource.id": _OF_A_FLOW_RUN + "*"}),
            match_related=_TAGGED,
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=timedelta(seconds=seconds),
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=f"{_MESSAGE} for {seconds:g} s: its worker is gone.")
        ],
    )


def _run_again(times: int) -> AutomationCore:
    """Only what the other rule has crashed: a flow run that crashed by itself may do so again."""
    return AutomationCore(
        name="Run lost flow runs again",
        description=f"Flow runs tagged {TAG}, up to {times} times each; see deployments/lost_runs.py.",
        trigger=EventTrigger(
            expect={_OF_A_FLOW_RUN + "Crashed"},
            match=ResourceSpecification(
                {
                    "prefect.resource.id": _OF_A_FLOW_RUN + "*",
                    "prefect.state-message": f"{_MESSAGE}*",
                    "prefect.run-count": [str(count) for count in range(times + 1)],
                }
            ),
            match_related=_TAGGED,
            for_each={"prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[
            ChangeFlowRunState(
                state=StateType.SCHEDULED, name="AwaitingRetry", message="Once more: its worker is gone."
            )
        ],
    )
