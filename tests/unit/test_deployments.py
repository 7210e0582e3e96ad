"""What deployments/ says of flows/ is true, in all of its files."""

from __future__ import annotations

import ast
import runpy
from pathlib import Path
from typing import Any

import pytest
import yaml

from prefect_runtime.cli.automation import resuming_automation
from prefect_runtime.events import RESUMING

PROJECT = Path(__file__).parents[2]
DEPLOYMENTS = PROJECT / "deployments"
FLOWS = sorted((PROJECT / "flows").glob("*.py"))
YAML: dict[str, Any] = yaml.safe_load((DEPLOYMENTS / "prefect.yaml").read_text())
BY_FLOW = {entry["entrypoint"]: entry for entry in YAML["deployments"]}


def entrypoint(flow: Path) -> str:
    return f"flows/{flow.name}:{flow.stem}"


def constant(file: str, name: str) -> Any:
    """Return the value of a constant of a script, which is not run for that."""
    for statement in ast.parse((DEPLOYMENTS / file).read_text()).body:
        if isinstance(statement, ast.Assign) and ast.unparse(statement.targets[0]) == name:
            return ast.literal_eval(statement.value)
    raise AssertionError(f"{file} has no {name}")


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.stem)
def test_every_flow_has_a_deployment_with_parameters_that_it_takes(flow: Path) -> None:
    deployment = BY_FLOW[entrypoint(flow)]
    (function,) = (
        statement
        for statement in ast.parse(flow.read_text()).body
        if isinstance(statement, ast.FunctionDef) and statement.name == flow.stem
    )
    taken = {argument.arg for argument in (*function.args.args, *function.args.kwonlyargs)}
    assert set(deployment["parameters"]) <= taken
    assert deployment["description"]


def test_the_same_flows_are_served_at_the_same_times() -> None:
    served = constant("serve.py", "SCHEDULES")
    assert served.keys() == {flow.stem for flow in FLOWS}
    active = {
        name: [
            schedule["cron"]
            for schedule in BY_FLOW[f"flows/{name}.py:{name}"].get("schedules", [])
            if schedule["active"]
        ]
        for name in served
    }
    assert {name: [cron] if cron else [] for name, cron in served.items()} == active
    assert constant("serve.py", "TIME_ZONE") == YAML["definitions"]["time_zone"]


def test_every_queue_is_one_that_register_makes_and_its_backend_is_the_flows() -> None:
    backends = constant("register.py", "BACKENDS")
    for deployment in YAML["deployments"]:
        queue = deployment["work_pool"]["work_queue_name"]
        assert queue in backends or queue == "default"
        assert deployment["parameters"].get("backend", "default") == queue


def test_the_containers_use_files_and_secrets_that_there_are() -> None:
    compose = yaml.safe_load((DEPLOYMENTS / "compose.yaml").read_text())
    used = [secret for service in compose["services"].values() for secret in service.get("secrets", [])]
    assert set(used) == compose["secrets"].keys()
    for name, service in compose["services"].items():
        text = str(service)
        mentioned = {secret for secret in compose["secrets"] if f"/run/secrets/{secret}" in text.replace("'", " ")}
        assert mentioned <= set(service.get("secrets", [])), name
    dockerfile = (DEPLOYMENTS / "Dockerfile").read_text()
    copied = [line.split()[1:-1] for line in dockerfile.splitlines() if line.startswith("COPY")]
    assert copied
    assert all((PROJECT / source).exists() for sources in copied for source in sources)


def test_a_rule_that_a_server_gives_back_in_another_order_has_not_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DEPLOYMENTS))
    content = runpy.run_path(str(DEPLOYMENTS / "register.py"))["_content"]
    assert content(resuming_automation())["trigger"]["expect"] == set(RESUMING), "of sets, only sets can be compared"
