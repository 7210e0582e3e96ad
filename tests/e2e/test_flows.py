"""What people copy, run as people run it: each file of flows/ as a script, and again where it is to notice something.

False alarms by chance: vqe's bound is more than five standard errors (below 1e-6), nightly_regression's limit is 1e-6,
random_numbers' below 1e-7, backend_health is only asked whether it flags what has been made worse.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from uuid import UUID

import nightly_regression
import parameter_sweep
import pyarrow.parquet
import pytest
from prefect.artifacts import create_table_artifact
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import Artifact, FlowRun
from prefect.flows import flow

from prefect_runtime.client import RuntimeService
from prefect_runtime.local.backends import describe

from .support import PROJECT, artifacts, eventually, jobs_of, log_lines, run_id

pytestmark = [pytest.mark.pr, pytest.mark.timeout(300)]

FLOWS = ("vqe", "parameter_sweep", "backend_health", "nightly_regression", "random_numbers")
SECONDS = 240  # for five scripts at once on a busy machine; each takes a few alone


class Script:
    """A Python process in a folder of its own, against the tests' Prefect server."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, *arguments],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": str(PROJECT / "flows")},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.folder = folder

    def end(self) -> None:
        """Wait for its end, which must be a good one."""
        self.stdout, self.stderr = self.process.communicate(timeout=SECONDS)
        assert self.process.returncode == 0, self.stderr

    @property
    def run(self) -> FlowRun:
        """The flow run that it was."""
        named = re.search(r"Beginning flow run '([\w-]+)'", self.stderr)
        assert named is not None, self.stderr
        with get_client(sync_client=True) as client:
            (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[named[1]])))
        return run


@pytest.fixture(scope="module")
def scripts(prefect_settings: None, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Script]:
    """`python flows/x.py` of each, all at once."""
    started = {name: Script(tmp_path_factory.mktemp(name), str(PROJECT / "flows" / f"{name}.py")) for name in FLOWS}
    for script in started.values():
        script.end()
    return started


def kept(flow_run_id: UUID, kind: str) -> list[Artifact]:
    """Return the artifacts of a kind that a flow run has left."""
    return [artifact for artifact in artifacts(flow_run_id) if artifact.type == kind]


def table(flow_run_id: UUID, key: str) -> list[dict[str, object]]:
    """Return the rows of a flow run's table."""
    (found,) = [artifact for artifact in kept(flow_run_id, "table") if artifact.key == key]
    rows: list[dict[str, object]] = json.loads(str(found.data))
    return rows


def is_png(artifact: Artifact) -> bool:
    return str(artifact.data).startswith("data:image/png;base64,iVBORw0KGgo") and len(str(artifact.data)) > 10_000


@pytest.mark.parametrize(
    ("name", "jobs", "pictures"),
    [
        ("vqe", 1, {"vqe-convergence"}),
        ("parameter_sweep", 12, {"parameter-sweep"}),
        ("backend_health", 4, {"backend-health-local-trend"}),
        ("nightly_regression", 1, set()),
        ("random_numbers", 1, set()),
    ],
)
def test_each_runs_as_a_script_with_one_job_a_request_and_its_pictures(
    name: str, jobs: int, pictures: set[str], scripts: dict[str, Script], service: RuntimeService
) -> None:
    run = scripts[name].run
    assert run.state is not None and run.state.is_completed()
    assert len(set(jobs_of(service, run.id))) == jobs
    images = kept(run.id, "image")
    assert {image.key for image in images} == pictures
    assert len(images) == len(pictures) and all(map(is_png, images))
    assert "base64" not in scripts[name].stdout + scripts[name].stderr
    assert not [line for line in log_lines(run.id, until="") if "base64" in line]


def test_vqe_ends_near_the_exact_energy_after_steps_that_were_watched(scripts: dict[str, Script]) -> None:
    script = scripts["vqe"]
    found = re.search(r"(-1\.\d+) hartree after 16 steps; exact: (-1\.\d+)", script.stdout)
    assert found is not None, script.stdout
    assert float(found[2]) == pytest.approx(-1.857275, abs=1e-4)  # 10.1103/PhysRevX.6.031007, its electrons alone
    assert float(found[1]) == pytest.approx(float(found[2]), abs=0.01)
    (progress,) = kept(script.run.id, "progress")
    assert progress.data == 100


def test_vqe_fails_where_the_energy_is_out_of_its_bound(scripts: dict[str, Script]) -> None:
    import vqe

    state = vqe.vqe(sweeps=1, precision=0.1, bound=0.001, seed=6, return_state=True)  # one sweep from far away
    assert state.is_failed()
    assert "more than 0.001 hartree" in str(state.message)


def test_the_sweeps_ways_agree_and_have_their_costs(scripts: dict[str, Script]) -> None:
    rows = table(scripts["parameter_sweep"].run.id, "parameter-sweep-costs")
    assert [(row["way"], row["jobs"]) for row in rows] == [
        ("one job", 1),
        ("a batch", 9),
        ("mapped: generic_5q", 1),
        ("mapped: generic_27q", 1),
    ]
    assert all(float(str(row["QPU seconds"])) > 0 for row in rows)
    # Four correlations of a standard error of 0.02: 0.25 is six of theirs. The noisy ones have lost some of it.
    assert [float(str(row["S"])) for row in rows[:2]] == pytest.approx([8**0.5] * 2, abs=0.25)
    assert all(2.2 < float(str(row["S"])) < 3.0 for row in rows[2:])


