"""The main job: a Bell pair, from a Prefect flow to counts.

    python flows/bell_state.py

Runs on the embedded runtime, which starts by itself; for another one save a `RuntimeCredentials` block and give its
name: `bell_state(credentials="my-block", backend="least_busy")`. Each step is a task, so that each shows on the flow
run's page, and the job's card shows there too, under Artifacts.
"""

from __future__ import annotations

from prefect import flow
from prefect.logging import get_run_logger
from qiskit import QuantumCircuit

from prefect_runtime import fetch_logs, fetch_result, run_sampler, stream_results, wait_for_final_state


def bell_circuit() -> QuantumCircuit:
    """Return the circuit: two qubits that always agree."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@flow(name="Bell state")
def bell_state(credentials: str = "local", shots: int = 1000, backend: str | None = None) -> dict[str, int]:
    """Measure a Bell pair and return the counts.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        shots: Repetitions.
        backend: Backend to run on; the block's own choice if None.
    """
    job_id = run_sampler(credentials, [bell_circuit()], shots=shots, backend=backend)
    stream_results(credentials, job_id)
    wait_for_final_state(credentials, job_id)
    result = fetch_result(credentials, job_id)
    log = fetch_logs(credentials, job_id)
    counts = dict(sorted(result[0].data.meas.get_counts().items()))
    get_run_logger().info("Job %s: %s; %d characters of log", job_id, counts, len(log))
    print(f"Job {job_id}: {counts}")
    return counts


if __name__ == "__main__":
    bell_state()
