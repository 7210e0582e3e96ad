"""What the README shows is run as it stands: its Python as scripts, its command lines with a real job's id."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from prefect.client.orchestration import get_client

from prefect_runtime.client import RuntimeService

from .support import PROJECT, PUBLISHES

README = (PROJECT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


def run(command: list[str], folder: Path) -> str:
    """Run a command and return what it prints."""
    ended = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=100, check=False)
    assert ended.returncode == 0, f"{command}: {ended.stdout}{ended.stderr}"
    return ended.stdout


def script(number: int, folder: Path) -> str:
    path = folder / "block.py"
    path.write_text(blocks("python")[number])
    return run([sys.executable, str(path)], folder)


def test_every_python_block_is_run_below() -> None:
    assert len(blocks("python")) == 3


@pytest.mark.pr
def test_the_first_flow_counts_agreeing_qubits(tmp_path: Path) -> None:
    printed = script(0, tmp_path)
    assert re.search(r"^\{'(000|111)': \d+, '(000|111)': \d+\}$", printed, re.MULTILINE), printed


@pytest.mark.pr
def test_the_block_is_saved(tmp_path: Path) -> None:
    script(1, tmp_path)
    with get_client(sync_client=True) as client:
        saved = client.read_block_document_by_name("ibm", "quantum-runtime-credentials")
    assert saved.data["backend"] == "least_busy"


@pytest.mark.pr
def test_without_prefect_an_estimate_is_printed_with_its_jobs_id(tmp_path: Path, service: RuntimeService) -> None:
    printed = re.search(r"^(\S+) (\S+)$", script(2, tmp_path), re.MULTILINE)
    assert printed is not None
    assert service.job(printed[1]).program_id == "estimator"
    assert float(printed[2]) == pytest.approx(1.0, abs=0.1)


@pytest.mark.pr
def test_the_command_lines_do_what_they_say(
    tmp_path: Path, service: RuntimeService, upload: Callable[..., str]
) -> None:
    program = upload(PUBLISHES)
    done, open_ = service.run(program, {"count": 1}), service.run(program, {"count": 1000, "pause": 0.5})
    done.wait_for_final_state(timeout=30)
    bare = [line.partition("#")[0].split() for block in blocks("bash") for line in block.splitlines()]
    lines = [words for words in bare if words[:1] == ["prefect-runtime"]]
    assert len(lines) >= 8
    cli = Path(sys.executable).with_name("prefect-runtime")
    for _, *words in lines:
        job = open_ if words[0] == "cancel" else done
        run([str(cli), *(job.job_id() if word == "JOB" else word for word in words)], tmp_path)
    assert open_.status().name == "CANCELLED"
    assert (tmp_path / "result.json").read_text()


def test_the_pictures_are_there_and_every_path_that_is_named() -> None:
    links = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", README)
    paths = re.findall(r"`((?:flows|deployments|tests)/[\w/.-]+)", README)
    assert paths
    assert [path for path in links + paths if not (PROJECT / path).exists()] == []
