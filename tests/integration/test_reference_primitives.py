"""Sampler and estimator of the embedded runtime against Qiskit's reference primitives, on 30 random circuits.

Bounds hold whatever the circuits are; together they raise a false alarm in less than one of 10^6 runs:

- Sampler. For N shots of ours and N of the reference, over K outcomes, the total variation distance D of the two
  samples has a mean of at most sqrt(K / 2N) (Cauchy-Schwarz on the standard deviations), and each of the 2N shots moves
  it by 1/N at most, so that P(D > mean + t) <= exp(-N t^2) (McDiarmid). t is chosen for ALARM over all comparisons.
- Estimator. The runtime adds normal noise of the precision asked for to the exact value, so that one of 120 values is
  more than 6.5 precisions off with a probability of 120 * 8e-11 = 1e-8.
"""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
from qiskit import ClassicalRegister, QuantumCircuit, QuantumRegister
from qiskit.circuit import Parameter
from qiskit.primitives import StatevectorEstimator, StatevectorSampler

from prefect_runtime.client import RuntimeService

CIRCUITS = 30
SHOTS = 4_000
PRECISION = 0.01
ALARM = 5e-7
SIGMAS = 6.5


@dataclass
class Case:
    """One random circuit: as it runs here, and as the reference can run it."""

    circuit: QuantumCircuit
    reference: QuantumCircuit
    values: np.ndarray | None


def add_gates(draw: random.Random, circuit: QuantumCircuit, qubits: list[int], count: int) -> None:
    """Add random gates on some qubits; each turns something."""
    for _ in range(count):
        pair = draw.sample(qubits, min(2, len(qubits)))
        angle = draw.uniform(0.2, 6)
        name = draw.choice(["h", "rx", "ry", "t", "sx", "u"] if len(pair) == 1 or draw.random() < 0.5 else TWO)
        if name == "u":
            circuit.u(angle, draw.uniform(0, 6), draw.uniform(0, 6), pair[0])
        elif name in ("rx", "ry"):
            getattr(circuit, name)(angle, pair[0])
        elif name in ("h", "t", "sx"):
            getattr(circuit, name)(pair[0])
        elif name in ("rzz", "rxx", "crx", "cp"):
            getattr(circuit, name)(angle, *pair)
        else:
            getattr(circuit, name)(*pair)


TWO = ["cx", "cz", "ecr", "swap", "rzz", "rxx", "crx", "cp"]


def empty(draw: random.Random, width: int) -> QuantumCircuit:
    """Circuits have one classical register, or two of different widths that cross the order of the qubits."""
    if width < 3 or draw.random() < 0.5:
        return QuantumCircuit(QuantumRegister(width, "q"), ClassicalRegister(width, "only"))
    low = draw.randint(1, width - 1)
    registers = ClassicalRegister(low, "first"), ClassicalRegister(width - low, "second")
    return QuantumCircuit(QuantumRegister(width, "q"), *registers)


def measured(draw: random.Random, circuit: QuantumCircuit) -> None:
    """Measure every qubit into a bit of its own, in random order."""
    places = list(range(circuit.num_qubits))
    draw.shuffle(places)
    circuit.measure(range(circuit.num_qubits), places)


def plain_case(draw: random.Random, width: int) -> Case:
    circuit = empty(draw, width)
    add_gates(draw, circuit, list(range(width)), 4 * width)
    measured(draw, circuit)
    return Case(circuit, circuit, None)


def parameterised_case(draw: random.Random, width: int) -> Case:
    circuit = empty(draw, width)
    names = ("alpha", "beta")
    for name in names:
        add_gates(draw, circuit, list(range(width)), width)
        circuit.ry(Parameter(name), draw.randrange(width))
    add_gates(draw, circuit, list(range(width)), width)
    measured(draw, circuit)
    return Case(circuit, circuit, np.array([[draw.uniform(0, 6) for _ in names] for _ in range(3)]))


