"""Run by test_waiting.py in a process of its own: one client submits jobs, then waits for all of them, a thread each.

Prints as JSON what that took: requests while waiting, seconds of CPU, seconds until all threads were back. The jobs are
counted by hand of the session that both clients send with (`requests`).
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import requests
from qiskit import QuantumCircuit

BACKEND = "generic_5q"


def bell() -> QuantumCircuit:
    """Two qubits that always agree, in the backend's gates."""
    circuit = QuantumCircuit(2)
    circuit.rz(1.5707963267948966, 0)
    circuit.sx(0)
    circuit.rz(1.5707963267948966, 0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


def ours(url: str, token: str, count: int) -> list[Callable[[], object]]:
    """Submit with our client, over the platform's dialect: no stream there, only asking."""
    from prefect_runtime.client import Credentials, RuntimeService

    credentials = Credentials(
        channel="ibm_quantum_platform", url=f"{url}/api/v1", auth_url=url, token=token, instance="crn:v1:embedded"
    )
    service = RuntimeService(credentials)
    pub = {"pubs": [(bell(), None, 10)]}
    jobs = [service.run("sampler", pub, {"backend_name": BACKEND}) for _ in range(count)]
    return [job.wait_for_final_state for job in jobs]


def ibm(url: str, token: str, count: int) -> list[Callable[[], object]]:
    """Submit with IBM's client."""
    os.environ.update(IAM_URL=url, GLOBAL_SEARCH_URL=url, GLOBAL_CATALOG_URL=f"{url}/api/v1")
    warnings.simplefilter("ignore")
    from qiskit_ibm_runtime import QiskitRuntimeService, SamplerV2

    service = QiskitRuntimeService(
        channel="ibm_quantum_platform",
        token=token,
        instance="auto",
        url=url,
        url_resolver=lambda given, *_: given + "/api/v1",
    )
    sampler = SamplerV2(mode=service.backend(BACKEND))
    jobs = [sampler.run([bell()], shots=10) for _ in range(count)]
    return [job.wait_for_final_state for job in jobs]


def main(client: str, url: str, token: str, count: str) -> None:
    """Submit, wait, print."""
    waits = {"ours": ours, "ibm": ibm}[client](url, token, int(count))
    sent = 0
    original = requests.Session.send

    def counted(session: requests.Session, request: requests.PreparedRequest, **options: Any) -> requests.Response:
        nonlocal sent
        sent += 1
        return original(session, request, **options)

    requests.Session.send = counted  # type: ignore[method-assign]
    start, before = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF)
    with ThreadPoolExecutor(len(waits)) as pool:
        for future in [pool.submit(wait) for wait in waits]:
            future.result()
    after = resource.getrusage(resource.RUSAGE_SELF)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    print(json.dumps({"requests": sent, "cpu": cpu, "seconds": time.monotonic() - start}))


if __name__ == "__main__":
    main(*sys.argv[1:])
