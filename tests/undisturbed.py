"""What something takes on a machine that now and then takes a while itself."""

from __future__ import annotations

import time
from collections.abc import Callable

MOST_TIMES = 3


def undisturbed(measure: Callable[[], float], below: float) -> float:
    """Return the least of up to three measurements; the second and third are for a bound that was missed.

    Other processes, or a machine that stalls, only add, and not each time; what is wrong with us comes again.
    """
    least = measure()
    for _ in range(MOST_TIMES - 1):
        if least < below:
            break
        least = min(least, measure())
    return least


def seconds_of(act: Callable[[], object]) -> float:
    """Return how many seconds something takes."""
    began = time.monotonic()
    act()
    return time.monotonic() - began
