"""One method per endpoint of sessions, ``/sessions``. Used by rest.py.

Source: IBM's REST API 0.45.3, ``/sessions``: sessions and batches are one resource, told apart by ``mode``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefect_runtime.client.endpoints.line import ONCE, Line, nothing, object_in, path_of
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.models import is_id


class SessionCalls(Line):
    """Sessions: open, look, close, cancel."""

    def open_session(self, *, mode: str, backend: str | None, max_ttl: float | None) -> Mapping[str, Any]:
        """Open a session and return its document. Sent once: it carries no tag by which a lost one could be found.

        Raises:
            ConnectFailedError: Nothing was sent.
            AnswerLostError: Sent, and it is not known whether there is a session now; so after the next two.
            ServerError: The server failed.
            ProtocolError: It answered without an id.
            ApiError: It refused: there is none.
        """

        def read(answer: Answer) -> Mapping[str, Any]:
            document = object_in(answer)
            if not is_id(document.get("id")):
                raise ProtocolError("The server opened a session but gave no id.")
            return document

        given = {"mode": mode, "backend": backend, "max_ttl": max_ttl}
        body = json.dumps({name: value for name, value in given.items() if value is not None}).encode()
        return self._ask("POST", "/sessions", read, body=body, kind="session", retry=ONCE)

    def session(self, session_id: str) -> Mapping[str, Any]:
        """Return a session's document."""
        return self._ask("GET", path_of("sessions", session_id), object_in, kind="session")

    def close_session(self, session_id: str) -> None:
        """Let a session take no more jobs; those that are in its queue still run. Closed already: nothing changes."""
        body = json.dumps({"accepting_jobs": False}).encode()
        self._ask("PATCH", path_of("sessions", session_id), nothing, body=body, kind="session")

    def cancel_session(self, session_id: str) -> None:
        """Close a session and cancel its queued jobs; those that run go on."""
        self._ask("DELETE", path_of("sessions", session_id, "close"), nothing, kind="session")
