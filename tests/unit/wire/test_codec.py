"""Plain values and NumPy's on the wire: what goes in comes out, and what lies about itself does no harm.

Qiskit's values: test_qiskit_values.py. Against IBM's own encoder: tests/wire.
"""

from __future__ import annotations

import base64
import contextlib
import datetime as dt
import io
import json
import math
import subprocess
import sys
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult, SamplerPubResult

from prefect_runtime.client.fingerprint import fingerprint
from prefect_runtime.wire import arrays, codec
from prefect_runtime.wire.codec import ResultDecoder, RuntimeEncoder, decode, encode_inputs, encode_result
from prefect_runtime.wire.errors import ConfigurationError, ResultDecodeError

INF, NAN = math.inf, math.nan
TAGS = sorted(
    codec.QISKIT_TAGS | codec.SPAN_TAGS | {"ExecutionSpans", "ndarray", "complex", "set", "datetime", "nobody's"}
)


def round_trip(value: Any) -> Any:
    return decode(encode_result(value))


def tagged(tag: str, value: Any, **more: Any) -> str:
    return json.dumps({"__type__": tag, "__value__": value, **more})


def npy(header: str, data: bytes = b"", version: tuple[int, int] = (1, 0)) -> str:
    """Return the wire form of an npy file with that header."""
    text = header.encode() + b"\n"
    size = len(text).to_bytes(2 if version == (1, 0) else 4, "little")
    return codec.pack(b"\x93NUMPY" + bytes(version) + size + text + data)


# Round trips


@pytest.mark.parametrize(
    "value",
    [
        None, True, 0, -1, 2**80, 0.1, -0.0, INF, "", "é ☃ \U0001f600", "_poison_pill", [], {}, [1, [2, {"a": None}]],
        1 + 2j, complex(1, INF), complex(-INF, 0.0), complex(0.0, -0.0),
        dt.datetime(2024, 1, 2, 3, 4, 5, 6), dt.datetime(2024, 1, 2, tzinfo=dt.UTC),
        dt.datetime(2024, 1, 2, tzinfo=dt.timezone(dt.timedelta(hours=2))),
        set(), {1, "a", 2.5}, {(0, 1), (1, 2)}, {((0, 1), (1, 2))}, {frozenset({1}), (frozenset({2}), 3)},
    ],
    ids=lambda value: str(sorted(map(str, value))) if isinstance(value, set) else repr(value),
)  # fmt: skip
def test_what_goes_in_comes_out(value: Any) -> None:
    again = round_trip(value)
    assert type(again) is type(value)
    assert repr(again) == repr(value) if not isinstance(value, set) else again == value


def test_nan_stays_nan_in_each_part() -> None:
    assert math.isnan(round_trip(NAN))
    again = round_trip(complex(NAN, 1.0))
    assert (math.isnan(again.real), again.imag) == (True, 1.0)


def test_containers_that_json_has_one_word_for_come_back_as_the_plain_one() -> None:
    assert round_trip({"a": (1, (2, 3))}) == {"a": [1, [2, 3]]}
    assert round_trip(frozenset({1})) == {1}
    assert round_trip({1: "a"}) == {"1": "a"}


def test_a_date_comes_back_as_its_midnight() -> None:
    assert round_trip(dt.date(2024, 1, 2)) == dt.datetime(2024, 1, 2)


DTYPES = """? i1 i2 i4 i8 u1 u2 u4 u8 f2 f4 f8 c8 c16 >i4 >f8 U5 S5 M8[us] m8[s] V4 V0"""


@pytest.mark.parametrize("shape", [(), (0,), (3,), (2, 0, 3), (2, 3)], ids=str)
@pytest.mark.parametrize("dtype", DTYPES.split())
def test_arrays_keep_dtype_shape_and_elements(dtype: str, shape: tuple[int, ...]) -> None:
    array = np.zeros(shape, dtype=dtype)
    if array.size and array.dtype.kind not in "VmM":
        array.flat[0] = "x" if array.dtype.kind in "US" else 1
    again = round_trip({"a": [array]})["a"][0]
    assert (again.dtype, again.shape) == (array.dtype, shape)
    np.testing.assert_array_equal(again, array)


def test_arrays_of_any_layout_keep_their_elements() -> None:
    array = np.arange(24.0).reshape(2, 3, 4)
    for view in (array.T, array[:, ::-1], np.asfortranarray(array), np.broadcast_to(1.5, (2, 2))):
        np.testing.assert_array_equal(round_trip(view), view)


