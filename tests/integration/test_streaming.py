"""Interim results from the real runtime: every one, once, in order, whatever callbacks do."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.client import ResultDecoder, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.wire.errors import ConfigurationError, JobTimeoutError, RuntimeInvalidStateError

from .programs import PUBLISHES_GIVEN
from .support import callbacks_run, eventually, our_threads

Run = Callable[..., RuntimeJob]
Hold = Callable[..., tuple[RuntimeJob, Path]]


class Taken:
    """A callback that keeps what it gets."""

    def __init__(self, pause: float = 0.0) -> None:
        self.calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._pause = pause

    def __call__(self, *arguments: Any, **named: Any) -> None:
        self.calls.append((arguments, named))
        time.sleep(self._pause)

    @property
    def values(self) -> list[Any]:
        return [arguments[1] for arguments, _ in self.calls]


def numbers(count: int) -> list[dict[str, int]]:
    return [{"number": number} for number in range(count)]


def test_every_interim_result_comes_once_in_order_as_job_id_and_value(run: Run) -> None:
    job, taken = run(inputs={"count": 200, "pause": 0.002}), Taken()
    assert job.stream_results(taken) is None  # type: ignore[func-returns-value]
    eventually(lambda: len(taken.calls) >= 200)
    job.wait_for_final_state()
    eventually(lambda: not callbacks_run())
    assert taken.calls == [((job.job_id(), value), {}) for value in numbers(200)]


def test_a_stream_that_starts_late_gets_what_came_before(hold: Hold) -> None:
    job, gate = hold(publish=[1, 2, 3])
    eventually(lambda: len(job.interim_results()) == 3)
    taken = Taken()
    job.stream_results(taken)
    eventually(lambda: len(taken.calls) == 3)
    gate.touch()
    eventually(lambda: not callbacks_run())
    assert taken.values == [1, 2, 3, "the gate is open"]


@pytest.mark.parametrize("way", ["run", "constructor"])
def test_a_callback_given_at_construction_streams_from_then_on(run: Run, service: RuntimeService, way: str) -> None:
    taken = Taken()
    if way == "run":
        run(inputs={"count": 20, "pause": 0.005}, callback=taken)
    else:
        made = run(inputs={"count": 20, "pause": 0.005})
        RuntimeJob(Backend("b"), service.client, service.credentials, made.job_id(), "p", user_callback=taken)
    eventually(lambda: len(taken.calls) == 20)
    assert taken.values == numbers(20)


@pytest.mark.parametrize("polled", [True, False])
def test_a_finished_job_has_nothing_to_stream_even_if_it_was_never_polled(
    run: Run, service: RuntimeService, polled: bool
) -> None:
    job = run()
    service.wait([job.job_id()])
    if polled:
        job.status()
    taken = Taken()
    with pytest.raises(RuntimeInvalidStateError, match=job.job_id()):
        job.stream_results(taken)
    assert not callbacks_run()
    assert taken.calls == []


def test_a_second_callback_is_refused_while_the_first_streams(hold: Hold) -> None:
    job, gate = hold(publish=[1])
    first, second = Taken(), Taken()
    job.stream_results(first)
    with pytest.raises(RuntimeInvalidStateError, match="already"):
        job.stream_results(second)
    gate.touch()
    eventually(lambda: not callbacks_run())
    assert first.values == [1, "the gate is open"]
    assert second.calls == []


def test_of_many_threads_that_start_a_stream_one_does(hold: Hold) -> None:
    job, gate = hold(publish=list(range(10)))
    taken, refused, start = Taken(), [], threading.Barrier(8)

    def attempt() -> None:
        start.wait(5)
        try:
            job.stream_results(taken)
        except RuntimeInvalidStateError as error:
            refused.append(error)

    threads = [threading.Thread(target=attempt) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    gate.touch()
    eventually(lambda: not callbacks_run())
    assert len(refused) == 7
    assert taken.values == [*range(10), "the gate is open"]


def test_another_stream_is_allowed_after_one_was_cancelled(hold: Hold) -> None:
    job, gate = hold(publish=[1, 2])
    first, second = Taken(), Taken()
    job.stream_results(first)
    eventually(lambda: len(first.calls) == 2)
    job.cancel_result_streaming()
    job.stream_results(second)
    gate.touch()
    eventually(lambda: not callbacks_run())
    assert first.values == [1, 2]
    assert second.values == [1, 2, "the gate is open"]


@pytest.mark.parametrize("error", [ValueError("no"), SystemExit(3), KeyboardInterrupt()], ids=repr)
def test_what_a_callback_raises_is_logged_and_the_stream_goes_on(
    run: Run, caplog: pytest.LogCaptureFixture, error: BaseException
) -> None:
    got = []

    def callback(job_id: str, value: Any) -> None:
        got.append(value)
        if len(got) == 2:
            raise error

    with caplog.at_level(logging.WARNING):
        job = run(inputs={"count": 5}, callback=callback)
        eventually(lambda: len(got) == 5)
    assert got == numbers(5)
    (record,) = [record for record in caplog.records if record.exc_info]
    assert record.levelno == logging.WARNING
    assert record.exc_info is not None
    assert record.exc_info[1] is error
    assert job.job_id() in record.getMessage()


def test_a_decoder_that_raises_costs_one_result_not_the_stream(run: Run, caplog: pytest.LogCaptureFixture) -> None:
    class Picky(ResultDecoder):
        @classmethod
        def decode(cls, data: str) -> Any:
            if data == "2":
                raise ValueError(data)
            return int(data) * 10

    taken = Taken()
    run(PUBLISHES_GIVEN, {"values": [1, 2, 3]}, callback=taken, result_decoder=Picky)
    eventually(lambda: len(taken.calls) == 2)
    assert taken.values == [10, 30]
    assert "could not be decoded" in caplog.text


def test_the_decoder_argument_beats_the_jobs_own(hold: Hold) -> None:
    class Length(ResultDecoder):
        @classmethod
        def decode(cls, data: str) -> Any:
            return len(data)

    job, gate = hold(publish=["abc"])
    taken = Taken()
    job.stream_results(taken, decoder=Length)
    gate.touch()
    eventually(lambda: len(taken.calls) == 2)
    assert taken.values == [5, 18]


def test_after_a_cancel_no_callback_starts_though_results_are_waiting(run: Run) -> None:
    taken = Taken(pause=0.05)
    job = run(inputs={"count": 100}, callback=taken)
    eventually(lambda: len(taken.calls) >= 2)
    assert job.cancel_result_streaming() is None  # type: ignore[func-returns-value]
    started = len(taken.calls)
    time.sleep(0.3)
    assert len(taken.calls) == started < 100
    eventually(lambda: not callbacks_run())
    assert job.result()["count"] == 100  # the job is left alone


def test_a_cancel_from_within_the_callback_is_its_last_call(run: Run) -> None:
    got, ready = [], threading.Event()

    def callback(job_id: str, value: Any) -> None:
        ready.wait(5)
        got.append(value)
        job.cancel_result_streaming()

    job = run(inputs={"count": 10}, callback=callback)
    ready.set()
    eventually(lambda: not callbacks_run())
    assert got == numbers(1)


def test_cancelling_a_stream_is_harmless_when_nothing_streams(run: Run) -> None:
    job = run()
    assert job.cancel_result_streaming() is None  # type: ignore[func-returns-value]
    job.wait_for_final_state()
    job.cancel_result_streaming()
    job.cancel_result_streaming()
    assert job.result()["count"] == 3


def test_cancelling_the_job_ends_its_stream(hold: Hold) -> None:
    job, _ = hold(publish=[1])
    taken = Taken()
    job.stream_results(taken)
    eventually(lambda: len(taken.calls) == 1)
    job.cancel()
    eventually(lambda: not callbacks_run())
    assert taken.values == [1]


def test_a_slow_callback_gets_everything_also_after_the_end_of_the_job(run: Run) -> None:
    got, job_is_over = [], threading.Event()

    def callback(job_id: str, value: Any) -> None:
        job_is_over.wait(60)
        got.append(value)

    job = run(inputs={"count": 30}, callback=callback)
    job.wait_for_final_state()
    assert got == []
    job_is_over.set()
    eventually(lambda: not callbacks_run())
    assert got == numbers(30)


def test_payloads_are_payloads_whatever_they_say(run: Run) -> None:
    gate = "Listening to results for job: "
    values = ["_poison_pill", "", None, [], "é λ 🙂", gate, "line\nbreak", {"__type__": "x"}, "x" * 400_000, 0]
    taken = Taken()
    run(PUBLISHES_GIVEN, {"values": values}, callback=taken)
    eventually(lambda: len(taken.calls) >= len(values))
    eventually(lambda: not callbacks_run())
    assert taken.values == values


def test_twenty_streams_at_once_all_complete(run: Run) -> None:
    takens = [Taken() for _ in range(20)]
    jobs = [run(inputs={"count": 25, "pause": 0.002}, callback=taken) for taken in takens]
    eventually(lambda: all(len(taken.calls) >= 25 for taken in takens), seconds=30)
    eventually(lambda: not callbacks_run())
    for job, taken in zip(jobs, takens, strict=True):
        assert taken.calls == [((job.job_id(), value), {}) for value in numbers(25)]


def test_a_callback_that_cannot_be_called_is_refused(hold: Hold) -> None:
    job, _ = hold()
    with pytest.raises(ConfigurationError, match="callback"):
        job.stream_results("no function")  # type: ignore[arg-type]


@pytest.mark.parametrize("way", ["wait", "stream to the end", "cancel the stream", "wait in vain"])
def test_no_thread_of_ours_is_left_a_moment_after(hold: Hold, run: Run, way: str) -> None:
    run().wait_for_final_state()  # the watcher stays for ten seconds, for the next who waits: it is among those before
    before = our_threads()
    taken = Taken()
    job, gate = hold(publish=[1])
    if way == "wait":
        gate.touch()
        job.wait_for_final_state()
    elif way == "wait in vain":
        with pytest.raises(JobTimeoutError):
            job.wait_for_final_state(timeout=0.1)
    else:
        job.stream_results(taken)
        eventually(lambda: len(taken.calls) == 1)
        gate.touch() if way == "stream to the end" else job.cancel_result_streaming()
    eventually(lambda: our_threads() <= before, seconds=2, what="the end of our threads")
