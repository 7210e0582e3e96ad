"""JSON Schema for what programs take: checked when a program is uploaded, and applied when a job is posted.

A schema is a user's text: it may name no other document, and may be neither huge nor deep. It is applied in a process
of its own that has limits: no thread can interrupt Python's regular expressions, and small inputs can stand for much.

What it sees of the inputs is their plain view (plain_view.py). Defaults in a schema are words for people: the program
fills them in, not the server.

Imported by intake.py; loads ``jsonschema`` when a schema is uploaded, and neither NumPy nor Qiskit.
"""

from __future__ import annotations

import gc
import json
import re
import resource
import subprocess
import sys
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from prefect_runtime.local.plain_view import TooDeepError, Unseen, plain
from prefect_runtime.local.refusals import Refusal

MAX_SCHEMA_CHARACTERS, MAX_SCHEMA_DEPTH = 100_000, 40
CHECK_SECONDS = 10.0  # reading the largest inputs there may be takes half of that
CHECK_BYTES = 1024**3
"""Memory of the process that checks."""

_MAX_FAULTS = 100
"""So many are looked at for the one that says most: each takes kilobytes."""

_REFERENCES = ("$ref", "$dynamicRef", "$recursiveRef")

_DRAFTS = {f"http://json-schema.org/draft-0{number}/schema" for number in (3, 4, 6, 7)}
_DRAFTS |= {f"https://json-schema.org/draft/{year}/schema" for year in ("2019-09", "2020-12")}


def check_schema(schema: Any, place: str) -> None:
    """Check a schema that a program brings.

    Args:
        schema: The schema.
        place: Where it stands in the request, for the message.

    Raises:
        Refusal: 400, not a schema, too large, or it names other documents.
    """
    if not isinstance(schema, dict):
        raise Refusal(400, 400, f"{place}: must be a JSON Schema, that is a JSON object.")
    if len(json.dumps(schema)) > MAX_SCHEMA_CHARACTERS:
        raise Refusal(400, 400, f"{place}: longer than {MAX_SCHEMA_CHARACTERS} characters.")
    for part, depth in _parts(schema):
        if depth > MAX_SCHEMA_DEPTH:
            raise Refusal(400, 400, f"{place}: nested more than {MAX_SCHEMA_DEPTH} levels deep.")
        for name in _REFERENCES:
            target = part.get(name)
            if isinstance(target, str) and not target.startswith("#"):
                raise Refusal(400, 400, f"{place}: {name} may point into the schema only (#…), not to {target!r}.")
        for pattern in _patterns(part):
            try:
                re.compile(pattern)
            except (re.error, OverflowError, RecursionError):
                raise Refusal(400, 400, f"{place}: {pattern!r} is not a regular expression.") from None
    import jsonschema.exceptions

    try:
        _dialect(schema).check_schema(schema)
    except jsonschema.exceptions.SchemaError as error:
        where = ".".join([place, *map(str, error.absolute_path)])
        raise Refusal(400, 400, f"{where}: not valid JSON Schema: {error.message[:300]}") from None


def _parts(value: Any) -> Iterator[tuple[dict[str, Any], int]]:
    """Yield every JSON object in a value with its depth, without recursion."""
    waiting: list[tuple[Any, int]] = [(value, 0)]
    while waiting:
        part, depth = waiting.pop()
        if isinstance(part, dict):
            yield part, depth
            waiting += [(member, depth + 1) for member in part.values()]
        elif isinstance(part, list):
            waiting += [(member, depth + 1) for member in part]


def _patterns(part: Mapping[str, Any]) -> list[str]:
    by_name = part.get("patternProperties")
    found = [part.get("pattern"), *(by_name if isinstance(by_name, dict) else ())]
    return [pattern for pattern in found if isinstance(pattern, str)]


def check_inputs(inputs: Mapping[str, Any], schema: Mapping[str, Any]) -> None:
    """Check a job's inputs against its program's schema.

    Args:
        inputs: The inputs as they came, encoded values and all.
        schema: A schema that `check_schema` has let pass.

    Raises:
        Refusal: 400; the message names the input and what is wrong with it, but not its value.
    """
    fault = _fault_elsewhere(inputs, schema)
    if fault is not None:
        raise Refusal(400, 400, fault)


