"""The programs of a runtime, as `RuntimeService` shows them."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_runtime.client.program_files import encode_source, program_body, read_metadata
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.models import ProgramDocument

PROGRAMS_PAGE = 20


class ServicePrograms(abc.ABC):
    """What a service can do with programs."""

    @property
    @abc.abstractmethod
    def client(self) -> RuntimeClient:
        """The REST API."""

    def programs(self) -> list[ProgramDocument]:
        """Return the programs the server offers."""
        found: dict[str, ProgramDocument] = {}
        offset, before = 0, list[str]()
        while page := self.client.programs(limit=PROGRAMS_PAGE, offset=offset):
            found.update({program.id: program for program in page})
            offset += len(page)
            ids = [program.id for program in page]
            if len(page) < PROGRAMS_PAGE or ids == before:  # the last; or from a server that knows no pages
                break
            before = ids
        return list(found.values())

    def program(self, program_id: str) -> ProgramDocument:
        """Return one program.

        Raises:
            RuntimeProgramNotFound: There is none of that id.
        """
        return self.client.program(program_id)

    def upload_program(self, data: str | Path, metadata: Mapping[str, Any] | str | Path) -> str:
        """Upload a program and return its id.

        Args:
            data: Python source with ``def main(backend, user_messenger, **kwargs)``, or the path of such a file.
            metadata: ``name``, ``description`` and ``max_execution_time`` (seconds); optional ``is_public``,
                ``spec`` and ``restartable`` (of the embedded runtime: a job that its end interrupted is run again at
                its next start, instead of being failed). A mapping, or the path of a JSON file.

        Raises:
            ConfigurationError: Something is missing; nothing was sent.
            RuntimeDuplicateProgramError: The name is taken.
        """
        described = read_metadata(metadata)
        missing = [name for name in ("name", "description", "max_execution_time") if not described.get(name)]
        if missing:
            raise ConfigurationError(f"metadata: {', '.join(missing)} missing.")
        return self.client.upload_program(
            {**program_body(described), "is_public": bool(described.get("is_public")), "data": encode_source(data)}
        )

    def update_program(
        self, program_id: str, data: str | Path | None = None, metadata: Mapping[str, Any] | str | Path | None = None
    ) -> None:
        """Change a program: its source, its metadata, or both.

        Raises:
            ConfigurationError: Neither is given, or one cannot be read; nothing was sent.
        """
        if data is None and metadata is None:
            raise ConfigurationError("update_program: give data or metadata.")
        source = None if data is None else encode_source(data)  # read before the first of two requests is sent
        if metadata is not None:
            self.client.update_program(program_id, program_body(read_metadata(metadata)))
        if source is not None:
            self.client.update_program_data(program_id, source)

    def delete_program(self, program_id: str) -> None:
        """Delete a program."""
        self.client.delete_program(program_id)
