"""One method per endpoint of backends, ``/backends``, and of the instance that has them. Used by rest.py."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from prefect_runtime.client.endpoints.line import ONCE, PATIENT, Line, list_in, object_in, path_of
from prefect_runtime.client.retry import Deadline
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.errors import ProtocolError


class BackendCalls(Line):
    """Backends: which there are, and their pages."""

    def backends(self) -> list[Mapping[str, Any]]:
        """Return the server's list of backends, with the waiting times it expects where it knows that field."""

        def read(answer: Answer) -> list[Mapping[str, Any]]:
            return [device for device in list_in(answer.json(), "devices") if isinstance(device, dict)]

        return self._ask("GET", "/backends", read, params=[("fields", "wait_time_seconds")], kind="backend")

    def backend(self, name: str, page: str, *, seconds: float | None = None) -> Mapping[str, Any]:
        """Return one page on a backend: "status", "configuration" or "properties"; with `seconds`, asked for once."""
        retry = PATIENT if seconds is None else ONCE
        within = Deadline(min(seconds or self.request_timeout, self.request_timeout), self.clock)
        path = path_of("backends", name, page)
        return self._ask("GET", path, object_in, kind="backend", retry=retry, deadline=within)

    def usage(self) -> Mapping[str, Any]:
        """Return what the instance has used of its seconds, and what it may use (IBM Quantum Platform)."""
        return self._ask("GET", "/instances/usage", object_in, kind="instance")

    def recalibrate(self) -> int:
        """Have the noisy backends draw new calibration numbers (embedded runtime only); return the new one's number."""

        def read(answer: Answer) -> int:
            number = object_in(answer).get("calibration")
            if not isinstance(number, int):
                raise ProtocolError("The server's answer has no number of a calibration.")
            return number

        # Once: sent again, a lost answer would draw twice.
        return self._ask("POST", "/runtime/recalibrate", read, kind="backend", retry=ONCE)
