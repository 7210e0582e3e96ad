"""All twelve canaries through flows that keep what they can: results, errors, logs, artifacts and events.

That nothing of what other tests send stays in Prefect is looked after where its server ends (support.py).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from canaries import sinks
from canaries.scanner import scan
from canaries.values import (
    ACCESS_TOKEN,
    API_KEY,
    CRN,
    IAM_TOKEN,
    PARAMETERS,
    PRESIGNED_URL,
    PROXIES,
    REFRESH_TOKEN,
    STREAM_TOKEN,
)
from integration.support import StreamServer, drop, http_server
from prefect import flow
from prefect.states import State
from pydantic import SecretStr

from prefect_runtime import RuntimeCredentials, fetch_result, run_program, stream_results, wait_for_final_state
from prefect_runtime.client import RuntimeService

from .support import cards, log_lines, run_id

TELLS = """
import os

def main(backend, user_messenger, *, fail=False, **kwargs):
    if fail:
        raise ValueError("the program failed on purpose")
    def of(pid, name):
        try:
            with open(f"/proc/{pid}/{name}", "rb") as file:
                return file.read().decode("utf-8", "replace")
        except OSError as error:
            return type(error).__name__
    seen = [of(pid, name) for pid in ("self", os.getppid()) for name in ("cmdline", "environ", "limits")]
    return {"inputs": len(kwargs), "seen": seen}
"""
"""Tells what a program can see of its own process and of the one that has started it; or fails."""

INPUTS = {"one": PARAMETERS[0], "two": [PARAMETERS[1]], "three": {"deep": PARAMETERS[2], "url": PRESIGNED_URL}}


@pytest.fixture
def refusing() -> Iterator[str]:
    """A platform that signs people in, and then refuses with all that it was given."""

    def answer(request: Any, body: bytes) -> tuple[int, Any]:
        if request.path == "/identity/token":
            return 200, {"access_token": IAM_TOKEN, "refresh_token": REFRESH_TOKEN, "expires_in": 3600}
        given = f"{request.headers['Authorization']} {request.headers['Service-CRN']} {API_KEY} see {PRESIGNED_URL}"
        return 403, {"errors": [{"code": 1234, "message": f"you sent {given}", "solution": given}], "trace": given}

    with http_server(answer) as url:
        yield url


def on_platform(url: str) -> RuntimeCredentials:
    return RuntimeCredentials(
        channel="ibm_quantum_platform",
        token=SecretStr(API_KEY),
        instance=CRN,
        url=f"{url}/api/v1",
        auth_url=url,
        backend="somewhere",
        proxies=PROXIES,  # type: ignore[arg-type]  # pydantic makes it a SecretDict
        settle_seconds=0,
    )


def test_nothing_that_prefect_keeps_has_a_canary_in_it(
    refusing: str, upload: Callable[..., str], prefect_home: Path, service: RuntimeService
) -> None:
    program = upload(TELLS)
    on_platform(refusing).save("e2e-canaries", overwrite=True)
    kept = {"persist_result": True}

    @flow(**kept)
    def sends_all(*, fail: bool) -> Any:
        block = RuntimeCredentials(token=SecretStr(ACCESS_TOKEN), proxies=PROXIES)  # type: ignore[arg-type]
        job = run_program.with_options(**kept)(block, program, {**INPUTS, "fail": fail})
        wait_for_final_state.with_options(**kept)(block, job, raise_on_failure=False)
        return fetch_result.with_options(**kept)(block, job)

    @flow(**kept)
    def is_refused() -> Any:
        return run_program.with_options(**kept)("e2e-canaries", program, INPUTS)

    good: State[Any] = sends_all(fail=False, return_state=True)
    told = good.result()
    assert told["inputs"] == 3
    assert not scan("\n".join(told["seen"]), "what a program sees of its processes")
    bad: State[Any] = sends_all(fail=True, return_state=True)
    refused: State[Any] = is_refused(return_state=True)
    for state, why in ((bad, "on purpose"), (refused, "you sent")):
        assert state.is_failed()
        assert why in str(state.message)
        assert not scan(repr(state) + str(state.model_dump()), "a state")
        log_lines(run_id(state), until=why)
    for state in (good, bad, refused):
        assert not scan("".join(card.model_dump_json() for card in cards(run_id(state))), "a card")
    assert list((prefect_home / "storage").rglob("*"))  # results were kept
    sinks.assert_clean(sinks.folder(prefect_home, "Prefect"))


def test_a_stream_that_breaks_lets_no_token_out(prefect_home: Path) -> None:
    with StreamServer(drop, 401, 302, drop) as server:

        @flow(persist_result=True)
        def listens() -> Any:
            block = RuntimeCredentials(
                channel="classic",
                url=server.credentials.url or "",
                token=SecretStr(STREAM_TOKEN),
                proxies=PROXIES,  # type: ignore[arg-type]
            )
            return stream_results.with_options(persist_result=True)(block, server.job_id, timeout=2)

        state: State[Any] = listens(return_state=True)
    assert state.is_failed() or state.name == "TimedOut"
    assert not scan(repr(state) + str(state.model_dump()), "a state")
    sinks.assert_clean(sinks.folder(prefect_home, "Prefect"))
