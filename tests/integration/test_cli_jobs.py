"""`prefect-runtime jobs | show | result | cancel | programs | recalibrate` on a real embedded runtime."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from canaries.values import ACCESS_TOKEN, ALL
from qiskit import QuantumCircuit

from prefect_runtime.client import Credentials, JobStatus, RuntimeClient, RuntimeJob, RuntimeService, discovery
from prefect_runtime.client.finding import JobFilter, find

from .cli_support import CommandLine, start
from .programs import ECHO, NUMBERS
from .support import eventually, http_server, job_document

Run = Callable[..., RuntimeJob]
Hold = Callable[..., tuple[RuntimeJob, Path]]


@pytest.fixture
def cli(runtime: Any, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(runtime.data_dir, capsys)


def ids(printed: str) -> list[str]:
    """The first column of a table, without its header."""
    return [line.split()[0] for line in printed.splitlines()[1:]]


def ended(job: RuntimeJob) -> RuntimeJob:
    job.wait_for_final_state(timeout=30)
    return job


def test_jobs_are_listed_newest_first_a_line_each_and_only_those_asked_for(
    cli: CommandLine, run: Run, hold: Hold, upload: Callable[..., str]
) -> None:
    ours, other = f"ours-{uuid4().hex}", f"other-{uuid4().hex}"
    first = ended(run(ECHO, {"value": 1}, tags=[ours]))
    second = ended(run(ECHO, {"value": 2}, tags=[ours, other], backend="generic_5q"))
    third, gate = hold(tags=[ours, f"prt-run-{uuid4()}"])
    newest_first = [job.job_id() for job in (third, second, first)]

    printed = cli("jobs", "--tag", ours)
    assert ids(printed) == newest_first
    assert "\x1b" not in printed  # no colours where no terminal is
    assert printed.splitlines()[2].split()[1:4] == [upload(ECHO), "generic_5q", "DONE"]
    assert ids(cli("jobs", "--tag", ours, "--limit", "2")) == newest_first[:2]
    assert ids(cli("jobs", "--tag", ours, "--limit", "2", "--all")) == newest_first
    assert ids(cli("jobs", "--tag", ours, "--pending")) == newest_first[:1]
    assert ids(cli("jobs", "--tag", ours, "--final")) == newest_first[1:]
    assert ids(cli("jobs", "--tag", ours, "--program", upload(ECHO))) == newest_first[1:]
    assert ids(cli("jobs", "--tag", ours, "--backend", "generic_5q")) == newest_first[1:2]
    assert ids(cli("jobs", "--tag", ours, "--tag", other)) == newest_first[1:2]
    assert cli("jobs", "--tag", uuid4().hex) == ""
    assert "No jobs" in cli.said

    documents = cli.json("jobs", "--tag", ours)
    assert [document["id"] for document in documents] == newest_first
    assert [document["status"] for document in documents][1:] == ["DONE", "DONE"]
    assert documents[0]["flow_run_id"] in documents[0]["tags"][-1]
    assert documents[1]["backend"] == "generic_5q"
    assert "params" not in documents[1]
    assert cli.json("jobs", "--tag", uuid4().hex) == []
    gate.touch()


def test_a_list_whose_server_knows_no_filter_has_only_what_was_asked_for_and_ends() -> None:
    every = [job_document(f"j{number}", "Completed", backend=f"b{number % 2}") for number in range(6)]
    asked: list[str] = []

    def answer(request: Any, body: bytes) -> tuple[int, Any]:
        asked.append(request.path)
        return 200, {"jobs": every}  # not even `limit` and `offset`

    with http_server(answer) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        found = [job.id for job in find(client, JobFilter(backend="b1"), limit=4)]
        client.close()
    assert found == ["j1", "j3", "j5"]
    assert len(asked) == 2
    assert "backend=b1" in asked[0]


def test_show_tells_all_of_a_failed_jobs_reason_and_with_watch_the_exit_code_tells_it_too(
    cli: CommandLine, run: Run
) -> None:
    job = ended(run(NUMBERS, {"fail": True}))
    printed = cli("show", job.job_id())
    assert "ERROR" in printed
    assert 'File "program.py"' in printed
    assert "ValueError: the program failed on purpose" in printed
    document = cli.json("show", job.job_id(), "--watch", code=4)
    assert document["status"] == "ERROR"
    assert document["reason"].endswith("on purpose\n") or document["reason"].endswith("on purpose")
    assert "There is no job" in (cli("show", "none", code=3) or cli.said)


def test_a_watched_job_is_shown_line_by_line_until_it_is_final(cli: CommandLine, hold: Hold) -> None:
    job, gate = hold(publish=[1, 2])
    eventually(lambda: job.status() is JobStatus.RUNNING)
    with cli.start("show", "-w", job.job_id()) as watching:
        assert watching.stderr is not None
        assert watching.stderr.readline() == f"{job.job_id()} RUNNING\n"
        gate.touch()
        printed, said = watching.communicate(timeout=20)
    assert watching.returncode == 0
    assert f"{job.job_id()} DONE\n" in said
    assert said.endswith("3 interim results\n")
    assert "DONE" in printed
    assert "\x1b" not in printed + said


def test_a_cancelled_job_is_cancelled_at_the_server_and_has_exit_codes_of_its_own(
    cli: CommandLine, hold: Hold, run: Run, service: RuntimeService
) -> None:
    job, _ = hold()
    done = ended(run(ECHO))
    assert cli("cancel", job.job_id()) == f"{job.job_id()} CANCELLED\n"
    assert service.job(job.job_id()).status() is JobStatus.CANCELLED
    assert cli("cancel", job.job_id()) == f"{job.job_id()} CANCELLED\n"  # it is what was wanted
    assert cli("cancel", done.job_id(), job.job_id(), code=1) == f"{job.job_id()} CANCELLED\n"
    assert f"{done.job_id()} is final already" in cli.said
    assert service.job(done.job_id()).status() is JobStatus.DONE
    cli("cancel", "none", done.job_id(), code=3)
    cli("cancel", code=2)
    cli("result", job.job_id(), code=5)
    assert "was cancelled" in cli.said
    assert cli.json("show", "-w", job.job_id(), code=5)["status"] == "CANCELLED"


def test_a_result_is_readable_or_the_servers_own_json_on_standard_output_or_in_a_private_file(
    cli: CommandLine, service: RuntimeService, tmp_path: Path
) -> None:
    circuit = QuantumCircuit(2)
    circuit.x(0)
    circuit.measure_all()
    job = service.run("sampler", {"pubs": [(circuit, None, 30)]})
    lines = cli("result", job.job_id()).splitlines()
    assert lines[0] == "PUB 0, register meas, 30 shots"
    assert lines[2].split() == ["01", "30", "100.0", "%"]
    raw = service.client.results(job.job_id())
    assert raw is not None
    assert cli("result", job.job_id(), "--json") == raw + "\n"
    file = tmp_path / "result.json"
    file.write_text("an older one")
    file.chmod(0o644)
    assert cli("result", job.job_id(), "-o", str(file)) == ""
    assert file.read_text() == raw
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [file]
    cli("result", job.job_id(), "-o", str(tmp_path / "no" / "folder.json"), code=1)
    assert cli.said.count("\n") == 1


def test_a_result_that_is_not_there_says_why_in_one_line(cli: CommandLine, run: Run, hold: Hold) -> None:
    failed, (held, _) = run(NUMBERS, {"fail": True}), hold()
    assert cli("result", failed.job_id(), code=4) == ""
    assert cli.said.splitlines()[-1].startswith(
        f"prefect-runtime: Job {failed.job_id()} has failed: ValueError: the program failed on purpose"
    )
    assert cli("result", held.job_id(), "--timeout", "0.3", code=124) == ""
    assert "It was left alone" in cli.said
    assert not held.status().is_final
    cli("result", "none", code=3)


def test_a_result_of_no_primitive_is_printed_as_it_is(cli: CommandLine, run: Run) -> None:
    job = run(ECHO, {"value": {"a": [1, None], "é": "\x1b[31mred"}})
    assert json.loads(cli("result", job.job_id())) == {"a": [1, None], "é": "\x1b[31mred"}


def test_programs_are_uploaded_listed_and_deleted(cli: CommandLine, tmp_path: Path, service: RuntimeService) -> None:
    source = tmp_path / f"mine_{uuid4().hex}.py"
    source.write_text(ECHO)
    described = tmp_path / "metadata.json"
    described.write_text(json.dumps({"description": "says \x1b[31m it back", "max_execution_time": 7}))
    program = cli("programs", "upload", str(source), "--metadata", str(described)).strip()
    assert service.program(program).max_execution_time == 7
    assert service.run(program, {"value": 5}).result(timeout=30) == 5
    printed = cli("programs")
    assert {"sampler", "estimator", program} <= set(ids(printed))
    assert "says �[31m it back" in printed
    assert next(p for p in cli.json("programs") if p["id"] == program)["name"] == source.stem
    cli("programs", "delete", program)
    assert program not in cli("programs")
    cli("programs", "delete", program, code=3)
    cli("programs", "upload", str(tmp_path / "none.py"), code=1)


def test_recalibrating_gives_the_noisy_backends_other_numbers(cli: CommandLine, service: RuntimeService) -> None:
    before = service.client.backend("generic_5q", "properties")
    first = cli.json("recalibrate")["calibration"]
    assert cli("recalibrate") == f"Calibration {first + 1}.\n"
    assert service.client.backend("generic_5q", "properties") != before


def test_no_command_prints_the_token(cli: CommandLine, runtime: Any, run: Run) -> None:
    job = ended(run(NUMBERS, {"fail": True})).job_id()
    commands = (["jobs"], ["jobs", "--json"], ["show", job], ["show", job, "--json"], ["programs", "--json"])
    printed = "".join(cli(*command) + cli.said for command in commands)
    for command, code in ((["result", job], 4), (["cancel", job], 1), (["logs", "none"], 3)):
        printed += cli(*command, code=code) + cli.said
    assert job in printed
    assert runtime.found.token not in printed


def test_a_folder_that_is_not_there_is_not_made(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cli = CommandLine(tmp_path / "typo", capsys)
    for command in (["jobs"], ["show", "j"], ["recalibrate"], ["programs"], ["logs", "j"]):
        cli(*command, code=3)
        assert "no embedded runtime" in cli.said or "not running" in cli.said
    assert not (tmp_path / "typo").exists()


@pytest.mark.pr
def test_a_runtime_that_has_gone_is_started_to_be_asked(own_runtime: Any, capsys: pytest.CaptureFixture[str]) -> None:
    cli = CommandLine(own_runtime.data_dir, capsys)
    program = None
    with RuntimeService(own_runtime.credentials) as service:
        program = service.upload_program(ECHO, {"name": "echo", "description": "d", "max_execution_time": 9})
        job = ended(service.run(program, {"value": 3})).job_id()
    own_runtime.stop()
    assert cli("result", job) == "3\n"
    assert "Starting" in cli.said
    assert ids(cli("jobs")) == [job]
    assert cli.said == ""
    cli("stop")
    assert discovery.find(own_runtime.data_dir) is None


@pytest.mark.pr
def test_without_options_it_is_the_runtime_that_flows_use(tmp_path: Path) -> None:
    home = {discovery.HOME_VARIABLE: str(tmp_path / "home")}
    with start(["jobs", "--json"], **home) as listing:
        printed, said = listing.communicate(timeout=90)
    assert (listing.returncode, printed) == (0, "[]\n")
    assert "Starting" in said
    with start(["stop"], **home) as stopping:
        assert stopping.communicate(timeout=30)[0] == "Stopped.\n"


@pytest.mark.parametrize("command", [["show"], ["logs"], ["result", "--json"]])
def test_a_full_disk_is_said_in_one_line(command: list[str], runtime: Any, run: Run) -> None:
    job = ended(run(ECHO, {"value": 1}))
    arguments = [*command, job.job_id(), "--data-dir", str(runtime.data_dir)]
    with Path("/dev/full").open("w") as full:
        told = subprocess.run(
            [sys.executable, "-m", "prefect_runtime.cli", *arguments],
            stdout=full, stderr=subprocess.PIPE, text=True, timeout=30, check=False,
        )  # fmt: skip
    assert told.returncode == 1
    assert told.stderr == "prefect-runtime: the output could not be written (No space left on device).\n"


def test_a_canary_in_what_a_command_says_fails_its_test(cli: CommandLine) -> None:
    for name, value in ALL.items():
        with pytest.raises(AssertionError, match=f"{name}, as plain, in what a command says"):
            cli("jobs", value, code=2)
