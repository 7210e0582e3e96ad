"""NumPy's numbers are numbers: of seconds, of jobs, of shots; and they are sent as JSON has them."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from conftest import FakeClock

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.client.choice import Wish
from prefect_runtime.client.finding import JobFilter, find
from prefect_runtime.client.program_files import program_body
from prefect_runtime.client.retry import Deadline, check_seconds
from prefect_runtime.tasks.run import primitive_inputs
from prefect_runtime.wire.errors import ConfigurationError

NUMBERS = [np.int64(5), np.uint8(5), np.float32(5), np.float64(5)]


@pytest.mark.parametrize("number", NUMBERS, ids=lambda number: type(number).__name__)
def test_seconds_and_shots_may_be_numpys(number: Any) -> None:
    check_seconds("timeout", number)
    assert primitive_inputs([], None, "default_shots", number)["options"]["default_shots"] == 5


def test_a_deadline_of_numpys_is_as_exact_as_any() -> None:
    clock = FakeClock()
    clock.now = 100_000_000.25
    assert Deadline(np.float32(5), clock).remaining() == 5  # type: ignore[arg-type]


@pytest.mark.parametrize("bad", [np.bool_(True), np.float64("nan"), np.int64(-1), np.array([5]), np.complex64(5)])
def test_what_is_no_time_of_numpys_is_refused(bad: Any) -> None:
    with pytest.raises(ConfigurationError, match="timeout: must be a number"):
        check_seconds("timeout", bad)


@pytest.mark.parametrize(("limit", "sent"), [(np.int64(300), "300"), (np.float32(2.5), "2.5"), (math.pi, str(math.pi))])
def test_a_longest_time_is_sent_as_json_has_it(limit: Any, sent: str) -> None:
    credentials = Credentials(channel="classic", url="http://127.0.0.1:1", token="a-token")
    with RuntimeService(credentials) as service:
        request = service.request("p", {}, backend="b", max_execution_time=limit)
    assert json.dumps(request.others["cost"]) == sent
    assert json.dumps(program_body({"max_execution_time": limit})["cost"]) == sent


def test_a_number_of_jobs_and_of_qubits_may_be_numpys() -> None:
    assert list(find(None, JobFilter.of(), limit=np.int64(0), skip=np.int64(0))) == []  # type: ignore[arg-type]
    assert Wish(min_num_qubits=np.int64(5)).width == 5  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "metadata", [{"max_execution_time": "600"}, {"max_execution_time": -1}, {"spec": {"a": object()}}]
)
def test_metadata_that_cannot_be_sent_is_refused_by_name(metadata: dict[str, Any]) -> None:
    with pytest.raises(ConfigurationError, match="metadata:"):
        program_body(metadata)