def find_fault(view: Any, schema: Mapping[str, Any]) -> str | None:
    """Return the first thing that is wrong with the plain view of inputs, in words; None when nothing is."""
    import jsonschema.exceptions
    from referencing import Registry
    from referencing.exceptions import Unresolvable

    # An empty registry: what is not in the schema is not found, and never fetched.
    validator = _dialect(schema)(schema, registry=Registry())
    try:
        seen = (
            error
            for error in validator.iter_errors(view)
            if error.validator == "type" or not isinstance(error.instance, Unseen)
        )
        faults = list(islice(seen, _MAX_FAULTS))
    except Unresolvable as error:
        return f"inputs: the program's schema has a reference that leads nowhere ({error.ref})."
    except RecursionError:
        return "inputs: the program's schema goes round in circles on them."
    if not faults:
        return None
    best = jsonschema.exceptions.best_match(faults)
    return f"{_place(best)}: {_words(best)}"


def _dialect(schema: Mapping[str, Any]) -> Any:
    """Return the validator of the draft that the schema names; the newest when it names none that is known."""
    from jsonschema.validators import Draft202012Validator, validator_for

    named = schema.get("$schema")
    if not isinstance(named, str) or named.rstrip("#") not in _DRAFTS:
        return Draft202012Validator
    return validator_for({"$schema": named})


def _fault_elsewhere(inputs: Mapping[str, Any], schema: Mapping[str, Any]) -> str | None:
    command = [sys.executable, "-P", "-m", "prefect_runtime.local.schemas"]
    given = json.dumps([inputs, schema])
    try:
        done = subprocess.run(  # noqa: S603 - our own module
            command, input=given, capture_output=True, text=True, timeout=CHECK_SECONDS, check=True
        )
    except subprocess.TimeoutExpired:
        return f"inputs: checking them against the program's schema took longer than {CHECK_SECONDS:g} s."
    except subprocess.CalledProcessError as error:
        return f"inputs: checking them against the program's schema failed (exit code {error.returncode})."
    fault: str | None = json.loads(done.stdout)
    return fault


def main() -> None:
    """Check what comes on standard input: the process that schemas are applied in."""
    resource.setrlimit(resource.RLIMIT_AS, (CHECK_BYTES, CHECK_BYTES))
    gc.disable()  # of millions of lists it would look at each again and again
    try:
        inputs, schema = json.load(sys.stdin)
        fault = find_fault(plain(inputs), schema)
    except TooDeepError as error:
        fault = str(error)
    except MemoryError:
        fault = f"inputs: checking them against the program's schema took more than {CHECK_BYTES} bytes of memory."
    json.dump(fault, sys.stdout)


def _place(error: Any) -> str:
    """Return where an error is, as in ``inputs.angles[2].phase``; of what is missing, where it should be."""
    steps = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in error.absolute_path]
    if error.validator == "required":
        steps.append("." + next(name for name in error.validator_value if name not in error.instance))
    return "inputs" + "".join(steps)


def _words(error: Any) -> str:
    """Say what is wrong without the value, which may be long or private (jsonschema's own message has it)."""
    rule, wanted = error.validator, error.validator_value
    if rule == "required":
        return "is required."
    if rule == "type":
        kinds = wanted if isinstance(wanted, str) else " or ".join(wanted)
        return f"must be of type {kinds}, is {_kind(error.instance)}."
    if rule == "additionalProperties" and isinstance(error.schema.get("properties"), dict):
        known = error.schema["properties"]
        odd = [name for name in error.instance if name not in known]
        return f"has members that the program does not know: {', '.join(odd)[:200]}."
    limits = {
        "minimum": "at least",
        "maximum": "at most",
        "exclusiveMinimum": "more than",
        "exclusiveMaximum": "less than",
        "multipleOf": "a multiple of",
        "enum": "one of",
        "const": "equal to",
        "minLength": "of a length of at least",
        "maxLength": "of a length of at most",
        "minItems": "of a length of at least",
        "maxItems": "of a length of at most",
    }
    text = json.dumps(wanted)
    text = text if len(text) <= 200 else text[:200] + "…"
    return f"must be {limits[rule]} {text}." if rule in limits else f"does not meet {json.dumps(rule)}: {text}."


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return "null" if value is None else "boolean"
    kinds = ((int, "integer"), (float, "number"), (str, "string"), (list, "array"), (dict, "object"))
    return next(word for kind, word in kinds if isinstance(value, kind))


if __name__ == "__main__":
    main()