@pytest.mark.parametrize("names", [["a", "b"], ["θ", "φ"], [f"field_{number:04}" for number in range(600)]])
def test_structured_arrays_keep_their_fields(names: list[str]) -> None:
    array = np.array([tuple(range(len(names)))], dtype=[(name, "f8") for name in names])
    again = round_trip(array)
    assert again.dtype == array.dtype
    assert again.tolist() == array.tolist()


@pytest.mark.parametrize("numbers", [[2**53 + 1, 0.5], [-1, 2**63 + 1], [2**62 + 1, 1j], [2**70 + 1, 0.5]], ids=repr)
def test_numbers_in_an_array_of_objects_are_not_rounded(numbers: list[Any]) -> None:
    assert round_trip(np.array(numbers, dtype=object)).tolist() == numbers
    assert decode('{"__type__": "ndarray", "__value__": [1, 0.5, 1152921504606846976]}').dtype == float


@pytest.mark.parametrize("value", ["a text", 5, None, {"a": 1}], ids=repr)
def test_an_array_of_one_object_without_a_place_is_that_object(value: Any) -> None:
    assert round_trip(np.array(value, dtype=object)) == value


@pytest.mark.parametrize("objects", [[None, "a"], [{"a": 1}, {}], [[1, 2], [3]], [[], []], [], ["a", 1.5]], ids=repr)
def test_arrays_of_objects_keep_their_elements(objects: list[Any]) -> None:
    array = np.empty(len(objects), dtype=object)
    array[:] = objects
    again = round_trip(array)
    assert isinstance(again, np.ndarray)
    assert again.tolist() == objects


@pytest.mark.parametrize(
    "scalar",
    [kind(1) for kind in (np.bool_, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64,
                          np.float16, np.float32, np.float64, np.complex64, np.complex128, np.str_)],
    ids=lambda scalar: type(scalar).__name__,
)  # fmt: skip
def test_numpy_scalars_become_the_python_value_they_equal(scalar: Any) -> None:
    again = round_trip([scalar])[0]
    assert again == scalar.item()
    assert type(again) is type(scalar.item())
    assert decode(encode_inputs({"a": scalar}))["a"] == scalar.item()


@pytest.mark.parametrize("scalar", [np.float32("nan"), np.float64("inf"), np.complex64(complex(1, INF))], ids=repr)
def test_numpy_scalars_keep_what_is_not_finite(scalar: Any) -> None:
    assert repr(round_trip(scalar)) == repr(scalar.item())


# Texts of results


@pytest.mark.parametrize("text", ["", "Traceback (most recent call last)", "{'a': 1}", "[1, 2", "\ufeff[]", "nul"])
def test_text_that_is_not_json_comes_back_unchanged(text: str) -> None:
    assert ResultDecoder.decode(text) == text


def test_utf_8_is_kept() -> None:
    assert ResultDecoder.decode('"é ☃"') == "é ☃"
    assert ResultDecoder.decode("é ☃") == "é ☃"


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_a_result_nested_too_deeply_is_a_decode_error(text: str) -> None:
    with pytest.raises(ResultDecodeError):
        ResultDecoder.decode(text)


def test_a_number_of_too_many_digits_is_a_decode_error_or_text() -> None:
    """Python refuses integers of more than 4300 digits with a plain ValueError."""
    text = "9" * 5000
    with contextlib.suppress(ResultDecodeError):
        assert ResultDecoder.decode(text) == text


# Tags that lie


@pytest.mark.parametrize("tag", TAGS)
def test_a_tag_without_a_value_stays_a_plain_dict(tag: str) -> None:
    assert ResultDecoder.decode(json.dumps({"__type__": tag})) == {"__type__": tag}


@pytest.mark.parametrize("tag", [None, 5, ["ndarray"], {"a": 1}, "nobody's", "to_json", "Result", "spmatrix", "_json"])
def test_a_tag_that_is_not_ours_stays_a_plain_dict(tag: Any) -> None:
    assert ResultDecoder.decode(tagged(tag, [1])) == {"__type__": tag, "__value__": [1]}


