"""One request, one job, through a line that breaks; naive clients as controls.

0 failures of n runs says that the true rate is below 3/n with 95 % confidence; no more is claimed.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import pytest
import requests

from prefect_runtime.client import RuntimeService
from prefect_runtime.wire.errors import AuthenticationError, QiskitRuntimeError, SubmissionUnknownError

from .conftest import platform
from .ledger import Ledger, LedgerServer, digest
from .proxy import FaultProxy, Request, Schedule, at_random

THREADS = 16
SETTLE, REQUEST = 1.0, 1.0
TRIES = 40  # of the same request, as a person or a task retry would make them

sizes = pytest.mark.parametrize(
    "count",
    [
        pytest.param(40, id="small"),
        pytest.param(300, id="pr", marks=pytest.mark.pr),
        pytest.param(5000, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)


@dataclass
class Outcome:
    """What became of a batch of requests."""

    ids: dict[int, str] = field(default_factory=dict)
    results: dict[int, Any] = field(default_factory=dict)
    gave_up: dict[int, str] = field(default_factory=dict)


def persist(call: Callable[[], Any]) -> Any:
    """Do the same again as long as the error says that this is safe and can help."""
    for attempt in range(TRIES):
        try:
            return call()
        except QiskitRuntimeError as error:
            if not error.retryable or attempt == TRIES - 1:
                raise
            time.sleep(0.02)
    raise AssertionError


def run_batch(url: str, count: int, *, settle: float = SETTLE) -> Outcome:
    """Run `count` requests from 16 threads, each with a key of its own, and fetch their results."""
    outcome = Outcome()
    with RuntimeService(platform(url), backend="far_end", settle_seconds=settle, request_timeout=REQUEST) as service:

        def one(number: int) -> None:
            try:
                job = persist(lambda: service.run("echo", {"n": number}, idempotency_key=f"request-{number}"))
                outcome.ids[number] = job.job_id()
                outcome.results[number] = persist(lambda: job.result(timeout=60, wait=0.2))
            except QiskitRuntimeError as error:
                outcome.gave_up[number] = f"{type(error).__name__}: {error}"

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(one, range(count)))
    return outcome


@pytest.mark.timeout(900)
@sizes
def test_every_request_through_a_broken_line_becomes_one_job_with_the_right_result(
    count: int, seed: int, far_end: Callable[..., LedgerServer], proxy: Callable[..., FaultProxy]
) -> None:
    ledger = Ledger()
    line = proxy(far_end(ledger).port, at_random(0.42), seed, hang_seconds=1.5)

    outcome = run_batch(line.url, count)

    print(f"{count} jobs, {sum(line.done.values())} requests, {line.faulted:.0%} faulted: {dict(line.done)}")
    assert line.faulted >= 0.30
    assert outcome.gave_up == {}, "lost"
    assert ledger.duplicates() == {}
    assert len(ledger.jobs) == count
    wrong = {n for n, got in outcome.results.items() if got != {"sha256": digest(f'{{"n": {n}}}')}}
    assert wrong == set()


def lose_answers(share: float) -> Schedule:
    """Break nothing but the answers to job requests, after the server has taken them."""

    def choose(request: Request, dice: random.Random) -> str | None:
        lost = request.kind == "submit" and dice.random() < share
        return dice.choice(["forward_then_reset", "forward_then_502", "wrong_json", "cut_length"]) if lost else None

    return choose


@pytest.mark.parametrize("lag", [0.0, 0.2, 0.5])
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(12, id="small"),
        pytest.param(70, id="pr", marks=pytest.mark.pr),
        pytest.param(1400, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_lost_answer_makes_no_second_job_when_the_list_lags_less_than_settle(
    count: int, lag: float, seed: int, far_end: Callable[..., LedgerServer], proxy: Callable[..., FaultProxy]
) -> None:
    ledger = Ledger(lag=lag)
    line = proxy(far_end(ledger).port, lose_answers(0.9), seed)

    outcome = run_batch(line.url, count, settle=1.0)

    assert outcome.gave_up == {}
    assert sum(line.done.values()) - line.done["none"] >= count // 2, "hardly an answer was lost"
    assert ledger.duplicates() == {}
    assert len(ledger.jobs) == count


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(6, id="small"),
        pytest.param(40, id="pr", marks=pytest.mark.pr),
        pytest.param(400, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
def test_a_duplicate_from_a_list_that_lags_more_than_settle_is_found_and_cancelled_in_the_queue(
    count: int, seed: int, far_end: Callable[..., LedgerServer], proxy: Callable[..., FaultProxy]
) -> None:
    ledger = Ledger(lag=math.inf, queue_seconds=20)
    line = proxy(far_end(ledger).port, lose_first_answer(), seed)

    with RuntimeService(platform(line.url), backend="far_end", settle_seconds=0.3, request_timeout=REQUEST) as service:

        def run(number: int) -> str:
            return persist(lambda: service.run("echo", {"n": number}, idempotency_key=f"late-{number}")).job_id()

        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(run, range(count)))
        assert len(ledger.duplicates()) == count, "the list was to lag for longer than settle"
        ledger.lag = 0  # now the list shows both
        with ThreadPoolExecutor(THREADS) as pool:  # whoever asks again looks at the server, and sees
            list(pool.map(run, range(count)))

    assert ledger.executed_twice() == {}
    assert len(ledger.duplicates()) == count


def lose_first_answer() -> Schedule:
    """Lose the first answer to each job request, never the second."""
    seen: set[bytes] = set()

    def choose(request: Request, _: random.Random) -> str | None:
        if request.kind != "submit" or request.body in seen:
            return None
        seen.add(request.body)
        return "forward_then_reset"

    return choose


def test_a_server_that_cannot_be_asked_gives_an_unknown_submission_that_names_its_key(
    seed: int, far_end: Callable[..., LedgerServer], proxy: Callable[..., FaultProxy]
) -> None:
    ledger = Ledger()

    def dead_after_taking(request: Request, _: random.Random) -> str | None:
        return "forward_then_reset" if request.kind == "submit" else "503" if request.path.find("tags=") > 0 else None

    line = proxy(far_end(ledger).port, dead_after_taking, seed)
    with (
        RuntimeService(platform(line.url), backend="far_end", settle_seconds=0.3, request_timeout=0.5) as service,
        pytest.raises(SubmissionUnknownError) as caught,
    ):
        service.run("echo", {"n": 1})

    (job,) = ledger.jobs.values()
    assert caught.value.key == job.key
    assert caught.value.key in str(caught.value)


# Negative controls: the harness must see what other clients do.


def naive_clients() -> Iterator[Any]:
    """Ways of submitting that people write, and libraries ship."""

    def retry_posts(url: str, number: int) -> None:
        for _ in range(6):
            try:
                answer = requests.post(
                    f"{url}/api/v1/jobs", json={"program_id": "echo", "params": {"n": number}}, timeout=1
                )
                if answer.status_code < 500:
                    answer.json()
                    return
            except (requests.RequestException, ValueError):
                continue

    def urllib3_retries(url: str, number: int) -> None:
        retry = requests.adapters.Retry(5, status_forcelist=[500, 502], allowed_methods=None, backoff_factor=0.001)
        with requests.Session() as session:
            session.mount("http://", requests.adapters.HTTPAdapter(max_retries=retry))
            try:
                body = {"program_id": "echo", "params": {"n": number}}
                session.post(f"{url}/api/v1/jobs", json=body, timeout=1).json()
            except (requests.RequestException, ValueError):
                return

    yield pytest.param(retry_posts, id="a loop around POST")
    yield pytest.param(urllib3_retries, id="urllib3 retries that include POST")


@pytest.mark.parametrize("submit", list(naive_clients()))
def test_the_ledger_flags_a_client_that_repeats_a_post(
    submit: Callable[[str, int], None],
    seed: int,
    far_end: Callable[..., LedgerServer],
    proxy: Callable[..., FaultProxy],
) -> None:
    ledger = Ledger()
    line = proxy(far_end(ledger).port, lose_answers(0.7), seed)

    for number in range(20):
        submit(line.url, number)

    by_params: dict[str, int] = {}
    for job in ledger.jobs.values():
        by_params[job.params] = by_params.get(job.params, 0) + 1
    assert max(by_params.values()) > 1, "the control made no duplicate: the harness proves nothing"


@pytest.mark.pr
def test_a_failed_status_query_makes_no_second_job(
    seed: int, far_end: Callable[..., LedgerServer], proxy: Callable[..., FaultProxy]
) -> None:
    ledger = Ledger(run_seconds=0.5)

    def no_looks(request: Request, dice: random.Random) -> str | None:
        return (
            dice.choice(["500", "reset_before", "wrong_json"])
            if request.kind == "look" and dice.random() < 0.7
            else None
        )

    line = proxy(far_end(ledger).port, no_looks, seed)
    outcome = run_batch(line.url, 10)

    assert outcome.gave_up == {}
    assert len(ledger.jobs) == 10


def test_an_unreachable_server_gets_nothing_and_the_error_says_so(far_end: Callable[..., LedgerServer]) -> None:
    ledger = Ledger()
    server = far_end(ledger)
    server.close()
    with (
        RuntimeService(platform(f"http://127.0.0.1:{server.port}"), backend="b", request_timeout=0.5) as service,
        pytest.raises(AuthenticationError, match="nothing was sent to the runtime") as caught,
    ):
        service.run("echo", {"n": 1})
    assert caught.value.retryable  # nobody refused the token: the way to the sign-in service is broken
    assert ledger.requests == []
