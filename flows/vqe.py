"""A hybrid loop as an uploaded program: the ground energy of the hydrogen molecule, watched while it is found.

    python flows/vqe.py

The loop (`programs/vqe_program.py`) runs next to the backend: one job, no round trip for each step. Its interim results
move a progress artifact and draw the convergence while it runs (the picture needs the extra `plots`). The energy is
compared with the exact one, and the flow fails if it is further away than `bound`.

Uploaded programs are for the embedded runtime and the classic channel; IBM Quantum Platform takes none any more.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from prefect import flow, task
from prefect.cache_policies import NO_CACHE
from prefect.logging import get_run_logger
from qiskit.quantum_info import SparsePauliOp

from prefect_runtime import fetch_logs, fetch_result, iter_results, plots, run_program, wait_for_final_state
from prefect_runtime.blocks import load_credentials
from prefect_runtime.wire.errors import RuntimeDuplicateProgramError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PROGRAM = Path(__file__).parent / "programs" / "vqe_program.py"

HYDROGEN = {"II": -1.0523732, "IZ": 0.3979374, "ZI": -0.3979374, "ZZ": -0.0112801, "XX": 0.1809312}
"""Electrons of H₂ at 0.735 Å in hartree, STO-3G basis, parity mapping with two qubits tapered off."""


def exact_energy(hamiltonian: dict[str, float]) -> float:
    """Return the lowest eigenvalue, in the Hamiltonian's unit."""
    matrix = SparsePauliOp.from_list(list(hamiltonian.items())).to_matrix()
    return float(np.linalg.eigvalsh(matrix)[0])


@task(cache_policy=NO_CACHE)
def upload(credentials: str) -> str:
    """Return the id of the program, uploaded once for each version of its source."""
    name = f"vqe-{hashlib.sha256(PROGRAM.read_bytes()).hexdigest()[:12]}"
    with load_credentials(credentials).get_client() as service:
        try:
            metadata = {"name": name, "description": "Ground energy of a Hamiltonian.", "max_execution_time": 1800}
            return service.upload_program(PROGRAM, metadata)
        except RuntimeDuplicateProgramError:
            return next(program.id for program in service.programs() if program.name == name)


def convergence(steps: Sequence[dict[str, Any]], exact: float) -> Figure:
    """Draw the energy of each step so far."""
    figure, axes = plots.axes("Energy of H₂, as the job finds it", "step", "energy (hartree)")
    energies, errors = [step["energy"] for step in steps], [step["error"] for step in steps]
    axes.errorbar([step["iteration"] for step in steps], energies, errors, fmt="o-", capsize=3, label="measured")
    axes.axhline(exact, color="black", linestyle="--", label=f"exact ground energy, {exact:.4f}")
    axes.set_xlim(0.5, steps[-1]["total"] + 0.5)
    axes.legend()
    return figure


@flow(name="VQE")
def vqe(
    credentials: str = "local",
    backend: str | None = None,
    sweeps: int = 4,
    precision: float = 0.02,
    bound: float = 0.01,
    seed: int = 4,
) -> float:
    """Find the ground energy of H₂, in hartree.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        backend: Backend to run on; the block's own choice if None.
        sweeps: How often each of the four angles is set.
        precision: Standard error of an energy on the way, in hartree.
        bound: How far from the exact energy the result may be. The default is more than five standard errors of the
            result on an ideal backend; noise adds to it: about 0.02 on generic_5q.
        seed: Of the angles to start from.
    """
    logger, exact = get_run_logger(), exact_energy(HYDROGEN)
    inputs = {"hamiltonian": HYDROGEN, "sweeps": sweeps, "precision": precision, "seed": seed}
    job_id = run_program(credentials, upload(credentials), inputs, backend=backend)

    steps: list[dict[str, Any]] = []
    with plots.Picture("vqe-convergence", "Energy of H₂ after each step of the job") as picture:
        for step in iter_results(credentials, job_id):
            steps.append(step)
            picture.draw(convergence, steps, exact)

    wait_for_final_state(credentials, job_id)
    result = fetch_result(credentials, job_id)
    fetch_logs(credentials, job_id)
    energy = float(result["energy"])
    logger.info("Energy %.4f ± %.4f, exact %.4f: %.4f away", energy, result["error"], exact, abs(energy - exact))
    if abs(energy - exact) > bound:
        raise ValueError(f"{energy:.4f} is more than {bound:g} hartree from the exact {exact:.4f}")
    print(f"Job {job_id}: {energy:.4f} hartree after {len(steps)} steps; exact: {exact:.4f}")
    return energy


if __name__ == "__main__":
    vqe()
