"""How the backends are: queue, status, calibration, and how often a mirror circuit comes back as it should.

    python flows/backend_health.py

For a schedule (deployments/ has one). Each run adds a version of the table artifact `backend-health-<credentials>`, so
the history is in Prefect itself, whichever worker runs the flow; the trend is an image artifact beside it (extra
`plots`), and the table is a Prefect asset.

Drift: each number of a backend is compared with the last 30 runs' by a prediction interval: with their mean m and
standard deviation s, t = (x - m) / (s √(1 + 1/n)) follows Student's t with n - 1 degrees of freedom. The limit is such
that all numbers of a run together give a false alarm in one run of a hundred (Bonferroni). s is taken to be at least
what one cannot tell apart: the binomial error of the shots, or 5 % of a calibration number. It needs five runs first;
what stays as it has become is the new normal after some more.

What drifts is an event, `prefect-runtime.backend.drifted` on the resource `prefect-runtime.backend.<name>`, for an
automation to act on: pause a deployment, tell somebody, run the calibration.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from statistics import mean, median, stdev
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import flow, task, unmapped
from prefect.artifacts import create_table_artifact
from prefect.assets import materialize
from prefect.cache_policies import NO_CACHE
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort
from prefect.events import emit_event
from prefect.logging import get_run_logger
from prefect.runtime import flow_run
from qiskit import QuantumCircuit
from qiskit.primitives import PrimitiveResult
from qiskit.quantum_info import StabilizerState
from scipy.stats import t as student

from prefect_runtime import fetch_result, plots, run_sampler
from prefect_runtime.blocks import load_credentials
from prefect_runtime.wire.errors import BackendNotFoundError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Row = dict[str, Any]
NUMBERS = ("success", "T1 (µs)", "readout error", "two-qubit error")
"""What is watched for drift."""

FEWEST_RUNS, MOST_RUNS = 5, 30
LEAST_CHANGE = 0.05  # of a calibration number: a smaller one is of no interest


def mirror_circuit(qubits: int, depth: int) -> tuple[QuantumCircuit, str]:
    """Return a circuit that undoes itself up to a Pauli in its middle, and the one outcome it has without errors.

    Source: Proctor et al., Nature Physics 18, 75 (2022). Barriers keep a compiler from undoing it as well.
    """
    draw = np.random.default_rng(7)  # the same circuit in every run
    half = QuantumCircuit(qubits)
    for layer in range(depth):
        for qubit in range(qubits):
            getattr(half, draw.choice(["h", "s", "sx", "sdg"]))(qubit)
        for qubit in range(layer % 2, qubits - 1, 2):
            half.cx(qubit, qubit + 1)
        half.barrier()
    circuit = half.copy()
    for qubit in range(qubits):
        getattr(circuit, draw.choice(["id", "x", "y", "z"]))(qubit)
    circuit.barrier()
    circuit.compose(half.inverse(), inplace=True)
    (outcome,) = StabilizerState(circuit).probabilities_dict()
    circuit.measure_all()
    return circuit, outcome


def calibration(properties: Mapping[str, Any] | None) -> dict[str, float]:
    """Return the medians of a backend's calibration; nothing for one that has none."""
    if not properties:
        return {}
    qubits = [{entry["name"]: entry["value"] for entry in qubit} for qubit in properties["qubits"]]
    pairs = [gate["parameters"] for gate in properties["gates"] if len(gate["qubits"]) == 2]
    errors = [entry["value"] for parameters in pairs for entry in parameters if entry["name"] == "gate_error"]
    return {
        "T1 (µs)": median(qubit["T1"] for qubit in qubits),
        "readout error": median(qubit["readout_error"] for qubit in qubits),
        "two-qubit error": median(errors),
    }


def p_value(now: float, before: Sequence[float], least_spread: float) -> float:
    """Return how likely a number this far from the earlier ones is if nothing has changed: the test stated above."""
    spread = max(stdev(before), least_spread)
    t = (now - mean(before)) / (spread * math.sqrt(1 + 1 / len(before)))
    return float(2 * student.sf(abs(t), len(before) - 1))


def drifted(row: Row, before: Sequence[Row], shots: int, limit: float) -> list[str]:
    """Return the numbers of a backend that have drifted, given its rows of earlier runs."""
    found = []
    for name in NUMBERS:
        values = [earlier[name] for earlier in before if earlier.get(name) is not None]
        if row.get(name) is None or len(values) < FEWEST_RUNS:
            continue
        middle = mean(values)
        binomial = math.sqrt(max(middle * (1 - middle), 1 / shots) / shots) if name == "success" else 0.0
        if p_value(row[name], values, binomial or LEAST_CHANGE * abs(middle)) < limit:
            found.append(f"{name} {middle:.3g} → {row[name]:.3g}")
    return found


