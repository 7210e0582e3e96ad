"""A private job's result can be read once: on disk before anything else; a broken read is a loss, and said so."""

from __future__ import annotations

import json
import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest
import requests
from canaries.values import ACCESS_TOKEN

from prefect_runtime.client import Credentials, ResultDecoder, RuntimeClient, RuntimeService
from prefect_runtime.client.private_results import KEPT_SECONDS, Part, PrivateResult
from prefect_runtime.client.retry import Deadline
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, ResultDecodeError, ResultLostError

from .support import Answer, http_server, job_document

RESULT = json.dumps({"secret": [1, 2, 3]})
PROGRAM = "def main(backend, user_messenger, **kwargs):\n    return kwargs\n"
REASON = "Content-Type: application/json\r\nConnection: close\r\n"


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of the test's own for what is kept."""
    monkeypatch.setenv("PREFECT_RUNTIME_HOME", str(tmp_path))
    return tmp_path / "private-results"


class OneJob:
    """A classic server with one private job, and answers to who asks for its result; the last one repeats."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.reads = 0

    def __call__(self, request: BaseHTTPRequestHandler, body: bytes) -> Answer:
        if not request.path.endswith("/results"):
            return 200, job_document("one", "Completed", private=True)
        self.reads += 1
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Wrong(ResultDecoder):
    @classmethod
    def decode(cls, data: str) -> Any:
        raise ResultDecodeError("not mine")


def fetch(url: str, decoder: type[ResultDecoder] | None = None) -> Any:
    """Fetch the result in a service of its own, as another process would."""
    with RuntimeService(Credentials(channel="classic", url=url, token=ACCESS_TOKEN), request_timeout=5) as service:
        return service.handle("one").result(timeout=5, decoder=decoder)


def framed(body: str, *, length: int) -> bytes:
    return f"HTTP/1.1 200 OK\r\n{REASON}Content-Length: {length}\r\n\r\n{body}".encode()


def test_it_is_read_once_however_often_it_is_asked_for_and_only_its_owner_can_read_the_file(home: Path) -> None:
    server = OneJob((200, RESULT), (204, ""))
    with http_server(server) as url:
        with pytest.raises(ResultDecodeError):
            fetch(url, Wrong)
        assert fetch(url) == fetch(url) == {"secret": [1, 2, 3]}
    assert server.reads == 1
    (file,) = home.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600
    assert home.stat().st_mode & 0o777 == 0o700
    assert "one" not in file.name


def test_a_read_that_breaks_off_is_a_loss_and_what_came_is_kept(home: Path) -> None:
    server = OneJob(framed(RESULT[:9], length=len(RESULT)), (200, "never asked for"))
    with http_server(server) as url, pytest.raises(ResultLostError) as caught:
        fetch(url)
    assert server.reads == 1
    (file,) = home.iterdir()
    assert file.read_text() == RESULT[:9]
    assert f"The 9 bytes that came are in {file}" in str(caught.value)
    assert (caught.value.job_id, caught.value.retryable) == ("one", False)


def test_a_result_that_is_no_json_is_a_loss_too_and_not_asked_for_again(home: Path) -> None:
    body = (
        f"HTTP/1.1 200 OK\r\n{REASON}\r\n{RESULT[:9]}".encode()
    )  # ends with the connection: nothing says that it is cut
    server = OneJob(body, (200, RESULT))
    with http_server(server) as url, pytest.raises(ResultLostError, match="garbled or cut off"):
        fetch(url)
    assert server.reads == 1


def test_a_refusal_before_anything_was_sent_is_tried_again(home: Path) -> None:
    server = OneJob((503, "x" * 100), (200, RESULT))
    with http_server(server) as url:
        assert fetch(url) == {"secret": [1, 2, 3]}
    assert server.reads == 2
    (file,) = home.iterdir()
    assert file.read_text() == RESULT


def test_not_yet_is_asked_again_and_leaves_nothing_behind(home: Path) -> None:
    server = OneJob((204, ""), (200, RESULT))
    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        assert PrivateResult(client, "one").fetch(Deadline(10)) is None
        assert list(home.iterdir()) == []
        assert PrivateResult(client, "one").fetch(Deadline(10)) == RESULT
        client.close()


def test_where_it_cannot_be_kept_it_is_not_read(home: Path) -> None:
    home.parent.mkdir(exist_ok=True)
    home.write_text("a file where the folder should be")
    server = OneJob((200, RESULT))
    with http_server(server) as url, pytest.raises(ConfigurationError, match="It was not read"):
        fetch(url)
    assert server.reads == 0


class OnAFullDisk(PrivateResult):
    def _new_part(self) -> Part:
        return Part(os.open("/dev/full", os.O_WRONLY), self._folder / "full.part")  # every write says: no space left


def test_a_full_disk_is_a_loss_that_names_the_reason(home: Path) -> None:
    server = OneJob((200, RESULT))
    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        with pytest.raises(ResultLostError, match="could not be kept"):
            OnAFullDisk(client, "one").fetch(Deadline(10))
        client.close()
    assert server.reads == 1


def test_what_came_of_a_read_that_broke_off_stays_when_it_is_asked_for_again(home: Path) -> None:
    server = OneJob(framed(RESULT[:9], length=len(RESULT)), (204, ""))
    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        with pytest.raises(ResultLostError):
            PrivateResult(client, "one").fetch(Deadline(10))
        assert PrivateResult(client, "one").fetch(Deadline(10)) is None
        client.close()
    (file,) = home.iterdir()
    assert file.read_text() == RESULT[:9]


def test_two_that_ask_at_once_read_once_and_both_have_it(home: Path) -> None:
    server, first_is_read, go_on = OneJob((200, RESULT), (204, "")), threading.Event(), threading.Event()

    class Slow(PrivateResult):
        def _read_into(self, part: Part, deadline: Deadline) -> str | None:
            first_is_read.set()
            go_on.wait(5)
            return super()._read_into(part, deadline)

    with http_server(server) as url:
        client = RuntimeClient(Credentials(channel="classic", url=url, token=ACCESS_TOKEN))
        with ThreadPoolExecutor() as pool:
            first = pool.submit(Slow(client, "one").fetch, Deadline(10))
            assert first_is_read.wait(5)
            with pytest.raises(JobTimeoutError, match="being read"):
                PrivateResult(client, "one").fetch(Deadline(0))
            threading.Timer(0.3, go_on.set).start()  # the next one waits for it by then
            assert PrivateResult(client, "one").fetch(Deadline(10)) == first.result() == RESULT
        client.close()
    assert server.reads == 1
    (file,) = home.iterdir()
    assert file.suffix == ".json"


def test_what_was_kept_for_a_week_is_forgotten(home: Path) -> None:
    home.mkdir(parents=True)
    old, new = home / "old.json", home / "new.json"
    for file, age in ((old, KEPT_SECONDS + 60), (new, KEPT_SECONDS - 60)):
        file.write_text("{}")
        os.utime(file, (time.time() - age,) * 2)
    with http_server(OneJob((200, RESULT))) as url:
        fetch(url)
    assert not old.exists()
    assert new.exists()


def test_two_servers_may_have_jobs_of_the_same_id(home: Path) -> None:
    with http_server(OneJob((200, '"a"'))) as one, http_server(OneJob((200, '"b"'))) as other:
        assert (fetch(one), fetch(other), fetch(one)) == ("a", "b", "a")


def test_a_private_job_of_the_embedded_runtime(runtime: Any, upload: Callable[..., str], home: Path) -> None:
    with RuntimeService(runtime.credentials) as service:
        job = service.run(upload(PROGRAM), {"secret": 5}, private=True)
        assert job.result(timeout=30) == {"secret": 5}
        assert service.client.results(job.job_id()) is None  # the server has it no more
        assert service.job(job.job_id()).result() == {"secret": 5}
        assert service.job(job.job_id()).inputs == {}


@pytest.mark.parametrize("wanted", ["bytes=5000000-", "bytes=0-9", "nonsense"])
@pytest.mark.parametrize("size", [10, 3_000_000])
def test_a_private_result_is_given_whole_whatever_part_is_asked_for_and_leaves_nothing(
    runtime: Any, upload: Callable[..., str], wanted: str, size: int
) -> None:
    source = f"def main(backend, user_messenger):\n    return 'x' * {size}\n"
    with RuntimeService(runtime.credentials) as service:
        job = service.run(upload(source), {}, private=True)
        job.wait_for_final_state(timeout=30)
    url, headers = f"{runtime.found.url}/jobs/{job.job_id()}/results", {"X-Access-Token": runtime.found.token}
    answers = [requests.get(url, headers={**headers, "Range": wanted}, timeout=30) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [200, 204]
    assert answers[0].json() == "x" * size
    assert not list((runtime.data_dir / "jobs" / job.job_id()).glob("*.json"))


def test_a_kept_result_that_was_damaged_on_disk_is_a_loss_that_is_said(home: Path) -> None:
    one = OneJob((200, RESULT))
    with http_server(one) as url:
        assert fetch(url) == json.loads(RESULT)
        (file,) = home.iterdir()
        assert file.stat().st_mode & 0o777 == 0o600
        file.write_text(RESULT.replace("1", "7"))
        with pytest.raises(ResultLostError, match="not what was written"):
            fetch(url)
        assert one.reads == 1
