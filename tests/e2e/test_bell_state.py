"""The main job, run as people run it: `python flows/bell_state.py`."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterName
from prefect.client.schemas.objects import FlowRun

from prefect_runtime.client import JobStatus, RuntimeService

from .support import PROJECT, artifacts, jobs_of, log_lines, shown

PRINTED = re.compile(r"^Job (\S+): (\{.*\})$", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """What a process that ran the flow has printed."""

    job_id: str
    counts: dict[str, int]
    stderr: str


def start(environment: dict[str, str]) -> subprocess.Popen[str]:
    """Start `python flows/bell_state.py`."""
    command = [sys.executable, str(PROJECT / "flows" / "bell_state.py")]
    return subprocess.Popen(
        command, env=environment, cwd=PROJECT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def finish(process: subprocess.Popen[str]) -> Run:
    """Wait for its end and read what it has printed."""
    stdout, stderr = process.communicate(timeout=100)
    assert process.returncode == 0, stderr
    found = PRINTED.search(stdout)
    assert found is not None, stdout
    return Run(found[1], ast.literal_eval(found[2]), stderr)


def flow_run_of(stderr: str) -> FlowRun:
    """Return the flow run that the process's own log names."""
    named = re.search(r"Beginning flow run '([\w-]+)'", stderr)
    assert named is not None, stderr
    with get_client(sync_client=True) as client:
        (run,) = client.read_flow_runs(flow_run_filter=FlowRunFilter(name=FlowRunFilterName(any_=[named[1]])))
    return run


@pytest.fixture(scope="module")
def bell_run(prefect_settings: None) -> tuple[str, dict[str, int], UUID]:
    """Job id, counts and flow run id of the run against the real server."""
    done = finish(start(dict(os.environ)))
    run = flow_run_of(done.stderr)
    assert run.state is not None and run.state.is_completed()
    return done.job_id, done.counts, run.id


def test_bell_state_prints_counts_of_agreeing_qubits_and_its_one_job(
    bell_run: tuple[str, dict[str, int], UUID], service: RuntimeService
) -> None:
    job_id, counts, flow_run_id = bell_run
    assert set(counts) == {"00", "11"}
    assert sum(counts.values()) == 1000
    assert jobs_of(service, flow_run_id) == [job_id]
    assert service.job(job_id).status() is JobStatus.DONE


def test_bell_state_leaves_one_card_that_a_person_can_read(bell_run: tuple[str, dict[str, int], UUID]) -> None:
    job_id, counts, flow_run_id = bell_run
    (card,) = artifacts(flow_run_id)
    assert card.type == "markdown"
    text, rows = str(card.data), shown(card)
    assert rows["Job"] == job_id
    assert rows["Program"] == "sampler"
    assert rows["Backend"] == "aer_simulator"
    assert rows["Status"].endswith("DONE")
    assert {"Created", "Started", "Ended", "In the queue", "Running", "Request written down", "Job known"} <= set(rows)
    bars = {}
    for outcome, count, share, bar in re.findall(r"^\| `(\d+)` \| (\d+) \| ([\d.]+) % \| (█+) \|$", text, re.MULTILINE):
        assert float(share) == pytest.approx(int(count) / 10, abs=0.05)
        bars[outcome] = (int(count), len(bar))
    assert {outcome: count for outcome, (count, _) in bars.items()} == counts
    assert max(bars.values())[1] == max(length for _, length in bars.values())


def test_the_cards_metadata_names_request_and_job(bell_run: tuple[str, dict[str, int], UUID]) -> None:
    job_id, _, flow_run_id = bell_run
    (card,) = artifacts(flow_run_id)
    fields = card.metadata_ or {}
    assert card.key == fields["key"]
    assert re.fullmatch(r"prt1-[a-z2-7]{26}", fields["key"])
    assert fields["job_id"] == job_id
    assert fields["program"] == "sampler"
    assert fields["backend"] == "aer_simulator"
    assert fields["occurrence"] == "0"
    assert fields["generation"] == "0"
    assert fields["root_run"] == str(flow_run_id)
    assert fields["intended_at"] < fields["acknowledged_at"]
    assert "failure_delivered" not in fields


def test_the_flow_runs_log_has_the_interim_result_and_each_status_once(
    bell_run: tuple[str, dict[str, int], UUID],
) -> None:
    job_id, _, flow_run_id = bell_run
    lines = log_lines(flow_run_id, until="characters of log")
    interim = [line for line in lines if line.startswith(f"Job {job_id}: interim result")]
    assert len(interim) == 1
    assert '"pub": 0' in interim[0]
    statuses = [
        found[1]
        for line in lines
        if (found := re.match(rf"Job {job_id}: (QUEUED|INITIALIZING|RUNNING|DONE|ERROR|CANCELLED)\b", line))
    ]
    assert len(statuses) == len(set(statuses)), "a status is told once"
    assert statuses[-1] == "DONE"
    assert any(f"Job {job_id}: submitted" in line for line in lines)


@pytest.mark.pr  # the README's first command does the same, and .ci/run calls it
def test_bell_state_needs_no_server(service: RuntimeService, tmp_path: Path) -> None:
    without_server = {name: value for name, value in os.environ.items() if name != "PREFECT_API_URL"}
    patient = {"PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90"}  # other tests run beside this one
    done = finish(start({**without_server, **patient, "PREFECT_HOME": str(tmp_path)}))
    assert "temporary server" in done.stderr
    assert set(done.counts) == {"00", "11"}
    assert sum(done.counts.values()) == 1000
    assert service.job(done.job_id).status() is JobStatus.DONE