@task(cache_policy=NO_CACHE)
def look(credentials: str, names: Sequence[str] | None) -> list[Row]:
    """Return what the runtime says of its backends: a row each."""
    with load_credentials(credentials).get_client() as service:
        backends = [backend for backend in service.backends() if names is None or backend.name in names]
        return [
            {
                "backend": backend.name,
                "operational": backend.status is not None and backend.status.operational,
                "queue": backend.status.pending_jobs if backend.status else None,
                "qubits": backend.num_qubits,
                **calibration(service.backend(backend.name).properties),
            }
            for backend in backends
        ]


def earlier_runs(key: str) -> list[tuple[datetime, list[Row]]]:
    """Return the tables of earlier runs, the oldest first: the versions of the artifact with that key."""
    with get_client(sync_client=True) as client:
        versions = client.read_artifacts(
            artifact_filter=ArtifactFilter(key=ArtifactFilterKey(any_=[key])),
            sort=ArtifactSort.CREATED_DESC,
            limit=MOST_RUNS,
        )
    # A run that is executed again does not compare itself with itself.
    others = [version for version in reversed(versions) if str(version.flow_run_id) != flow_run.id]
    return [(version.created, json.loads(str(version.data))) for version in others if version.created]


def trend(runs: Sequence[tuple[datetime, list[Row]]]) -> Figure:
    """Draw each backend's success probability over time, with a ring around what has drifted."""
    figure, axes = plots.axes("How often the mirror circuit comes back right", "time (UTC)", "success probability")
    rows = [(when, row) for when, table in runs for row in table if row.get("success") is not None]
    for name in sorted({row["backend"] for _, row in rows}):
        of_one = [(when, row["success"]) for when, row in rows if row["backend"] == name]
        axes.plot(*zip(*of_one, strict=True), "o-", markersize=4, label=name)
    flagged = [(when, row["success"]) for when, row in rows if row["drift"]]
    if flagged:
        axes.plot(*zip(*flagged, strict=True), "o", markersize=12, fillstyle="none", color="crimson", label="drift")
    axes.tick_params(axis="x", labelrotation=30)
    axes.legend()
    return figure


@materialize("quantum://local/backend-health", cache_policy=NO_CACHE)
def keep(key: str, rows: list[Row]) -> None:
    """Keep this run's table: a version of the artifact, and of the asset."""
    create_table_artifact(rows, key=key, description="The runtime's backends, and what has drifted")


@flow(name="Backend health")
def backend_health(
    credentials: str = "local",
    backends: tuple[str, ...] | None = None,
    qubits: int = 4,
    depth: int = 8,
    shots: int = 2000,
    timeout: float = 3600,
    false_alarms: float = 0.01,
) -> list[Row]:
    """Look at the backends, run a mirror circuit on each, and flag what has drifted.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        backends: Names of the backends; all of the account if None. Each gets one job.
        qubits: Width of the mirror circuit.
        depth: Layers of its first half.
        shots: Repetitions on each backend.
        timeout: Seconds to wait for a backend; then its job is cancelled.
        false_alarms: Probability that a run flags something although nothing has changed.
    """
    logger, key = get_run_logger(), f"backend-health-{credentials}"
    rows, runs = look(credentials, backends), earlier_runs(key)
    if not rows:
        raise BackendNotFoundError(f"None of these backends is there: {', '.join(backends or ()) or 'any'}.")
    circuit, outcome = mirror_circuit(qubits, depth)

    open_rows = [row for row in rows if row["operational"]]
    names = [row["backend"] for row in open_rows]
    jobs = run_sampler.map(credentials, unmapped([circuit]), backend=names, shots=shots)
    results = fetch_result.map(credentials, jobs, timeout=timeout, on_timeout="cancel").result(raise_on_failure=False)
    for row, result in zip(open_rows, results, strict=True):
        if isinstance(result, PrimitiveResult):
            row["success"] = result[0].data.meas.get_counts().get(outcome, 0) / shots

    limit = false_alarms / (len(rows) * len(NUMBERS))
    for row in rows:
        before = [old for _, table in runs for old in table if old["backend"] == row["backend"]]
        changes = drifted(row, before, shots, limit)
        row["drift"] = "; ".join(changes)
        if changes:
            logger.warning("Backend %s has drifted: %s", row["backend"], row["drift"])
            emit_event(
                "prefect-runtime.backend.drifted",
                resource={"prefect.resource.id": f"prefect-runtime.backend.{row['backend']}"},
                payload=row,
            )
    with plots.Picture(f"{key}-trend", "Success probability of the mirror circuit, run by run") as picture:
        picture.draw(trend, [*runs, (datetime.now(UTC), rows)])
    keep.with_options(assets=[f"quantum://{credentials}/backend-health"])(key, rows)
    return rows


if __name__ == "__main__":
    for health in backend_health():
        print(health)
