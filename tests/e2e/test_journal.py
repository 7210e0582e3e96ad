"""The job card is written before anything is sent, one request has one job, and nothing is left behind.

Where the runtime itself makes no second job of a key (channel "local"), the card may come with the job's id: so the
tests of what is written before are of another channel, to the same server.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextvars import copy_context
from uuid import UUID

import pytest
from canaries.values import PROXIES
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import Artifact
from prefect.exceptions import PrefectHTTPStatusError
from prefect.runtime import flow_run
from prefect.task_runners import ThreadPoolTaskRunner
from pydantic import SecretStr
from qiskit import QuantumCircuit

from prefect_runtime import RuntimeCredentials, fetch_result, run_sampler
from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.discovery_file import DiscoveryDocument
from prefect_runtime.wire.errors import ConnectFailedError, SubmissionUnknownError

from .proxy import Proxy
from .support import (
    card_fields,
    cards,
    claims,
    eventually,
    execute_again,
    free_port,
    jobs_of,
    nobody_watches,
    nothing_is_written,
    run_id,
)

CREATE_ARTIFACT, FILTER_ARTIFACTS, CREATE_VARIABLE = (
    "POST /api/artifacts/$",
    "POST /api/artifacts/filter",
    "POST /api/variables/$",
)


@pytest.fixture(autouse=True)
def tidy() -> Iterator[None]:
    """Remove the claims that a test has left, so that those of the next one can be counted."""
    yield
    eventually(nothing_is_written, seconds=30)
    with get_client(sync_client=True) as client:
        for name in claims():
            client.delete_variable_by_name(name)


@pytest.fixture
def runtime_proxy(embedded: DiscoveryDocument) -> Iterator[tuple[Proxy, RuntimeCredentials]]:
    """A proxy in front of the embedded runtime, and a block that goes through it."""
    proxy = Proxy(embedded.url)
    yield proxy, RuntimeCredentials(url=proxy.url, token=SecretStr(embedded.token), proxies=PROXIES)
    proxy.close()


def forgetful_at(url: str, token: str) -> RuntimeCredentials:
    """A block for a runtime that is not known to refuse a second job of a key."""
    return RuntimeCredentials(
        channel="classic", url=url, token=SecretStr(token), backend="aer_simulator", proxies=PROXIES
    )


@pytest.fixture
def forgetful(embedded: DiscoveryDocument) -> RuntimeCredentials:
    """Such a block for the embedded runtime."""
    return forgetful_at(embedded.url, embedded.token)


def test_the_card_is_there_when_the_request_arrives(bell: QuantumCircuit, embedded: DiscoveryDocument) -> None:
    proxy = Proxy(embedded.url)
    block = forgetful_at(proxy.url, embedded.token)
    context = copy_context()  # with the settings of the tests
    seen: list[Artifact] = []

    @flow
    def sample() -> str:
        this_run = UUID(str(flow_run.id))

        def look(line: str) -> None:
            if line == "POST /jobs":
                seen.extend(context.copy().run(cards, this_run))

        proxy.on_request = look
        return run_sampler(block, [bell], shots=10)

    state = sample(return_state=True)
    proxy.close()
    (early,) = seen
    fields = early.metadata_ or {}
    assert fields["intended_at"]
    assert "job_id" not in fields
    (card,) = cards(run_id(state))
    assert card.id == early.id
    assert (card.metadata_ or {})["job_id"] == state.result()


@pytest.mark.pr
def test_a_request_that_the_runtime_never_takes_leaves_its_intent_and_is_sent_when_executed_again(
    bell: QuantumCircuit, runtime_proxy: tuple[Proxy, RuntimeCredentials], service: RuntimeService
) -> None:
    proxy, block = runtime_proxy

    @flow
    def sample() -> str:
        return run_sampler(block, [bell], shots=10)

    proxy.refuse("POST /jobs$")
    state = sample(return_state=True)
    with pytest.raises(SubmissionUnknownError):
        state.result()
    fields = card_fields(run_id(state))
    assert fields["intended_at"]
    assert "job_id" not in fields
    assert "about to be submitted" in str(cards(run_id(state))[0].data)
    assert jobs_of(service, run_id(state)) == []

    proxy.pass_all()
    again = execute_again(sample, run_id(state))
    assert jobs_of(service, run_id(state)) == [again.result()]
    assert card_fields(run_id(state))["key"] == fields["key"]


@pytest.mark.parametrize("broken", [CREATE_ARTIFACT, FILTER_ARTIFACTS, CREATE_VARIABLE])
def test_nothing_is_sent_if_the_card_cannot_be_written(
    broken: str, bell: QuantumCircuit, proxy: Proxy, service: RuntimeService, forgetful: RuntimeCredentials
) -> None:
    @flow
    def sample() -> str:
        proxy.refuse(broken)
        return run_sampler(forgetful, [bell], shots=10)

    state = sample(return_state=True)
    with pytest.raises(PrefectHTTPStatusError):
        state.result()
    assert proxy.seen(broken), "the fault was met"
    proxy.pass_all()
    assert jobs_of(service, run_id(state)) == []
    assert cards(run_id(state)) == []


@pytest.mark.parametrize("broken", [CREATE_ARTIFACT, FILTER_ARTIFACTS])
def test_a_request_that_failed_before_its_card_leaves_no_claim(
    broken: str, bell: QuantumCircuit, proxy: Proxy, forgetful: RuntimeCredentials
) -> None:
    @flow
    def sample() -> str:
        proxy.refuse(broken, times=1)
        return run_sampler(forgetful, [bell], shots=10)

    state = sample(return_state=True)
    with pytest.raises(PrefectHTTPStatusError):
        state.result()
    eventually(nothing_is_written)
    assert claims() == []


@pytest.mark.pr
def test_the_next_equal_call_does_not_wait_for_one_that_failed_before_its_card(
    bell: QuantumCircuit, proxy: Proxy, service: RuntimeService, forgetful: RuntimeCredentials
) -> None:
    took = []

    @flow
    def sample() -> str:
        proxy.refuse(CREATE_ARTIFACT, times=1)
        with pytest.raises(PrefectHTTPStatusError):
            run_sampler(forgetful, [bell], shots=10)
        began = time.monotonic()
        job_id = run_sampler(forgetful, [bell], shots=10)
        took.append(time.monotonic() - began)
        return job_id

    state = sample(return_state=True)
    assert jobs_of(service, run_id(state)) == [state.result()]
    assert took[0] < 10


def test_a_job_whose_card_was_never_written_is_found_at_a_runtime_that_knows_its_key(
    bell: QuantumCircuit, proxy: Proxy, service: RuntimeService
) -> None:
    @flow
    def sample() -> str:
        return run_sampler("local", [bell], shots=10)

    proxy.refuse(CREATE_ARTIFACT)
    state = sample(return_state=True)
    eventually(nothing_is_written, seconds=30)
    assert cards(run_id(state)) == []
    proxy.pass_all()
    again = execute_again(sample, run_id(state))
    assert jobs_of(service, run_id(state)) == [state.result()] == [again.result()]
    eventually(nothing_is_written)
    assert card_fields(run_id(state))["job_id"] == state.result()


def test_an_unreachable_runtime_leaves_no_claim_and_the_next_execution_makes_the_job(
    bell: QuantumCircuit, service: RuntimeService
) -> None:
    nobody = f"http://127.0.0.1:{free_port()}"
    reachable = False

    @flow
    def sample() -> str:
        block = RuntimeCredentials(url=nobody, token=SecretStr("a-token"), request_timeout_seconds=0.5)
        return run_sampler("local" if reachable else block, [bell], shots=10)

    state = sample(return_state=True)
    with pytest.raises(ConnectFailedError):
        state.result()
    eventually(nothing_is_written)
    assert claims() == []
    reachable = True
    again = execute_again(sample, run_id(state))
    assert jobs_of(service, run_id(state)) == [again.result()]


def test_no_claim_is_left_once_the_job_is_known(bell: QuantumCircuit) -> None:
    @flow
    def sample() -> None:
        run_sampler("local", [bell], shots=10)
        run_sampler("local", [bell], shots=10)

    state = sample(return_state=True)
    keys = {str((card.metadata_ or {})["key"]) for card in cards(run_id(state))}
    assert len(keys) == 2
    eventually(nothing_is_written)
    assert claims() == []


def test_two_equal_calls_at_once_stay_two_jobs_when_one_claims_after_the_other_has_let_go(
    bell: QuantumCircuit, proxy: Proxy, service: RuntimeService
) -> None:
    first_is_done = threading.Event()
    claimed = []

    def hold_back_the_second_claim(line: str) -> None:
        if line == "POST /api/variables/":
            claimed.append(line)
            if len(claimed) == 2:
                first_is_done.wait(5)
                time.sleep(0.2)  # the server has answered
        elif line.startswith("DELETE /api/variables/"):
            first_is_done.set()

    @flow(task_runner=ThreadPoolTaskRunner(max_workers=2))
    def twice() -> list[str]:
        proxy.on_request = hold_back_the_second_claim
        return run_sampler.map("local", [[bell], [bell]], shots=10).result()

    state = twice(return_state=True)
    assert len(claimed) >= 2, "both looked before either had a card"
    assert len(set(state.result())) == 2
    assert sorted(jobs_of(service, run_id(state))) == sorted(state.result())


def test_the_jobs_tags_name_request_and_flow_run(bell: QuantumCircuit, service: RuntimeService) -> None:
    @flow
    def sample() -> str:
        return run_sampler("local", [bell], shots=10, tags=["a", "b"])

    state = sample(return_state=True)
    tags = service.client.job(state.result()).tags
    key = card_fields(run_id(state))["key"]
    assert set(tags) == {key, "prefect-runtime", f"prt-run-{run_id(state)}", "a", "b"}


@pytest.mark.parametrize(("channel", "most"), [("local", 4), ("classic", 5)])
def test_a_request_costs_few_calls_of_prefects_api(
    channel: str, most: int, bell: QuantumCircuit, proxy: Proxy, forgetful: RuntimeCredentials
) -> None:
    credentials = "local" if channel == "local" else forgetful

    @task
    def nothing(name: str, circuits: list[QuantumCircuit]) -> str:
        return name

    @flow
    def idle() -> None:
        nothing("local", [bell])

    @flow
    def sample() -> None:
        run_sampler(credentials, [bell], shots=10)

    def calls(of: Callable[[], object]) -> list[str]:
        proxy.requests.clear()
        of()
        eventually(nothing_is_written, seconds=10)
        # Logs and events are sent in batches, whenever; a token is asked for once per client, whoever makes one.
        others = ("logs", "events", "admin", "csrf-token")
        lines = [line for line in proxy.requests if not line.split("/api/")[1].startswith(others)]
        eventually(nobody_watches, seconds=10)
        return lines

    def ours(lines: list[str]) -> list[str]:
        return [line for line in lines if "/api/artifacts" in line or "/api/variables" in line]

    for of in (idle, sample):  # what comes once per process; a runtime that has to be started takes seconds
        calls(of)
    cost, idle_cost = calls(sample), calls(idle)
    for _ in range(2):  # what disturbs only adds: a call again after a "busy", a look at a flow run that takes long
        if len(ours(cost)) > most or len(cost) > len(idle_cost) + most + 2:
            cost = min(cost, calls(sample), key=len)
    assert idle_cost, "the proxy sees the calls"
    told = "\n".join(["", *cost, "instead of", *idle_cost])
    assert len(ours(cost)) == most, told
    assert len(cost) - most - len(idle_cost) <= 2, f"a look at whether the flow run goes on, at most: {told}"


def test_a_result_costs_no_second_card(bell: QuantumCircuit) -> None:
    @flow
    def sample() -> None:
        job_id = run_sampler("local", [bell], shots=10)
        fetch_result("local", job_id)
        fetch_result("local", job_id)

    state = sample(return_state=True)
    (card,) = cards(run_id(state))
    assert str(card.data).count("### Result") == 1
