"""A server's metrics, of every API version, and broken ones."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from prefect_runtime.wire.metrics import JobMetrics

TIMES = {"created": "2026-08-01T10:00:00Z", "running": "2026-08-01T12:00:05+02:00", "finished": None}


def test_times_are_aware_and_in_utc_and_what_has_not_happened_is_none() -> None:
    metrics = JobMetrics.parse({"timestamps": TIMES, "usage": {"qpu_charge_time_seconds": 12, "status": "complete"}})
    assert metrics == JobMetrics(
        created=datetime(2026, 8, 1, 10, tzinfo=UTC),
        running=datetime(2026, 8, 1, 10, 0, 5, tzinfo=UTC),
        usage_seconds=12.0,
    )


@pytest.mark.parametrize(
    ("usage", "seconds", "pending"),
    [
        ({"qpu_charge_time_seconds": 0, "status": "complete"}, 0.0, False),
        ({"qpu_charge_time_seconds": 3.5, "status": "pending"}, 3.5, True),
        ({"qpu_charge_time_seconds": None, "status": "pending"}, None, True),
        ({"quantum_seconds": 2, "seconds": 5}, 2.0, False),
        ({"seconds": 5}, 5.0, False),
        ({"qpu_charge_time_seconds": "soon"}, None, False),
        ({"qpu_charge_time_seconds": True}, None, False),
        ("none", None, False),
        (None, None, False),
    ],
)
def test_usage_of_every_api_version_is_read(usage: Any, seconds: float | None, pending: bool) -> None:
    metrics = JobMetrics.parse({"usage": usage})
    assert (metrics.usage_seconds, metrics.usage_pending) == (seconds, pending)


@pytest.mark.parametrize("document", [{}, {"timestamps": []}, {"timestamps": {"created": 5, "running": "soon"}}])
def test_what_cannot_be_read_is_not_known(document: dict[str, Any]) -> None:
    assert JobMetrics.parse(document) == JobMetrics()


@pytest.mark.parametrize("seconds", [10**400, float("nan"), float("inf"), True, "3"])
def test_usage_that_cannot_be_counted_with_is_not_known(seconds: object) -> None:
    assert JobMetrics.parse({"usage": {"seconds": seconds}}).usage_seconds is None
