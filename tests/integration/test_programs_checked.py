"""What the runtime checks before a program runs, and what it says of circuits that cannot be run; over real sockets."""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any
from uuid import uuid4

import numpy as np
import pytest
import requests
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter

from prefect_runtime.client import JobStatus, RuntimeService
from prefect_runtime.wire.errors import (
    ConfigurationError,
    InvalidInputError,
    RuntimeDuplicateProgramError,
    RuntimeJobFailureError,
)

from .programs import ECHO
from .support import elapsed

LOGS = """
import logging

def main(backend, user_messenger, **kwargs):
    for level in ("debug", "info", "warning", "error"):
        getattr(logging.getLogger("mine"), level)("a line of level %s", level)
    return kwargs
"""

SPEC = {
    "parameters": {
        "properties": {"depth": {"type": "integer", "minimum": 1}, "angles": {"type": "array"}},
        "required": ["depth"],
    },
    "backend_requirements": {"min_num_qubits": 6},
}


@pytest.fixture
def checked(service: RuntimeService) -> Iterator[str]:
    """A program with a schema for its inputs."""
    metadata = {"name": f"checked-{uuid4()}", "description": "of a test", "max_execution_time": 60, "spec": SPEC}
    program = service.upload_program(LOGS, metadata)
    yield program
    service.delete_program(program)


def tangle(width: int) -> QuantumCircuit:
    draw = random.Random(1)
    circuit = QuantumCircuit(width)
    for _ in range(10):
        for number in range(width):
            circuit.rx(draw.uniform(0, 6), number)
        places = draw.sample(range(width), width)
        for pair in zip(places[::2], places[1::2], strict=True):
            circuit.cx(*pair)
    circuit.measure_all()
    return circuit


def ghz(width: int) -> QuantumCircuit:
    circuit = QuantumCircuit(width)
    circuit.h(0)
    for number in range(width - 1):
        circuit.cx(number, number + 1)
    circuit.measure_all()
    return circuit


@pytest.mark.parametrize(
    ("inputs", "options", "said"),
    [
        ({}, {}, "inputs.depth: is required"),
        ({"depth": "deep"}, {}, "inputs.depth: must be of type integer"),
        ({"depth": 1, "angles": 5}, {}, "inputs.angles: must be of type array"),
        ({"depth": 1}, {"backend": "generic_5q"}, "asks for at least 6"),
        ({"depth": 1}, {"max_execution_time": 90}, "the program's own limit, 60 s"),
    ],
)
def test_inputs_are_checked_before_a_job_is_queued(
    service: RuntimeService,
    checked: str,
    count_jobs: Callable[[], int],
    inputs: dict[str, Any],
    options: dict[str, Any],
    said: str,
) -> None:
    before = count_jobs()
    with pytest.raises(InvalidInputError, match=said):
        service.run(checked, inputs, **options)
    assert count_jobs() == before


def test_an_encoded_array_is_an_array(service: RuntimeService, checked: str) -> None:
    given = service.run(checked, {"depth": 1, "angles": np.arange(3)}).result(timeout=20)
    assert list(given["angles"]) == [0, 1, 2]


@pytest.mark.parametrize(
    ("parameters", "said"),
    [({"type": "nothing"}, "spec.parameters.type"), ({"$ref": "http://127.0.0.1:9/x"}, r"\$ref may point")],
)
def test_a_schema_is_checked_when_it_is_uploaded(service: RuntimeService, parameters: Any, said: str) -> None:
    metadata = {"name": f"bad-{uuid4()}", "description": "", "max_execution_time": 60}
    with pytest.raises(InvalidInputError, match=said):
        service.upload_program(LOGS, {**metadata, "description": "x", "spec": {"parameters": parameters}})


def test_a_name_is_taken_once(service: RuntimeService) -> None:
    metadata = {"name": f"taken-{uuid4()}", "description": "of a test", "max_execution_time": 60}
    service.upload_program(LOGS, metadata)
    with pytest.raises(RuntimeDuplicateProgramError):
        service.upload_program(LOGS, metadata)


@pytest.mark.parametrize(("level", "lines"), [(None, 2), ("debug", 4), ("ERROR", 1)])
def test_the_log_level_decides_what_the_log_shows(
    service: RuntimeService, checked: str, level: str | None, lines: int
) -> None:
    job = service.run(checked, {"depth": 1}, log_level=level)
    job.wait_for_final_state(timeout=20)
    assert job.logs().count("a line of level") == lines


def test_a_circuit_that_fits_nowhere_is_refused_with_the_reason_and_the_next_job_runs(service: RuntimeService) -> None:
    seconds = elapsed()
    pubs = [[ghz(2), None, 10], [tangle(40), None, 10]]
    job = service.run("sampler", {"pubs": pubs})
    job.wait_for_final_state(timeout=20)
    assert seconds() < 10
    with pytest.raises(RuntimeJobFailureError) as caught:
        job.result()
    reason = caught.value.reason
    assert reason.startswith("PUB 1: the circuit cannot be simulated exactly here: it uses 40 qubits")
    assert "16 TiB as statevector" in reason
    assert "Traceback" not in reason
    assert job.interim_results() == []
    assert reason in job.logs()
    assert job.status() is JobStatus.ERROR
    assert service.run("sampler", {"pubs": pubs[:1]}).result(timeout=20)[0].data.meas.num_shots == 10


