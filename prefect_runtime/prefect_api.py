"""Calls of Prefect's API that somebody waits for: the run's own client, and no long sleep for what is over at once."""

from __future__ import annotations

import contextlib
import random
import time
from collections.abc import Callable, Iterator
from typing import ParamSpec, TypeVar

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.context import SyncClientContext, get_settings_context

P = ParamSpec("P")
T = TypeVar("T")

SHORT_PAUSES = (0.02, 0.05, 0.1, 0.2, 0.4, 0.8)  # seconds, before Prefect's own of two and more
_MAY_HELP = (httpx.codes.FORBIDDEN, httpx.codes.REQUEST_TIMEOUT, httpx.codes.TOO_MANY_REQUESTS)
"""Refusals after which Prefect's client may ask again: a form token of its own that is too old, and two that pass."""


@contextlib.contextmanager
def prefect_client() -> Iterator[SyncPrefectClient]:
    """Give the client that Prefect uses itself in this run: making one costs more than a call."""
    with SyncClientContext.get_or_create() as context:
        yield context.client


def promptly(call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Call Prefect's API, and at once again while it is only busy; then as patiently as its client does.

    A locked SQLite is answered with 503 and is free the next moment, but Prefect's client sleeps for two to three
    seconds after it (3.8.8): of a cancel's five seconds, two such answers take all.

    Args:
        call: A method of Prefect's client, or what makes one call with it.
        *args: What it is called with.
        **kwargs: The same.

    Raises:
        Exception: What the call raises.
    """
    for pause in SHORT_PAUSES:
        try:
            with at_first_answer():
                return call(*args, **kwargs)
        except httpx.HTTPStatusError as error:
            answer = error.response
            if answer.is_client_error and answer.status_code not in _MAY_HELP:
                raise
            if answer.status_code != httpx.codes.SERVICE_UNAVAILABLE or "retry-after" in answer.headers:
                break
        except httpx.TransportError:
            break
        time.sleep(pause * random.uniform(0.5, 1.0))  # noqa: S311 - two that met do not meet again
    return call(*args, **kwargs)


@contextlib.contextmanager
def at_first_answer() -> Iterator[None]:
    """Have Prefect's client raise what it is answered first, without its own retries, which sleep for seconds.

    The settings are copied by hand: `temporary_settings` checks all of them anew, which takes 30 ms.
    """
    context = get_settings_context()
    client = context.settings.client.model_copy(update={"max_retries": 0})
    settings = context.settings.model_copy(update={"client": client})
    with context.model_copy(update={"settings": settings}):
        yield
