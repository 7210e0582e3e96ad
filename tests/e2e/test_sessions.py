"""Sessions in flows: on a card, found again by the same flow run, closed at its end, reaped where nobody could."""

from __future__ import annotations

import asyncio
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.task_runners import ProcessPoolTaskRunner
from qiskit import QuantumCircuit

from prefect_runtime import (
    arun_sampler,
    aruntime_batch,
    aruntime_session,
    cancel_jobs,
    fetch_result,
    run_sampler,
    runtime_batch,
    runtime_session,
    session_cards,
)
from prefect_runtime.cli.reap import reap
from prefect_runtime.client import RuntimeService
from prefect_runtime.tasks import sessions
from prefect_runtime.wire.errors import SessionUnknownError

from .support import claims, execute_again, run_async, run_id


class DiedError(Exception):
    """Stands for a process that dies: nothing is cleaned up after it."""


def test_a_flow_run_that_died_in_a_session_finds_it_and_its_job_and_closes_it(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    left_open: list[Any] = []  # who holds the context manager keeps it from being closed, as death does
    seen: list[tuple[str, str]] = []

    @flow
    def sample() -> None:
        manager = runtime_session("local", backend="aer_simulator", max_ttl=120)
        session = manager.__enter__()
        job_id = run_sampler("local", [bell], shots=10, session_id=session.session_id, backend=session.backend)
        seen.append((session.session_id, job_id))
        if len(seen) == 1:
            left_open.append(manager)
            raise DiedError
        fetch_result("local", job_id)
        manager.__exit__(None, None, None)

    state = sample(return_state=True)
    assert state.is_failed()
    assert service.client.session(seen[0][0])["accepting_jobs"] is True
    assert execute_again(sample, run_id(state)).is_completed()
    assert seen[1] == seen[0]
    assert service.client.session(seen[0][0])["accepting_jobs"] is False


@pytest.mark.pr
def test_a_retry_after_the_session_was_closed_opens_another_and_keeps_its_job(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    seen: list[tuple[str, str]] = []

    @flow(retries=1)
    def sample() -> None:
        with runtime_batch("local", backend="aer_simulator", max_ttl=120) as batch:
            job_id = run_sampler("local", [bell], shots=10, session_id=batch.session_id, backend=batch.backend)
            seen.append((batch.session_id, job_id))
            if len(seen) == 1:
                raise DiedError

    sample()
    (first, job), (second, same_job) = seen
    assert first != second
    assert job == same_job


@pytest.mark.pr
def test_equal_sessions_of_tasks_in_processes_of_their_own_are_one_for_each(
    tmp_path: Path, service: RuntimeService
) -> None:
    folder = str(tmp_path)

    @task
    def measure(number: int) -> str:
        def wait_for(others: int) -> None:
            while len(list(Path(folder).iterdir())) < others:
                time.sleep(0.1)

        wait_for(number)
        with runtime_session("local", backend="aer_simulator", max_ttl=120) as session:
            Path(folder, str(number)).touch()
            wait_for(2)
        return str(session.session_id)

    @flow(task_runner=ProcessPoolTaskRunner(2))
    def sample() -> list[str]:
        return [future.result() for future in [measure.submit(0), measure.submit(1)]]

    seen = sample()
    assert len(set(seen)) == 2
    assert not any(service.client.session(session_id)["accepting_jobs"] for session_id in seen)


@pytest.mark.pr
def test_a_session_of_a_task_is_found_again_by_that_task(service: RuntimeService) -> None:
    together = threading.Barrier(2)
    left_open: list[Any] = []
    seen: list[set[str]] = []

    @task
    def measure() -> str:
        manager = runtime_session("local", backend="aer_simulator", max_ttl=120)
        together.wait(30)
        left_open.append(manager)
        return str(manager.__enter__().session_id)

    @flow
    def sample() -> None:
        seen.append({future.result() for future in [measure.submit(), measure.submit()]})
        raise DiedError

    state = sample(return_state=True)
    assert execute_again(sample, run_id(state)).is_failed()
    assert len(seen[0]) == 2
    assert seen[1] == seen[0]
    assert claims(run_id(state)) == []
    for session_id in seen[0]:
        service.client.close_session(session_id)


@pytest.mark.pr
def test_equal_sessions_of_coroutines_are_one_for_each_also_when_the_flow_run_is_executed_again(
    service: RuntimeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    together = threading.Barrier(2)
    taken_pin = sessions.taken_pin

    def taken_at_once(*args: Any) -> Any:
        together.wait(30)
        return taken_pin(*args)

    monkeypatch.setattr(sessions, "taken_pin", taken_at_once)
    left_open: list[Any] = []
    seen: list[set[str]] = []

    def enter() -> str:
        left_open.append(runtime_session("local", backend="aer_simulator", max_ttl=120))
        return str(left_open[-1].__enter__().session_id)

    async def measure() -> str:
        return await asyncio.to_thread(enter)

    @flow
    async def sample() -> None:
        seen.append(set(await asyncio.gather(measure(), measure())))
        raise DiedError

    state = run_async(sample(return_state=True))
    again: Any = execute_again(sample, run_id(state))  # of an async flow: a coroutine
    assert run_async(again).is_failed()
    for session_id in seen[0]:
        service.client.close_session(session_id)
    assert len(seen[0]) == 2
    assert seen[1] == seen[0]
    assert claims(run_id(state)) == []


@pytest.mark.pr
def test_a_session_whose_answer_was_lost_is_not_asked_for_again_by_a_retry_of_its_task(
    service: RuntimeService, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def lost(*_: Any, **__: Any) -> Any:
        asked.append("for a session")
        raise SessionUnknownError("The answer was lost.")

    monkeypatch.setattr(session_cards, "open_session", lost)

    @task(retries=1)
    def measure() -> None:
        with runtime_session("local", backend="aer_simulator", max_ttl=120):
            raise AssertionError("there is none")

    @flow
    def sample() -> None:
        measure()

    state = sample(return_state=True)
    with pytest.raises(SessionUnknownError, match="or earlier in this one"):
        state.result()
    assert len(asked) == 1


@pytest.mark.pr
def test_an_async_flow_opens_and_closes_its_sessions_beside_the_event_loop(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    seen: list[tuple[str, bool]] = []

    @flow
    async def sample() -> str:
        async with aruntime_session("local", backend="aer_simulator", max_ttl=120) as session:
            where = {"session_id": session.session_id, "backend": session.backend}
            job_id: str = await arun_sampler("local", [bell], shots=10, **where)
            seen.append((session.session_id, service.client.session(session.session_id)["accepting_jobs"]))
        async with aruntime_batch("local", backend="aer_simulator", max_ttl=120) as batch:
            seen.append((batch.session_id, service.client.session(batch.session_id)["accepting_jobs"]))
        return job_id

    assert service.client.job(run_async(sample())).session_id == seen[0][0]
    assert [open_inside for _, open_inside in seen] == [True, True]
    assert not any(service.client.session(session_id)["accepting_jobs"] for session_id, _ in seen)


@pytest.mark.pr
def test_two_sessions_of_one_kind_are_two_and_reap_closes_what_was_left_open(service: RuntimeService) -> None:
    left_open: list[Any] = []
    seen: list[str] = []

    @flow
    def sample() -> None:
        for _ in range(2):
            left_open.append(runtime_session("local", backend="aer_simulator", max_ttl=120))
            seen.append(left_open[-1].__enter__().session_id)
        raise DiedError

    assert sample(return_state=True).is_failed()
    assert len(set(seen)) == 2
    assert reap() == 4
    assert all(service.client.session(one)["accepting_jobs"] for one in seen)
    reap(cancel=True)
    assert not any(service.client.session(one)["accepting_jobs"] for one in seen)
    left_open.clear()


@pytest.mark.pr
def test_the_hook_of_a_cancelled_flow_run_closes_the_session_that_it_has_left_open(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    left_open: list[Any] = []

    @flow
    def sample() -> str:
        left_open.append(runtime_session("local", backend="aer_simulator", max_ttl=120))
        session = left_open[-1].__enter__()
        run_sampler("local", [bell], shots=10, session_id=session.session_id, backend=session.backend)
        return str(session.session_id)

    state = sample(return_state=True)
    session_id = state.result()
    assert service.client.session(session_id)["accepting_jobs"] is True
    with get_client(sync_client=True) as client:
        cancel_jobs(sample, client.read_flow_run(run_id(state)), state)
    assert service.client.session(session_id)["accepting_jobs"] is False


@pytest.mark.pr
@pytest.mark.parametrize("whose", ["the flow's hook", "the subflow's own"])
def test_the_hook_closes_the_session_that_a_subflow_has_left_open(
    whose: str, bell: QuantumCircuit, service: RuntimeService
) -> None:
    left_open: list[Any] = []
    subflows: list[Any] = []

    @flow
    def child() -> str:
        left_open.append(runtime_session("local", backend="aer_simulator", max_ttl=120))
        session = left_open[-1].__enter__()
        run_sampler("local", [bell], shots=10, session_id=session.session_id, backend=session.backend)
        return str(session.session_id)

    @flow
    def parent() -> str:
        subflows.append(child(return_state=True))
        return str(subflows[0].result())

    state = parent(return_state=True)
    of, ended = (parent, state) if whose == "the flow's hook" else (child, subflows[0])
    with get_client(sync_client=True) as client:
        cancel_jobs(of, client.read_flow_run(run_id(ended)), ended)
    assert service.client.session(state.result())["accepting_jobs"] is False