@pytest.mark.parametrize(
    ("tag", "value"),
    [
        ("datetime", 5), ("datetime", "yesterday"), ("datetime", None),
        ("complex", 5), ("complex", [1, 2, 3]), ("complex", ["a", "b"]), ("complex", None),
        ("set", 5), ("set", None), ("set", [{"a": 1}]),
        ("ndarray", "x"), ("ndarray", "é"), ("ndarray", ""), ("ndarray", codec.pack(b"no npy")),
        ("ndarray", base64.b64encode(b"no zlib").decode()),
        ("QuantumCircuit", 5), ("QuantumCircuit", "x"), ("QuantumCircuit", codec.pack(b"no qpy")),
        ("BitArray", {}), ("BitArray", {"array": 5, "num_bits": 3}), ("DataBin", {"fields": 5, "shape": []}),
        ("PrimitiveResult", {"pub_results": 5}), ("PubResult", []), ("BindingsArray", {"shape": [], "data": 5}),
        ("ExecutionSpans", 5), ("DoubleSliceSpan", {"start": "now", "stop": "then", "data_slices": {}}),
        ("ObservablesArray", {"QQ": 1}), ("SamplerPubResult", {"nonsense": 1}),
    ],
)  # fmt: skip
def test_a_value_that_is_not_what_its_tag_says_is_a_decode_error_that_names_the_tag(tag: str, value: Any) -> None:
    with pytest.raises(ResultDecodeError) as caught:
        ResultDecoder.decode(tagged(tag, value))
    if "compressed" not in str(caught.value) and "circuit" not in str(caught.value):
        assert repr(tag) in str(caught.value)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6) | st.just("XX"),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["data", "array", "num_bits", "shape", "fields", "pub_results", "metadata", "coeffs", "spans", "x"]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=6,
)


@settings(deadline=None)
@given(tag=st.sampled_from(TAGS), value=JSON, kind=st.sampled_from(["SparsePauliOp", "Pauli", "PauliList", "Popen"]))
def test_no_value_under_any_tag_raises_anything_but_a_decode_error(tag: str, value: Any, kind: str) -> None:
    text = tagged(tag, value, __module__="qiskit.quantum_info.operators.symplectic", __class__=kind)
    try:
        ResultDecoder.decode(text)
    except ResultDecodeError as error:
        assert len(str(error)) < 300


# Sizes


def test_what_unpacks_to_more_than_the_limit_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(codec, "MAX_DECODED_BYTES", 1000)
    assert codec.unpack(codec.pack(b"\0" * 1000)) == b"\0" * 1000
    with pytest.raises(ResultDecodeError, match="larger than 1000"):
        codec.unpack(codec.pack(b"\0" * 1001))
    with pytest.raises(ResultDecodeError, match="larger"):
        ResultDecoder.decode(tagged("ndarray", codec.pack(b"\0" * 50_000_000)))


def test_many_small_values_that_unpack_to_more_than_the_limit_together_are_refused() -> None:
    array = tagged("ndarray", codec._pack_array(np.zeros(50)))  # 400 bytes and a header of 128

    class Small(ResultDecoder):
        max_bytes = 1200

    assert len(Small.decode(f"[{array}, {array}]")) == 2
    with pytest.raises(ResultDecodeError, match="larger than 144 bytes"):
        Small.decode(f"[{array}, {array}, {array}]")
    assert len(Small.decode(f"[{array}, {array}]")) == 2  # the next text has all of it again
    assert len(ResultDecoder.decode(f"[{array}, {array}, {array}]")) == 3


def test_a_bomb_takes_no_more_room_than_may_be_unpacked() -> None:
    """Measured: to unpack it, and then to say that it is too large, would be too late."""
    bomb = tagged("ndarray", codec.pack(bytes(100 * 1024 * 1024)))

    class Small(ResultDecoder):
        max_bytes = 1_000_000

    tracemalloc.start()
    try:
        with pytest.raises(ResultDecodeError, match="larger than"):
            Small.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 10 * 1024 * 1024
    finally:
        tracemalloc.stop()


def test_a_text_within_a_text_has_no_limit_of_its_own() -> None:
    array = tagged("ndarray", codec._pack_array(np.zeros(50)))  # 400 bytes and a header of 128

    class Small(ResultDecoder):
        max_bytes = 1200

    bindings = tagged("BindingsArray", {"shape": [], "data": {f"[{array}, {array}]": 1}})
    with pytest.raises(ResultDecodeError, match="larger than 144 bytes"):
        Small.decode(f"[{array}, {bindings}]")


def test_a_bomb_is_refused_by_how_much_larger_it_gets(monkeypatch: pytest.MonkeyPatch) -> None:
    """Below the size that is free, shots of which all are alike may compress as well as they do."""
    monkeypatch.setattr(codec, "FREE_DECODED_BYTES", 100_000)
    alike = tagged("ndarray", codec._pack_array(np.zeros(90_000, dtype=np.uint8)))
    assert ResultDecoder.decode(alike).size == 90_000
    for bomb in (tagged("ndarray", codec._pack_array(np.zeros(110_000, dtype=np.uint8))), f"[{alike}, {alike}]"):
        with pytest.raises(ResultDecodeError, match="larger than"):
            ResultDecoder.decode(bomb)
    noise = np.random.default_rng(1).integers(0, 256, 300_000, dtype=np.uint8)
    assert ResultDecoder.decode(tagged("ndarray", codec._pack_array(noise))).size == 300_000

    class Trusting(ResultDecoder):
        max_bytes = 1_000_000

    assert len(Trusting.decode(f"[{alike}, {alike}]")) == 2


