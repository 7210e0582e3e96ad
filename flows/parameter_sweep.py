"""A sweep over two angles, three ways: one job with a broadcast PUB, a batch of jobs, mapped over backends.

    python flows/parameter_sweep.py

The cheap way comes first: all points in one PUB are one job, transpiled once and queued once. A batch is for jobs that
are all there at once and go to one backend; `.map` is for the same work on several backends. What each way costs in QPU
seconds stands in a table artifact, and the points in a heat map (extra `plots`).

    parameter_sweep(task_runner="dask")        # the mapped way on a Dask cluster (extra `dask`)
    parameter_sweep("my-block", backend="least_busy", backends=("ibm_x", "ibm_y"))

What is swept: the halves of a Bell pair, each measured at an angle of its own. Their correlation is cos(a - b), and the
sum S of four of them passes 2, which nothing classical does (the CHSH inequality); √8 = 2.83 is the most there is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from prefect import flow, unmapped
from prefect.artifacts import create_table_artifact
from prefect.runtime import flow_run
from prefect.task_runners import TaskRunner, ThreadPoolTaskRunner
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from prefect_runtime import (
    fetch_result,
    find_jobs,
    plots,
    run_estimator,
    runtime_batch,
    wait_for_final_state,
    wait_for_jobs,
)

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from numpy.typing import NDArray

POINTS_PER_45_DEGREES = 2
ANGLES = np.linspace(0, np.pi, 4 * POINTS_PER_45_DEGREES + 1)
GRID = np.stack(np.meshgrid(ANGLES, ANGLES, indexing="ij"), axis=-1)
"""All pairs of angles: shape (9, 9, 2). A PUB takes them as they are, and its result has the shape (9, 9)."""


def bell_pair() -> QuantumCircuit:
    """Return a Bell pair whose qubits are turned by the angles `a` and `b`."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.ry(Parameter("a"), 0)
    circuit.ry(Parameter("b"), 1)
    return circuit


def chsh(correlations: NDArray[np.float64]) -> float:
    """Return S, from the correlations at a = 0° and 90°, b = 45° and 135°."""
    at = POINTS_PER_45_DEGREES
    return float(correlations[[0, 2 * at, 2 * at], [at, at, 3 * at]].sum() - correlations[0, 3 * at])


def heat_maps(correlations: Mapping[str, NDArray[np.float64]]) -> Figure:
    """Draw the correlation over both angles, a panel for each way."""
    titles = [f"{where}: S = {chsh(values):.2f}" for where, values in correlations.items()]
    figure, row = plots.panels(titles, "angle b (degrees)", "angle a (degrees)")
    for axes, values in zip(row, correlations.values(), strict=True):
        image = axes.pcolormesh(np.degrees(ANGLES), np.degrees(ANGLES), values, cmap="RdBu", vmin=-1, vmax=1)
        axes.set_xticks([0, 45, 90, 135, 180])
        axes.set_yticks([0, 45, 90, 135, 180])
        axes.set_aspect("equal")
    figure.colorbar(image, ax=row, label="correlation of the two halves")
    return figure


def runner(name: Literal["threads", "dask"]) -> TaskRunner[Any]:
    """Return the task runner of that name."""
    if name == "threads":
        return ThreadPoolTaskRunner()
    import dask
    from prefect_dask.task_runners import DaskTaskRunner

    # A worker's profiler can freeze CPython 3.11 for good (python/cpython#106883).
    dask.config.set({"distributed.worker.profile.enabled": False})
    return DaskTaskRunner(cluster_kwargs={"n_workers": 2, "threads_per_worker": 2, "dashboard_address": ":0"})


@flow(name="Sweep on each backend")
def sweep_on(credentials: str, backends: tuple[str, ...], precision: float) -> dict[str, str]:
    """Run the whole sweep on each backend, at once; returns the jobs' ids by backend."""
    pubs = [(bell_pair(), "ZZ", GRID)]
    jobs = run_estimator.map(credentials, unmapped(pubs), backend=backends, precision=precision)
    wait_for_final_state.map(credentials, jobs).wait()
    return {name: str(job) for name, job in zip(backends, jobs.result(), strict=True)}


def correlations_of(credentials: str, jobs: Sequence[str]) -> NDArray[np.float64]:
    """Return the correlations at all angles, shape (9, 9), from one job or from a job for each row."""
    results = [fetch_result(credentials, job)[0].data.evs for job in jobs]
    return np.reshape(results, GRID.shape[:2])


def tell_costs(
    credentials: str, ways: Mapping[str, Sequence[str]], correlations: Mapping[str, NDArray[np.float64]]
) -> dict[str, float]:
    """Print what each way has cost, keep it as a table artifact, and return the QPU seconds."""
    found = find_jobs(credentials, flow_run_id=flow_run.root_flow_run_id, limit=None)
    seconds = {job["job_id"]: job["usage_seconds"] or 0.0 for job in found}
    costs = {way: sum(seconds[job] for job in jobs) for way, jobs in ways.items()}
    table: list[dict[str, Any]] = [
        {"way": way, "jobs": len(jobs), "QPU seconds": round(costs[way], 2), "S": round(chsh(correlations[way]), 3)}
        for way, jobs in ways.items()
    ]
    create_table_artifact(table, key="parameter-sweep-costs", description="What each way of the sweep has cost")
    for row in table:
        print("{way:>20}: {jobs:>2} jobs, {QPU seconds:6.2f} QPU seconds, S = {S:.2f}".format(**row))
    return costs


@flow(name="Parameter sweep")
def parameter_sweep(
    credentials: str = "local",
    backend: str | None = None,
    backends: tuple[str, ...] = ("generic_5q", "generic_27q"),
    precision: float = 0.02,
    task_runner: Literal["threads", "dask"] = "threads",
) -> dict[str, float]:
    """Sweep two angles in three ways, and return the QPU seconds of each.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        backend: Backend for the one job and the batch; the block's own choice if None.
        backends: Backends to map over.
        precision: Standard error of each correlation.
        task_runner: What maps: threads of this process, or Dask.
    """
    circuit = bell_pair()
    one = run_estimator(credentials, [(circuit, "ZZ", GRID)], backend=backend, precision=precision)
    with runtime_batch(credentials, backend=backend, max_ttl=3600) as batch:
        where = {"backend": batch.backend, "session_id": batch.session_id}
        rows = [run_estimator(credentials, [(circuit, "ZZ", row)], precision=precision, **where) for row in GRID]
    wait_for_jobs(credentials, [one, *rows])
    mapped = sweep_on.with_options(task_runner=runner(task_runner))(credentials, backends, precision)

    ways = {"one job": [one], "a batch": rows, **{f"mapped: {name}": [job] for name, job in mapped.items()}}
    correlations = {way: correlations_of(credentials, jobs) for way, jobs in ways.items()}
    with plots.Picture("parameter-sweep", "Correlation of a Bell pair over the angles of both halves") as picture:
        picture.draw(heat_maps, correlations)
    return tell_costs(credentials, ways, correlations)


if __name__ == "__main__":
    parameter_sweep()
