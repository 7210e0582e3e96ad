"""What this process knows of an account's cards and jobs, so that it need not ask again. Used by all that keeps cards.

Kept with the account, each kind by itself, and bounded: who works for days with one account must not grow, and what
there is many of must not push out what there is little of.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Generic, TypeVar, cast

from prefect_runtime.card_writer import CardWriter, Place
from prefect_runtime.wire.models import JobDocument

V = TypeVar("V")
T = TypeVar("T")

MOST_CARDS = 1_000
MOST_JOBS = 10_000
"""More than anybody waits for at once: of a job that is forgotten, log lines are relayed once more."""


class Recent(Generic[V]):
    """The entries that were used last, by name; the others are forgotten. For several threads.

    Args:
        most: How many are kept.
        by_use: False to keep those that came last instead, however often the others were used.
    """

    def __init__(self, most: int, *, by_use: bool = True) -> None:
        self._most = most
        self._by_use = by_use
        self._lock = threading.Lock()
        self._entries: OrderedDict[str, V] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str) -> V | None:
        """Return an entry; None if there is none."""
        with self._lock:
            if self._by_use and name in self._entries:
                self._entries.move_to_end(name)
            return self._entries.get(name)

    def put(self, name: str, value: V) -> None:
        """Keep an entry."""
        with self._lock:
            self._put(name, value)

    def add(self, name: str, value: V) -> bool:
        """Keep an entry unless there is one; True if it was kept."""
        with self._lock:
            if name in self._entries:
                return False
            self._put(name, value)
            return True

    def remove(self, name: str) -> None:
        """Forget an entry, if there is one."""
        with self._lock:
            self._entries.pop(name, None)

    def get_or_make(self, name: str, make: Callable[[], V]) -> V:
        """Return an entry, made if there is none."""
        with self._lock:
            value = self._entries[name] if name in self._entries else make()
            self._put(name, value)
            return value

    def _put(self, name: str, value: V) -> None:
        self._entries[name] = value
        if self._by_use:
            self._entries.move_to_end(name)
        while len(self._entries) > self._most:
            self._entries.popitem(last=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """A card that this process has written or read.

    Attributes:
        place: Its artifact.
        fields: Its record.
        shown: What it shows besides that, and is no part of the record.
        result: The section on the result.
    """

    place: Place
    fields: Mapping[str, str]
    shown: Mapping[str, str] = field(default_factory=dict)
    result: str = ""


@dataclass(slots=True, kw_only=True)
class Seen:
    """What the tasks of this process have seen of a job.

    Attributes:
        words: When each status was seen first.
        final: Its document, once it is final.
        charge_said: Its price stands in the run's log.
    """

    words: dict[str, datetime] = field(default_factory=dict)
    final: JobDocument | None = None
    charge_said: bool = False


class Memory:
    """All of it, for one account.

    Args:
        entries: What is kept with the account; filled here.
    """

    def __init__(self, entries: dict[str, object]) -> None:
        self.writer = _of(entries, "writer", CardWriter)
        self._cards = _of(entries, "cards", _Cards)
        self._numbers = _of(entries, "numbers", _Numbers)
        self._reserved = _of(entries, "reserved", _Reserved)
        self._jobs = _of(entries, "jobs", _Jobs)
        self._relays = _of(entries, "relays", _Relays)

    def get(self, key: str) -> Known | None:
        """Return what is known of a request's card."""
        return self._cards.get(key)

    def put(self, key: str, known: Known) -> None:
        """Remember a card."""
        self._cards.put(key, known)

    def job(self, job_id: str) -> Seen:
        """Return what was seen of a job, to be added to."""
        return self._jobs.get_or_make(job_id, Seen)

    def relay(self, job_id: str, make: Callable[[], T]) -> T:
        """Return who puts a job's log into the run's: one for all threads, which knows what stands there already."""
        return cast(T, self._relays.get_or_make(job_id, make))

    def first_free(self, chain: str, first_key: str) -> int:
        """Return the number below which tasks of this process have all numbers of equal requests of an execution."""
        return self._numbers.get(f"{chain} {first_key}") or 0

    def took(self, chain: str, first_key: str, number: int) -> None:
        """Remember that a number is taken; only a start for the next search, which counts on nothing."""
        if number == self.first_free(chain, first_key):
            self._numbers.put(f"{chain} {first_key}", number + 1)

    def reserve(self, claim: str, key: str) -> bool:
        """True for the first who asks: several threads or coroutines of a process may have one claim."""
        return self._reserved.add(f"{claim} {key}", True)

    def release(self, claim: str, key: str) -> None:
        """Let somebody else have what was reserved."""
        self._reserved.remove(f"{claim} {key}")


class _Cards(Recent[Known]):
    def __init__(self) -> None:
        super().__init__(MOST_CARDS)


class _Numbers(Recent[int]):
    def __init__(self) -> None:
        # An execution's number is older than those of its task runs, and must be forgotten before them: a task that is
        # tried again then begins at the first number, and finds its own.
        super().__init__(MOST_CARDS, by_use=False)


class _Reserved(Recent[bool]):
    def __init__(self) -> None:
        super().__init__(MOST_CARDS, by_use=False)


class _Jobs(Recent[Seen]):
    def __init__(self) -> None:
        super().__init__(MOST_JOBS)


class _Relays(Recent[object]):
    def __init__(self) -> None:
        super().__init__(MOST_JOBS)


def _of(entries: dict[str, object], name: str, kind: type[T]) -> T:
    found = entries.setdefault(name, kind())
    assert isinstance(found, kind)  # noqa: S101 - nobody else uses these names
    return found