def test_one_long_text_among_many_short_ones_makes_no_huge_array() -> None:
    """NumPy gives each the room of the longest: these 30 KB of text would take 80 MB."""
    texts = ["x" * 10_000, *["y"] * 2_000]
    array = ResultDecoder.decode(tagged("ndarray", texts))
    assert array.tolist() == texts
    assert array.nbytes < 100_000
    assert ResultDecoder.decode(tagged("ndarray", [["x", "yy"], ["z", ""]])).tolist() == [["x", "yy"], ["z", ""]]


@pytest.mark.parametrize("beside", ["x" * 100, 1.5, 1j, None], ids=repr)
def test_arrays_in_an_array_of_objects_stay_as_they_are_whatever_is_beside_them(beside: Any) -> None:
    """Spread out, each of their bytes would take up to 400."""
    zeros = {"__type__": "ndarray", "__value__": codec._pack_array(np.zeros(20_000, dtype=np.int8))}
    last = json.loads(encode_result([beside] + [0] * 19_999))
    array = ResultDecoder.decode(tagged("ndarray", [*[zeros] * 30, last]))
    assert (array.dtype, array.shape) == (object, (31,))
    assert {(member.dtype.name, member.nbytes) for member in array[:30]} == {("int8", 20_000)}
    assert array[30][0] == beside


_READ = """
import json, sys
sys.modules["qiskit"] = None  # an import of it fails
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.plain_values import get_counts
result = ResultDecoder.decode(sys.stdin.read())
first, second = result["pub_results"]
print(json.dumps([
    get_counts(first["data"]["c"]), get_counts(first["data"]["wide"], (1,)), first["metadata"],
    second["data"]["evs"].tolist(), str(result["metadata"]["when"]), first["data"]["c"]["array"].dtype.name,
]))
"""


