"""All flows, served by this one process: for people without a worker. Ctrl-C ends it, with the runs under it.

    python deployments/serve.py

It needs PREFECT_API_URL and nothing else: the flows run on the embedded runtime. For others, give a saved block's name:
`python deployments/serve.py my-block`. Schedules are those of prefect.yaml that are active there.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from prefect import serve
from prefect.deployments.runner import EntrypointType
from prefect.flows import Flow
from prefect.schedules import Cron

from prefect_runtime.deferral import watch_jobs

PROJECT = Path(__file__).parents[1]
TIME_ZONE = "Europe/Berlin"
AT_A_TIME = 4
"""Flow runs beside each other; each is a process of its own."""

SCHEDULES = {
    "bell_state": None,
    "vqe": None,
    "parameter_sweep": None,
    "backend_health": "0 6 * * *",
    "nightly_regression": "30 2 * * *",
    "random_numbers": None,
}
"""The flows, each in the file of its name, and when they run by themselves: a time of `cron`, or None."""

NAME = "served"
"""Of all deployments here: those of prefect.yaml have others, as one deployment cannot be both."""


def deployments(credentials: str) -> Iterator[Any]:
    """Give the deployments of all flows, and of the one that looks after suspended flow runs."""
    settings: dict[str, Any] = {"parameters": {"credentials": credentials}, "tags": ["prefect-runtime"]}
    for name, cron in SCHEDULES.items():
        loaded: Any = Flow.from_source(str(PROJECT), entrypoint=f"flows/{name}.py:{name}")
        yield loaded.to_deployment(NAME, schedule=Cron(cron, timezone=TIME_ZONE) if cron else None, **settings)
    yield watch_jobs.to_deployment(NAME, entrypoint_type=EntrypointType.MODULE_PATH, **settings)


if __name__ == "__main__":
    serve(*deployments(sys.argv[1] if len(sys.argv) > 1 else "local"), limit=AT_A_TIME)
