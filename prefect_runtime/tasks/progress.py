"""A progress artifact of a run. For people: what goes wrong with it costs nothing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from prefect.artifacts import create_progress_artifact, update_progress_artifact

from prefect_runtime.prefect_api import AT_ONCE

LEAST_SECONDS_BETWEEN_UPDATES = 1.0
_PARTS = (("iteration", "iterations"), ("iteration", "total"), ("step", "steps"), ("step", "total"))
"""Members of an interim result that say how far a program is, as programs of the field call them."""


class Progress:
    """Shows how far something is, at most once a second, and the last of it in any case. Use it as a context manager.

    Args:
        words: What is shown before anything is known; None to show nothing until then.
    """

    def __init__(self, words: str | None = None) -> None:
        self._artifact: UUID | None = None
        self._last = float("-inf")
        self._latest: tuple[float, str] | None = None if words is None else (0.0, words)
        self._shown: tuple[float, str] | None = None

    def __enter__(self) -> Progress:
        if self._latest is not None:
            self._write()
        return self

    def __exit__(self, *_: object) -> None:
        if self._shown != self._latest:
            self._write()

    def show(self, percent: float, words: str) -> None:
        """Say how far it is."""
        self._latest = (min(100.0, max(0.0, percent)), words)
        if time.monotonic() - self._last >= LEAST_SECONDS_BETWEEN_UPDATES:
            self._write()

    def _write(self) -> None:
        if self._latest is None:
            return
        percent, words = self._shown = self._latest
        self._last = time.monotonic()
        with contextlib.suppress(Exception):
            if self._artifact is None:
                made = create_progress_artifact(percent, description=words, **AT_ONCE)
                self._artifact = made if isinstance(made, UUID) else None
            else:
                update_progress_artifact(self._artifact, percent, description=words, **AT_ONCE)


def percent_of(interim: Any) -> float | None:
    """Return how far a program is by one of its interim results, in percent; None if that does not say.

    Understood are ``{"progress": 0.25}`` (a share of one; above that, percent) and ``{"iteration": 5, "total": 20}``,
    also with ``iterations``, and with ``step`` and ``steps``.
    """
    if not isinstance(interim, Mapping):
        return None
    share = _number(interim.get("progress"))
    if share is not None:
        return 100 * share if share <= 1 else share
    for part, whole in _PARTS:
        done, total = _number(interim.get(part)), _number(interim.get(whole))
        if done is not None and total:
            return 100 * done / total
    return None


def _number(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not value >= 0:
        return None
    try:
        return float(value)
    except OverflowError:  # JSON's whole numbers have no largest one
        return None
