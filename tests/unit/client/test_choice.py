"""Choosing a backend: by wait, by calibration, and what is said when none will do."""

from __future__ import annotations

import copy
from typing import Any

import pytest
from qiskit import QuantumCircuit

from prefect_runtime.client.backend import Backend, BackendStatus
from prefect_runtime.client.choice import Choice, Wish, choose, read_circuits
from prefect_runtime.client.circuits.fidelity import expected_fidelity
from prefect_runtime.local import backends
from prefect_runtime.wire.errors import BackendNotFoundError, ConfigurationError


def listed(name: str, *, wait: float | None = 0.0, queue: int = 1, qubits: int = 5, open_: bool = True) -> Backend:
    status = BackendStatus(operational=open_, message="" if open_ else "paused", pending_jobs=queue, wait_seconds=wait)
    return Backend(name, num_qubits=qubits, status=status)


def no_documents(name: str) -> Backend:
    raise AssertionError(f"the documents of {name} are not needed")


def chosen(wish: Wish, *there: Backend) -> Choice:
    return choose(wish, there, no_documents)


def bell(qubits: int = 2) -> QuantumCircuit:
    circuit = QuantumCircuit(qubits)
    circuit.h(0)
    for qubit in range(qubits - 1):
        circuit.cx(qubit, qubit + 1)
    circuit.measure_all()
    return circuit


def test_the_shortest_expected_wait_counts_not_the_queue() -> None:
    choice = chosen(Wish(), listed("long", wait=900, queue=1), listed("short", wait=60, queue=40))
    assert (choice.name, choice.wait_seconds) == ("short", 60)
    assert choice.others == {"long": "longer wait (900 s)"}


def test_where_no_wait_is_known_the_queue_counts_and_an_empty_one_is_none() -> None:
    assert chosen(Wish(), listed("a", wait=None, queue=3), listed("b", wait=None, queue=2)).name == "b"
    assert chosen(Wish(), listed("a", wait=5.0), listed("b", wait=None, queue=0)).name == "b"


def test_of_equal_ones_the_first_that_was_named_is_taken() -> None:
    there = [listed("a"), listed("b"), listed("c")]
    assert chosen(Wish(), *there).name == "a"
    assert chosen(Wish(names=("c", "b")), *there).name == "c"


def test_names_are_a_choice_and_a_fallback() -> None:
    there = [listed("a", wait=0), listed("b", wait=500, open_=False), listed("c", wait=900)]
    choice = chosen(Wish(names=("b", "c", "gone")), *there)
    assert choice.name == "c"
    assert choice.others == {"b": "takes no jobs now (paused)", "gone": "not one of this account's"}


@pytest.mark.parametrize(
    ("wish", "why"),
    [
        (Wish(min_num_qubits=6), "a: has 5 of 6 qubits; b: has 5 of 6 qubits"),
        (Wish(circuits=(bell(7),)), "has 5 of 7 qubits"),
        (Wish(max_wait_seconds=10), "a: longer wait than 10 s (60 s); b: longer wait than 10 s (3 jobs waiting)"),
        (Wish(names=("x",)), "x: not one of this account's"),
    ],
)
def test_when_none_will_do_the_error_says_why_for_each(wish: Wish, why: str) -> None:
    with pytest.raises(BackendNotFoundError) as caught:
        chosen(wish, listed("a", wait=60), listed("b", wait=None, queue=3))
    assert why in str(caught.value)


