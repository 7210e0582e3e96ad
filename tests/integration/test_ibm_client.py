"""IBM's own client, unmodified, against the embedded runtime: what a Qiskit user sees who is sent here.

The only thing that is set are the addresses, as `prefect-runtime serve --show-qiskit` prints them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.quantum_info import SparsePauliOp
from qiskit.transpiler import generate_preset_pass_manager

from .support import eventually

pytestmark = [
    pytest.mark.timeout(120),
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),  # it deprecates its own primitives
    pytest.mark.filterwarnings("ignore::ResourceWarning"),  # its sessions stay open
]

SHOTS = 2000


@pytest.fixture(scope="module")
def ibm(runtime: Any) -> Iterator[Any]:
    """Its module and a service of it that is signed in here, with nothing but addresses changed."""
    client = pytest.importorskip("qiskit_ibm_runtime")
    url = runtime.found.url
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("IAM_URL", url)
        patch.setenv("GLOBAL_SEARCH_URL", url)
        patch.setenv("GLOBAL_CATALOG_URL", f"{url}/api/v1")
        client.service = client.QiskitRuntimeService(
            channel="ibm_quantum_platform",
            token=runtime.found.token,
            instance="auto",
            url=url,
            url_resolver=lambda given, *_: given + "/api/v1",
        )
        yield client
        del client.service


@pytest.fixture
def bell() -> QuantumCircuit:
    """Two qubits that always agree."""
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.cx(0, 1)
    circuit.measure_all()
    return circuit


@pytest.fixture(params=["aer_simulator", pytest.param("generic_5q", marks=pytest.mark.pr)])
def backend(ibm: Any, request: pytest.FixtureRequest) -> Any:
    """A backend as IBM's client sees it: an ideal one and a noisy one."""
    return ibm.service.backend(request.param)


@pytest.fixture
def isa(backend: Any) -> Callable[[QuantumCircuit], QuantumCircuit]:
    """Transpiles a circuit to the backend, by the target that the client has read."""
    return generate_preset_pass_manager(optimization_level=1, backend=backend, seed_transpiler=1).run


def test_it_finds_the_instance_and_all_backends(ibm: Any) -> None:
    (instance,) = ibm.service.instances()
    assert instance["plan"] == "embedded"
    assert ibm.service.usage()["usage_consumed_seconds"] >= 0
    sizes = {backend.name: backend.num_qubits for backend in ibm.service.backends()}
    assert {"aer_simulator", "generic_5q", "generic_27q", "generic_127q"} == set(sizes)
    assert sizes["generic_127q"] == 127
    assert ibm.service.least_busy().name in sizes


def test_its_sampler_runs_and_the_job_is_found_by_id_and_tag(
    ibm: Any, backend: Any, isa: Callable[[QuantumCircuit], QuantumCircuit], bell: QuantumCircuit
) -> None:
    sampler = ibm.SamplerV2(mode=backend)
    sampler.options.environment.job_tags = [f"of-{backend.name}", "ibm"]
    job = sampler.run([isa(bell)], shots=SHOTS)
    counts = job.result()[0].data.meas.get_counts()
    assert sum(counts.values()) == SHOTS
    assert counts.get("00", 0) + counts.get("11", 0) > 0.9 * SHOTS  # noise takes a few per cent
    assert min(counts["00"], counts["11"]) > 0.4 * SHOTS

    assert [found.job_id() for found in ibm.service.jobs(job_tags=[f"of-{backend.name}"])] == [job.job_id()]
    again = ibm.service.job(job.job_id())
    assert again.result()[0].data.meas.get_counts() == counts
    assert again.status() == "DONE"
    assert set(again.tags) == {f"of-{backend.name}", "ibm"}
    assert again.backend().name == backend.name
    assert again.inputs["pubs"][0][0].num_clbits == 2


def test_its_estimator_runs_with_parameters_and_observables_broadcast(
    ibm: Any, backend: Any, isa: Callable[[QuantumCircuit], QuantumCircuit]
) -> None:
    angle = Parameter("angle")
    circuit = QuantumCircuit(2)
    circuit.ry(angle, 0)
    circuit.cx(0, 1)
    transpiled = isa(circuit)
    observables = [[SparsePauliOp("ZZ")], [SparsePauliOp("IZ")]]
    laid_out = [[one.apply_layout(transpiled.layout) for one in row] for row in observables]
    job = ibm.EstimatorV2(mode=backend).run([(transpiled, laid_out, [[0.0], [1.0], [2.0]])], precision=0.02)
    (pub,) = job.result()
    assert pub.data.evs.shape == (2, 3)
    exact = [[1.0, 1.0, 1.0], [1.0, 0.5403, -0.4161]]  # cos of the angle
    assert abs(pub.data.evs - exact).max() < 0.15  # noise and 0.02 of precision
    assert pub.data.stds.shape == (2, 3)


def test_metrics_logs_tags_and_deletion(
    ibm: Any, backend: Any, isa: Callable[[QuantumCircuit], QuantumCircuit], bell: QuantumCircuit
) -> None:
    job = ibm.SamplerV2(mode=backend).run([isa(bell)], shots=10)
    job.result()
    metrics = job.metrics()
    assert metrics["timestamps"]["created"] <= metrics["timestamps"]["running"] <= metrics["timestamps"]["finished"]
    assert job.usage() == metrics["usage"]["qpu_charge_time_seconds"] > 0
    assert isinstance(job.logs(), str)
    assert job.update_tags(["other"]) == ["other"]
    assert ibm.service.job(job.job_id()).tags == ["other"]
    with pytest.raises(ibm.RuntimeInvalidStateError):
        job.cancel()
    ibm.service.delete_job(job.job_id())
    with pytest.raises(ibm.RuntimeJobNotFound):
        ibm.service.job(job.job_id())


def test_a_session_opens_takes_jobs_and_closes(ibm: Any, bell: QuantumCircuit) -> None:
    backend = ibm.service.backend("generic_5q")  # simulators have none in IBM's client
    transpiled = generate_preset_pass_manager(optimization_level=1, backend=backend).run(bell)
    with ibm.Session(backend=backend, max_time=600) as session:
        job = ibm.SamplerV2(mode=session).run([transpiled], shots=10)
        assert job.result()[0].data.meas.num_shots == 10
        assert job.session_id == session.session_id
        assert session.details()["max_time"] == 600
    assert session.details()["state"] == "closed"
    assert session.details()["accepting_jobs"] is False


def test_a_failed_job_gives_its_traceback(ibm: Any, upload: Callable[..., str]) -> None:
    program = upload("def main(backend, user_messenger):\n    raise ValueError('on purpose')\n")
    job = ibm.service._run(program_id=program, inputs={}, options={"backend": ibm.service.backend("aer_simulator")})
    with pytest.raises(ibm.RuntimeJobFailureError, match="ValueError: on purpose"):
        job.result()
    assert job.status() == "ERROR"


def test_a_running_job_is_cancelled(ibm: Any, upload: Callable[..., str]) -> None:
    program = upload("import time\n\ndef main(backend, user_messenger):\n    time.sleep(60)\n")
    job = ibm.service._run(program_id=program, inputs={}, options={"backend": ibm.service.backend("aer_simulator")})
    eventually(lambda: job.status() == "RUNNING")
    job.cancel()
    assert ibm.service.job(job.job_id()).status() == "CANCELLED"
    with pytest.raises(ibm.RuntimeInvalidStateError):
        ibm.service.job(job.job_id()).result()
