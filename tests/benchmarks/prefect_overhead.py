"""Run by test_prefect_overhead.py in a process of its own: Prefect's workers for events and logs keep to one server.

Prints three lists of seconds as JSON: four plain calls, four tasks with their card, bare tasks and calls of Prefect.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable

from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate, VariableCreate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.context import SyncClientContext
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, fetch_logs, fetch_result, run_sampler, wait_for_final_state

ROUNDS = 5
REST_SECONDS = 1.0  # before each: the server is still writing down the one before, and our card comes a moment later


@task(cache_policy=NO_CACHE)
def nothing() -> None:
    """Do nothing, as a task."""


def bare_prefect() -> None:
    """Make four empty tasks, and between them the calls that a card needs."""
    with SyncClientContext.get_or_create() as context:
        client = context.client
        name = f"bare-{time.time_ns()}"
        nothing()
        client.create_variable(VariableCreate(name=name, value={"claim": "mine"}))
        client.read_artifacts(artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[name])))
        card = client.create_artifact(ArtifactCreate(key=name, type="markdown", data="x" * 800))
        client.update_artifact(card.id, ArtifactUpdate(data="y" * 800))
        for _ in range(2):
            nothing()
            client.update_artifact(card.id, ArtifactUpdate(data="z" * 800))
        nothing()


def timed(call: Callable[[], None]) -> float:
    """Return the seconds a call takes of a server that has nothing else to do."""
    time.sleep(REST_SECONDS)
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


@flow
def measured(url: str) -> list[tuple[float, ...]]:
    """Measure the three in turns."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    block = RuntimeCredentials(url=url)  # the token is in the environment
    with block.get_client() as service:

        def plain() -> None:
            job = service.run("sampler", {"pubs": [(circuit, None, 1000)]})
            job.wait_for_final_state()
            job.result()
            job.logs()

        def tasks() -> None:
            job_id = run_sampler(block, [circuit], shots=1000)
            wait_for_final_state(block, job_id)
            fetch_result(block, job_id)
            fetch_logs(block, job_id)

        calls = (plain, tasks, bare_prefect)
        for call in calls:
            call()
        return [tuple(timed(call) for call in calls) for _ in range(ROUNDS)]


if __name__ == "__main__":
    print(json.dumps(list(zip(*measured(sys.argv[1]), strict=True))))
