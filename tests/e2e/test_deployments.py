"""The files in deployments/, used as their README says, against the real server."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
import yaml
from canaries import sinks
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import FlowRun
from prefect.client.schemas.responses import DeploymentResponse

from prefect_runtime import RuntimeCredentials
from prefect_runtime.client import RuntimeService

from .support import PROJECT, eventually, jobs_of
from .workers import PATIENCE_SECONDS, in_state, running_worker

DEPLOYMENTS = PROJECT / "deployments"
YAML = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())

pytestmark = pytest.mark.pr


def register(*options: str) -> dict[str, str]:
    """Run `register.py`; gives what it says that it did to each thing."""
    done = subprocess.run(
        [sys.executable, DEPLOYMENTS / "register.py", *options],
        cwd=PROJECT,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        timeout=60,
    )
    lines = [line.strip().partition(": ") for line in done.stdout.splitlines()]
    assert lines
    return {what: word for word, _, what in lines}


def registered() -> dict[str, Any]:
    """Return what there is in Prefect of what `register.py` makes, with the ids and times of change."""
    with get_client(sync_client=True) as client:

        def read(path: str) -> list[dict[str, Any]]:
            answer: list[dict[str, Any]] = client.request("POST", path, json={}).json()
            return sorted(answer, key=lambda one: str(one["id"]))

        return {
            "blocks": [
                {name: one[name] for name in ("id", "name", "updated")} for one in read("/block_documents/filter")
            ],
            "pool": {name: client.request("GET", "/work_pools/process").json()[name] for name in ("id", "updated")},
            "queues": {one["name"]: one["concurrency_limit"] for one in read("/work_pools/process/queues/filter")},
            "limits": {one["name"]: one["limit"] for one in read("/v2/concurrency_limits/filter")},
            "rules": [(one["id"], one["updated"]) for one in read("/automations/filter")],
        }


@pytest.fixture(scope="module")
def made(prefect_settings: None) -> dict[str, str]:
    """What `register.py` says when nothing was there."""
    return register()


@pytest.fixture(scope="module")
def deployed(made: dict[str, str]) -> dict[str, DeploymentResponse]:
    """All deployments that `prefect deploy --all` has made, by name."""
    command = ["--no-prompt", "deploy", "--all", "--prefect-file", "deployments/prefect.yaml"]
    subprocess.run([sys.executable, "-m", "prefect", *command], cwd=PROJECT, check=True, timeout=90)
    names = {entry["name"] for entry in YAML["deployments"]}
    with get_client(sync_client=True) as client:
        return {one.name: one for one in client.read_deployments() if one.name in names}


def test_registering_again_changes_nothing_and_says_so(made: dict[str, str]) -> None:
    assert set(made.values()) == {"known", "made"}
    before = registered()
    again = register()
    assert set(again.values()) == {"known", "there"}
    assert again.keys() == made.keys()
    assert registered() == before


def test_registering_keeps_what_people_have_set_and_changes_what_is_asked_for(made: dict[str, str]) -> None:
    with get_client(sync_client=True) as client:
        client.upsert_global_concurrency_limit_by_name("prefect-runtime-generic_127q", 5)
    with_url = ("--runtime-url", "https://lab-1:8443", "--runtime-certificate", "/etc/lab/cert.pem")
    said = register("--backend", "ibm_fez=3", "--backend", "generic_5q=2", "--silent-seconds", "120", *with_url)
    after = registered()
    limits = {name.removeprefix("prefect-runtime-"): limit for name, limit in after["limits"].items()}
    assert (limits["generic_127q"], limits["ibm_fez"], limits["generic_5q"]) == (5, 3, 2)
    assert (after["queues"]["ibm_fez"], after["queues"]["generic_5q"]) == (3, 2)
    changed = {what for what, word in said.items() if word == "changed"}
    assert changed == {
        "block embedded, to https://lab-1:8443",
        "queue generic_5q of process, 2 flow runs at a time",
        "limit prefect-runtime-generic_5q, 2 open jobs",
        "rule 'Crash flow runs that have gone silent'",
    }
    block: Any = RuntimeCredentials.load("embedded", _sync=True)  # type: ignore[call-arg]
    assert (block.url, block.verify) == ("https://lab-1:8443", "/etc/lab/cert.pem")
    RuntimeCredentials().save("embedded", overwrite=True)


def test_every_deployment_deploys_and_a_newcomer_is_not_flooded(deployed: dict[str, DeploymentResponse]) -> None:
    assert deployed.keys() == {entry["name"] for entry in YAML["deployments"]}
    active = []
    for deployment in deployed.values():
        assert deployment.work_pool_name == "process"
        assert deployment.parameters["credentials"] == "embedded"
        assert "run-again-if-lost" in deployment.tags
        for schedule in deployment.schedules:
            assert schedule.schedule.timezone == YAML["definitions"]["time_zone"]
            if schedule.active:
                active.append(schedule)
    assert len(active) <= 2
    for schedule in active:
        minute, hour, *days = schedule.schedule.cron.split()  # type: ignore[union-attr]
        assert minute.isdecimal() and hour.isdecimal(), "no more often than once a day"
        assert len(days) == 3


def test_a_deployment_runs_under_a_worker(
    deployed: dict[str, DeploymentResponse], service: RuntimeService, tmp_path: Path
) -> None:
    with running_worker("process", folder=tmp_path):
        flow_run = start(deployed["bell-state"].id)
        in_state(flow_run, "Completed")
    (job_id,) = jobs_of(service, flow_run)
    assert service.client.job(job_id).backend == deployed["bell-state"].parameters["backend"]


def test_the_flows_are_served_by_one_process_without_a_worker(service: RuntimeService, tmp_path: Path) -> None:
    flows = {Path(path).stem for path in (PROJECT / "flows").glob("*.py")}
    with serving(tmp_path) as served:
        found = eventually(lambda: ready(served, len(flows) + 1), seconds=PATIENCE_SECONDS, what="all that is served")
        entrypoints = {str(one.entrypoint) for one in found}
        assert entrypoints == {f"flows/{name}.py:{name}" for name in flows} | {"prefect_runtime.deferral.watch_jobs"}
        bell = next(one for one in found if "bell_state" in str(one.entrypoint))
        flow_run = start(bell.id)
        in_state(flow_run, "Completed")
    assert len(jobs_of(service, flow_run)) == 1


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `serve.py`, from a folder that is none of the project's."""
    with sinks.log(folder / "serve.log", "serve.py"), (folder / "serve.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, DEPLOYMENTS / "serve.py"],
            cwd=folder,
            env=os.environ | {"PREFECT_RUNNER_POLL_FREQUENCY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        try:
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(15)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def ready(process: subprocess.Popen[bytes], count: int) -> list[DeploymentResponse]:
    """Return the deployments that are served, once there are so many."""
    assert process.poll() is None, "serve.py has ended"
    with get_client(sync_client=True) as client:
        served = [one for one in client.read_deployments() if one.name == "served"]
    return served if len(served) >= count else []


def start(deployment: UUID) -> UUID:
    """Have a flow run of a deployment scheduled and return its id."""
    with get_client(sync_client=True) as client:
        flow_run: FlowRun = client.create_flow_run_from_deployment(deployment)
    return flow_run.id
