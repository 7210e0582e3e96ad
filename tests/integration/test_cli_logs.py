"""`prefect-runtime logs` on a real embedded runtime, and on servers that answer otherwise."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN

from prefect_runtime.cli.logs import follow_to_the_end
from prefect_runtime.client import Credentials, JobStatus, RuntimeClient, RuntimeJob
from prefect_runtime.client.log_tail import LogTail
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import ProtocolError, RuntimeJobNotFound

from .cli_support import CommandLine
from .programs import that_does
from .support import elapsed, eventually, http_server, job_document

Run = Callable[..., RuntimeJob]

WRITES = that_does(
    "gate = kwargs['gate']",
    "print('one: é ✓', flush=True)",
    "while not os.path.exists(gate): time.sleep(0.01)",
    "print('two', flush=True)",
    "if kwargs.get('fail'): raise ValueError('on purpose')",
)


@pytest.fixture
def cli(runtime: Any, capsys: pytest.CaptureFixture[str]) -> CommandLine:
    return CommandLine(runtime.data_dir, capsys)


def test_a_followed_log_comes_while_the_job_runs_and_ends_with_it(cli: CommandLine, run: Run, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    job = run(WRITES, {"gate": str(gate), "fail": True})
    with cli.start("logs", "-f", job.job_id()) as following:
        assert following.stdout is not None
        assert following.stdout.readline() == "one: é ✓\n"
        assert job.status() is JobStatus.RUNNING
        gate.touch()
        printed, said = following.communicate(timeout=20)
    assert following.returncode == 4
    assert printed.startswith("two\nTraceback")
    assert printed.endswith("ValueError: on purpose\n")
    assert "Traceback" not in said
    assert cli("logs", job.job_id()) == "one: é ✓\n" + printed
    assert cli("logs", "-f", job.job_id(), code=4) == "one: é ✓\n" + printed


def test_a_log_is_there_while_the_job_runs_and_following_it_ends_in_time(
    cli: CommandLine, run: Run, tmp_path: Path
) -> None:
    job = run(WRITES, {"gate": str(tmp_path / "gate")})
    eventually(lambda: cli("logs", job.job_id()) == "one: é ✓\n")
    seconds = elapsed()
    assert cli("logs", "-f", job.job_id(), "--timeout", "0.5", code=124) == "one: é ✓\n"
    assert seconds() < 5
    assert not job.status().is_final
    seconds = elapsed()
    cli("logs", "none", code=3)
    cli("logs", "-f", "none", code=3)
    assert seconds() < 2
    cli("cancel", job.job_id())
    assert cli("logs", "-f", job.job_id(), code=5) == "one: é ✓\n"


def test_a_reader_that_goes_away_ends_it_without_a_traceback(cli: CommandLine, run: Run) -> None:
    job = run(that_does("print('a line\\n' * 1_000_000)"))  # more than a pipe holds
    job.wait_for_final_state(timeout=30)
    with cli.start("logs", job.job_id()) as printing:
        assert printing.stdout is not None and printing.stderr is not None
        assert printing.stdout.readline() == "a line\n"
        printing.stdout.close()
        assert printing.stderr.read() == ""
        printing.wait(20)
    assert printing.returncode == 1


PAUSES = (0.05, 0.2)


class LogServer:
    """A classic server with one job, whose log grows by a piece with each question for it.

    Attributes:
        asked: The Range of each question for the log.
    """

    def __init__(self, *pieces: bytes, knows_range: bool) -> None:
        self.asked: list[str | None] = []
        self._pieces = pieces
        self._knows_range = knows_range

    def __call__(self, request: Any, body: bytes) -> bytes | tuple[int, Any]:
        over = len(self.asked) >= len(self._pieces)
        if not request.path.endswith("/logs"):
            return 200, job_document("j", "Completed" if over else "Running")
        self.asked.append(request.headers["Range"])
        log = b"".join(self._pieces[: len(self.asked)])
        if not log:
            return 404, {"error": {"message": "no log yet"}}
        if not self._knows_range:
            return _answer("200 OK", log)
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        if start >= len(log):
            return _answer("416 Range Not Satisfiable", b"")
        return _answer(
            "206 Partial Content", log[start:], f"Content-Range: bytes {start}-{len(log) - 1}/{len(log)}\r\n"
        )


def _answer(status: str, body: bytes, headers: str = "") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{headers}\r\n".encode() + body


@contextmanager
def client_of(answer: Any, *, seconds: float = 5) -> Iterator[RuntimeClient]:
    with http_server(answer) as url:
        credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        client = RuntimeClient(credentials, request_timeout=seconds)
        yield client
        client.close()


@pytest.mark.parametrize("knows_range", [True, False])
def test_every_byte_is_read_once_whether_the_server_knows_ranges_or_not(knows_range: bool) -> None:
    mark = "✓".encode()
    server = LogServer(b"", b"one \xc3", b"\xa9 " + mark[:1], mark[1:] + b"\n", b"", b"two\n", knows_range=knows_range)
    with client_of(server) as client:
        log = LogTail(client, "j")
        text = "".join(log.more()[0] for _ in range(6)) + log.rest()
    assert text == "one é ✓\ntwo\n"
    assert server.asked == [f"bytes={start}-" for start in (0, 0, 5, 8, 11, 11)]


def test_what_is_written_until_the_end_is_printed_though_the_end_is_noticed_first(
    capsys: pytest.CaptureFixture[str],
) -> None:
    server = LogServer(b"first\n", b"", b"last\n", knows_range=False)
    with client_of(server) as client:
        ended = follow_to_the_end(client, LogTail(client, "j"), Deadline(20), PAUSES)
    assert ended.status is JobStatus.DONE
    assert capsys.readouterr().out == "first\nlast\n"


def test_a_part_of_another_place_is_not_taken_for_the_log() -> None:
    def answer(request: Any, body: bytes) -> bytes:
        return _answer("206 Partial Content", b"xy", "Content-Range: bytes 7-8/9\r\n")

    with client_of(answer, seconds=2) as client, pytest.raises(ProtocolError, match="another part"):
        client.logs_from("j", 3)


def test_a_log_in_several_answers_is_read_whole() -> None:
    text = b"0123456789"

    def answer(request: Any, body: bytes) -> bytes:
        start = int(request.headers["Range"].removeprefix("bytes=").removesuffix("-"))
        part = text[start : start + 4]
        return _answer("206 Partial Content", part, f"Content-Range: bytes {start}-{start + len(part) - 1}/10\r\n")

    with client_of(answer) as client:
        log = LogTail(client, "j")
        parts = [log.more() for _ in range(3)]
    assert parts == [("0123", True), ("4567", True), ("89", False)]


def test_a_job_that_is_not_there_is_told_from_one_without_a_log() -> None:
    with (
        client_of(lambda request, body: (404, {"error": {"message": "nothing"}})) as client,
        pytest.raises(RuntimeJobNotFound),
    ):
        LogTail(client, "j").more()


def test_a_log_that_cannot_be_read_for_a_while_is_followed_on(capsys: pytest.CaptureFixture[str]) -> None:
    asked = 0  # for the log

    def answer(request: Any, body: bytes) -> tuple[int, Any]:
        nonlocal asked
        if not request.path.endswith("/logs"):
            return 200, job_document("j", "Completed" if asked >= 3 else "Running")
        asked += 1
        return (500, {}) if asked < 3 else (200, "here it is\n")

    with client_of(answer, seconds=0.1) as client:
        follow_to_the_end(client, LogTail(client, "j"), Deadline(20), PAUSES)
    assert capsys.readouterr().out == "here it is\n"
