"""Run by test_beside_prefect_qiskit.py in a process of its own. Prints, as JSON, what 50 jobs at once took either side.

Arguments: the runtime's API key, its API's base URL, the sign-in service's root, the instance's CRN.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Awaitable, Callable

from prefect import flow
from prefect_qiskit import QuantumRuntime
from prefect_qiskit.vendors.ibm_quantum import IBMQuantumCredentials
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, afetch_result, arun_sampler

JOBS = int(sys.argv[5])
TICK = 0.005
KEY, API, SIGN_IN, CRN = sys.argv[1:5]


def circuit(ones: int) -> QuantumCircuit:
    """Return a circuit that gives one number of six bits; of instructions that every backend has."""
    made = QuantumCircuit(6)
    for qubit in range(6):
        if ones >> qubit & 1:
            made.x(qubit)
    made.measure_all()
    return made


async def measured(all_jobs: Awaitable[list[dict[str, int]]]) -> dict[str, float]:
    """Return the seconds that the jobs took, and by how much the event loop was late meanwhile."""
    late: list[float] = []

    async def tick() -> None:
        while True:
            due = time.perf_counter() + TICK
            await asyncio.sleep(TICK)
            late.append(time.perf_counter() - due)

    ticker = asyncio.create_task(tick())
    start = time.perf_counter()
    counts = await all_jobs
    took = time.perf_counter() - start
    await asyncio.sleep(2 * TICK)
    ticker.cancel()
    assert counts == [{f"{number:06b}": 8} for number in range(JOBS)]
    return {
        "seconds": took,
        "worst": max(late),
        "stalled": sum(one for one in late if one > 0.05),
        "t10": sum(one for one in late if one > 0.01),
    }


@flow
async def ours() -> dict[str, float]:
    """50 jobs by our tasks."""
    block = RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=SecretStr(KEY),
        instance=CRN,
        url=API,
        auth_url=SIGN_IN,
        backend="aer_simulator",
        settle_seconds=5,
    )

    async def one(number: int) -> dict[str, int]:
        job_id = await arun_sampler(block, [circuit(number)], shots=8)
        return dict((await afetch_result(block, job_id))[0].data.meas.get_counts())

    return await measured(asyncio.gather(*(one(number) for number in range(JOBS))))


@flow
async def theirs() -> dict[str, float]:
    """50 jobs by prefect-qiskit's block."""
    credentials = IBMQuantumCredentials(api_key=SecretStr(KEY), crn=CRN, auth_url=SIGN_IN, runtime_url=f"{API}/")
    runtime = await asyncio.to_thread(QuantumRuntime, resource_name="aer_simulator", credentials=credentials)

    async def one(number: int) -> dict[str, int]:
        result = await runtime.async_sampler([circuit(number)], options={"params": {"options": {"default_shots": 8}}})
        return dict(result[0].data.meas.get_counts())

    return await measured(asyncio.gather(*(one(number) for number in range(JOBS))))


if __name__ == "__main__":
    if len(sys.argv) > 7:
        sys.setswitchinterval(float(sys.argv[7]))
    sides: list[Callable[[], Awaitable[dict[str, float]]]] = (
        [ours, ours] if sys.argv[6] == "2" else [ours, theirs, ours]
    )
    print(json.dumps([asyncio.run(side()) for side in sides[: int(sys.argv[6])]]))
