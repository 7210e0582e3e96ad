"""Pictures are for people: a run goes on without them."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from qiskit.primitives import BitArray, DataBin, PrimitiveResult, SamplerPubResult

from prefect_runtime import plots
from prefect_runtime.result_page import render_result
from prefect_runtime.wire.errors import ConfigurationError


def test_without_matplotlib_a_picture_says_once_what_to_install(caplog: pytest.LogCaptureFixture) -> None:
    asked = []

    def needs_matplotlib() -> Any:
        asked.append(1)
        raise ConfigurationError("Pictures need matplotlib: pip install 'prefect-runtime[plots]'.")

    with caplog.at_level("WARNING"), plots.Picture("some-key", "of a test") as picture:
        for _ in range(3):
            picture.draw(needs_matplotlib)
    assert [record.message for record in caplog.records] == [
        "no picture some-key: Pictures need matplotlib: pip install 'prefect-runtime[plots]'."
    ]
    assert asked == [1]


def test_panels_stand_side_by_side_with_a_title_each() -> None:
    figure, row = plots.panels(["one", "two"], "x", "y")
    assert [axes.get_title() for axes in row] == ["one", "two"]
    assert row[0].get_ylabel() == "y"
    assert plots.data_uri(figure).startswith("data:image/png;base64,iVBORw0KGgo")


def sampled(bits: np.ndarray[Any, Any]) -> SamplerPubResult:
    """Return the result of a PUB, of bits with the shape (shots, qubits)."""
    return SamplerPubResult(DataBin(meas=BitArray.from_bool_array(bits)))


def test_counts_of_all_qubits_of_a_large_backend_leave_room_for_the_bars() -> None:
    bits = np.random.default_rng(1).integers(0, 2, (2000, 127)).astype(bool)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # matplotlib says so where there is none
        assert plots.histogram(PrimitiveResult([sampled(bits)])) is not None


def test_a_register_without_shots_costs_the_others_no_picture() -> None:
    none, some = sampled(np.zeros((0, 2), dtype=bool)), sampled(np.ones((3, 2), dtype=bool))
    assert plots.histogram(PrimitiveResult([none, some])) is not None
    assert plots.histogram(PrimitiveResult([none])) is None
    assert "Register `meas`, 0 shots" in render_result(PrimitiveResult([none]))
