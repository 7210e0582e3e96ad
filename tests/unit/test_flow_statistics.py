"""The statistics of the flows, by known answers: what they call drift, and what they call random."""

from __future__ import annotations

import json
from math import comb, log

import backend_health
import nightly_regression
import numpy as np
import pytest
import random_numbers
from qiskit.quantum_info import Statevector
from scipy.stats import binom

LIMIT = 2.5e-7  # of one circuit of four, at one false alarm in a million nights


@pytest.mark.parametrize("share", [0.5, 0.05])
def test_the_g_test_gives_no_more_false_alarms_than_it_says(share: float) -> None:
    shots = 1000
    alarms = [
        ones
        for ones in range(shots + 1)
        if nightly_regression.p_value({"1": ones, "0": shots - ones}, {"1": share, "0": 1 - share}, exact=True) < LIMIT
    ]
    exact_rate = float(binom.pmf(alarms, shots, share).sum())
    assert LIMIT / 3 < exact_rate < 2 * LIMIT  # counts are whole numbers, and chi-square is a limit


def test_a_g_test_of_two_samples_is_what_the_formula_gives() -> None:
    a, b = {"0": 520, "1": 480}, {"0": 600, "1": 400}
    g = 2 * sum(x * log(x / m) for x, m in [(520, 560), (480, 440), (600, 560), (400, 440)])
    assert g == pytest.approx(12.999, abs=0.05)
    assert nightly_regression.p_value(a, b, exact=False) == pytest.approx(0.00031, abs=2e-5)  # chi-square, 1 degree


def test_an_impossible_outcome_is_drift_for_certain() -> None:
    assert nightly_regression.p_value({"0": 3999, "1": 1}, {"0": 1.0}, exact=True) == 0
    assert nightly_regression.p_value({"0": 4000}, {"0": 1.0}, exact=True) == 1
    assert nightly_regression.p_value({"0": 3999, "1": 1}, {"0": 4000}, exact=False) > 0.01


def test_the_stored_expectations_are_the_exact_ones() -> None:
    stored = json.loads(nightly_regression.EXACT.read_text())["probabilities"]
    circuits = nightly_regression.circuits()
    assert stored.keys() == circuits.keys()
    for name, circuit in circuits.items():
        exact = Statevector(circuit.remove_final_measurements(inplace=False)).probabilities_dict(decimals=12)
        assert stored[name] == pytest.approx(exact, abs=1e-11)


def test_a_prediction_interval_is_students() -> None:
    before = [1.0, 2.0, 3.0, 4.0, 5.0]
    at_the_limit = 3 + 2.776445 * 2.5**0.5 * 1.2**0.5  # Student's t, 4 degrees of freedom, two-sided 5 %
    assert backend_health.p_value(at_the_limit, before, 0.0) == pytest.approx(0.05, abs=1e-6)
    assert backend_health.p_value(at_the_limit, before, 5.0) > 0.3  # no finer than can be told apart


def test_drift_needs_five_runs_and_a_change_that_matters() -> None:
    rows = [{"success": 0.8, "readout error": 0.01} for _ in range(5)]
    worse = {"success": 0.8, "readout error": 0.02}
    assert backend_health.drifted(worse, rows, 2000, 1e-3) == ["readout error 0.01 → 0.02"]
    assert backend_health.drifted(worse, rows[:4], 2000, 1e-3) == []
    assert backend_health.drifted({"success": 0.79, "readout error": 0.0101}, rows, 2000, 1e-3) == []
    assert backend_health.drifted({"success": 0.6}, rows, 2000, 1e-3) == ["success 0.8 → 0.6"]


def test_a_mirror_circuit_has_the_one_outcome_it_says() -> None:
    circuit, outcome = backend_health.mirror_circuit(4, 8)
    ideal = Statevector(circuit.remove_final_measurements(inplace=False)).probabilities_dict(decimals=9)
    assert ideal == {outcome: pytest.approx(1)}


@pytest.mark.parametrize(("bits", "p"), [("1011010101", 0.527089), ("1100100100001111110110101010001000100001", None)])
def test_monobit_gives_the_examples_of_the_standard(bits: str, p: float | None) -> None:
    pi = bits + "011010001100001000110100110001001100011001100010100010111000"
    sample, expected = (bits, p) if p else (pi, 0.109599)  # SP 800-22, sections 2.1.4 and 2.1.8
    assert random_numbers.monobit(np.array(list(sample), dtype=np.uint8)) == pytest.approx(expected, abs=1e-6)


def test_the_cutoffs_are_the_first_counts_as_rare_as_a_false_alarm_may_be() -> None:
    repetitions, proportion = random_numbers.cutoffs(1.0)
    assert repetitions == 41
    at_least = [sum(comb(1024, k) for k in range(first, 1025)) / 2**1024 for first in (proportion, proportion - 1)]
    assert at_least[0] <= random_numbers.FALSE_ALARM < at_least[1]


def test_the_health_tests_stop_a_stuck_qubit_and_one_with_a_bias() -> None:
    good = np.random.default_rng(1).integers(0, 2, (3, 4096), dtype=np.uint8)
    assert "limit 46" in random_numbers.check_source.fn(good, 0.9)["Longest run of equal bits"]
    stuck = good.copy()
    stuck[1, 1000:1060] = 1
    with pytest.raises(random_numbers.HealthTestError, match="Qubit 1: 6"):
        random_numbers.check_source.fn(stuck, 0.9)
    biased = good.copy()
    biased[2] |= (np.random.default_rng(2).random(4096) < 0.6).astype(np.uint8)  # 80 % ones
    with pytest.raises(random_numbers.HealthTestError, match="Qubit 2"):
        random_numbers.check_source.fn(biased, 0.9)


def test_of_two_bits_in_a_row_that_differ_the_first_is_kept() -> None:
    bits = np.array([[0, 1, 1, 1, 1, 0, 0, 0, 1], [1, 0, 0, 1, 0, 0, 1, 1, 0]], dtype=np.uint8)
    assert random_numbers.unbias.fn(bits).tolist() == [0, 1, 1, 0]