@pytest.mark.parametrize(
    ("fields", "name"),
    [
        ({"min_num_qubits": 0}, "min_num_qubits"),
        ({"min_num_qubits": 2.5}, "min_num_qubits"),
        ({"prefer": "cheap"}, "prefer"),
        ({"prefer": "fidelity"}, "circuits"),
        ({"max_wait_seconds": -1}, "max_wait_seconds"),
        ({"names": ("a b",)}, "backend"),
        ({"names": ()}, "names: the list is empty"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fields_name(fields: dict[str, Any], name: str) -> None:
    with pytest.raises(ConfigurationError, match=name):
        Wish(**fields)


def documented(name: str, documents: dict[str, Any]) -> Backend:
    return Backend(name, status=BackendStatus(operational=True), **documents)


def with_errors(factor: float, qubits: set[int]) -> dict[str, Any]:
    """The documents of a noisy backend, with the errors of some qubits' gates so many times as large."""
    documents = copy.deepcopy(backends.describe("generic_5q", calibration=1))
    for gate in documents["properties"]["gates"]:
        for parameter in gate["parameters"]:
            if parameter["name"] == "gate_error" and qubits & set(gate["qubits"]):
                parameter["value"] *= factor
    return documents


def test_the_calibration_of_the_qubits_that_are_used_decides() -> None:
    """One backend is worse on the whole, but not where a circuit of two qubits would go."""
    there = {
        "bad-everywhere": documented("bad-everywhere", with_errors(3.0, {0, 1, 2, 3, 4})),
        "bad-elsewhere": documented("bad-elsewhere", with_errors(30.0, {3, 4})),
    }
    wish = Wish(circuits=(bell(),), prefer="fidelity")
    choice = choose(wish, list(there.values()), there.__getitem__)
    assert choice.name == "bad-elsewhere"
    assert choice.fidelity is not None and 0.5 < choice.fidelity < 1
    wide = Wish(circuits=(bell(5),), prefer="fidelity")
    assert choose(wide, list(there.values()), there.__getitem__).name == "bad-everywhere"


def test_a_fidelity_is_the_product_over_what_is_done_on_the_very_qubits() -> None:
    backend = documented("generic_5q", backends.describe("generic_5q", calibration=1))
    target = backend.target
    circuit = QuantumCircuit(2, 1)
    circuit.cx(0, 1)
    circuit.measure(1, 0)
    # Wherever it is put, it is one cx and one measurement, and nothing else that errs.
    possible = [(1 - target["cx"][pair].error) * (1 - target["measure"][(pair[1],)].error) for pair in target["cx"]]
    assert any(expected_fidelity([circuit], backend) == pytest.approx(one) for one in possible)
    once = expected_fidelity([circuit], backend)
    assert expected_fidelity([circuit, circuit], backend) == pytest.approx(once**2)


def test_a_branch_that_may_be_taken_counts() -> None:
    backend = documented("generic_5q", backends.describe("generic_5q", calibration=1))
    circuit = QuantumCircuit(2, 1)
    circuit.measure(0, 0)
    plain = expected_fidelity([circuit], backend)
    with circuit.if_test((0, 1)):
        circuit.cx(0, 1)
    assert expected_fidelity([circuit], backend) < plain


def test_the_circuit_is_judged_that_a_job_would_run() -> None:
    """A device's ``rzz`` takes some of the angles only, so none is made of what is written otherwise."""
    documents = copy.deepcopy(backends.describe("generic_5q", calibration=1))
    pair = next(gate["qubits"] for gate in documents["properties"]["gates"] if gate["gate"] == "cx")
    documents["configuration"]["basis_gates"].append("rzz")
    documents["configuration"]["gates"].append({"name": "rzz", "parameters": ["t"], "coupling_map": [pair]})
    perfect = [{"name": "gate_error", "value": 0.0, "unit": "", "date": "2026-01-01T00:00:00Z"}]
    documents["properties"]["gates"].append({"gate": "rzz", "qubits": pair, "parameters": perfect})
    backend = documented("generic_5q", documents)
    circuit = QuantumCircuit(2)
    circuit.h(0)
    circuit.rzz(0.3, 0, 1)
    assert expected_fidelity([circuit], backend) < 1 - min(one.error for one in backend.target["cx"].values())
    native = QuantumCircuit(5)
    native.rzz(0.3, *pair)
    assert expected_fidelity([native], backend) == 1.0


def test_a_backend_that_cannot_run_the_circuits_leaves_the_choice_to_the_others() -> None:
    dynamic = QuantumCircuit(1, 1)
    dynamic.measure(0, 0)
    with dynamic.while_loop((dynamic.clbits[0], 1)):
        dynamic.x(0)
        dynamic.measure(0, 0)
    plain, able = (copy.deepcopy(backends.describe("generic_5q", calibration=1)) for _ in range(2))
    instructions = able["configuration"]["supported_instructions"]
    plain["configuration"]["supported_instructions"] = [name for name in instructions if name != "while_loop"]
    able["configuration"]["supported_instructions"] = list({*instructions, "while_loop"})
    there = {
        "plain": documented("plain", plain),
        "bare": Backend("bare", status=BackendStatus(operational=True)),
        "able": documented("able", able),
    }

    def load(name: str) -> Backend:
        if name == "gone":
            raise BackendNotFoundError("gone", status_code=404)
        return there[name]

    listed = [*there.values(), Backend("gone", status=BackendStatus(operational=True))]
    choice = choose(Wish(circuits=(dynamic,), prefer="fidelity"), listed, load)
    assert choice.name == "able"
    assert choice.others["plain"].startswith("cannot run the circuits (")
    assert choice.others["bare"].startswith("cannot run the circuits (ConfigurationError")
    assert choice.others["gone"] == "nothing is known of it (gone)"
    del there["able"]
    with pytest.raises(BackendNotFoundError, match=r"plain: cannot run.*bare: .*gone: "):
        choose(Wish(circuits=(dynamic,), prefer="fidelity"), [*there.values(), listed[-1]], load)


def test_circuits_that_are_text_are_not_looked_at() -> None:
    """So they are where Qiskit is not installed."""
    with pytest.raises(ConfigurationError, match="circuits: looking at them needs Qiskit"):
        Wish(circuits=("OPENQASM 3.0;",))


def test_circuits_are_taken_as_the_sampler_takes_them() -> None:
    (one, two) = read_circuits([bell(), (bell(3), None, 100)])
    assert (one.num_qubits, two.num_qubits) == (2, 3)
    assert read_circuits(None) == ()
    with pytest.raises(ConfigurationError, match="pubs"):
        read_circuits([5])


@pytest.mark.parametrize("circuit", [bell(), "bell.qasm"])
def test_one_circuit_in_place_of_a_list_is_refused_in_words(circuit: Any) -> None:
    with pytest.raises(ConfigurationError, match="circuits: must be a list"):
        read_circuits(circuit)
