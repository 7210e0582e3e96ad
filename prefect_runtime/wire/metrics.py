"""What a job has cost and when: a server's metrics, read leniently. Used by `RuntimeJob`.

Source: ``GET /jobs/{id}/metrics``, IBM's REST API 0.45.3; ``usage.seconds`` and ``usage.quantum_seconds`` are gone
since ``IBM-API-Version`` 2026-03-15 and still read, because the version can be chosen.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.fields import parse_time
from prefect_runtime.wire.models import charged_seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class JobMetrics:
    """A job's times, aware and in UTC, and what is charged for it.

    Attributes:
        created: When it was made.
        running: When it began to run; None before.
        finished: When it ended; None before.
        usage_seconds: QPU seconds that are charged; None where that is not known (yet).
        usage_pending: True while the number above may still change.
    """

    created: datetime | None = None
    running: datetime | None = None
    finished: datetime | None = None
    usage_seconds: float | None = None
    usage_pending: bool = False

    @classmethod
    def parse(cls, document: Mapping[str, Any]) -> JobMetrics:
        """Read a server's document; what is missing or cannot be read is not known."""
        raw_times, raw_usage = document.get("timestamps"), document.get("usage")
        times: Mapping[str, Any] = raw_times if isinstance(raw_times, Mapping) else {}
        usage: Mapping[str, Any] = raw_usage if isinstance(raw_usage, Mapping) else {}
        return cls(
            created=_moment(times.get("created")),
            running=_moment(times.get("running")),
            finished=_moment(times.get("finished")),
            usage_seconds=charged_seconds(usage),
            usage_pending=str(usage.get("status") or "").lower() == "pending",
        )


def _moment(text: Any) -> datetime | None:
    try:
        return parse_time(text) if isinstance(text, str) else None
    except ProtocolError:
        return None
