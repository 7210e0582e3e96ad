"""``prefect-runtime automation``: the rule that resumes suspended flow runs, as code. Asks Prefect's API."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

from cyclopts import App
from rich.console import Console

from prefect_runtime.cli import app

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.schemas.automations import AutomationCore

NAME = "Resume flow runs whose quantum job is final"

automation = App(name="automation", help="The rule that resumes flow runs that are suspended for a job.")
app.command(automation)


@automation.command
def install() -> int:
    """Create the automation, or bring the one of this name up to date."""
    wanted = resuming_automation()
    with _prefect() as client:
        there = client.read_automations_by_name(NAME)
        for one in there:
            client.update_automation(one.id, wanted)
        if not there:
            client.create_automation(wanted)
    Console().print(f"{'Up to date' if there else 'Installed'}: {NAME}", soft_wrap=True)
    return 0


@automation.command
def remove() -> int:
    """Delete the automation. Suspended flow runs then wait until somebody resumes them."""
    with _prefect() as client:
        there = client.read_automations_by_name(NAME)
        for one in there:
            client.delete_automation(one.id)
    Console().print("Removed." if there else "Not there.")
    return 0


@contextlib.contextmanager
def _prefect() -> Iterator[SyncPrefectClient]:
    """Give a client of Prefect's API.

    Raises:
        ConfigurationError: It is not there, or refuses.
    """
    import httpx
    from prefect.client.orchestration import get_client

    from prefect_runtime.wire.errors import ConfigurationError

    try:
        with get_client(sync_client=True) as client:
            yield client
    except (httpx.HTTPError, RuntimeError) as error:  # Prefect's own word when its API is not there at all
        raise ConfigurationError(
            f"automation: Prefect's API cannot be asked ({type(error).__name__}); is PREFECT_API_URL right?"
        ) from None


def resuming_automation() -> AutomationCore:
    """Return the rule: an event of a job's end that names a suspended flow run resumes that flow run."""
    from prefect.events.actions import ResumeFlowRun
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
    from prefect.events.schemas.events import ResourceSpecification

    from prefect_runtime.events import RESUMING, SUSPENDED, SUSPENDED_LABEL

    return AutomationCore(
        name=NAME,
        description="Events that the flow `Watch runtime jobs` emits; see prefect_runtime/deferral.py.",
        trigger=EventTrigger(
            expect=set(RESUMING),
            match_related=ResourceSpecification({"prefect.resource.role": "flow-run", SUSPENDED_LABEL: SUSPENDED}),
            for_each={"related:flow-run:prefect.resource.id"},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[ResumeFlowRun()],
    )
