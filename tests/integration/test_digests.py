"""A result that changed on the disk, or on the line, is not taken for what the program gave."""

from __future__ import annotations

from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN

from prefect_runtime.client import Credentials, RuntimeJob, RuntimeService
from prefect_runtime.wire.digests import digest_of, header_for
from prefect_runtime.wire.errors import ResultLostError

from .support import Answer, http_server, job_document

GIVES = """
def main(backend, user_messenger, size):
    return {"counts": "0" * size}
"""


@pytest.mark.parametrize("size", [10, 2_000_000], ids=["answered at once", "sent in pieces"])
def test_a_result_that_changed_on_the_runtimes_disk_is_an_error(
    size: int, run: Callable[..., RuntimeJob], runtime: Any, service: RuntimeService
) -> None:
    job = run(GIVES, {"size": size})
    assert job.result() == {"counts": "0" * size}
    (file,) = (runtime.data_dir / "jobs" / job.job_id()).glob("result*")
    assert digest_of(file.read_bytes()) in file.name
    with file.open("r+b") as damaged:
        damaged.seek(12)
        damaged.write(b"1")
    with pytest.raises(ResultLostError, match="changed on the server's disk") as caught:
        service.job(job.job_id()).result(timeout=30)
    assert caught.value.job_id == job.job_id()


def test_a_result_that_changed_on_the_line_is_asked_for_again() -> None:
    whole, changed = '{"a": 1}', '{"a": 7}'
    (name, value), asked = *header_for(digest_of(whole.encode())).items(), []

    def answer(request: BaseHTTPRequestHandler, _: bytes) -> Answer:
        if not request.path.endswith("/results"):
            return 200, job_document("one", "Completed")
        asked.append(request.path)
        body = changed if len(asked) == 1 else whole
        head = f"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n{name}: {value}\r\nConnection: close\r\n"
        return f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode()

    with http_server(answer) as url:
        account = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        with RuntimeService(account, request_timeout=5) as service:
            assert service.handle("one").result(timeout=5) == {"a": 1}
    assert len(asked) == 2