def test_results_are_plain_data_where_there_is_no_qiskit() -> None:
    wide = BitArray(np.array([[[0, 1], [0, 1]], [[1, 2], [0, 3]]], dtype=np.uint8), 9)
    result = PrimitiveResult(
        [
            SamplerPubResult(
                DataBin(c=BitArray(np.array([[1], [2], [1]], dtype=np.uint8), 2), wide=wide), {"shots": 3}
            ),
            PubResult(DataBin(evs=np.array([0.5, -1.0]))),
        ],
        {"when": dt.datetime(2024, 1, 2)},
    )
    done = subprocess.run(
        [sys.executable, "-c", _READ], input=encode_result(result), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == [
        {"01": 2, "10": 1},
        wide[1].get_counts(),
        {"shots": 3},
        [0.5, -1.0],
        "2024-01-02 00:00:00",
        "uint8",
    ]


@pytest.mark.parametrize("cut", [1, 3, 8])
def test_a_compressed_value_that_is_cut_off_is_refused(cut: int) -> None:
    whole = zlib.compress(b"something longer than that")
    with pytest.raises(ResultDecodeError, match="cut off"):
        codec.unpack(base64.b64encode(whole[:-cut]).decode())


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
@pytest.mark.parametrize("shape", ["(1000000000000,)", "(40,)", "(4294967296, 4294967296)"])
def test_an_array_header_that_promises_more_than_there_is_is_refused(shape: str, version: tuple[int, int]) -> None:
    text = npy(f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}", b"\0" * 16, version)
    with pytest.raises(ResultDecodeError, match="shorter"):
        ResultDecoder.decode(tagged("ndarray", text))


@pytest.mark.parametrize("version", [(2, 0), (3, 0)])
def test_an_array_header_of_any_length_is_refused(version: tuple[int, int]) -> None:
    """NumPy says of its own limit that what is longer may not be safe to read; version 1.0 has no room for more."""
    header = "{'descr': '<f8', 'fortran_order': False, 'shape': ()}"
    assert ResultDecoder.decode(tagged("ndarray", npy(header, b"\0" * 8, version))) == 0
    with pytest.raises(ResultDecodeError):
        ResultDecoder.decode(tagged("ndarray", npy(header + " " * arrays.MAX_HEADER_BYTES, b"\0" * 8, version)))


@pytest.mark.parametrize("junk", ["\n", "!", " ", "="])
def test_a_compressed_value_with_anything_else_in_it_is_refused(junk: str) -> None:
    text = codec.pack(b"something")
    with pytest.raises(ResultDecodeError, match="cannot be read"):
        codec.unpack(text[:8] + junk + text[8:])


def test_pickles_in_arrays_are_never_loaded() -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
    for data in (buffer.getvalue(), b"\x80\x04N."):
        with pytest.raises(ResultDecodeError):
            ResultDecoder.decode(tagged("ndarray", codec.pack(data)))


def test_an_npy_version_we_do_not_know_is_refused_by_name() -> None:
    text = npy("{'descr': '<f8', 'fortran_order': False, 'shape': ()}", b"\0" * 8, (4, 0))
    with pytest.raises(ResultDecodeError, match=r"\(4, 0\)"):
        ResultDecoder.decode(tagged("ndarray", text))


# Inputs that cannot be sent


class Unknown:
    pass


@pytest.mark.parametrize(
    ("inputs", "place", "why"),
    [
        ({"a": Unknown()}, "inputs['a']", "Unknown"),
        ({"a": [1, {"b": (0, Unknown())}]}, "inputs['a'][1]['b'][1]", "Unknown"),
        ({"a": {"b": b"bytes"}}, "inputs['a']['b']", "bytes"),
        ({"a": [0, {Unknown()}]}, "inputs['a'][1]", "Unknown"),
        ({"a": {(1, 2): 3}}, "inputs['a']", "tuple"),
        ({"a": len}, "inputs['a']", "builtin_function_or_method"),
    ],
    ids=lambda part: part if isinstance(part, str) else "inputs",
)
def test_the_place_and_type_of_what_cannot_be_sent_are_named(inputs: dict[str, Any], place: str, why: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        encode_inputs(inputs)
    assert f"Cannot encode {place}: " in str(caught.value)
    assert why in str(caught.value)
    assert "Nothing was sent" in str(caught.value)


def itself() -> dict[str, Any]:
    value: dict[str, Any] = {}
    value["a"] = [value, value]
    return value


def deep(levels: int) -> dict[str, Any]:
    value: Any = 0
    for _ in range(levels):
        value = [value]
    return {"a": value}


@pytest.mark.parametrize("inputs", [itself(), deep(2_000), deep(50_000)], ids=["itself", "deep", "very deep"])
def test_inputs_that_never_end_or_nearly_so_are_refused_with_a_short_message(inputs: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="nested more than") as caught:
        encode_inputs(inputs)
        fingerprint(inputs)  # from Python 3.12 on, JSON is written that deep; what is sent has a fingerprint before
    assert len(str(caught.value)) < 1_000


def test_an_extended_float_is_refused_with_its_type() -> None:
    with pytest.raises(ConfigurationError, match=r"inputs\['a'\].*longdouble"):
        encode_inputs({"a": np.longdouble(1)})


@pytest.mark.parametrize(
    "value",
    [
        np.ma.MaskedArray([1.0, -999.0], mask=[False, True]),
        np.datetime64("2020-01-01T00:00:00.123456789"),
        np.datetime64("NaT", "us"),
        np.timedelta64(5, "ns"),
        np.timedelta64(5, "Y"),
    ],
    ids=repr,
)
def test_a_value_that_would_come_back_as_another_is_refused(value: Any) -> None:
    with pytest.raises(ConfigurationError, match=rf"inputs\['a'\]\[0\].*{type(value).__name__}"):
        encode_inputs({"a": [value]})
    with pytest.raises(TypeError, match=type(value).__name__):
        encode_result(value)


def test_times_of_numpys_that_python_has_too_are_kept() -> None:
    assert round_trip(np.datetime64("2020-01-01T00:00:00.123456")) == dt.datetime(2020, 1, 1, 0, 0, 0, 123456)


def test_the_encoder_refuses_what_it_does_not_know_and_never_sends_nothing_instead() -> None:
    for value in (Unknown(), Unknown, len, b"", object()):
        with pytest.raises(TypeError, match="no JSON form"):
            json.dumps(value, cls=RuntimeEncoder)


@pytest.mark.parametrize("shape", [(3,), (2, 2), (2, 1, 3), (2, 0)])
def test_an_array_of_any_objects_keeps_its_shape(shape: tuple[int, ...]) -> None:
    array = np.empty(shape, dtype=object)
    for number, index in enumerate(np.ndindex(shape)):
        array[index] = dt.datetime(2020, 1, 1 + number, tzinfo=dt.UTC)
    again = decode(encode_result(array))
    assert again.shape == shape
    assert again.tolist() == array.tolist()
