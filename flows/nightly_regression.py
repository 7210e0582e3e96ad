"""A set of circuits against stored expectations: fails when a backend no longer gives what it gave.

    python flows/nightly_regression.py

For a schedule (deployments/ has one). The expectations are a JSON file beside the code, so that accepting new ones is a
commit: exact probabilities (`nightly_regression.json`, for an ideal backend), or the counts of a run that was accepted
(for a noisy one: `nightly_regression("my-block", "ibm_x", expectations="ibm_x.json", record=True)` writes the file).

The test: for each circuit a G-test, of the counts against the probabilities or against the recorded counts; G follows
chi-square with one degree of freedom less than there are outcomes. Outcomes that are expected fewer than 10 times are
taken together; one that is impossible and came is drift for certain. Threshold: p < 1e-6 / circuits (Bonferroni), so
that a night has a false alarm once in a million. G, not Pearson's sum, because its tail holds that far.

All circuits are PUBs of one job. The report is a table artifact, also when the flow fails.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from prefect import flow
from prefect.artifacts import create_table_artifact
from qiskit import QuantumCircuit
from scipy.special import xlogy
from scipy.stats import chi2

from prefect_runtime import execute

EXACT = Path(__file__).with_suffix(".json")
FEWEST_EXPECTED = 10


class DriftError(Exception):
    """Circuits that no longer give what is expected of them."""


def circuits() -> dict[str, QuantumCircuit]:
    """Return the circuits: entanglement, interference, a phase that becomes a bit string, a biased coin."""
    made = {name: QuantumCircuit(width) for name, width in (("ghz", 4), ("grover", 2), ("hidden bits", 4), ("coin", 1))}
    ghz, grover, hidden, coin = made.values()
    ghz.h(0)
    ghz.cx(0, [1, 2, 3])
    grover.h([0, 1])
    grover.cz(0, 1)  # marks 11
    grover.h([0, 1])
    grover.z([0, 1])
    grover.cz(0, 1)
    grover.h([0, 1])
    hidden.x(3)
    hidden.h([0, 1, 2, 3])
    hidden.cx([0, 2], 3)  # the bits are 101, and the helper's own 1
    hidden.h([0, 1, 2, 3])
    coin.ry(1.0, 0)
    for circuit in made.values():
        circuit.measure_all()
    return made


def p_value(counts: Mapping[str, int], expected: Mapping[str, float], *, exact: bool) -> float:
    """Return how likely counts this far from the expected ones are if nothing has changed: the test stated above.

    Args:
        counts: Of tonight.
        expected: Probabilities (`exact`), or the counts of a run that was accepted.
        exact: Which of the two.
    """
    outcomes = sorted({*counts, *expected})
    seen = np.array([counts.get(outcome, 0) for outcome in outcomes], dtype=float)
    before = np.array([expected.get(outcome, 0) for outcome in outcomes], dtype=float)
    if exact and seen[before == 0].any():
        return 0.0
    shares = before / before.sum() if exact else (before + seen) / (before.sum() + seen.sum())
    rare = shares * (seen.sum() if exact else min(seen.sum(), before.sum())) < FEWEST_EXPECTED
    seen, before, shares = (np.append(values[~rare], values[rare].sum()) for values in (seen, before, shares))
    samples = [seen] if exact else [seen, before]
    g = sum(2 * xlogy(sample, sample / np.maximum(sample.sum() * shares, 1e-300)).sum() for sample in samples)
    return float(chi2.sf(g, max(1, np.count_nonzero(shares) - 1)))


@flow(name="Nightly regression")
def nightly_regression(
    credentials: str = "local",
    backend: str | None = None,
    expectations: str | None = None,
    shots: int = 4000,
    false_alarms: float = 1e-6,
    record: bool = False,
) -> list[dict[str, Any]]:
    """Run the circuits and compare their counts with what is expected.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        backend: Backend to run on; the block's own choice if None.
        expectations: Path of the file; the exact ones if None.
        shots: Repetitions of each circuit.
        false_alarms: Probability that a night fails although nothing has changed.
        record: Write the file, with tonight's counts, and compare nothing.

    Raises:
        DriftError: Circuits give something else than expected; the table says which.
    """
    named = circuits()
    result = execute(credentials, "sampler", list(named.values()), shots=shots, backend=backend)
    counts = {name: pub.data.meas.get_counts() for name, pub in zip(named, result, strict=True)}
    path = Path(expectations) if expectations else EXACT
    if record:
        path.write_text(json.dumps({"counts": counts}, indent=2, sort_keys=True) + "\n")
        return []

    stored = json.loads(path.read_text())
    exact, limit = "probabilities" in stored, false_alarms / len(named)
    expected = stored["probabilities" if exact else "counts"]
    values = {name: p_value(counts[name], expected[name], exact=exact) for name in named}
    table = [
        {"circuit": name, "p": f"{p:.3g}", "limit": f"{limit:.3g}", "verdict": "drift" if p < limit else "as expected"}
        for name, p in values.items()
    ]
    create_table_artifact(table, key="nightly-regression", description=f"G-test of {shots} shots of each circuit")
    drifted = [f"{name} (p = {p:.2g})" for name, p in values.items() if p < limit]
    if drifted:
        raise DriftError(f"{len(drifted)} of {len(named)} circuits have drifted: {', '.join(drifted)}.")
    return table


if __name__ == "__main__":
    for row in nightly_regression():
        print(row)
