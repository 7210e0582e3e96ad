"""Programs' metadata at the door: schemas when they are uploaded, inputs when a job is posted."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from qiskit import QuantumCircuit

from prefect_runtime.local import intake, schemas
from prefect_runtime.local.plain_view import Unseen, plain
from prefect_runtime.local.refusals import Refusal
from prefect_runtime.local.uploads import Program
from prefect_runtime.wire import codec

SOURCE = "def main(backend, user_messenger, **kwargs):\n    return 1\n"


def on_the_wire(value):
    return json.loads(codec.encode_inputs({"value": value}))["value"]


def refusal_of(call, *arguments):
    with pytest.raises(Refusal) as caught:
        call(*arguments)
    assert caught.value.status == 400
    return caught.value.message


@pytest.fixture
def post():
    """Reads a job request for a program with some metadata, as the server does."""

    def post(spec, *, cost=600.0, **body):
        program = Program(id="p", name="p", data=SOURCE, cost=cost, spec=spec)
        stored = type("Stored", (), {"get": staticmethod(lambda _: program)})()
        return intake.new_job({"program_id": "p", **body}, stored)

    return post


SCHEMA = {
    "type": "object",
    "properties": {
        "depth": {"type": "integer", "minimum": 1, "default": 3},
        "angles": {"type": "array", "items": {"type": "number", "maximum": 7}, "minItems": 2},
        "mode": {"enum": ["fast", "slow"]},
        "ansatz": {"properties": {"layers": {"type": "array", "items": {"type": "object", "required": ["name"]}}}},
    },
    "required": ["depth"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({}, "inputs.depth: is required."),
        ({"depth": "deep"}, "inputs.depth: must be of type integer, is string."),
        ({"depth": True}, "inputs.depth: must be of type integer, is boolean."),
        ({"depth": 0}, "inputs.depth: must be at least 1."),
        ({"depth": 1, "angles": [1, 2, 8]}, "inputs.angles[2]: must be at most 7."),
        ({"depth": 1, "angles": [1]}, "inputs.angles: must be of a length of at least 2."),
        ({"depth": 1, "mode": "my secret"}, 'inputs.mode: must be one of ["fast", "slow"].'),
        ({"depth": 1, "ansatz": {"layers": [{"name": 1}, {}]}}, "inputs.ansatz.layers[1].name: is required."),
        ({"depth": 1, "dpeth": 2}, "inputs: has members that the program does not know: dpeth."),
    ],
)
def test_inputs_that_break_the_schema_are_refused_by_name_without_their_value(post, inputs, said):
    assert refusal_of(lambda: post({"parameters": SCHEMA}, params=inputs)) == said


def test_inputs_that_keep_the_schema_are_taken_as_they_are_and_defaults_are_not_filled_in(post):
    inputs = {"depth": 2, "angles": [0.5, 1], "mode": "fast"}
    assert json.loads(post({"parameters": SCHEMA}, params=inputs).params) == inputs
    assert post({}, params={"anything": 1}).params == '{"anything": 1}'


@pytest.mark.parametrize(
    ("value", "seen"),
    [
        (np.array([[1.5, 2.0], [3.0, 4.0]]), [[1.5, 2.0], [3.0, 4.0]]),
        (np.arange(3), [0, 1, 2]),
        (np.arange(3, dtype=np.uint8), [0, 1, 2]),
        (np.array([True, False]), [True, False]),
        (np.array([1 + 2j]), [[1.0, 2.0]]),
        (np.array(2.5), 2.5),
        (np.empty((0, 3)), []),
        (np.empty((2, 0)), [[], []]),
        ({1, 2}, [1, 2]),
        (1 - 1j, [1.0, -1.0]),
        ([{"a": np.arange(2)}], [{"a": [0, 1]}]),
    ],
    ids=repr,
)
def test_a_schema_sees_values_not_their_encoding(value, seen):
    assert plain(on_the_wire(value)) == seen


@pytest.mark.parametrize(
    "value",
    [
        np.zeros(200_000),
        np.array(["a", "b"]),
        np.asfortranarray(np.ones((2, 3))),
        np.ones(3, dtype=">f8"),
        {"__type__": "ndarray", "__value__": "no base64"},
        {
            "__type__": "ndarray",
            "__value__": codec.pack(b"\x93NUMPY\x01\x00\x20\x00{'descr': '<f8', 'shape': (9,)}   "),
        },
    ],
    ids=["large", "texts", "other order", "other bytes", "broken", "lying"],
)
def test_an_array_that_is_not_looked_into_is_an_array_all_the_same(value):
    seen = plain(on_the_wire(value))
    assert isinstance(seen, Unseen)
    of_type = {"properties": {"a": {"type": "array", "minItems": 1, "items": {"type": "number"}}}}
    assert schemas.find_fault({"a": seen}, of_type) is None
    assert schemas.find_fault({"a": seen}, {"properties": {"a": {"type": "object"}}}).startswith("inputs.a: must be of")


def test_a_circuit_is_an_object_and_openqasm_a_text():
    view = plain({"one": on_the_wire(QuantumCircuit(1)), "two": "OPENQASM 3.0; qubit q;"})
    wanted = {"properties": {"one": {"type": "object"}, "two": {"type": "string"}}}
    assert schemas.find_fault(view, wanted) is None
    assert schemas.find_fault(view, {"properties": {"one": {"type": "integer"}}}) == (
        "inputs.one: must be of type integer, is object."
    )


def nested(depth):
    value = {}
    for _ in range(depth):
        value = {"properties": {"a": value}}
    return value


@pytest.mark.parametrize(
    ("schema", "said"),
    [
        ([], "spec.parameters: must be a JSON Schema"),
        ({"type": "intiger"}, "spec.parameters.type: not valid JSON Schema"),
        ({"properties": {"a": {"minimum": "1"}}}, "spec.parameters.properties.a.minimum: not valid"),
        ({"$ref": "https://example.com/schema.json"}, "spec.parameters: $ref may point into the schema only"),
        ({"allOf": [{"$ref": "file:///etc/passwd"}]}, "spec.parameters: $ref may point into the schema only"),
        ({"properties": {"a": {"$dynamicRef": "other"}}}, "spec.parameters: $dynamicRef may point"),
        ({"pattern": "(unclosed"}, "spec.parameters: '(unclosed' is not a regular expression."),
        ({"patternProperties": {"[": {}}}, "spec.parameters: '[' is not a regular expression."),
        ({"enum": ["x" * 100_001]}, "spec.parameters: longer than 100000 characters."),
        (nested(50), "spec.parameters: nested more than 40 levels deep."),
    ],
)
def test_what_is_no_usable_schema_is_refused_at_upload(schema, said):
    body = {"name": "p", "data": SOURCE, "spec": {"parameters": schema or [1]}}
    assert refusal_of(intake.new_program, body).startswith(said)


def test_an_older_draft_and_an_unknown_one_are_accepted():
    for name in ("http://json-schema.org/draft-04/schema#", "https://example.com/my-own-draft"):
        schema = {"$schema": name, "properties": {"n": {"type": "integer"}}}
        body = {"name": "p", "data": SOURCE, "spec": {"parameters": schema}}
        assert intake.new_program(body).spec["parameters"] == schema
        assert schemas.find_fault({"n": "x"}, schema) == "inputs.n: must be of type integer, is string."


def test_references_within_the_schema_are_followed_and_one_to_nowhere_is_named():
    schema = {"$defs": {"n": {"type": "integer"}}, "properties": {"a": {"$ref": "#/$defs/n"}}}
    assert schemas.find_fault({"a": 1}, schema) is None
    assert schemas.find_fault({"a": "x"}, schema) == "inputs.a: must be of type integer, is string."
    assert "leads nowhere" in schemas.find_fault({"a": 1}, {"properties": {"a": {"$ref": "#/$defs/n"}}})
    assert "round in circles" in schemas.find_fault({}, {"$ref": "#"})


def test_a_schema_is_applied_in_a_process_of_its_own():
    schema = {"properties": {"name": {"pattern": "^[a-z]+$"}, "a": {"type": "array", "uniqueItems": True}}}
    large = on_the_wire(np.zeros(200_000))
    schemas.check_inputs({"name": "fine", "a": large}, schema)
    assert (
        refusal_of(schemas.check_inputs, {"name": "NOT"}, schema) == 'inputs.name: does not meet "pattern": "^[a-z]+$".'
    )


def test_a_pattern_that_takes_for_ever_is_given_up(monkeypatch):
    monkeypatch.setattr(schemas, "CHECK_SECONDS", 0.7)
    said = refusal_of(schemas.check_inputs, {"name": "a" * 40 + "!"}, {"properties": {"name": {"pattern": "^(a+)+$"}}})
    assert said == "inputs: checking them against the program's schema took longer than 0.7 s."


@pytest.mark.parametrize(
    ("inputs", "said"),
    [
        ({"a": [1] * 300_000}, r"inputs\.a\[\d+\]: must be of type string, is integer\."),
        ({"b": on_the_wire(np.zeros((4_000_000, 0)))}, "inputs.a: is required."),
        ({"b": [on_the_wire(np.arange(130_000) * 0.0)] * 100}, "inputs.a: is required."),
    ],
    ids=["a fault in each member", "millions of empty rows", "many arrays"],
)
def test_inputs_that_stand_for_much_take_nothing_from_the_server(inputs, said):
    schema = {"properties": {"a": {"type": "array", "items": {"type": "string"}}}, "required": ["a"]}
    script = (
        "import json, resource, sys; from prefect_runtime.local import refusals, schemas\n"
        "inputs, schema = json.load(sys.stdin)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "try:\n    schemas.check_inputs(inputs, schema)\n"
        "except refusals.Refusal as refusal:\n    said = refusal.message\n"
        "print(json.dumps([said, (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) // 1024]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        input=json.dumps([inputs, schema]),
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    heard, mebibytes = json.loads(done.stdout)
    assert re.fullmatch(said, heard)
    assert mebibytes < 50


def test_inputs_whose_check_takes_more_memory_than_there_is_for_it_are_refused(monkeypatch):
    monkeypatch.setattr(schemas, "CHECK_SECONDS", 60)
    large = {"a": [[[]] * 1000] * 9_000}  # 36 MB of JSON
    assert "bytes of memory" in refusal_of(schemas.check_inputs, large, {"properties": {"a": {"type": "array"}}})


def test_inputs_nested_too_deep_are_refused():
    value = 1
    for _ in range(200):
        value = [value]
    assert "100 levels" in refusal_of(schemas.check_inputs, {"a": value}, {"type": "object"})


def test_a_backend_with_too_few_qubits_is_refused(post):
    spec = {"backend_requirements": {"min_num_qubits": 6}}
    said = refusal_of(lambda: post(spec, backend="generic_5q"))
    assert said == "backend: 'generic_5q' has 5 qubits; the program asks for at least 6 (its spec)."
    assert post(spec, backend="generic_27q").backend == "generic_27q"
    bad = {"name": "p", "data": SOURCE, "spec": {"backend_requirements": {"min_num_qubits": "six"}}}
    assert refusal_of(intake.new_program, bad).startswith("spec.backend_requirements.min_num_qubits:")


def test_a_job_may_ask_for_less_time_than_its_program_has_and_not_for_more(post):
    assert post({}, cost=60.0, max_execution_time=30).max_execution_time == 30
    assert post({}, cost=60.0).max_execution_time is None  # the executor takes the program's
    said = refusal_of(lambda: post({}, cost=60.0, max_execution_time=61))
    assert said == "max_execution_time: 61 s is more than the program's own limit, 60 s."


@pytest.mark.parametrize("word", ["loud", "10", "LEVEL 5"])
def test_a_log_level_is_one_of_loggings_own_words(post, word):
    assert post({}, log_level="debug").log_level == "DEBUG"
    assert post({}).log_level == "WARNING"
    assert refusal_of(lambda: post({}, log_level=word)).startswith("log_level:")


def test_the_server_reads_schemas_and_arrays_without_numpy_and_loads_jsonschema_for_an_upload_only():
    script = (
        "import sys; from prefect_runtime.local import intake, schemas\n"
        "heavy = {'jsonschema', 'numpy', 'qiskit', 'psutil'}; before = heavy & set(sys.modules)\n"
        "schema = {'properties': {'a': {'type': 'integer'}}}; schemas.check_inputs({'a': 1}, schema)\n"
        "checked = heavy & set(sys.modules); schemas.check_schema(schema, 'spec')\n"
        "print(sorted(before), sorted(checked), sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[] [] ['jsonschema']\n"