def test_wide_circuits_run_with_the_method_that_can_and_say_so(service: RuntimeService) -> None:
    row = QuantumCircuit(100)
    for number in range(99):
        row.rx(0.3 + number, number)
        row.cx(number, number + 1)
    row.measure_all()
    job = service.run("sampler", {"pubs": [[ghz(127), None, 100], [row, None, 20]]}, log_level="info")
    result = job.result(timeout=30)
    assert set(result[0].data.meas.get_counts()) <= {"0" * 127, "1" * 127}
    said = [pub.metadata["simulator_metadata"]["method"] for pub in result]
    assert said == ["stabilizer", "matrix_product_state"]
    for method in said:
        assert f"Simulating as {method}" in job.logs()
    assert [(one["pub"], one["pubs"]) for one in job.interim_results()] == [(0, 2), (1, 2)]


def test_a_programs_limit_is_changed_by_either_of_its_names_and_kept_by_other_changes(
    runtime: Any, service: RuntimeService
) -> None:
    program = service.upload_program(ECHO, {"name": f"limit-{uuid4()}", "description": "old", "max_execution_time": 60})
    url, headers = f"{runtime.found.url}/programs/{program}", {"X-Access-Token": runtime.found.token}
    seen = []
    for change in ({"max_execution_time": 30}, {"cost": 40}, {"description": "new"}):
        assert requests.patch(url, json=change, headers=headers, timeout=10).status_code == 204
        seen.append(requests.get(url, headers=headers, timeout=10).json()["cost"])
    assert seen == [30, 40, 40]


def test_a_change_whose_source_cannot_be_read_changes_nothing(service: RuntimeService, checked: str) -> None:
    with pytest.raises(ConfigurationError, match="data: cannot read"):
        service.update_program(checked, "no-such-file.py", {"description": "new"})
    assert service.program(checked).description == "of a test"


@pytest.mark.parametrize("query", ["offset=-1", "limit=-1", "limit=0", "offset=-5&limit=-5"])
def test_a_page_of_programs_that_cannot_be_is_the_first(runtime: Any, query: str) -> None:
    url, headers = f"{runtime.found.url}/programs", {"X-Access-Token": runtime.found.token}
    every = requests.get(url, headers=headers, timeout=10).json()
    assert "sampler" in {program["id"] for program in every["programs"]}
    assert requests.get(f"{url}?{query}", headers=headers, timeout=10).json() == every


@pytest.mark.parametrize("name", ["aer_simulator", "generic_5q"])
@pytest.mark.parametrize("shape", [(0,), (3, 0)])
def test_no_sets_of_values_are_no_results_and_the_other_pubs_run(
    service: RuntimeService, name: str, shape: tuple[int, ...]
) -> None:
    circuit, other = QuantumCircuit(1, 1), QuantumCircuit(1)
    circuit.rz(Parameter("theta"), 0)
    values = np.zeros((*shape, 1))
    pubs = [(circuit, "Z", values), (other, "Z")]
    empty, one = service.run("estimator", {"pubs": pubs}, {"backend_name": name}).result(timeout=60)
    assert (empty.data.evs.shape, empty.data.stds.shape, one.data.evs.shape) == (shape, shape, ())
    circuit.measure(0, 0)
    pubs = [(circuit, values, 10), (circuit, [0.0], 10)]
    empty, one = service.run("sampler", {"pubs": pubs}, {"backend_name": name}).result(timeout=60)
    assert (empty.data.c.shape, empty.data.c.num_shots, empty.data.c.num_bits) == (shape, 10, 1)
    assert one.data.c.num_shots == 10


@pytest.mark.parametrize("meanwhile", ["PUT", "DELETE"])
def test_a_change_that_takes_long_to_check_undoes_nothing_that_was_done_meanwhile(
    runtime: Any, service: RuntimeService, meanwhile: str
) -> None:
    slow = "x = 1\n" * 150_000 + ECHO
    metadata = {"name": f"slow-{uuid4()}", "description": "old", "max_execution_time": 60}
    program = service.upload_program(slow, metadata)
    url, headers = f"{runtime.found.url}/programs/{program}", {"X-Access-Token": runtime.found.token}
    with ThreadPoolExecutor(1) as pool:
        changed = pool.submit(requests.patch, url, json={"description": "new"}, headers=headers, timeout=30)
        time.sleep(0.1)
        if meanwhile == "PUT":
            done = requests.put(f"{url}/data", data=ECHO.encode(), headers=headers, timeout=30)
        else:
            done = requests.delete(url, headers=headers, timeout=30)
    assert done.status_code == 204
    now = requests.get(url, headers=headers, timeout=10)
    if meanwhile == "PUT":
        assert changed.result().status_code == 204
        assert (now.json()["data"], now.json()["description"]) == (ECHO, "new")
    else:
        assert now.status_code == 404