def dynamic_case(draw: random.Random, width: int) -> Case:
    """Measure a qubit in the middle and let its bit decide; the reference gets a controlled gate, measured at the end.

    Both have the same distribution (principle of deferred measurement), and only the second is one the reference runs.
    """
    here, there = (QuantumCircuit(width, width) for _ in range(2))
    first = QuantumCircuit(width)
    add_gates(draw, first, list(range(width)), 2 * width)
    last = QuantumCircuit(width)
    add_gates(draw, last, list(range(1, width)), width)
    angle = draw.uniform(1, 5)
    for circuit in (here, there):
        circuit.compose(first, inplace=True)
    here.measure(0, 0)
    with here.if_test((here.clbits[0], 1)) as otherwise:
        here.ry(angle, 1)
    with otherwise:
        here.x(1)
    there.cry(angle, 0, 1)
    there.cx(0, 1, ctrl_state=0)
    for circuit in (here, there):
        circuit.compose(last, inplace=True)
    here.measure(range(1, width), range(1, width))
    there.measure(range(width), range(width))
    return Case(here, there, None)


def cases(seed: int) -> list[Case]:
    """Return 14 plain circuits, 10 with parameters and 6 with measurements in the middle."""
    draw = random.Random(seed)
    plain, parameterised = range(14), range(14, 24)
    return [
        *(plain_case(draw, 1 + n % 6) for n in plain),
        *(parameterised_case(draw, 1 + n % 6) for n in parameterised),
        *(dynamic_case(draw, 2 + n % 5) for n in range(24, CIRCUITS)),
    ]


def outcomes(result: Any) -> list[dict[int, int]]:
    """Return the counts of all registers together, for each set of values."""
    joined = result.join_data()
    return [joined[place].get_int_counts() for place in np.ndindex(joined.shape)]


def test_samples_are_those_of_the_reference(service: RuntimeService, seed: int) -> None:
    every = cases(seed)
    ours = service.run("sampler", {"pubs": [[c.circuit, c.values, SHOTS] for c in every], "options": {"seed": seed}})
    theirs = StatevectorSampler(seed=seed).run([(c.reference, c.values, SHOTS) for c in every]).result()
    pairs = [
        (case, *counts)
        for case, one, other in zip(every, ours.result(timeout=60), theirs, strict=True)
        for counts in zip(outcomes(one), outcomes(other), strict=True)
    ]
    assert len(pairs) == CIRCUITS + 2 * 10
    slack = math.sqrt(math.log(len(pairs) / ALARM) / SHOTS)
    distances = []
    for case, one, other in pairs:
        distance = sum(abs(one.get(n, 0) - other.get(n, 0)) for n in one.keys() | other.keys()) / (2 * SHOTS)
        bound = math.sqrt(2**case.circuit.num_clbits / (2 * SHOTS)) + slack
        assert distance <= bound, f"{distance:.3f} > {bound:.3f}\n{case.circuit.draw()}"
        distances.append(distance)
    assert max(distances) > 0  # two samples, not one twice


def random_observables(draw: random.Random, width: int) -> list[dict[str, float]]:
    labels = {"".join(draw.choices("IXYZ", k=width)) for _ in range(3)}
    return [{label: draw.uniform(-2, 2) for label in labels}, {draw.choice("XYZ") * width: 1.0}]


def test_estimates_are_those_of_the_reference(service: RuntimeService, seed: int) -> None:
    draw = random.Random(seed + 1)
    pubs: list[tuple[Any, ...]] = []
    for case in cases(seed):
        circuit = case.reference.remove_final_measurements(inplace=False)
        observables = random_observables(draw, circuit.num_qubits)
        broadcast = observables if case.values is None else [[one] for one in observables]
        pubs.append((circuit, broadcast, case.values))
    ours = service.run("estimator", {"pubs": [[*pub, PRECISION] for pub in pubs], "options": {"seed": seed}})
    exact = StatevectorEstimator().run(pubs, precision=0.0).result()
    differences = []
    for pub, one, other in zip(pubs, ours.result(timeout=60), exact, strict=True):
        assert one.data.evs.shape == other.data.evs.shape == ((2,) if pub[2] is None else (2, 3))
        assert one.data.stds == pytest.approx(PRECISION)
        differences += list((one.data.evs - other.data.evs).ravel())
    assert len(differences) == 2 * CIRCUITS + 4 * 10
    assert max(map(abs, differences)) < SIGMAS * PRECISION
    assert np.std(differences) == pytest.approx(PRECISION, rel=0.45)  # of 100 values: 6 standard errors
