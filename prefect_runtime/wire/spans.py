"""When each part of a primitive's result was measured: the execution spans of its metadata. NumPy is imported on use.

IBM's own classes for them live in qiskit-ibm-runtime, whose import takes a second; these read the same payloads and
answer to the same names. Imported by codec.py.

Source: `qiskit_ibm_runtime.execution_span` and its encoder, 0.51.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, overload

SPAN_TAGS = frozenset({"ExecutionSpan", "DoubleSliceSpan", "TwirledSliceSpan", "TwirledSliceSpanV2"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Slice:
    """Which part of one PUB's result a span holds.

    Attributes:
        shape: Of the result, the last axis being shots; for twirled results with an axis of randomizations.
        elements: First and last + 1 of the flattened axes but the last; of all axes where `shots` is None.
        shots: First and last + 1 of the last axis.
        at_front: Whether the axis of randomizations is the first one or the last but one; None if there is none.
        pub_shots: How many shots the PUB asked for, where randomizations gave some more.
    """

    shape: tuple[int, ...]
    elements: tuple[int | None, int | None]
    shots: tuple[int | None, int | None] | None = None
    at_front: bool | None = None
    pub_shots: int | None = None

    def mask(self) -> Any:
        """Return an array of bools in the shape of the PUB's result, shots last: True for what the span holds."""
        import numpy as np

        whole = np.zeros(self.shape, dtype=bool)
        if self.shots is None:
            whole.reshape(-1)[slice(*self.elements)] = True
            return whole
        flat = whole.reshape(math.prod(self.shape[:-1]), self.shape[-1])
        flat[slice(*self.elements), slice(*self.shots)] = True
        if self.at_front is None:
            return whole
        if self.at_front:
            whole = np.moveaxis(whole, 0, -2)
        merged = whole.reshape(*whole.shape[:-2], -1)
        return merged if self.pub_shots is None else merged[..., : self.pub_shots]

    def raw(self) -> list[Any]:
        """Return the list that stands for it on the wire."""
        parts = [list(self.shape)] if self.at_front is None else [list(self.shape), self.at_front]
        parts += [*self.elements, *(self.shots or ())]
        return parts if self.pub_shots is None else [*parts, self.pub_shots]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExecutionSpan:
    """A time in which parts of a result were measured.

    Attributes:
        kind: The tag it came with.
        start: Its begin, in UTC.
        stop: Its end, in UTC.
        slices: What was measured then, by number of PUB.
    """

    kind: str
    start: datetime
    stop: datetime
    slices: Mapping[int, Slice]

    @property
    def duration(self) -> float:
        """Its length, in seconds."""
        return (self.stop - self.start).total_seconds()

    @property
    def pub_idxs(self) -> list[int]:
        """Numbers of the PUBs of which it holds something."""
        return sorted(self.slices)

    @property
    def size(self) -> int:
        """How many shots it holds, of all PUBs together."""
        return sum(int(self.mask(number).sum()) for number in self.slices)

    def mask(self, pub_idx: int) -> Any:
        """Return which shots of a PUB's result it holds: an array of bools, shots last.

        Raises:
            KeyError: Nothing of that PUB.
        """
        return self.slices[pub_idx].mask()

    def contains_pub(self, pub_idx: int | Iterable[int]) -> bool:
        """Tell whether it holds something of a PUB, or of one of several."""
        return not _numbers(pub_idx).isdisjoint(self.slices)

    def filter_by_pub(self, pub_idx: int | Iterable[int]) -> ExecutionSpan:
        """Return the part of it that is about these PUBs."""
        kept = {number: part for number, part in self.slices.items() if number in _numbers(pub_idx)}
        return ExecutionSpan(kind=self.kind, start=self.start, stop=self.stop, slices=kept)


class ExecutionSpans(Sequence[ExecutionSpan]):
    """All spans of a result, in the order in which they came."""

    def __init__(self, spans: Iterable[ExecutionSpan]) -> None:
        self._spans = tuple(spans)

    def __len__(self) -> int:
        return len(self._spans)

    @overload
    def __getitem__(self, index: int) -> ExecutionSpan: ...

    @overload
    def __getitem__(self, index: slice) -> ExecutionSpans: ...

    def __getitem__(self, index: int | slice) -> ExecutionSpan | ExecutionSpans:
        return ExecutionSpans(self._spans[index]) if isinstance(index, slice) else self._spans[index]

    def __iter__(self) -> Iterator[ExecutionSpan]:
        return iter(self._spans)

    def __eq__(self, other: object) -> bool:
        return self._spans == other._spans if isinstance(other, ExecutionSpans) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple((span.start, span.stop) for span in self._spans))

    def __repr__(self) -> str:
        return f"ExecutionSpans({list(self._spans)!r})"

    @property
    def start(self) -> datetime:
        """Begin of the first one."""
        return min(span.start for span in self._spans)

    @property
    def stop(self) -> datetime:
        """End of the last one."""
        return max(span.stop for span in self._spans)

    @property
    def duration(self) -> float:
        """Seconds from the begin of the first to the end of the last."""
        return (self.stop - self.start).total_seconds()

    @property
    def pub_idxs(self) -> list[int]:
        """Numbers of the PUBs that they hold something of."""
        return sorted({number for span in self._spans for number in span.pub_idxs})

    def filter_by_pub(self, pub_idx: int | Iterable[int]) -> ExecutionSpans:
        """Return them with only what is about these PUBs."""
        return ExecutionSpans(span.filter_by_pub(pub_idx) for span in self._spans)


def _numbers(pub_idx: int | Iterable[int]) -> set[int]:
    return {pub_idx} if isinstance(pub_idx, int) else set(pub_idx)


def encode_span(span: ExecutionSpan) -> dict[str, Any]:
    """Return what stands under a span's tag."""
    slices = {str(number): part.raw() for number, part in span.slices.items()}
    return {"start": span.start, "stop": span.stop, "data_slices": slices}


def read_span(obj: Mapping[str, Any]) -> ExecutionSpan:
    """Return the span that a tagged object, its members decoded, stands for."""
    kind, value = obj["__type__"], obj["__value__"]
    start, stop = value["start"], value["stop"]
    if not isinstance(start, datetime) or not isinstance(stop, datetime):
        raise TypeError("a span needs two moments")
    slices = {int(number): _read_slice(kind, parts) for number, parts in value["data_slices"].items()}
    return ExecutionSpan(kind=kind, start=start, stop=stop, slices=slices)


def _read_slice(kind: str, parts: Sequence[Any]) -> Slice:
    shape = tuple(int(length) for length in parts[0])
    if kind == "ExecutionSpan":
        _, first, last = parts
        return Slice(shape=shape, elements=(first, last))
    if kind == "DoubleSliceSpan":
        _, first, last, shot, last_shot = parts
        return Slice(shape=shape, elements=(first, last), shots=(shot, last_shot))
    _, at_front, first, last, shot, last_shot, *rest = parts
    return Slice(
        shape=shape,
        elements=(first, last),
        shots=(shot, last_shot),
        at_front=bool(at_front),
        pub_shots=int(rest[0]) if rest else None,
    )
