"""Feeds our client answers that nobody should send and watches it. A process of its own: audit hooks stay.

``python -m reliability.hostile_answers COUNT SEED SECONDS`` prints a report as JSON, of fewer answers if time is up.
With one more word, a process in which something is wrong that the watch has to see: ``acts``, ``imports``, ``unpacks``.
One answer in `SOCKET_SHARE` comes over a real socket of the loopback, byte by byte as made; the others enter where the
transport hands them on. The time that a client sleeps between its tries passes at once, all other time is real.
"""

# ruff: noqa: E501 - tables

from __future__ import annotations

import base64
import contextlib
import hashlib
import json
import math
import random
import re
import resource
import socket
import sys
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable
from functools import partial
from itertools import chain, islice
from typing import Any

from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st

from prefect_runtime.client import Credentials, ResultDecoder, RuntimeClient
from prefect_runtime.client.job import inputs_of
from prefect_runtime.client.retry import Deadline, SystemClock
from prefect_runtime.client.transport.exchange import Answer, Transport
from prefect_runtime.wire.errors import IBMQError
from prefect_runtime.wire.metrics import JobMetrics
from reliability import hostile_bytes, hostile_watch
from reliability.hostile_watch import found, watching

SOCKET_SHARE = 10
BATCH = 1000  # hypothesis keeps each example that it drew, some 4 kB: the growth would be mostly its own
MAX_ANSWER_BYTES = 4 * 1024 * 1024
MAX_DECODED_BYTES = 16 * 1024 * 1024
REQUEST_SECONDS = 1.0
SLOW_SECONDS = 1.5
KINDS = ("status", "list", "job", "results", "logs", "interim", "metrics", "submit", "sign in", "decoder", "stream")


class Hurried(SystemClock):
    """Sleeping takes no time, but counts."""

    def __init__(self) -> None:
        self._slept = 0.0

    def monotonic(self) -> float:
        return time.monotonic() + self._slept

    def sleep(self, seconds: float) -> None:
        self._slept += seconds


class Limited(ResultDecoder):
    max_bytes = MAX_DECODED_BYTES


class Scripted(Transport):
    """Hands on one answer, again and again."""

    answer: Answer

    def exchange(self, method: str, url: str, **how: Any) -> Answer:
        return self.answer


