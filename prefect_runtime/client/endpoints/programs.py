"""One method per endpoint of programs, ``/programs``. Used by rest.py."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from prefect_runtime.client.endpoints.line import ONCE, Line, list_in, new_id, nothing, path_of
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.models import ProgramDocument


class ProgramCalls(Line):
    """Programs: which there are; upload, change, delete."""

    def programs(self, *, limit: int = 20, offset: int = 0) -> list[ProgramDocument]:
        """Return one page of programs."""

        def read(answer: Answer) -> list[ProgramDocument]:
            return [ProgramDocument.parse(document) for document in list_in(answer.json(), "programs")]

        params = [("limit", str(limit)), ("offset", str(offset))]
        return self._ask("GET", "/programs", read, params=params, kind="program")

    def program(self, program_id: str) -> ProgramDocument:
        """Return one program, with its source where we are its author."""

        def read(answer: Answer) -> ProgramDocument:
            return ProgramDocument.parse(answer.json())

        return self._ask("GET", path_of("programs", program_id), read, kind="program")

    def upload_program(self, document: Mapping[str, Any]) -> str:
        """Create a program and return its id. Sent once: repeated, it would be refused as a duplicate of itself."""
        body = json.dumps(dict(document)).encode()
        return self._ask("POST", "/programs", new_id, body=body, kind="program", retry=ONCE)

    def update_program(self, program_id: str, changes: Mapping[str, Any]) -> None:
        """Change a program's metadata."""
        body = json.dumps(dict(changes)).encode()
        self._ask("PATCH", path_of("programs", program_id), nothing, body=body, kind="program")

    def update_program_data(self, program_id: str, data: str) -> None:
        """Replace a program's source (base64)."""
        self._ask("PUT", path_of("programs", program_id, "data"), nothing, body=data.encode(), kind="program")

    def delete_program(self, program_id: str) -> None:
        """Delete a program."""
        self._ask("DELETE", path_of("programs", program_id), nothing, kind="program")
