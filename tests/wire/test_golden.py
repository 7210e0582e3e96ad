"""Our encoder against IBM's: the same text for the same value, and theirs can be read by us.

golden/*.json was written by qiskit-ibm-runtime's RuntimeEncoder (make_golden.py says how; each file says by what).
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from typing import Any

import make_golden
import numpy as np
import pytest
import qiskit
from qiskit import QuantumCircuit
from qiskit.primitives import DataBin
from qiskit.primitives.containers.bindings_array import BindingsArray
from qiskit.primitives.containers.estimator_pub import EstimatorPub
from qiskit.primitives.containers.observables_array import ObservablesArray
from qiskit.primitives.containers.sampler_pub import SamplerPub

from prefect_runtime.wire.codec import decode, encode_result
from prefect_runtime.wire.spans import ExecutionSpans

NAMES = sorted(make_golden.VALUES)
HOLDS_QPY = {"circuit", "circuit_parameter", "sampler_pub", "estimator_pub"}
"""QPY's bytes depend on the version of Qiskit that writes them."""
DIFFERS = {
    "circuit_parameter": "a parameter's uuid is random and part of its QPY",
}
"""Where our bytes are others than IBM's, and why."""


def golden(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((make_golden.GOLDEN / f"{name}.json").read_text())
    return found


def unpacked(text: str) -> str:
    """Return a wire text with what is compressed in it unpacked: zlib's output depends on who built it."""

    def unpack(match: re.Match[str]) -> str:
        try:
            return repr(zlib.decompress(base64.b64decode(match[1], validate=True)))
        except (ValueError, zlib.error):
            return match[0]

    return re.sub(r'"(eJ[\w+/=]+)"', unpack, text)


def plain(value: Any) -> Any:
    """Return a value in a form that can be compared with ==."""
    if isinstance(value, np.ndarray):
        return ("array", value.dtype.str, value.shape, plain(value.tolist()))
    if isinstance(value, SamplerPub):
        values = value.parameter_values.as_array(value.circuit.parameters)
        return plain([value.circuit, values, value.shots])
    if isinstance(value, EstimatorPub):
        values = value.parameter_values.as_array(value.circuit.parameters)
        return plain([value.circuit, value.observables.tolist(), values, value.precision])
    if isinstance(value, ObservablesArray):
        return ("observables", value.tolist())
    if isinstance(value, BindingsArray):
        return ("bindings", value.shape, plain(value.data))
    if isinstance(value, DataBin):
        return ("data", value.shape, plain(dict(value.items())))
    if isinstance(value, dict):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if hasattr(value, "metadata") and not isinstance(value, QuantumCircuit):
        inside = list(value) if hasattr(value, "__iter__") else value.data
        return (type(value).__name__, plain(inside), plain(value.metadata))
    if type(value).__name__ == "date":
        return plain(type(make_golden.dt.datetime.min).combine(value, make_golden.dt.time.min))
    return value


def test_there_is_a_golden_file_for_every_value_and_no_other() -> None:
    found = sorted(path.stem for path in make_golden.GOLDEN.glob("*.json"))
    assert found == sorted([*NAMES, *make_golden.IBMS_OWN])
    assert set(DIFFERS) <= set(NAMES)


@pytest.mark.parametrize("name", [*NAMES, *make_golden.IBMS_OWN])
def test_every_golden_file_says_where_it_came_from(name: str) -> None:
    found = golden(name)
    assert "qiskit_ibm_runtime.RuntimeEncoder" in found["origin"]
    assert found["versions"]["qiskit_ibm_runtime"].startswith("0.51.")


@pytest.mark.parametrize("name", NAMES)
def test_our_text_is_ibms_byte_for_byte(name: str) -> None:
    found = golden(name)
    ours = encode_result(make_golden.VALUES[name]())
    if name in HOLDS_QPY and found["versions"]["qiskit"] != qiskit.__version__:
        pytest.skip(f"QPY of Qiskit {found['versions']['qiskit']}, not of {qiskit.__version__}")
    if name in DIFFERS:
        assert ours != found["text"], "differs no longer: take it out of the list"
        pytest.skip(DIFFERS[name])
    assert unpacked(ours) == unpacked(found["text"])
    if found["versions"]["zlib"] == zlib.ZLIB_RUNTIME_VERSION:
        assert ours == found["text"]


@pytest.mark.parametrize("name", NAMES)
def test_ibms_text_is_read_as_the_value_it_was_made_from(name: str) -> None:
    expected = plain(make_golden.VALUES[name]())
    if name == "circuit_parameter":  # another uuid: another parameter
        assert [p.name for p in decode(golden(name)["text"]).parameters] == [p.name for p in expected.parameters]
        return
    assert plain(decode(golden(name)["text"])) == expected


@pytest.mark.filterwarnings("ignore")  # IBM's imports
def test_ibms_decoder_reads_our_text() -> None:
    ibm = pytest.importorskip("qiskit_ibm_runtime.json", reason="needs prefect-runtime[ibm]")
    for name in sorted(set(NAMES) - {"not_finite"}):  # theirs makes nan+infj of 1+infj
        value = make_golden.VALUES[name]()
        ours = json.loads(encode_result(value), cls=ibm.RuntimeDecoder)
        theirs = json.loads(json.dumps(value, cls=ibm.RuntimeEncoder), cls=ibm.RuntimeDecoder)
        assert plain(ours) == plain(theirs), name


def test_the_comparison_sees_into_what_is_compressed() -> None:
    one, other = (encode_result(np.full(3, number)) for number in (1.0, 2.0))
    assert unpacked(one) != unpacked(other)
    assert "NUMPY" in unpacked(one)


def test_execution_spans_are_read_into_our_own_classes_and_written_as_they_came() -> None:
    text = golden("execution_spans")["text"]
    spans = decode(text)
    assert isinstance(spans, ExecutionSpans)
    assert encode_result(spans) == text
    assert decode(encode_result({"execution": {"execution_spans": spans}})) == {"execution": {"execution_spans": spans}}
    assert [span.kind for span in spans[1:3]] == ["ExecutionSpan", "TwirledSliceSpan"]
    assert (spans.duration, spans.pub_idxs, spans[0].duration) == (9.0, [0, 1, 2], 5.0)


@pytest.mark.filterwarnings("ignore")  # IBM's imports
def test_execution_spans_hold_the_same_shots_as_ibms_own() -> None:
    pytest.importorskip("qiskit_ibm_runtime", reason="needs prefect-runtime[ibm]")
    ours, theirs = decode(golden("execution_spans")["text"]), make_golden.spans()
    assert len(ours) == len(theirs) == 5
    for one, other in zip(ours, theirs, strict=True):
        assert (one.start, one.stop, one.pub_idxs) == (other.start, other.stop, other.pub_idxs)
        # IBM says that this is the size; its TwirledSliceSpanV2 counts shots beyond the PUB's own too.
        assert one.size == sum(other.mask(pub).sum() for pub in other.pub_idxs)
        for pub in range(3):
            assert one.contains_pub(pub) == other.contains_pub(pub)
            assert one.filter_by_pub(pub).pub_idxs == ([pub] if other.contains_pub(pub) else [])
            if one.contains_pub(pub):
                mine, wanted = one.mask(pub), other.mask(pub)
                assert (mine.shape, mine.tolist()) == (wanted.shape, wanted.tolist())
            else:
                with pytest.raises(KeyError):
                    one.mask(pub)
