"""What a job will cost, by IBM's formula, part by part; and whether the instance has that left."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit
from qiskit.circuit import Parameter
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.sampler_pub import SamplerPub
from qiskit.quantum_info import SparsePauliOp

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.usage import UsageEstimate, check_left, estimate, remaining_seconds
from prefect_runtime.local.backends import describe
from prefect_runtime.wire.errors import ConfigurationError, UsageLimitError


def device(**changes: Any) -> Backend:
    documents = describe("generic_5q", calibration=1)
    configuration = {**documents["configuration"], **changes}
    return Backend("generic_5q", configuration=configuration, properties=documents["properties"])


def measured() -> QuantumCircuit:
    circuit = QuantumCircuit(5, 1)
    circuit.sx(0)
    circuit.measure(0, 0)
    return circuit


def rotated() -> QuantumCircuit:
    circuit = QuantumCircuit(5)
    circuit.rz(Parameter("a"), 0)
    circuit.cx(0, 1)
    return circuit


def of(*pubs: Any, on: Backend | None = None, level: Any = 0, **options: Any) -> UsageEstimate:
    return estimate(pubs, {"resilience_level": level, **options}, on or device())


def test_a_samplers_estimate_is_the_formula_with_the_backends_own_times() -> None:
    on = device(default_rep_delay=200.0)
    length = on.target["sx"][(0,)].duration + on.target["measure"][(0,)].duration
    reset = max(one.duration for one in on.target["reset"].values())
    found = of(SamplerPub.coerce(measured(), 1000), on=on)
    (part,) = found.pubs
    assert part.circuit_seconds == pytest.approx(length)
    assert part.rep_delay_seconds == pytest.approx(200e-6)
    assert part.reset_seconds == pytest.approx(reset)
    assert (part.circuits, part.shots) == (1, 1000)
    assert found.seconds == pytest.approx(2 + 1000 * (length + 200e-6 + reset))
    assert (found.overhead_seconds, found.lower_bound) == (2.0, False)
    assert found.to_dict()["pubs"][0]["shots"] == 1000


def test_options_of_execution_count() -> None:
    pub = SamplerPub.coerce(measured(), 1000)
    plain = of(pub).seconds
    assert of(pub, execution={"rep_delay": 1e-3}).seconds == pytest.approx(plain + 1000 * (1e-3 - 250e-6))
    (part,) = of(pub, execution={"init_qubits": False}).pubs
    assert part.reset_seconds == 0


def test_every_set_of_parameter_values_is_a_circuit_and_pubs_add_up() -> None:
    circuit = rotated()
    circuit.measure_all()
    one, many = SamplerPub.coerce((circuit, [0.1]), 10), SamplerPub.coerce((circuit, np.zeros((3, 4, 1))), 10)
    assert [part.circuits for part in of(one, many).pubs] == [1, 12]
    assert of(one, many).seconds == pytest.approx(2 + 13 * (of(one).seconds - 2))


@pytest.mark.parametrize(
    ("observables", "values", "circuits"),
    [
        ("ZZIII", None, 1),
        (["ZZIII", "ZIIII", "IIIIZ"], None, 1),
        (["ZZIII", "XXIII"], None, 2),
        (SparsePauliOp(["ZZIII", "XXIII", "IZIII", "YIIII"]), None, 3),
        (["ZZIII", "XXIII"], [[0.1], [0.2]], 2),  # one each
        ([["ZZIII"], ["XXIII"]], [[0.1], [0.2]], 4),  # both for both
        ([["ZZIII"], ["ZIIII"]], [[0.1], [0.2], [0.3]], 3),
        ([{"0IIII": 1}, {"+IIII": 1}, {"1IIII": 1}], None, 2),
    ],
    ids=str,
)
def test_observables_that_share_a_basis_are_measured_together(observables: Any, values: Any, circuits: int) -> None:
    circuit = rotated() if values else QuantumCircuit(5)
    pub = EstimatorPub.coerce((circuit, observables, values) if values else (circuit, observables), 0.1)
    (part,) = of(pub).pubs
    assert (part.circuits, part.shots) == (circuits, 100)


def test_shots_are_those_of_the_options_where_a_pub_has_no_precision() -> None:
    pub = EstimatorPub.coerce((QuantumCircuit(5), "ZZIII"))
    (part,) = of(pub, default_shots=100_000).pubs
    assert part.shots == 100_000


def test_a_precision_of_nothing_cannot_be_estimated() -> None:
    pubs = [EstimatorPub.coerce((QuantumCircuit(5), "ZZIII"), precision) for precision in (0.1, 0)]
    with pytest.raises(ConfigurationError, match=r"pubs\[1\]: a precision of 0"):
        of(*pubs)


def test_mitigation_multiplies_or_is_said_to_be_missing() -> None:
    pub = EstimatorPub.coerce((rotated(), "ZIIII", [0.1]), 0.1)
    assert [part.circuits for part in of(pub, resilience={"zne_mitigation": True}).pubs] == [3]
    assert [part.circuits for part in of(pub, level=2).pubs] == [3]
    factors = {"zne_mitigation": True, "zne": {"noise_factors": [1, 2, 3, 4]}}
    assert [part.circuits for part in of(pub, resilience=factors).pubs] == [4]
    factors = {"zne_mitigation": True, "zne": {"noise_factors": np.array([1.0, 2.0])}}
    assert [part.circuits for part in of(pub, resilience=factors).pubs] == [2]
    assert [part.circuits for part in of(pub, resilience={"zne_mitigation": True, "zne": None}).pubs] == [3]
    assert not of(pub).lower_bound
    for found in (of(pub, level=1), of(pub, level=None), of(pub, resilience={"pec_mitigation": True})):
        assert found.lower_bound
        assert any(text.startswith("not counted") for text in found.assumptions)


def test_what_is_not_known_is_taken_for_granted_and_said() -> None:
    dynamic = QuantumCircuit(5, 1)
    dynamic.measure(0, 0)
    with dynamic.if_test((dynamic.clbits[0], 1)):
        dynamic.x(1)
    found = of(SamplerPub.coerce(dynamic, 10_000), execution={"init_qubits": False})
    assert found.seconds == pytest.approx(2 + 0.00035 * 10_000)  # IBM's quick figure
    assert any(text.startswith("pubs[0]: its circuit takes 100 µs") for text in found.assumptions)
    nowhere = estimate([SamplerPub.coerce(measured(), 10)], {}, Backend("classic"))
    assert nowhere.seconds == pytest.approx(2 + 0.0035)


@pytest.mark.parametrize(
    ("usage", "left"),
    [
        ({"usage_consumed_seconds": 5}, None),
        ({"usage_consumed_seconds": 5, "usage_limit_seconds": None}, None),
        ({"usage_consumed_seconds": 5, "usage_limit_seconds": 12}, 7),
        ({"usage_consumed_seconds": 15, "usage_limit_seconds": 12}, 0),
        ({"usage_consumed_seconds": 5, "usage_allocation_seconds": 600}, 595),
        ({"usage_consumed_seconds": 5, "usage_limit_seconds": 12, "usage_limit_reached": True}, 0),
        ({"usage_limit_seconds": 12}, 12),
    ],
)
def test_what_an_instance_has_left(usage: dict[str, Any], left: float | None) -> None:
    assert remaining_seconds(usage) == left


def test_more_than_is_left_is_refused_with_the_numbers() -> None:
    usage = {"usage_consumed_seconds": 590, "usage_limit_seconds": 600}
    check_left(usage, 10.0)
    check_left(usage, None)
    check_left({"usage_consumed_seconds": 590}, 1e9)
    with pytest.raises(UsageLimitError) as caught:
        check_left(usage, 10.1)
    assert (caught.value.needed_seconds, caught.value.remaining_seconds, caught.value.retryable) == (10.1, 10, False)
    assert "10.0 s left and has used 590 s; this request asks for about 10.1 s" in str(caught.value)
    with pytest.raises(UsageLimitError, match="unknown length"):
        check_left({**usage, "usage_limit_reached": True}, None)
