"""A data pipeline with a quantum source: random bits, health tests, a Parquet file.

    python flows/random_numbers.py

An ordinary flow with ordinary tasks that imports two of ours. Qubits in superposition are measured; each qubit's bits
are tested as NIST SP 800-90B says (section 4.4: repetition count and adaptive proportion, with 2^-40 as the probability
of a false alarm at each place), made unbiased (von Neumann's extractor: of two bits in a row that differ, the first),
tested once more (the monobit test of SP 800-22, p < 1e-9), and written as 32-bit numbers. At the default size all tests
together reject good bits in less than one run of ten million. Bits that fail are not written, and the flow fails.

The numbers of the embedded runtime come from a simulator: good for trying, not for keys. Needs the extra `plots`.
"""

from __future__ import annotations

import math
from itertools import groupby
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from prefect import flow, task
from prefect.artifacts import create_markdown_artifact
from prefect.cache_policies import NO_CACHE
from qiskit import QuantumCircuit
from scipy.stats import binom

from prefect_runtime import fetch_result, run_sampler
from prefect_runtime.wire.errors import ConfigurationError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Bits = NDArray[np.uint8]

FALSE_ALARM = 2.0**-40  # at each place; SP 800-90B recommends 2^-20 to 2^-40
WINDOW = 1024  # of the adaptive proportion test, for bits
MONOBIT_LIMIT = 1e-9


class HealthTestError(Exception):
    """Bits that are not as random as they are said to be."""


def coins(qubits: int) -> QuantumCircuit:
    """Return a circuit that tosses a coin for each qubit."""
    circuit = QuantumCircuit(qubits)
    circuit.h(range(qubits))
    circuit.measure_all()
    return circuit


def longest_run(bits: Bits) -> int:
    """Return how often a bit came in a row at most: the repetition count test looks at that."""
    return max(sum(1 for _ in run) for _, run in groupby(bits.tolist()))


def most_in_a_window(bits: Bits) -> int:
    """Return how often a window's first bit came in it at most: the adaptive proportion test looks at that."""
    windows = bits[: len(bits) // WINDOW * WINDOW].reshape(-1, WINDOW)
    return int((windows == windows[:, :1]).sum(axis=1).max(initial=0))


def cutoffs(min_entropy: float) -> tuple[int, int]:
    """Return the counts from which on the two tests fail. Source: NIST SP 800-90B, sections 4.4.1 and 4.4.2."""
    repetitions = 1 + math.ceil(-math.log2(FALSE_ALARM) / min_entropy)
    return repetitions, 1 + int(binom.isf(FALSE_ALARM, WINDOW, 2**-min_entropy))


def monobit(bits: Bits) -> float:
    """Return how likely so uneven a number of ones is. Source: NIST SP 800-22, section 2.1."""
    excess = abs(2 * int(bits.sum()) - len(bits))
    return math.erfc(excess / math.sqrt(2 * len(bits)))


@task(cache_policy=NO_CACHE)
def check_source(bits: Bits, min_entropy: float) -> dict[str, str]:
    """Test each qubit's bits, shape (qubits, shots).

    Raises:
        HealthTestError: A qubit gives less than `min_entropy` bits of entropy a bit.
    """
    repetitions, proportion = cutoffs(min_entropy)
    for qubit, own in enumerate(bits):
        if longest_run(own) >= repetitions or most_in_a_window(own) >= proportion:
            raise HealthTestError(
                f"Qubit {qubit}: {longest_run(own)} equal bits in a row (limit {repetitions}), "
                f"{most_in_a_window(own)} in a window of {WINDOW} (limit {proportion})."
            )
    return {
        "Longest run of equal bits": f"{max(map(longest_run, bits))} (limit {repetitions})",
        f"Most equal bits in {WINDOW}": f"{max(map(most_in_a_window, bits))} (limit {proportion})",
    }


@task(cache_policy=NO_CACHE)
def unbias(bits: Bits) -> Bits:
    """Return unbiased bits: of two in a row of one qubit that differ, the first; a quarter of them is left.

    Raises:
        HealthTestError: They are still not even.
    """
    pairs = bits[:, : bits.shape[1] // 2 * 2].reshape(-1, 2)
    even: Bits = pairs[pairs[:, 0] != pairs[:, 1], 0]
    if len(even) == 0 or monobit(even) < MONOBIT_LIMIT:
        raise HealthTestError(f"{int(even.sum())} ones in {len(even)} bits: not even.")
    return even


@task(cache_policy=NO_CACHE)
def write(bits: Bits, path: Path, job_id: str) -> int:
    """Write 32-bit numbers as a Parquet file that says which job they are of; returns how many."""
    import pyarrow as pa
    import pyarrow.parquet

    numbers = np.packbits(bits[: len(bits) // 32 * 32]).view(np.uint32)
    path.parent.mkdir(parents=True, exist_ok=True)
    table = pa.table({"number": numbers}).replace_schema_metadata({"job_id": job_id})
    pyarrow.parquet.write_table(table, path)
    return len(numbers)


@flow(name="Random numbers")
def random_numbers(
    credentials: str = "local",
    backend: str | None = None,
    qubits: int = 8,
    shots: int = 8192,
    folder: str = "random-numbers",
    min_entropy: float = 0.9,
) -> Path:
    """Make random numbers and return the path of the file they are in.

    Args:
        credentials: Name of a saved block; "local" is the embedded runtime.
        backend: Backend to run on; the block's own choice if None.
        qubits: Coins that are tossed at once.
        shots: Tosses of each; about a quarter of the bits are left in the end.
        folder: Where the file goes; it is named after the job.
        min_entropy: What is claimed of a bit as measured, in bits: 0.9 allows for 53.6 % ones or zeros.
    """
    check_pyarrow()
    job_id = run_sampler(credentials, [coins(qubits)], shots=shots, backend=backend)
    measured = fetch_result(credentials, job_id)[0].data.meas
    bits = measured.to_bool_array().astype(np.uint8).T
    report = check_source(bits, min_entropy)
    even = unbias(bits)
    path = Path(folder) / f"{job_id}.parquet"
    count = write(even, path, job_id)
    facts = {"Job": f"`{job_id}`", "Bits measured": bits.size, **report, "Monobit p": f"{monobit(even):.3g}"}
    lines = [f"| {name} | {fact} |" for name, fact in {**facts, "Numbers written": count, "File": f"`{path}`"}.items()]
    create_markdown_artifact("\n".join(["| | |", "|---|---|", *lines]), key="random-numbers")
    print(f"{count} random numbers in {path}")
    return path


def check_pyarrow() -> None:
    """Make sure that the file can be written, before anything is paid for."""
    try:
        import pyarrow  # noqa: F401
    except ImportError:
        raise ConfigurationError("Parquet needs pyarrow: pip install 'prefect-runtime[plots]'.") from None


if __name__ == "__main__":
    random_numbers()
