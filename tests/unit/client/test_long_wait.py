"""Six hours in the queue while tokens live one: 32 threads, one renewal for each token, no failure. On a fake clock."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import pytest
from test_auth import IAM, FakeTransport, Sent

from prefect_runtime.client.backend import Backend
from prefect_runtime.client.job import RuntimeJob
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.wire.models import JobStatus

if TYPE_CHECKING:
    from conftest import FakeClock

HOUR = 3600.0
WAIT = 6 * HOUR
THREADS = 32
TOKENS = 8  # one at the start, one every 48 minutes (80 % of an hour)


class Platform:
    """A platform whose tokens die after an hour, and whose jobs are done after six; counts what it does."""

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self.started = clock.monotonic()
        self.given: dict[str, float] = {}
        self.tried = 0
        self.refused = 0
        self.is_down: Callable[[float], bool] = lambda now: False

    def __call__(self, sent: Sent) -> Any:
        if "identity" in sent.url:
            self._clock.sleep(1.0)  # time for others to come and find the token old as well
        with self._lock:
            now = self._clock.monotonic() - self.started
            if "identity" in sent.url:
                self.tried += 1
                if self.is_down(now):
                    return 503, "down"
                token = f"token-{len(self.given)}"
                self.given[token] = now
                return 200, {"access_token": token, "expires_in": HOUR}
            if now - self.given[sent.headers["Authorization"].removeprefix("Bearer ")] >= HOUR:
                self.refused += 1
                return 401, {"errors": [{"message": "expired", "code": 1201}]}
            path = sent.url.rpartition("/")[2]
            if path == "jobs":
                return 200, {"jobs": [self._job(f"j{number}", now) for number in range(THREADS)]}
            return 200, self._job(path, now)

    def _job(self, job_id: str, now: float) -> dict[str, Any]:
        status = "Completed" if now >= WAIT else "Queued"
        return {"id": job_id, "status": status, "tags": ["prefect-runtime"], "created": "2026-08-01T10:00:00Z"}


@pytest.fixture
def platform(clock: FakeClock) -> Platform:
    return Platform(clock)


def in_threads(clock: FakeClock, work: Callable[[int], object]) -> list[Any]:
    """Do something in 32 threads at once; what each returned or raised."""
    ended: list[Any] = []
    together = threading.Barrier(THREADS)

    def run(number: int) -> None:
        together.wait(10)
        try:
            ended.append(work(number))
        except Exception as error:  # noqa: BLE001 - all of them are what the test is about
            ended.append(error)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(THREADS)]
    for thread in threads:
        thread.start()
    clock.join(threads, seconds=240)  # for who hangs: nothing is measured
    return ended


@pytest.mark.pr
def test_32_waits_of_six_hours_renew_each_token_once(platform: Platform, clock: FakeClock) -> None:
    client = RuntimeClient(IAM, clock=clock, transport=FakeTransport(platform))  # type: ignore[arg-type]

    def wait(number: int) -> JobStatus:
        job = RuntimeJob(Backend("b"), client, IAM, f"j{number}", "p")
        job.wait_for_final_state()
        return job.status()

    assert in_threads(clock, wait) == [JobStatus.DONE] * THREADS
    assert clock.monotonic() - platform.started >= WAIT
    assert (len(platform.given), platform.tried, platform.refused) == (TOKENS, TOKENS, 0)


def ask_for_six_hours(client: RuntimeClient, platform: Platform, clock: FakeClock) -> Callable[[int], int]:
    """A loop as people write it: each thread asks by itself, all in step, so that all find the token old at once."""

    def work(number: int) -> int:
        asked = 0
        while clock.monotonic() - platform.started < WAIT:
            client.job(f"j{number}")
            asked += 1
            clock.sleep(300)
        return asked

    return work


def test_32_threads_that_all_find_the_token_old_renew_it_once(platform: Platform, clock: FakeClock) -> None:
    client = RuntimeClient(IAM, clock=clock, transport=FakeTransport(platform))  # type: ignore[arg-type]
    assert in_threads(clock, ask_for_six_hours(client, platform, clock)) == [72] * THREADS
    assert (len(platform.given), platform.tried, platform.refused) == (TOKENS, TOKENS, 0)


def test_an_outage_of_the_token_service_that_a_token_outlives_is_noticed_by_nobody(
    platform: Platform, clock: FakeClock
) -> None:
    """Ten minutes without it just when the first token is old; it still opens for twelve."""
    platform.is_down = lambda now: 0.8 * HOUR <= now < 0.8 * HOUR + 600
    client = RuntimeClient(IAM, clock=clock, transport=FakeTransport(platform))  # type: ignore[arg-type]
    assert in_threads(clock, ask_for_six_hours(client, platform, clock)) == [72] * THREADS
    assert platform.refused == 0
    assert platform.tried - len(platform.given) < 40  # not 32 threads' tries


@pytest.mark.pr
def test_a_wait_outlives_any_outage_of_the_token_service(platform: Platform, clock: FakeClock) -> None:
    platform.is_down = lambda now: 2 * HOUR <= now < 5 * HOUR
    client = RuntimeClient(IAM, clock=clock, transport=FakeTransport(platform))  # type: ignore[arg-type]
    job = RuntimeJob(Backend("b"), client, IAM, "j0", "p")
    waiting = threading.Thread(target=job.wait_for_final_state)
    waiting.start()
    clock.join([waiting], seconds=60)
    assert job.status() is JobStatus.DONE