class RawServer:
    """Sends these bytes to whoever asks, and closes."""

    def __init__(self) -> None:
        self.answer = b""
        self.is_stream = False
        self.drips = False
        self._listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.url = f"http://127.0.0.1:{self._listening.getsockname()[1]}"
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._listening.accept()
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            connection.settimeout(3)
            request = b""
            while b"\r\n\r\n" not in request:
                request += (piece := connection.recv(65536))
                if not piece:
                    return
            if self.is_stream:
                key = re.search(rb"Sec-WebSocket-Key: (\S+)", request)
                accept = base64.b64encode(
                    hashlib.sha1((key[1] if key else b"") + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()
                )
                head = b"HTTP/1.1 101 X\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: " + accept
                connection.sendall(head + b"\r\n\r\n")
            if self.drips:
                for byte in self.answer:
                    connection.sendall(bytes([byte]))
                    time.sleep(0.02)
            connection.sendall(self.answer)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(65536)


def classic(url: str) -> Credentials:
    return Credentials(channel="classic", token="t0ken-0123456789abcdef", url=url)


def in_turn(client: RuntimeClient, kind: str) -> Any:
    """Do what a caller does with such an answer."""
    if kind == "status":
        return client.job("job-1", patient=False).known_status()
    if kind == "list":
        return [(one.is_final, one.ran_too_long, repr(one)) for one in client.jobs(patient=False)]
    if kind == "job":
        return inputs_of(client.job("job-1", with_params=True))
    if kind == "results":
        text = client.results("job-1")
        return None if text is None else Limited.decode(text)
    if kind == "logs":
        return client.logs("job-1"), client.logs_from("job-1", 3)
    if kind == "interim":
        return [Limited.decode(text) for text in client.interim_results("job-1")[:100]]
    if kind == "metrics":
        return JobMetrics.parse(client.metrics("job-1"))
    return client.run_job({"program_id": "sampler"}, "{}", deadline=Deadline(REQUEST_SECONDS, client.clock))


def body_for(rng: random.Random, kind: str) -> bytes:
    if rng.random() < 0.1:
        return hostile_bytes.text_of(rng, hostile_bytes.REFUSAL)
    if kind in ("results", "interim", "stream", "decoder"):
        value: Any = json.loads(rng.choice(hostile_bytes.GOLDEN))
        return hostile_bytes.text_of(rng, [value, json.dumps(value)] if kind == "interim" else value)
    value = {"list": {"jobs": [hostile_bytes.JOB] * 3}, "metrics": hostile_bytes.METRICS,
             "sign in": {"id": "token", "access_token": "x", "expires_in": 3600,
                         "urls": {"services": {"runtime": "https://x.example"}}}}.get(kind, hostile_bytes.JOB)  # fmt: skip
    return hostile_bytes.text_of(rng, value)


class Trial:
    """One process's far ends and clients."""

    def __init__(self) -> None:
        self.server = RawServer()
        self.scripted = Scripted(classic(self.server.url))
        self.near = RuntimeClient(
            classic(self.server.url), request_timeout=REQUEST_SECONDS, clock=Hurried(), transport=self.scripted
        )
        self.numbers: Counter[str] = Counter()
        self.again = 0  # answers that were fed twice
        self.ends: Counter[str] = Counter()
        self.slowest = (0.0, "")
        self.largest = (0.0, "")
        self.failures: list[str] = []

    def run(self, kind: str, over_socket: bool, number: int) -> None:
        over_socket = over_socket or kind == "stream"
        self.numbers[f"{kind}, {'socket' if over_socket else 'scripted'}"] += 1
        took = self._time(kind, over_socket, number)
        if over_socket and took > SLOW_SECONDS:  # ours, or a busy machine's? What is ours comes again.
            self.again += 1
            took = min(took, self._time(kind, over_socket, number))
        self.slowest = max(self.slowest, (took, f"{kind} {over_socket} {number}"))

    def _time(self, kind: str, over_socket: bool, number: int) -> float:
        """Feed one answer and return how many seconds that took."""
        rng = random.Random(number)
        body = body_for(rng, kind)
        act = self._over_socket(rng, kind, body) if over_socket else self._scripted(rng, kind, body)
        # What comes over no socket has nothing to wait for; how long it takes is its processor time, on any machine.
        return self.watch(act, f"{kind} {over_socket} {number}", time.monotonic if over_socket else time.process_time)

    def watch(self, act: Callable[[], Any], label: str, clock: Callable[[], float] = time.process_time) -> float:
        """Do this under the eyes of the hook, and return how many seconds it took."""
        start, peak = clock(), peak_mib()
        watching.set()
        try:
            act()
            self.ends["a value"] += 1
        except IBMQError as error:
            self.ends[type(error).__name__] += 1
            if len(str(error)) > 4000:
                self.failures.append(f"{label}: a message of {len(str(error))} characters")
        except BaseException as error:  # noqa: BLE001 - the question is which
            last = traceback.extract_tb(error.__traceback__)[-1]
            self.failures.append(f"{label}: {type(error).__name__} {str(error)[:150]} {last.filename}:{last.lineno}")
        finally:
            watching.clear()
        self.largest = max(self.largest, (peak_mib() - peak, label))
        return clock() - start

    def _scripted(self, rng: random.Random, kind: str, body: bytes) -> Callable[[], Any]:
        if kind == "decoder":
            return lambda: Limited.decode(body.decode("utf-8", errors="replace"))
        headers = {
            "content-type": rng.choice(hostile_bytes.TYPES),
            "retry-after": rng.choice(["5", "x", "nan", "1e999"]),
        }
        span = rng.choice(["bytes 3-9/20", "bytes 3-9/*", "bytes 9-3/1", "x", "bytes 3-" + "9" * 20 + "/5"])
        headers |= {"content-range": span} if kind == "logs" else {}
        self.scripted.answer = Answer(rng.choice(hostile_bytes.STATUSES), headers, body, rng.random() < 0.8)
        if kind == "sign in":
            return lambda: self._signs_in(rng, self.server.url, self.scripted)
        return lambda: in_turn(self.near, kind)

    def _signs_in(self, rng: random.Random, url: str, transport: Transport | None) -> None:
        crn = "crn:v1:bluemix:public:quantum-computing:us-east:a/x:y::"
        instance = rng.choice([crn, "by name"])
        platform = Credentials(channel="ibm_quantum_platform", token="t" * 20, url=url, auth_url=url, instance=instance)
        login = Credentials(channel="classic", token="t" * 20, auth_url=url)
        client = RuntimeClient(
            rng.choice([platform, login]), request_timeout=REQUEST_SECONDS, clock=Hurried(), transport=transport
        )
        with contextlib.closing(client):
            client.job("job-1", patient=False)

    def _over_socket(self, rng: random.Random, kind: str, body: bytes) -> Callable[[], Any]:
        server = self.server
        server.is_stream = kind == "stream"
        server.answer = (
            hostile_bytes.frames(rng, body[:100_000]) if server.is_stream else hostile_bytes.http_answer(rng, body)
        )
        server.drips = rng.random() < 0.004 and kind != "stream"

        def act() -> None:
            credentials = classic(server.url)
            transport = Transport(credentials, max_answer_bytes=MAX_ANSWER_BYTES)
            if kind == "sign in":
                self._signs_in(rng, server.url, transport)
                return
            client = RuntimeClient(credentials, request_timeout=REQUEST_SECONDS, clock=Hurried(), transport=transport)
            with contextlib.closing(client):
                if kind == "stream":
                    stream = client.open_stream("job-1", after=0)
                    with contextlib.closing(stream):
                        while True:
                            Limited.decode(stream.receive())
                elif kind == "decoder":
                    in_turn(client, "results")
                else:
                    in_turn(client, kind)

        return act


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def in_a_batch(trial: Trial, first: int, count: int, stop_at: float) -> None:
    @seed(first)
    @settings(
        max_examples=count,
        database=None,
        deadline=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(kind=st.sampled_from(KINDS), share=st.integers(1, SOCKET_SHARE), number=st.integers(0, 2**62))
    def one(kind: str, share: int, number: int) -> None:
        if time.monotonic() < stop_at:
            trial.run(kind, share == 1, number)

    one()


def load() -> None:
    """Load what sound answers need, and make the bombs; a decoder that has its limits takes no more room after that."""
    from prefect_runtime.client.transport import websocket_limits  # noqa: F401

    for text in hostile_bytes.GOLDEN:
        Limited.decode(text)
    hostile_bytes.gzip_bomb()
    hostile_bytes.bomb(hostile_bytes.BOMB_BYTES)
    loaded = [name for name in hostile_bytes.UNLOADED if name in sys.modules]
    assert not loaded, f"who imports these by name would not be seen: {loaded}"


def main() -> None:
    count, first, most_seconds = int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
    warnings.simplefilter("ignore")
    hostile_watch.begin()
    if sys.argv[-1] == "acts":
        hostile_watch.acts()
        print(json.dumps({"found": found}))
        return
    load()
    trial = Trial()
    before = peak_mib()
    broken = {"imports": hostile_watch.imports, "unpacks": hostile_watch.unpacks}.get(sys.argv[-1])
    if broken is not None:
        broken()
    for number, text in enumerate(chain(hostile_bytes.naming(), islice(hostile_bytes.bombs(), 2 if broken else None))):
        trial.watch(partial(Limited.decode, text), f"by itself {number}")
    if broken is not None:
        print(json.dumps({"found": found, "growth_mib": peak_mib() - before}))
        return
    by_itself = peak_mib() - before
    for number in range(60):
        for kind in KINDS:
            trial.run(kind, number % 2 == 0, number)
    warm = trial.numbers.total()
    before = peak_mib()  # with what the servers of this process and hypothesis take for themselves
    trial.slowest = (0.0, "")
    growth = []
    start = time.monotonic()
    for batch in range(math.ceil(count / BATCH)):
        in_a_batch(trial, first * 1_000_000 + batch, min(BATCH, count), start + most_seconds)
        growth.append(round(peak_mib() - before, 1))
    print(
        json.dumps(
            {
                "answers": trial.numbers.total() - warm,
                "seconds": round(time.monotonic() - start, 1),
                "numbers": trial.numbers,
                "ends": trial.ends,
                "slowest": trial.slowest,
                "again": trial.again,
                "largest": trial.largest,
                "growth_mib": max(by_itself, growth[-1]),
                "growth_by_itself": round(by_itself, 1),
                "growth_by_batch": growth,
                "found": found,
                "failures": trial.failures[:40],
                "failed": len(trial.failures),
            }
        )
    )


if __name__ == "__main__":
    main()
