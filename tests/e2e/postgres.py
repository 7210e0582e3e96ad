"""A PostgreSQL cluster of a test's own: in a temporary folder, on a free port of the loopback, gone afterwards."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from canaries import sinks
from canaries.scanner import Hit, scan
from prefect.settings import PREFECT_API_URL, temporary_settings

from .support import free_port, running_server

OWNER = "postgres"  # the server refuses to run as root


@contextmanager
def prefect_on_postgres(folder: Path) -> Iterator[str]:
    """Run a Prefect server on PostgreSQL, and point this process and those it starts at it; gives its URL."""
    with (
        running_postgres() as database,
        running_server(folder, database=database) as url,
        temporary_settings({PREFECT_API_URL: url}),
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setenv("PREFECT_API_URL", url)
        yield url


def _binaries() -> Path:
    """Return the folder with `initdb`, as Debian's package has it or as it is in the path; skips where it is not."""
    packaged = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    found = shutil.which("initdb") or (packaged[-1] if packaged else None)
    if found is None:
        pytest.skip("PostgreSQL is not here; .ci/setup installs it (Debian: apt-get install postgresql)")
    return Path(found).parent


async def _found_in_tables(port: int) -> list[Hit]:
    """Scan all that is in the database, table by table."""
    hits = []
    database = await asyncpg.connect(host="127.0.0.1", port=port, user="prefect", database="postgres")
    for (table,) in await database.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'"):
        rows = io.BytesIO()
        await database.copy_from_table(table, output=rows)
        hits += scan(rows.getvalue(), f"PostgreSQL: {table}")
    await database.close()
    return hits


@contextmanager
def running_postgres() -> Iterator[str]:
    """Run a PostgreSQL server; gives the URL of its database for Prefect."""
    binaries = _binaries()
    port = free_port()
    # Not pytest's folder: that is closed to the server's user.
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    other_user: dict[str, Any] = {}
    if os.geteuid() == 0:
        shutil.chown(folder, OWNER, OWNER)
        other_user = {"user": OWNER, "group": OWNER, "extra_groups": []}
    data = folder / "data"

    def run(*command: str) -> None:
        with (folder / "log").open("ab") as log:
            subprocess.run(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                check=True,
                timeout=60,
                **other_user,
            )

    try:
        run(str(binaries / "initdb"), "-D", str(data), "-U", "prefect", "-E", "UTF8", "--auth", "trust", "--no-sync")
        options = f"-F -h 127.0.0.1 -p {port} -k {folder}"  # -F: a crash of the machine may cost it all
        run(str(binaries / "pg_ctl"), "-D", str(data), "-l", str(data / "server.log"), "-w", "-o", options, "start")
        try:
            with sinks.log(data / "server.log", "PostgreSQL"):
                yield f"postgresql+asyncpg://prefect@127.0.0.1:{port}/postgres"
            sinks.assert_clean(asyncio.run(_found_in_tables(port)))
        finally:
            run(str(binaries / "pg_ctl"), "-D", str(data), "-m", "immediate", "-w", "stop")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
