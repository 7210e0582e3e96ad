"""The notebook that needs no Prefect server, run cell by cell in two kernels: today's, and tomorrow's."""

from __future__ import annotations

import ast
import os
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from prefect_runtime.client import Credentials, RuntimeService, discovery

NOTEBOOK = Path(__file__).parents[2] / "flows" / "submit_today_attach_tomorrow.ipynb"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Path]:
    """The home of the runtime that the notebook starts."""
    folder = tmp_path / "home"
    yield folder
    if found := discovery.find(folder):
        os.kill(found.pid, signal.SIGTERM)


def run(tag: str, home: Path) -> dict[str, str]:
    """Run the cells with a tag in a kernel of their own; return what each shows, by its id."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    notebook.cells = [cell for cell in notebook.cells if tag in cell.metadata.get("tags", ())]
    NotebookClient(notebook, timeout=60).execute(env={**os.environ, "PREFECT_RUNTIME_HOME": str(home)})
    return {cell.id: "".join(shown(output) for output in cell.outputs) for cell in notebook.cells}


def shown(output: Any) -> str:
    return str(output["text"] if output["output_type"] == "stream" else output["data"]["text/plain"])


def test_a_job_of_one_kernel_is_found_and_read_in_another(home: Path) -> None:
    first, again = run("today", home), run("today", home)
    assert first == again  # one request, one job
    job_id = first["submit"].strip("'")
    tomorrow = run("tomorrow", home)
    assert tomorrow["find"].startswith(f"{job_id} ")
    assert set(ast.literal_eval(tomorrow["result"])) == {"00", "11"}
    assert "'qpu_charge_time_seconds'" in tomorrow["log"]
    found = discovery.find(home)
    assert found
    with RuntimeService(Credentials(channel="local", url=found.url, token=found.token)) as service:
        assert [job.job_id() for job in service.jobs(limit=None)] == [job_id]
