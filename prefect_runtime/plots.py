"""Pictures of results, for image artifacts. Needs the extra `plots` (matplotlib); used by the tasks on demand only."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from prefect_runtime.wire.errors import ConfigurationError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_OUTCOMES = 32
"""Bars that can still be read; of more outcomes the most frequent are shown, and the rest is one bar."""

MAX_PANELS = 4
BAR_COLOUR = "#2d6df6"
DOTS_PER_INCH = 120


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


def _counts(result: Any) -> list[tuple[str, Mapping[str, int]]]:
    if type(result).__name__ != "PrimitiveResult":
        return []
    return [
        (f"PUB {index}, register {name}", field.get_counts())
        for index, pub in enumerate(result)
        for name, field in pub.data.items()
        if hasattr(field, "get_counts")
    ]


def _draw(figure: Figure, place: tuple[int, int, int], title: str, counts: Mapping[str, int]) -> None:
    outcomes = shown_outcomes(counts)
    axes = figure.add_subplot(*place)
    bars = axes.bar([outcome for outcome, _ in outcomes], [count for _, count in outcomes], color=BAR_COLOUR)
    if len(outcomes) <= 16:
        axes.bar_label(bars, fontsize=8)
    axes.set_title(f"{title}, {sum(counts.values())} shots", fontsize=10)
    axes.set_ylabel("counts")
    axes.margins(y=0.12)
    axes.spines[["top", "right"]].set_visible(False)
    steep = len(outcomes) > 8 or max(len(outcome) for outcome, _ in outcomes) > 6
    axes.tick_params(axis="x", labelrotation=90 if steep else 0, labelsize=8)


def shown_outcomes(counts: Mapping[str, int]) -> Sequence[tuple[str, int]]:
    """Return the outcomes to show, in the order of their bits; of very many the most frequent, and the rest as one."""
    frequent = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    shown = sorted(frequent[:MAX_OUTCOMES])
    rest = sum(count for _, count in frequent[MAX_OUTCOMES:])
    return [*shown, (f"{len(counts) - MAX_OUTCOMES} others", rest)] if rest else shown
