"""The error tree: what survives a process boundary, and what the docstring promises."""

from __future__ import annotations

import inspect
import pickle
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

import prefect_runtime.client  # noqa: F401 - defines one more class of the tree
from prefect_runtime.wire import errors
from prefect_runtime.wire.errors import IBMQError, QiskitRuntimeError, TransportError


def tree(root: type[IBMQError]) -> Iterator[type[IBMQError]]:
    yield root
    for child in root.__subclasses__():
        yield from tree(child)


CLASSES = sorted(set(tree(IBMQError)), key=lambda kind: kind.__qualname__)
OWN = [kind for kind in CLASSES if kind.__module__ == errors.__name__]
EXAMPLES: dict[str, Any] = {
    "job_id": "job-1",
    "retryable": True,
    "word": "Pending",
    "close_code": 1011,
    "status_code": 418,
    "code": "1305",
    "solution": "do this",
    "trace": "trace-1",
    "retry_after": 7.5,
    "key": "prt1-x",
    "reason": "because",
    "reason_code": 1305,
    "needed_seconds": 12.5,
    "remaining_seconds": 7.5,
    "max_ttl": 600.0,
}
RETRYABLE = {
    "TransportError",
    "ConnectFailedError",
    "AnswerLostError",
    "StreamClosedError",
    "ProtocolError",
    "RateLimitedError",
    "ServerError",
    "SubmissionUnknownError",
}
"""Doing the same again can help and cannot do harm: see the classes' docstrings."""


def keywords(kind: type[IBMQError]) -> dict[str, inspect.Parameter]:
    return {name: p for name, p in inspect.signature(kind).parameters.items() if name != "message"}


def test_the_walk_finds_the_whole_tree() -> None:
    assert len(CLASSES) >= 28
    assert {kind.__name__ for kind in CLASSES} >= {"JobTimeoutError", "ServerError", "JobExistsError"}


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_every_class_survives_pickle_with_all_its_attributes(kind: type[IBMQError]) -> None:
    given = {name: EXAMPLES[name] for name in keywords(kind)}
    error = kind("what happened", **given)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind
    assert str(again) == again.message == "what happened"
    assert {name: getattr(again, name) for name in given} == given
    assert vars(again) == vars(error)


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_only_the_message_is_positional_and_everything_has_a_default(kind: type[IBMQError]) -> None:
    assert kind().message == ""
    assert all(parameter.kind is parameter.KEYWORD_ONLY for parameter in keywords(kind).values())
    with pytest.raises(TypeError):
        kind("message", "second")  # type: ignore[call-arg]


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_retryable_says_whether_doing_the_same_again_is_safe_and_can_help(kind: type[IBMQError]) -> None:
    if not issubclass(kind, QiskitRuntimeError):
        assert getattr(kind, "retryable", False) is False
        return
    assert kind("x").retryable is (kind.__name__ in RETRYABLE)
    assert kind("x", retryable=True).retryable is True
    assert kind("x", retryable=False).retryable is False


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_no_class_escapes_an_except_exception(kind: type[IBMQError]) -> None:
    assert issubclass(kind, Exception)
    assert BaseException not in kind.__bases__


def test_a_timeout_of_ours_is_a_builtin_timeout() -> None:
    error = errors.JobTimeoutError("late", job_id="j")
    assert isinstance(error, TimeoutError)
    assert isinstance(error, QiskitRuntimeError)
    assert (str(error), error.job_id, error.retryable) == ("late", "j", False)


def test_an_unknown_status_is_an_error_of_the_seed_but_not_of_a_job() -> None:
    assert issubclass(errors.UnknownJobStatusError, IBMQError)
    assert not issubclass(errors.UnknownJobStatusError, QiskitRuntimeError)


def test_the_tree_in_the_docstring_is_the_real_one() -> None:
    printed: dict[str, str | None] = {}
    path: list[str] = []
    for line in (errors.__doc__ or "").splitlines():
        match = re.match(r"^    ([ │├└─]*)([A-Z]\w+)", line)
        if match:
            depth = len(match[1]) // 3
            path = [*path[:depth], match[2]]
            printed[match[2]] = path[-2] if depth else None
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in OWN if kind is not IBMQError}
    assert printed == {"IBMQError": None, **real}


def test_the_docstring_names_what_each_class_adds() -> None:
    shown = {m[1]: m[2] for m in re.finditer(r"─ (\w+)(.*)", errors.__doc__ or "")}
    for kind in OWN:
        if kind.__name__ not in shown:
            continue
        inherited = set(keywords(kind.__bases__[0])) if issubclass(kind.__bases__[0], IBMQError) else set()
        added = {f".{name}" for name in keywords(kind)} - {f".{name}" for name in inherited}
        if kind is not errors.UnknownJobStatusError:
            assert set(re.findall(r"\.\w+", shown[kind.__name__])) == added, kind


TAKES_THE_CONTEXT_ALONG = """
import pickle
import tblib.pickling_support  # as distributed, and so Dask's task runner, does
from prefect_runtime.wire.errors import TransportError

tblib.pickling_support.install()
try:
    try:
        raise ValueError("Authorization: Bearer a-token")
    except ValueError:
        raise TransportError("no answer", job_id="j") from None
except TransportError as error:
    data = pickle.dumps(error)
    again = pickle.loads(data)
print(b"a-token" in data, again.__context__, again, again.job_id)
"""


def test_the_drivers_error_is_left_behind_also_by_a_pickle_that_takes_the_context_along() -> None:
    pytest.importorskip("tblib")
    done = subprocess.run(
        [sys.executable, "-c", TAKES_THE_CONTEXT_ALONG], stdout=subprocess.PIPE, text=True, check=True
    )
    assert done.stdout == "False None no answer j\n"


def test_what_was_handled_is_shown_where_it_was_not_hidden() -> None:
    with pytest.raises(TransportError) as caught:
        try:
            raise ValueError("seen")
        except ValueError:
            raise TransportError("no answer")  # noqa: B904 - that is the point
    assert str(caught.value.__context__) == "seen"
