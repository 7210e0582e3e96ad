"""Interim results through everything a line and a server can do: each once, in order, or a word that some are missing.

0 failures of n sessions says that the true rate is below 3/n with 95 % confidence; no more is claimed.
"""

from __future__ import annotations

import json
import threading
import time
from asyncio import StreamReader, StreamWriter
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest
from e2e.support import PUBLISHES
from integration.support import eventually, our_threads

from prefect_runtime.client import Credentials, ResultDecoder, RuntimeClient, RuntimeJob, RuntimeService
from prefect_runtime.client.backend import Backend
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.client.transport import sockets
from prefect_runtime.wire.errors import QiskitRuntimeError

from .proxy import FaultProxy, Request
from .stream_server import KINDS, Fault, Kind, Session, StreamFarEnd, planned

AT_ONCE = 20
PING_SECONDS = 0.5
SESSION_SECONDS = 60.0
OURS_A_STREAM = 2
"""Threads of ours for a stream with a callback: one reads, one calls."""


@pytest.fixture(autouse=True)
def no_threads_of_ours_are_left() -> Iterator[None]:
    """Every test: a stream that is over leaves no thread."""
    before = our_threads()
    yield
    eventually(lambda: our_threads() <= before, seconds=15, what="the end of all threads of ours")


@pytest.fixture
def quick_pings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Silence is noticed after a second instead of a minute."""
    monkeypatch.setattr(sockets, "PING_SECONDS", PING_SECONDS)


class Texts(ResultDecoder):
    """Leaves interim results as they came."""

    @classmethod
    def decode(cls, data: str) -> Any:
        return data


@dataclass
class Heard:
    """What a client got of a session, and what it was told about it."""

    texts: list[str] = field(default_factory=list)
    told: str = ""


def iterate(client: RuntimeClient, job_id: str) -> Heard:
    """Listen as the tasks do."""
    heard = Heard()
    stream = InterimStream(client, job_id)
    watchdog = threading.Timer(SESSION_SECONDS, stream.cancel)
    watchdog.start()
    try:
        heard.texts.extend(stream)
    except QiskitRuntimeError as error:
        heard.told = str(error)
    finally:
        watchdog.cancel()
        stream.cancel()
    return heard


def call_back(client: RuntimeClient, job_id: str) -> Heard:
    """Listen as a `RuntimeJob` does."""
    heard = Heard()
    job = RuntimeJob(
        Backend("b"),
        client,
        client.credentials,
        job_id,
        "p",
        user_callback=lambda _, text: heard.texts.append(text),
        result_decoder=Texts,
    )
    try:
        job.wait_for_stream(timeout=SESSION_SECONDS)
    except QiskitRuntimeError as error:
        heard.told = str(error)
    finally:
        job.cancel_result_streaming()
    return heard


def is_order_unknown(session: Session, heard: Heard) -> bool:
    """True if the client said that it could only guess which way round a list is."""
    return session.kind == "has list" and "the wrong way round" in heard.told


def faults_of(session: Session, heard: Heard) -> list[str]:
    """What went wrong in a session, judged by what the server published. Nothing is wrong with a gap that is told."""
    numbers = [json.loads(text)["number"] for text in session.texts]
    got = [json.loads(text)["number"] for text in heard.texts]
    if session.kind != "forgets":
        if got == numbers:
            return ["false alarm"] if heard.told and not is_order_unknown(session, heard) else []
        if is_order_unknown(session, heard) and got == numbers[::-1]:
            return []
        surplus, missing = Counter(got) - Counter(numbers), Counter(numbers) - Counter(got)
        found = ["doubled"] * bool(surplus) + ["lost"] * bool(missing)
        return found or ["out of order"]
    found = ["doubled"] if len(set(got)) < len(got) else []
    found += ["out of order"] if any(a > b for a, b in pairwise(got)) else []
    return found + (["hidden gap"] if got != numbers and "missing" not in heard.told else [])


@pytest.mark.timeout(900)
@pytest.mark.parametrize(
    "count",
    [
        pytest.param(40, id="pr", marks=pytest.mark.pr),
        pytest.param(500, id="long", marks=[pytest.mark.long, pytest.mark.timeout(3600)]),
    ],
)
@pytest.mark.usefixtures("quick_pings")
def test_each_interim_result_comes_once_in_order_or_a_gap_is_told(count: int, seed: int) -> None:
    sessions = [planned(number, seed) for number in range(count)]
    heard: dict[str, Heard] = {}
    with StreamFarEnd(sessions) as far_end, ThreadPoolExecutor(AT_ONCE) as pool:
        clients: dict[Kind, RuntimeClient] = {kind: RuntimeClient(far_end.credentials(kind)) for kind in KINDS}

        def listen(number: int) -> None:
            session = sessions[number]
            way = iterate if number // len(KINDS) % 2 else call_back
            heard[session.job_id] = way(clients[session.kind], session.job_id)

        start = time.monotonic()
        list(pool.map(listen, range(count)))
        seconds = time.monotonic() - start
        for client in clients.values():
            client.close()

    done = sum((session.done for session in sessions), Counter[str]())
    wrong = {s.job_id: (s, heard[s.job_id]) for s in sessions if faults_of(s, heard[s.job_id])}
    verdicts = Counter(verdict for session, got in wrong.values() for verdict in faults_of(session, got))
    gaps = sum(1 for session in sessions if heard[session.job_id].told)
    guessed = sum(1 for session in sessions if is_order_unknown(session, heard[session.job_id]))
    results = sum(len(session.texts) for session in sessions)
    print(f"{count} sessions, {results} results, {seconds:.0f} s; {dict(done)}; told: {gaps}, {guessed=}; {verdicts=}")
    for session, got in list(wrong.values())[:5]:
        print(session.job_id, session.kind, session.faults, session.newest_first, got.texts, got.told)
    assert verdicts == {}
    assert guessed <= max(4, count // 20), "the order is hardly ever guessed"  # of 40, 3 are one seed in 60
    assert sum(done.values()) >= count, "hardly anything was broken"
    assert gaps >= count // 20, "hardly a gap was made where nothing could fill it"


def test_the_server_has_published_nothing_while_its_job_is_queued() -> None:
    session = planned(3, 0)
    session.queued = session.pause = 100.0
    session.started = time.monotonic() - 50  # half a pause before the first result
    assert (session.word, session.published()) == ("Queued", 0)


@pytest.mark.pr
def test_the_judge_flags_a_client_that_hides_doubles_or_reorders() -> None:
    session = planned(3, 0)
    assert session.kind == "forgets"
    whole = session.texts
    assert faults_of(session, Heard(whole)) == []
    assert faults_of(session, Heard(whole[1:], "some may be missing")) == []
    assert faults_of(session, Heard(whole[1:])) == ["hidden gap"]
    assert faults_of(session, Heard([*whole[:2], whole[1], *whole[2:]])) == ["doubled", "hidden gap"]
    session.kind = "has list"
    assert faults_of(session, Heard(whole[1:], "some may be missing")) == ["lost"]
    assert faults_of(session, Heard([*whole, whole[0]])) == ["doubled"]
    assert faults_of(session, Heard(whole[::-1])) == ["out of order"]


@pytest.mark.pr
@pytest.mark.parametrize("kind", KINDS)
def test_ten_idle_drops_while_queued_cost_nothing_and_alarm_nobody(kind: Kind) -> None:
    drops = [Fault("reset", 0)] * 10
    texts = [json.dumps({"number": n}) for n in range(5)]
    session = Session("idle", kind, texts, queued=4.5, pause=0.05, faults=drops, acknowledges=[True])
    with StreamFarEnd([session]) as far_end:
        client = RuntimeClient(far_end.credentials(kind))
        heard = iterate(client, "idle")
        client.close()
    assert session.done["reset"] == 10
    assert heard.texts == texts
    assert heard.told == ""


@pytest.mark.pr
@pytest.mark.usefixtures("quick_pings")
def test_two_hundred_streams_at_once_all_complete_with_two_threads_each_and_leave_nothing() -> None:
    sessions = [
        Session(
            job_id=f"one-of-many-{number}",
            kind="replays",
            texts=[json.dumps({"number": n}) for n in range(20)],
            queued=2.0,
            pause=0.2,
            faults=[Fault("reset", 5)] if number % 4 == 0 else [],
            acknowledges=[True],
        )
        for number in range(200)
    ]
    before, got = our_threads(), {session.job_id: list[str]() for session in sessions}
    most = 0
    with StreamFarEnd(sessions) as far_end:
        client = RuntimeClient(far_end.credentials("replays"))

        def take(job_id: str, text: str) -> None:
            got[job_id].append(text)

        jobs = [
            RuntimeJob(
                Backend("b"), client, client.credentials, s.job_id, "p", user_callback=take, result_decoder=Texts
            )
            for s in sessions
        ]
        most = len(our_threads() - before)
        start = time.monotonic()
        for job in jobs:
            job.wait_for_stream(timeout=90)
        print(f"200 streams: {most} threads of ours, {time.monotonic() - start:.1f} s")
        client.close()
        eventually(lambda: our_threads() <= before, seconds=10, what="the end of 400 threads")
    assert most <= OURS_A_STREAM * len(sessions)
    assert {job_id for job_id, texts in got.items() if texts != sessions[0].texts} == set()


class Line(FaultProxy):
    """A fault proxy for the embedded runtime, which answers to its own address only."""

    def _to_upstream(self, request: Request) -> Request:
        head = request.head.replace(b":%d\r\n" % self.port, b":%d\r\n" % self.upstream_port)  # Host and Origin
        return replace(request, head=head)

    async def _forward(self, request: Request) -> bytes:
        return await super()._forward(self._to_upstream(request))

    async def _tunnel(self, request: Request, reader: StreamReader, writer: StreamWriter) -> None:
        await super()._tunnel(self._to_upstream(request), reader, writer)


def cut_streams(request: Request, dice: Any) -> str | None:
    """Break most streams, and a fifth of the questions for the job."""
    if b"upgrade: websocket" in request.head.lower():
        return "cut" if dice.random() < 0.85 else None
    return dice.choice(["500", "reset_before", "wrong_json", "cut_length"]) if dice.random() < 0.2 else None


@pytest.mark.parametrize(
    "count",
    [
        pytest.param(8, id="pr", marks=pytest.mark.pr),
        pytest.param(80, id="long", marks=[pytest.mark.long, pytest.mark.timeout(1200)]),
    ],
)
def test_the_embedded_runtime_gives_each_result_once_in_order_over_streams_that_are_cut(
    count: int,
    seed: int,
    runtime: Any,
    upload: Callable[..., str],
) -> None:
    line = Line(int(runtime.found.url.rsplit(":", 1)[1]), cut_streams, seed)
    program = upload(PUBLISHES)
    client = RuntimeClient(Credentials(channel="local", url=line.url, token=runtime.found.token))
    with RuntimeService(runtime.credentials) as service, ThreadPoolExecutor(8) as pool:

        def one(_: int) -> Heard:
            job = service.run(program, {"count": 40, "pause": 0.05})
            return iterate(client, job.job_id())

        heard = list(pool.map(one, range(count)))
    client.close()
    line.close()
    print(f"{count} jobs through the proxy: {dict(line.done)}")
    assert [one.told for one in heard] == [""] * count
    assert line.done["cut_stream"] >= count, "hardly a stream was cut"
    assert [[json.loads(text)["number"] for text in one.texts] for one in heard] == [list(range(40))] * count
