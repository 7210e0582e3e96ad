"""Tasks that look around at a runtime: which backend is best, which jobs there are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger

from prefect_runtime.blocks.credentials import CredentialsLike, load_credentials
from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.client.choice import Choice, Prefer, Wish, read_circuits
from prefect_runtime.client.finding import JobFilter, find, find_summary
from prefect_runtime.client.fingerprint import fingerprint
from prefect_runtime.execution import current_execution
from prefect_runtime.pins import Pin, as_table, pin_key
from prefect_runtime.prefect_api import prefect_client

CHOICE_PREFIX = "prtb1-"


@task(name="Choose backend", task_run_name="Choose backend", retries=0, cache_policy=NO_CACHE)
def choose_backend(
    credentials: CredentialsLike,
    *,
    names: Sequence[str] | None = None,
    min_num_qubits: int | None = None,
    circuits: Sequence[Any] | None = None,
    prefer: Prefer = "wait",
    max_wait_seconds: float | None = None,
) -> str:
    """Return the name of the backend that is best for a piece of work.

    In a flow run the choice is kept on a card: the same question, asked again in the same flow run (a retry, a resume,
    a re-run after a crash), has the same answer, so that a job submitted before is found and not made anew elsewhere.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        names: Those to choose from, the dearest first; all the account has if None. Of equally good ones the first.
        min_num_qubits: Qubits it must have; the circuits' own width counts as well.
        circuits: What is to be run on it, as `run_sampler` takes circuits.
        prefer: "wait" for the shortest wait that the runtime expects; "fidelity" for the best calibration of the qubits
            that the circuits would use (they are transpiled to each of the backends for that).
        max_wait_seconds: The longest a new job may be expected to wait.

    Raises:
        BackendNotFoundError: None will do; the message says why not, for each.
        ConfigurationError: Something that cannot work.
    """
    wish = Wish(
        names=None if names is None else tuple([names] if isinstance(names, str) else names),
        min_num_qubits=min_num_qubits,
        circuits=read_circuits(circuits),
        prefer=prefer,
        max_wait_seconds=max_wait_seconds,
    )
    with load_credentials(credentials).get_client() as service, prefect_client() as client:
        execution = current_execution(client)
        if execution is None:
            return _choose(service, wish).name
        pin = Pin(client, execution, pin_key(CHOICE_PREFIX, execution.scope, _question(service, wish)))
        if "backend" not in pin.fields:
            choice = _choose(service, wish)
            record = {"backend": choice.name, "prefer": wish.prefer}
            pin.write(record, _card(choice, wish), f"Backend chosen: {choice.name}")
            pin = Pin(client, execution, pin.key)  # of two at the same time, both take the first's
        else:
            get_run_logger().info("Backend %s: chosen before in this flow run", pin.fields["backend"])
        return pin.fields["backend"]


def _choose(service: RuntimeService, wish: Wish) -> Choice:
    choice = service.choose_backend(wish)
    why = f"expected wait {choice.wait_seconds:.0f} s" if choice.wait_seconds is not None else "wait not known"
    if choice.fidelity is not None:
        why = f"fidelity {choice.fidelity:.3g}, {why}"
    get_run_logger().info("Backend %s: chosen, %s", choice.name, why)
    return choice


def _question(service: RuntimeService, wish: Wish) -> Mapping[str, Any]:
    credentials = service.credentials
    return {
        "account": [credentials.channel, credentials.url, credentials.instance],
        "names": wish.names,
        "width": wish.width,
        "circuits": fingerprint(list(wish.circuits), place="circuits") if wish.circuits else "",
        "prefer": wish.prefer,
        "max_wait_seconds": wish.max_wait_seconds,
    }


def _card(choice: Choice, wish: Wish) -> str:
    rows = {
        "Chosen for": "the best calibration" if wish.prefer == "fidelity" else "the shortest wait",
        "Expected wait": "" if choice.wait_seconds is None else f"{choice.wait_seconds:.0f} s",
        "Expected fidelity": "" if choice.fidelity is None else f"{choice.fidelity:.3g}",
        **choice.others,
    }
    return as_table(f"Backend {choice.name}", rows)


@task(name="Find jobs", task_run_name="Find jobs", retries=0, cache_policy=NO_CACHE)
def find_jobs(
    credentials: CredentialsLike,
    *,
    tags: Sequence[str] = (),
    created_after: datetime | str | None = None,
    flow_run_id: str | None = None,
    program_id: str | None = None,
    status: JobStatus | str | Sequence[JobStatus | str] | None = None,
    limit: int | None = 100,
) -> list[dict[str, Any]]:
    """Return what is known of the jobs that fit, newest first: ids to wait for, to fetch or to cancel.

    Each is a dictionary with ``job_id``, ``status`` (the name of a `JobStatus`, or a word that this version does not
    know), ``program_id``, ``backend``, ``created`` (ISO 8601, UTC), ``tags``, ``flow_run_id``, ``session_id`` and
    ``usage_seconds``; what is not known is None. Every filter is checked here too: a runtime may ignore one.

    Args:
        credentials: A block, or the name of a saved one; "local" is the embedded runtime.
        tags: Only those with all of these.
        created_after: Only those created then or later; a time without a zone is UTC.
        flow_run_id: Only those submitted in this flow run or one of its subflows: the outermost flow run's id.
        program_id: Only those of this program.
        status: Only those in this status, or in one of these.
        limit: How many at most; None for all.

    Raises:
        ConfigurationError: Something that cannot work.
        QiskitRuntimeError: The runtime could not be asked.
    """
    wanted = JobFilter.of(
        tags=tags, created_after=created_after, flow_run_id=flow_run_id, program_id=program_id, status=status
    )
    with load_credentials(credentials).get_client() as service:
        return [find_summary(document) for document in find(service.client, wanted, limit=limit)]
