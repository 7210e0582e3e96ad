"""Results of client-side primitives, which IBM's code puts together: nothing in them chooses code, or has no limit."""

from __future__ import annotations

import base64
import io
import json
import sys
import tracemalloc
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from qiskit import QuantumCircuit, qpy
from qiskit.quantum_info import Operator

from prefect_runtime.wire import codec
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.errors import ResultDecodeError

ibm_json = pytest.importorskip("qiskit_ibm_runtime.json", reason="needs prefect-runtime[ibm]")

pytestmark = pytest.mark.filterwarnings("ignore")  # IBM's own

GOLDEN = Path(__file__).parents[2] / "wire/golden/executor_sampler.json"


class Small(ResultDecoder):
    max_bytes = 1_000_000


def answer() -> dict[str, Any]:
    value: dict[str, Any] = json.loads(json.loads(GOLDEN.read_text())["text"])
    return value


def with_option(payload: Any) -> str:
    """Return an answer with something in the options, which are handed on as they are."""
    value = answer()
    value["passthrough_data"]["post_processor"]["options"]["mine"] = payload
    return json.dumps(value)


def settings(module: str, name: str, **value: Any) -> dict[str, Any]:
    return {"__type__": "settings", "__module__": module, "__class__": name, "__value__": value}


def tensor(size: int, **more: Any) -> dict[str, Any]:
    return {"data": codec.pack(bytes(size)), "shape": [size], "dtype": "u8", **more}


def test_what_the_service_answers_to_the_sampler_is_put_together() -> None:
    result = ResultDecoder.decode(json.dumps(answer()))
    assert result[0].data.meas.get_bitstrings() == ["01", "10", "00"]
    assert result.metadata["shots"] == 3


def test_no_class_that_it_names_is_made(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    monkeypatch.setattr(Operator, "__init__", lambda self, *values, **named: made.append((values, named)))
    payload = settings("qiskit.quantum_info.operators.operator", "Operator", data=[[1, 0], [0, 1]])
    assert ResultDecoder.decode(with_option(payload)).metadata["options"]["mine"] == payload
    assert made == []


def test_no_module_that_it_names_is_looked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    looked_for: list[str] = []

    class Finder:
        @staticmethod
        def find_spec(name: str, path: Any = None, target: Any = None) -> None:
            looked_for.append(name)

    ResultDecoder.decode(json.dumps(answer()))  # what IBM's code imports late is imported
    monkeypatch.setattr(sys, "meta_path", [Finder, *sys.meta_path])
    payload = settings("qiskit.quantum_info.operators.nobodys", "Evil")
    assert ResultDecoder.decode(with_option(payload)).metadata["options"]["mine"] == payload
    assert looked_for == []


def test_qpy_in_it_is_not_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Under a tag of IBM's that ours has not; below version 13 loading can execute code."""
    loaded: list[int] = []
    monkeypatch.setattr(ibm_json, "_load_qpy", lambda file: loaded.append(file.getvalue()[6]) or [])
    buffer = io.BytesIO()
    qpy.dump(QuantumCircuit(1), buffer, version=13)
    old = bytearray(buffer.getvalue())
    old[6] = 12
    payload = {"__type__": "Instruction", "__value__": codec.pack(bytes(old))}
    assert ResultDecoder.decode(with_option(payload)).metadata["options"]["mine"] == payload
    assert loaded == []


def test_what_is_compressed_under_a_tag_of_ibms_is_not_unpacked() -> None:
    size = 100 * 1024 * 1024
    bomb = base64.b64encode(zlib.compress(bytes(size), 9)).decode()
    text = with_option({"__type__": "Instruction", "__value__": bomb})
    ResultDecoder.decode(json.dumps(answer()))
    tracemalloc.start()
    try:
        ResultDecoder.decode(text)
        assert tracemalloc.get_traced_memory()[1] < size / 10
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "hidden",
    [
        tensor(2_000_000),
        tensor(2_000_000, __type__="ndarray", __value__=[1]),
        tensor(10, dtype="no such", inside=tensor(2_000_000)),
        {"__type__": "complex", "__value__": [1, 2], "beside": tensor(2_000_000)},
    ],
    ids=["plain", "with a tag beside", "in what is no array", "beside a value"],
)
def test_arrays_count_wherever_they_stand(hidden: dict[str, Any]) -> None:
    value = answer()
    value["passthrough_data"]["more"] = hidden
    with pytest.raises(ResultDecodeError, match="larger than"):
        Small.decode(json.dumps(value))
    value["passthrough_data"]["more"] = tensor(1000)
    assert np.array_equal(Small.decode(json.dumps(value))[0].data.meas.array.ravel(), [1, 2, 0])


def test_an_estimators_answer_that_promises_more_pubs_than_it_has_data_for_is_refused_before_room_is_made() -> None:
    value = answer()
    value["semantic_role"] = "estimator_v2"
    value["passthrough_data"]["post_processor"] |= {"num_pubs": 10**7, "circuits_metadata": None}
    with pytest.raises(ResultDecodeError):
        ResultDecoder.decode(json.dumps(answer() | {"semantic_role": "estimator_v2"}))  # its modules are loaded
    tracemalloc.start()
    try:
        with pytest.raises(ResultDecodeError, match="1 items for 10000000 PUBs"):
            ResultDecoder.decode(json.dumps(value))
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "lie", [{"data": 5}, {"passthrough_data": {}}, {"schema_version": "v9"}, {"schema_version": []}], ids=repr
)
def test_what_lies_about_itself_is_a_decode_error(lie: dict[str, Any]) -> None:
    with pytest.raises(ResultDecodeError, match="cannot be put together"):
        ResultDecoder.decode(json.dumps({**answer(), **lie}))
