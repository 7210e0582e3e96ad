"""Pictures for image artifacts. Needs the extra `plots` (matplotlib); used by the tasks on demand only, and by flows.

histogram   a sampler's counts
axes        a figure that looks like the others here, to draw on; `panels` several side by side
Picture     shows figures as one image artifact of the run, also while a job goes on
"""

from __future__ import annotations

import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ParamSpec
from uuid import UUID

from prefect_runtime.result_page import counts_of
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.logs import get_logger

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_log = get_logger(__name__)
P = ParamSpec("P")

MAX_OUTCOMES = 32
"""Bars that can still be read; of more outcomes the most frequent are shown, and the rest is one bar."""

LONGEST_LABEL = 24
"""Characters under a bar; those of all of a large backend's qubits would leave no room for the bars."""

MAX_PANELS = 4
BAR_COLOUR = "#2d6df6"
DOTS_PER_INCH = 120
SECONDS_BETWEEN_PICTURES = 2.0


def check_installed() -> None:
    """Make sure that pictures can be made, before anything is paid for.

    Raises:
        ConfigurationError: matplotlib is missing.
    """
    try:
        import matplotlib.figure  # noqa: F401
    except ImportError:
        raise ConfigurationError("Pictures need matplotlib: pip install 'prefect-runtime[plots]'.") from None


def histogram(result: Any) -> str | None:
    """Return the counts of a sampler's result as a picture: a ``data:`` URI of a PNG. None if there are no counts.

    Args:
        result: A Qiskit `PrimitiveResult`, or whatever has PUB results with registers that have `get_counts`.

    Raises:
        ConfigurationError: matplotlib is missing.
    """
    check_installed()
    panels = _counts(result)[:MAX_PANELS]
    if not panels:
        return None
    from matplotlib.figure import Figure

    widest = max(min(len(counts), MAX_OUTCOMES + 1) for _, counts in panels)
    figure = Figure(figsize=(max(5.0, 0.35 * widest + 1.5), 3.2 * len(panels)), layout="constrained")
    for number, (title, counts) in enumerate(panels):
        _draw(figure, (len(panels), 1, number + 1), title, counts)
    return data_uri(figure)


def data_uri(figure: Figure) -> str:
    """Return a figure as a ``data:`` URI of a PNG."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=DOTS_PER_INCH)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def axes(title: str, x: str = "", y: str = "", *, size: tuple[float, float] = (7.0, 4.0)) -> tuple[Figure, Axes]:
    """Return a new figure and its axes, to draw on.

    Args:
        title: What is seen, in one line.
        x: What goes to the right, with its unit.
        y: What goes up, with its unit.
        size: Width and height, in inches.

    Raises:
        ConfigurationError: matplotlib is missing.
    """
    figure, (only,) = panels([title], x, y, size=size)
    return figure, only


def panels(
    titles: Sequence[str], x: str = "", y: str = "", *, size: tuple[float, float] = (4.0, 4.0)
) -> tuple[Figure, list[Axes]]:
    """Return a new figure with panels side by side, one for each title; `size` is that of one. See `axes`."""
    check_installed()
    from matplotlib.figure import Figure

    figure = Figure(figsize=(size[0] * len(titles), size[1]), layout="constrained")
    row = [figure.add_subplot(1, len(titles), number) for number in range(1, len(titles) + 1)]
    for drawn, title in zip(row, titles, strict=True):
        drawn.set_title(title, fontsize=11)
        drawn.set_xlabel(x)
        drawn.spines[["top", "right"]].set_visible(False)
    row[0].set_ylabel(y)
    return figure, row


class Picture:
    """One image artifact of the run, drawn anew when there is more to see. Use it as a context manager.

    It is for people: without matplotlib a warning says what to install, and where Prefect's API is out of reach the run
    goes on without it.

    Args:
        key: The artifact's key: lower-case letters, digits and dashes.
        description: What is seen, for the artifact's page.
    """

    def __init__(self, key: str, description: str) -> None:
        self.key, self.description = key, description
        self._artifact: UUID | None = None
        self._last = float("-inf")
        self._waiting: Callable[[], Figure] | None = None
        self._given_up = False

    def __enter__(self) -> Picture:
        return self

    def __exit__(self, *_: object) -> None:
        if self._waiting is not None:
            self._show(self._waiting)

    def draw(self, make: Callable[P, Figure], *args: P.args, **kwargs: P.kwargs) -> None:
        """Show the figure that ``make(*args, **kwargs)`` returns: now, or soon if one was shown just now.

        It is asked at most every two seconds, and the last time at the end of the ``with``.
        """
        if self._given_up:
            return
        self._waiting = lambda: make(*args, **kwargs)
        if time.monotonic() - self._last >= SECONDS_BETWEEN_PICTURES:
            self._show(self._waiting)

    def _show(self, make: Callable[[], Figure]) -> None:
        import httpx

        self._waiting, self._last = None, time.monotonic()
        try:
            uri = data_uri(make())
            self._artifact = self._write(uri)
        except ConfigurationError as error:
            self._given_up = True  # said once
            _log.warning("no picture %s: %s", self.key, error)
        except httpx.HTTPError as error:
            _log.warning("no picture %s now: Prefect's API gave %s", self.key, type(error).__name__)

    def _write(self, uri: str) -> UUID | None:
        from prefect.artifacts import create_image_artifact
        from prefect.client.orchestration import get_client
        from prefect.client.schemas.actions import ArtifactUpdate

        from prefect_runtime.prefect_api import AT_ONCE

        if self._artifact is None:
            made = create_image_artifact(uri, key=self.key, description=self.description, **AT_ONCE)
            return made if isinstance(made, UUID) else None
        with get_client(sync_client=True) as client:  # in its place: Prefect's own function would make another one
            client.update_artifact(self._artifact, ArtifactUpdate(data=uri))
        return self._artifact


def _counts(result: Any) -> list[tuple[str, Mapping[str, int]]]:
    if type(result).__name__ != "PrimitiveResult":
        return []
    return [
        (f"PUB {index}, register {name}", counts)
        for index, pub in enumerate(result)
        for name, field in pub.data.items()
        if (counts := counts_of(field))
    ]


def _draw(figure: Figure, place: tuple[int, int, int], title: str, counts: Mapping[str, int]) -> None:
    outcomes = shown_outcomes(counts)
    labels = [_label(outcome) for outcome, _ in outcomes]
    axes = figure.add_subplot(*place)
    bars = axes.bar(range(len(outcomes)), [count for _, count in outcomes], color=BAR_COLOUR)
    axes.set_xticks(range(len(outcomes)), labels)  # numbered: two that are shortened may look the same
    if len(outcomes) <= 16:
        axes.bar_label(bars, fontsize=8)
    axes.set_title(f"{title}, {sum(counts.values())} shots", fontsize=10)
    axes.set_ylabel("counts")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    steep = len(outcomes) > 8 or max(map(len, labels)) > 6
    axes.tick_params(axis="x", labelrotation=90 if steep else 0, labelsize=8)


def _label(outcome: str) -> str:
    """Return an outcome as it fits under its bar: of more bits than that, the first and the last."""
    half = LONGEST_LABEL // 2
    return outcome if len(outcome) <= LONGEST_LABEL else f"{outcome[:half]}…{outcome[-half:]}"


def shown_outcomes(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    """Return the outcomes to show, in the order of their bits; of very many the most frequent, and the rest as one."""
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = sorted(frequent[:MAX_OUTCOMES])
    rest = sum(count for _, count in frequent[MAX_OUTCOMES:])
    return [*shown, (f"{len(counts) - MAX_OUTCOMES} others", rest)] if rest else shown
