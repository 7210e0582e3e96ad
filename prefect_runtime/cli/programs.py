"""``prefect-runtime programs``: what an account can run; upload and delete programs of one's own."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from cyclopts.validators import Number

from prefect_runtime.cli import app
from prefect_runtime.cli.account import Account, open_service
from prefect_runtime.cli.output import AsJson, add_rows, facts, print_json, say, table, write
from prefect_runtime.wire.models import ProgramDocument

LONGEST_RUN_SECONDS = 600.0  # of an upload that does not say; the embedded runtime ends a job after that

programs = App(name="programs")
app.command(programs)


@programs.default
def list_programs(*, as_json: AsJson = False, account: Account | None = None) -> None:
    """List the programs that there are; `upload` and `delete` one."""
    with open_service(account) as service:
        found = service.programs()
    if as_json:
        print_json([_as_json(program) for program in found])
        return
    console = facts()
    listed = table(console, "program", "name", "longest run", "public", "description", unbroken=("program",))
    add_rows(
        listed,
        (
            (
                program.id,
                program.name,
                "" if program.max_execution_time is None else f"{program.max_execution_time:g} s",
                "yes" if program.is_public else "no",
                program.description,
            )
            for program in found
        ),
    )
    console.print(listed)


def _as_json(program: ProgramDocument) -> dict[str, Any]:
    value = dataclasses.asdict(program)
    del value["data"]  # the source is not in a list
    return value


@programs.command
def upload(
    file: Annotated[Path, Parameter(help="Python source with `def main(backend, user_messenger, **kwargs)`.")],
    /,
    *,
    name: Annotated[str | None, Parameter(help="Its name; the file's if left out.")] = None,
    description: Annotated[str | None, Parameter(help="What it does.")] = None,
    max_execution_time: Annotated[
        float | None, Parameter(validator=Number(gt=0), help="The longest it may run, in seconds.")
    ] = None,
    metadata: Annotated[
        Path | None, Parameter(help="JSON file with these three, `is_public` and `spec`; options come first.")
    ] = None,
    account: Account | None = None,
) -> None:
    """Upload a program and print its id. The embedded runtime runs it with your rights: it is no sandbox."""
    from prefect_runtime.client.program_files import read_metadata

    described: dict[str, Any] = {
        "name": file.stem,
        "description": f"Uploaded from {file.name}.",
        "max_execution_time": LONGEST_RUN_SECONDS,
        **(read_metadata(metadata) if metadata else {}),
    }
    given = {"name": name, "description": description, "max_execution_time": max_execution_time}
    described.update({key: value for key, value in given.items() if value is not None})
    with open_service(account) as service:
        write(service.upload_program(file, described) + "\n")


@programs.command
def delete(program: Annotated[str, Parameter(help="The program's id.")], /, *, account: Account | None = None) -> None:
    """Delete a program. Its jobs stay."""
    with open_service(account) as service:
        service.delete_program(program)
    say(f"Program {program} is deleted.")
