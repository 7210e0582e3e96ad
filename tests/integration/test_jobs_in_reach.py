"""A job is in reach of who has its id, whatever the server says of its backend and its inputs; on scripted servers."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import pytest
from canaries.values import ACCESS_TOKEN, API_KEY, CRN, IAM_TOKEN

from prefect_runtime.client import Credentials, RuntimeService
from prefect_runtime.wire.errors import QiskitRuntimeError, RuntimeJobNotFound

from .support import Answer, eventually, http_server, job_document, our_threads

BACKEND = "ibm_retired"
GONE: Answer = (404, {"errors": [{"message": "no such page"}]})
PAGES: Mapping[str, Answer] = {
    "POST /identity/token": (200, {"access_token": IAM_TOKEN, "expires_in": 3600}),
    "POST /jobs": (200, {"id": "j"}),
    "GET /jobs": (200, {"jobs": [job_document("j", "Completed", backend=BACKEND)]}),
    "GET /jobs/j": (200, job_document("j", "Completed", backend=BACKEND, params={"n": 1})),
    "GET /jobs/j/results": (200, "7"),
    "GET /backends": (200, {"devices": []}),
}


@contextlib.contextmanager
def service(channel: Any, pages: Mapping[str, Answer | Callable[[], Answer]]) -> Iterator[RuntimeService]:
    """A service at a server that has these pages besides those above."""

    def answer(request: Any, _: bytes) -> Answer:
        page = {**PAGES, **pages}.get(f"{request.command} {request.path.partition('?')[0]}", GONE)
        return page() if callable(page) else page

    with http_server(answer) as url:
        if channel == "classic":
            credentials = Credentials(channel="classic", url=url, token=ACCESS_TOKEN)
        else:
            credentials = Credentials(channel=channel, url=url, auth_url=url, token=API_KEY, instance=CRN)
        with RuntimeService(credentials, settle_seconds=0, request_timeout=5) as found:
            yield found


def test_a_backend_that_has_lost_its_configuration_hides_none_of_its_jobs() -> None:
    status = {"state": False, "status": "offline", "length_queue": 0}
    with service("ibm_quantum_platform", {f"GET /backends/{BACKEND}/status": (200, status)}) as platform:
        found = [platform.job("j"), *platform.jobs()]
        assert [(job.job_id(), job.backend().name, job.result(timeout=5)) for job in found] == [("j", BACKEND, 7)] * 2


@pytest.mark.parametrize("queue", ["many", [1], "3", 1e400])
def test_an_odd_number_about_a_backend_loses_no_job_that_was_made(queue: Any) -> None:
    pages: Mapping[str, Answer] = {
        f"GET /backends/{BACKEND}/status": (200, {"state": True, "status": "active", "length_queue": queue}),
        "GET /backends": (200, {"devices": [{"name": BACKEND, "queue_length": queue}]}),
    }
    with service("classic", pages) as classic:
        job = classic.run("p", {}, backend=BACKEND)
        assert (job.job_id(), job.result(timeout=5)) == ("j", 7)
        assert [backend.name for backend in classic.backends()] == [BACKEND]


@pytest.mark.parametrize(
    "params", [{"circuit": {"__type__": "QuantumCircuit", "__value__": "of another Qiskit"}}, "no JSON", ["{"]]
)
def test_inputs_that_cannot_be_read_hide_no_result(params: Any) -> None:
    document = job_document("j", "Completed", backend=BACKEND, params=params)
    with service("classic", {"GET /jobs/j": (200, document)}) as classic:
        job = classic.job("j")
        assert job.result(timeout=5) == 7
        assert job.inputs == (params if isinstance(params, dict) else {})


@pytest.mark.parametrize("name", ["stream-j", "callback-j"])
def test_a_callback_without_a_thread_loses_no_job_that_was_made(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    start = threading.Thread.start

    def start_if_possible(thread: threading.Thread) -> None:
        if thread.name == name:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", start_if_possible)
    with service("classic", {"GET /jobs/j": (200, job_document("j", "Running"))}) as classic:
        with pytest.raises(QiskitRuntimeError, match="no thread could be started") as caught:
            classic.run("p", {}, backend=BACKEND, callback=lambda *_: None)
        assert caught.value.job_id == "j"
        job = classic.handle("j")
        for _ in range(2):  # the second is not refused as a second stream
            with pytest.raises(QiskitRuntimeError, match="no thread could be started"):
                job.stream_results(lambda *_: None)
        eventually(lambda: not our_threads() or all(one.name.startswith("job-") for one in our_threads()))


@pytest.mark.parametrize("times", [1, 2])
def test_a_404_for_a_finished_jobs_result_is_believed_when_it_comes_twice(times: int) -> None:
    answers = [GONE] * times

    def result() -> Answer:
        return answers.pop() if answers else (200, "7")

    with service("classic", {"GET /jobs/j/results": result}) as classic:
        if times == 1:
            assert classic.handle("j").result(timeout=5) == 7
        else:
            with pytest.raises(RuntimeJobNotFound):
                classic.handle("j").result(timeout=5)
    assert answers == []