def test_the_sweep_maps_on_dask_by_one_argument(service: RuntimeService) -> None:
    state = parameter_sweep.parameter_sweep(
        backends=("generic_5q", "aer_simulator"), precision=0.1, task_runner="dask", return_state=True
    )
    assert {"mapped: generic_5q", "mapped: aer_simulator"} < set(state.result())
    assert len(set(jobs_of(service, run_id(state)))) == 12


def test_health_of_no_backend_says_so() -> None:
    import backend_health

    state = backend_health.backend_health(backends=("no-such",), return_state=True)
    assert "None of these backends is there: no-such." in str(state.message)


def test_health_flags_a_backend_whose_calibration_has_become_worse(
    scripts: dict[str, Script], service: RuntimeService, tmp_path: Path
) -> None:
    rows = [
        row for row in table(scripts["backend_health"].run.id, "backend-health-local") if row["backend"] == "generic_5q"
    ]
    assert rows[0]["drift"] == ""

    for_health = "from backend_health import *; RuntimeCredentials().save('week', overwrite=True)"
    call = "print(backend_health('week', backends=('generic_5q',), shots=2000)[0]['drift'])"
    program = f"from prefect_runtime import RuntimeCredentials; {for_health}; {call}"
    for _ in range(6):  # each day a run of its own, as the history counts them
        a_day(rows)
    while _two_qubit_error(service.client.recalibrate()) < 1.5 * float(str(rows[0]["two-qubit error"])):
        pass
    script = Script(tmp_path, "-c", program)
    script.end()
    assert "two-qubit error" in script.stdout
    assert "Backend generic_5q has drifted: " in script.stderr
    about = ["prefect-runtime.backend.generic_5q", "quantum://week/backend-health"]
    assert eventually(lambda: _events_about(about), what="both events") == [
        "prefect-runtime.backend.drifted",
        "prefect.asset.materialization.succeeded",
    ]


@flow
def a_day(rows: list[dict[str, object]]) -> None:
    """Leave what a run of the day before would have left."""
    create_table_artifact(rows, key="backend-health-week")


def _events_about(resources: list[str]) -> list[str]:
    """Return the events of these resources, once there is one of each."""
    wanted = {"filter": {"resource": {"id": resources}, "order": "ASC"}, "limit": 50}
    with get_client(sync_client=True) as client:
        found = client.request("POST", "/events/filter", json=wanted).json()["events"]
    return [event["event"] for event in found] if len(found) >= len(resources) else []


def _two_qubit_error(calibration: int) -> float:
    properties = describe("generic_5q", calibration=calibration)["properties"]
    errors = [
        entry["value"]
        for gate in properties["gates"]
        if len(gate["qubits"]) == 2
        for entry in gate["parameters"]
        if entry["name"] == "gate_error"
    ]
    return float(sorted(errors)[len(errors) // 2])


def test_a_night_with_another_expectation_fails_and_leaves_its_table(tmp_path: Path) -> None:
    stored = json.loads(nightly_regression.EXACT.read_text())
    stored["probabilities"]["coin"] = {"0": 0.67, "1": 0.33}  # ten points off: fourteen standard errors of 4000 shots
    path = tmp_path / "expectations.json"
    path.write_text(json.dumps(stored))
    state = nightly_regression.nightly_regression(expectations=str(path), return_state=True)
    assert state.is_failed()
    assert "1 of 4 circuits have drifted: coin" in str(state.message)
    verdicts = {row["circuit"]: row["verdict"] for row in table(run_id(state), "nightly-regression")}
    assert verdicts == {"ghz": "as expected", "grover": "as expected", "hidden bits": "as expected", "coin": "drift"}


def test_a_noisy_backend_is_held_against_what_it_gave_before(tmp_path: Path) -> None:
    path = str(tmp_path / "generic_5q.json")
    nightly_regression.nightly_regression(backend="generic_5q", expectations=path, record=True)
    rows = nightly_regression.nightly_regression(backend="generic_5q", expectations=path)
    assert [row["verdict"] for row in rows] == ["as expected"] * 4


def test_the_random_numbers_are_in_the_file_with_their_jobs_id(
    scripts: dict[str, Script], service: RuntimeService
) -> None:
    script = scripts["random_numbers"]
    (path,) = script.folder.glob("random-numbers/*.parquet")
    (job_id,) = jobs_of(service, script.run.id)
    numbers = pyarrow.parquet.read_table(path)
    assert path.stem == job_id
    assert numbers.schema.metadata == {b"job_id": job_id.encode()}
    assert str(numbers.schema.field("number").type) == "uint32"
    # A quarter of 65536 bits, each pair with probability 1/2: 512 numbers, one standard deviation is 3.
    assert 490 < numbers.num_rows < 534
    assert len(set(numbers["number"].to_pylist())) > numbers.num_rows - 3
    assert "Monobit p" in str(next(a for a in kept(script.run.id, "markdown") if a.key == "random-numbers").data)
