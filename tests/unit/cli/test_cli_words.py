"""What commands print of a job and a result, and which exit codes errors have; nothing is asked of a server."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import numpy as np
import pytest
from qiskit.primitives.containers import BitArray, DataBin, PrimitiveResult, PubResult
from rich.console import Console

from prefect_runtime.cli import main
from prefect_runtime.cli.documents import as_json, listing, local_time, own_tags
from prefect_runtime.cli.output import Exit, exit_for, plain
from prefect_runtime.cli.readable import pages
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, RuntimeJobMaxTimeoutError
from prefect_runtime.wire.models import JobDocument, JobStatus

DOCUMENT = JobDocument(
    id="d1234567890123456789",
    word="Completed",
    status=JobStatus.DONE,
    program_id="numbers-acc4a292ec-and-a-long-name-too",
    backend="aer_simulator",
    created="2026-01-02T03:04:05Z",
    started="2026-01-02T03:04:06Z",
    ended="2026-01-02T03:04:08.5Z",
    tags=("prt1-abc", "prefect-runtime", "prt-run-0f3b2c1d-1111", "prt-fp-12", "mine"),
    params={"pubs": []},
)


def printed(*renderables: Any, width: int = 200, terminal: bool = False) -> list[str]:
    console = Console(
        file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, _environ={"TTY_COMPATIBLE": ""}
    )
    for renderable in renderables:
        console.print(renderable)
    file = console.file
    assert isinstance(file, io.StringIO)
    return [line.rstrip() for line in file.getvalue().splitlines()]


def result_lines(value: Any) -> list[str]:
    return printed(*pages(value, Console(file=io.StringIO(), width=200)))


def bits(*outcomes: str, num_bits: int = 2) -> BitArray:
    return BitArray.from_samples(list(outcomes), num_bits)


def test_a_narrow_terminal_has_fewer_columns_but_whole_ids_and_pipes_have_all() -> None:
    narrow = Console(file=io.StringIO(), width=80, force_terminal=True)
    lines = printed(listing([DOCUMENT], narrow), width=80, terminal=True)
    assert DOCUMENT.id in lines[-1] and "DONE" in lines[-1]
    assert "mine" not in lines[-1] and len(lines) == 3
    wide = printed(listing([DOCUMENT], Console(file=io.StringIO(), width=4000)), width=4000)
    assert wide[-1].split()[-2:] == ["mine", "0f3b2c1d-1111"]
    assert DOCUMENT.program_id in wide[-1]


def test_a_document_for_programs_has_no_inputs_and_no_secrets() -> None:
    failed = JobDocument(id="j", word="odd", status=None, reason="token s3cret refused", solution="not s3cret")
    document = as_json(failed, ("s3cret",))
    assert (document["status"], document["word"], document["final"]) == (None, "odd", False)
    assert "s3cret" not in str(document)
    document = as_json(DOCUMENT, ())
    assert document["seconds"] == 2.5
    assert document["flow_run_id"] == "0f3b2c1d-1111"
    assert "params" not in document


def test_only_a_persons_own_tags_are_shown_as_tags() -> None:
    assert own_tags(DOCUMENT) == ["mine"]


def test_times_are_local_and_short_where_there_is_no_room() -> None:
    assert local_time("2026-01-02T03:04:05Z") == f"{datetime.fromisoformat('2026-01-02T03:04:05Z').astimezone():%F %T}"
    now = datetime.now().astimezone()
    assert local_time(now.isoformat(), short=True) == f"{now:%T}"
    assert local_time(None) == ""
    assert local_time("yesterday") == "yesterday"


def test_a_servers_text_cannot_rewrite_the_terminal() -> None:
    assert plain("a\x1b[2Jb\rc\x9bd\n[bold]").plain == "a�[2Jb�c�d\n[bold]"


def test_counts_are_listed_most_frequent_first_by_register_and_by_set_of_values() -> None:
    one = bits("00", "11", "11")
    several = BitArray.from_samples(["0", "1", "1", "1"], 1).reshape((2,), 2)
    result = PrimitiveResult([PubResult(DataBin(c=one)), PubResult(DataBin(shape=(2,), d=several))])
    lines = result_lines(result)
    assert [line.split() for line in lines] == [
        ["PUB", "0,", "register", "c,", "3", "shots"],
        ["outcome", "count", "share"],
        ["11", "2", "66.7", "%"],
        ["00", "1", "33.3", "%"],
        ["PUB", "1,", "register", "d", "at", "0,", "2", "shots"],
        ["outcome", "count", "share"],
        ["0", "1", "50.0", "%"],
        ["1", "1", "50.0", "%"],
        ["PUB", "1,", "register", "d", "at", "1,", "2", "shots"],
        ["outcome", "count", "share"],
        ["1", "2", "100.0", "%"],
    ]


def test_of_many_outcomes_the_rare_ones_are_counted_together() -> None:
    outcomes = [f"{number:05b}" for number in range(20)]
    lines = result_lines(PrimitiveResult([PubResult(DataBin(c=bits(*outcomes, num_bits=5)))]))
    assert len(lines) == 2 + 16 + 1
    assert lines[-1].split() == ["4", "others", "4", "20.0", "%"]


def test_expectation_values_stand_beside_their_errors() -> None:
    data = DataBin(shape=(2, 1), evs=np.array([[0.5], [-1.0]]), stds=np.array([[0.015625], [0.0]]))
    lines = result_lines(PrimitiveResult([PubResult(data)]))
    assert [line.split() for line in lines] == [
        ["PUB", "0"],
        ["at", "evs", "stds"],
        ["0,", "0", "0.5", "0.015625"],
        ["1,", "0", "-1", "0"],
    ]
    scalar = PrimitiveResult([PubResult(DataBin(evs=np.float64(0.25), stds=np.float64(0.1)))])
    assert [line.split() for line in result_lines(scalar)][1:] == [["evs", "stds"], ["0.25", "0.1"]]


def test_errors_have_the_exit_codes_of_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_for(JobTimeoutError("late")) == 124
    assert exit_for(RuntimeJobMaxTimeoutError("long")) is Exit.JOB_FAILED
    assert exit_for(ConfigurationError("odd")) is Exit.ERROR
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert not ended.value.code
    text = " ".join(capsys.readouterr().out.split())
    for code in Exit:
        assert f" {code.value} " in text


@pytest.mark.parametrize(
    "arguments",
    [["jobz"], ["jobs", "--limit", "0"], ["show"], ["result", "j", "--timeout", "soon"],
     ["jobs", "--block", "b", "--data-dir", "d"],
     ["reap", "--silent-minutes", "-1"], ["reap", "--silent-minutes", "nan"],
     ["serve", "--port", "99999"], ["serve", "--idle-seconds", "nan"], ["serve", "--program-memory", "inf"],
     ["serve", "--token-seconds", "inf"]],
)  # fmt: skip
def test_wrong_usage_has_an_exit_code_of_its_own(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2


def test_a_block_that_cannot_be_asked_for_is_told_by_prefects_api(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is not the runtime that refuses the connection, which is what "cannot be loaded" was taken for."""

    def refuse(_: str) -> None:
        raise ConnectionError("Connection refused")

    monkeypatch.setattr("prefect_runtime.blocks.credentials.load_credentials", refuse)
    with pytest.raises(SystemExit) as ended:
        main(["jobs", "--block", "ibm"])
    assert ended.value.code == Exit.ERROR
    assert "Prefect's API cannot be asked for 'ibm' (ConnectionError: Connection refused)" in capsys.readouterr().err
