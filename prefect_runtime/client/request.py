"""The words of a submission: what is asked for, what is kept of it, and who keeps it. Knows no server, no Prefect."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from prefect_runtime.client.retry import check_seconds
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.models import KEY_PREFIX

FINGERPRINT_TAG_PREFIX = "prt-fp-"
MAX_USER_TAGS, MAX_TAG_LENGTH = 4, 86  # a job has eight (IBM's REST API 0.45.3), four of them ours
_OPTIONS = ("backend_name", "log_level", "image")
_LOG_LEVELS = ("CRITICAL", "ERROR", "WARNING", "INFO", "DEBUG")


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What a caller asks for, as written: before a backend is chosen and circuits are transpiled.

    Attributes:
        program_id: Program.
        inputs: Its inputs, logical.
        backend: A name, names in order of preference, "least_busy", or None for the channel's default.
        tags: The caller's own.
        optimization_level: For transpiling logical circuits, 0 to 3; None not to.
        idempotency_key: Names the request across flow runs and processes.
        on_existing: "attach" to the job of an equal request, or "new".
        others: Members of the job's body that are passed through (log_level, session_id, …).
        client_side: Send a primitive as a program that IBM's client builds here, not to the server's own one.
    """

    program_id: str
    inputs: Mapping[str, Any] = field(repr=False)
    backend: str | tuple[str, ...] | None = None
    tags: tuple[str, ...] = ()
    optimization_level: int | None = 2
    idempotency_key: str | None = None
    on_existing: Literal["attach", "new"] = "attach"
    others: Mapping[str, Any] = field(default_factory=dict)
    client_side: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """A request ready to be sent.

    Attributes:
        backend: The backend chosen; None leaves it to the server.
        params: Encoded inputs.
        notes: What a person wants to know of the choice: layout, seed, depth.
        pubs: Qiskit's PUBs as they are sent, where there are any and Qiskit is there.
        program_id: What they are sent to; the request's own program if empty.
    """

    backend: str | None
    params: str = field(repr=False)
    notes: Mapping[str, str] = field(default_factory=dict)
    pubs: Sequence[Any] = field(default=(), repr=False)
    program_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """The durable record of one request: written before the POST, completed after it. Times are ISO 8601, UTC.

    Attributes:
        key: The request's key.
        fingerprint: Of the logical request.
        program_id: Program.
        requested_backend: As asked for.
        backend: As chosen; empty until the intent is written.
        occurrence: Number of this request among equal ones of one execution.
        generation: Number of this attempt, after failures that were delivered.
        intended_at: When the intent was written; empty before.
        job_id: The job; empty until it is acknowledged.
        acknowledged_at: When that was.
        attached: True if the job was found rather than made.
        posts: How often the request was sent; more than once only after an absence was proved.
        notes: See `Prepared`.
    """

    key: str
    fingerprint: str
    program_id: str
    requested_backend: str = ""
    backend: str = ""
    occurrence: int = 0
    generation: int = 0
    intended_at: str = ""
    job_id: str = ""
    acknowledged_at: str = ""
    attached: bool = False
    posts: int = 0
    notes: Mapping[str, str] = field(default_factory=dict)


class Journal(Protocol):
    """Where cards are kept. Every method may raise; nothing is sent if the intent could not be written."""

    def scope(self) -> str | None:
        """What equal requests must share to be the same one; None if every call is a new request."""

    def run_tag(self) -> str | None:
        """The root flow run's id, for a tag that `reap` finds."""

    def look_up(self, card_of: Callable[[int, int], Card], *, explicit: bool) -> Card:
        """Return this request's card, known or new.

        Args:
            card_of: Makes a blank card for an occurrence and a generation.
            explicit: The caller named the request; then occurrence is always 0.
        """

    def intend(self, card: Card, *, durably: bool = True) -> None:
        """Write that the request is about to be sent.

        Args:
            card: The request's card.
            durably: Before it returns. False where the server makes no second job of the key: then a successor that
                does not find this loses nothing, and it may be written along with the job's id.
        """

    def acknowledge(self, card: Card) -> None:
        """Write, durably, which job the request has."""

    def withdraw(self, card: Card) -> None:
        """Write that the request was provably not taken, so that it may be sent again. Raises nothing."""

    def give_up(self, card: Card) -> None:
        """Write that it is not known whether the request has a job: whoever asks for it next looks for it first."""

    def abandon(self) -> None:
        """Forget a request that was looked up but will not be sent: it could not be made ready."""

    def report_duplicates(self, card: Card, kept: str, others: Sequence[str]) -> None:
        """Tell people that the request has more jobs than one; the others are being cancelled."""


class NoJournal:
    """For callers without Prefect: the key still protects against lost answers within this call."""

    def scope(self) -> str | None:
        """Every call is a new request."""
        return None

    def run_tag(self) -> str | None:
        """There is no flow run."""
        return None

    def look_up(self, card_of: Callable[[int, int], Card], *, explicit: bool) -> Card:  # noqa: ARG002
        """Return a blank card."""
        return card_of(0, 0)

    def intend(self, card: Card, *, durably: bool = True) -> None:
        """Nothing is kept."""

    def acknowledge(self, card: Card) -> None:
        """Nothing is kept."""

    def withdraw(self, card: Card) -> None:
        """Nothing is kept."""

    def give_up(self, card: Card) -> None:
        """Nothing is kept."""

    def abandon(self) -> None:
        """Nothing is kept."""

    def report_duplicates(self, card: Card, kept: str, others: Sequence[str]) -> None:
        """The log has it."""


def check_work(program_id: str, inputs: Mapping[str, Any]) -> None:
    """Refuse what is no program, or no inputs.

    Raises:
        ConfigurationError: It is none; the message names the field.
    """
    if not isinstance(program_id, str) or not program_id:
        raise ConfigurationError("program_id: must be a text that is not empty.")
    if not isinstance(inputs, Mapping) or not all(isinstance(name, str) for name in inputs):
        raise ConfigurationError("inputs: must be a mapping from argument names to values.")


def check_terms(
    on_existing: str,
    optimization_level: int | None,
    idempotency_key: str | None,
    max_execution_time: float | None,
    private: bool,
) -> None:
    """Refuse terms on which nothing can be submitted.

    Raises:
        ConfigurationError: One of them; the message names the field.
    """
    if on_existing not in ("attach", "new"):
        raise ConfigurationError(f"on_existing: {on_existing!r} is none of 'attach', 'new'.")
    if optimization_level not in (None, 0, 1, 2, 3):
        raise ConfigurationError(f"optimization_level: must be 0, 1, 2, 3 or None; got {optimization_level!r}.")
    if idempotency_key is not None and not (isinstance(idempotency_key, str) and idempotency_key):
        raise ConfigurationError("idempotency_key: must be a text that is not empty.")
    check_seconds("max_execution_time", max_execution_time)
    if max_execution_time == 0:
        raise ConfigurationError("max_execution_time: must be more than 0 seconds.")
    if not isinstance(private, bool):
        raise ConfigurationError("private: must be True or False.")


def check_backend(backend: str | Sequence[str] | None) -> str | tuple[str, ...] | None:
    """Return the backend asked for: a name, or names in order of preference.

    Raises:
        ConfigurationError: Something that is no backend's name.
    """
    if backend is None or backend == "":
        return None
    if not isinstance(backend, str | Sequence):
        raise ConfigurationError(f"backend: must be a name, or names in order of preference; got {backend!r}.")
    if not backend:  # a search that found none: any other backend would be a surprise, and a bill
        raise ConfigurationError("backend: the list of names is empty; leave it out for the account's own choice.")
    names = (backend,) if isinstance(backend, str) else tuple(backend)
    for name in names:
        if not isinstance(name, str) or not re.fullmatch(r"[\w.-]{1,128}", name):
            raise ConfigurationError(f"backend: {name!r} is not a backend's name.")
    return names[0] if isinstance(backend, str) else names


def take_options(options: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a program's options, by name: how it is run, which is no input of its.

    Raises:
        ConfigurationError: One that is not known, or no mapping.
    """
    if options is not None and not isinstance(options, Mapping):
        raise ConfigurationError(f"options: must be a mapping, of {', '.join(_OPTIONS)}.")
    unknown = sorted(map(str, set(options or ()) - set(_OPTIONS)))
    if unknown:
        raise ConfigurationError(f"options: {unknown} not known; there are {', '.join(_OPTIONS)}.")
    return dict(options or {})


def check_tags(tags: Sequence[str]) -> tuple[str, ...]:
    """Return a caller's own tags.

    Raises:
        ConfigurationError: Too many, or too long, or one that tells which request a job is of.
    """
    tags = texts("tags", tags)
    # Of two jobs with one key one is a duplicate, and is cancelled: copied from a job, they would give it away.
    if reserved := [tag for tag in tags if tag.startswith((KEY_PREFIX, FINGERPRINT_TAG_PREFIX))]:
        raise ConfigurationError(f"tags: {reserved[0]!r:.60} is the mark of another job's request; leave it out.")
    if len(tags) > MAX_USER_TAGS or any(not 0 < len(tag) <= MAX_TAG_LENGTH for tag in tags):
        raise ConfigurationError(f"tags: at most {MAX_USER_TAGS}, each of 1 to {MAX_TAG_LENGTH} characters.")
    return tags


def texts(name: str, given: Iterable[str]) -> tuple[str, ...]:
    """Return the texts of a list.

    Raises:
        ConfigurationError: It is no list of texts; the message names the field.
    """
    found = tuple(given) if isinstance(given, Iterable) and not isinstance(given, str) else (None,)
    if not all(isinstance(one, str) for one in found):
        raise ConfigurationError(f"{name}: must be a list of texts.")
    return found  # type: ignore[return-value]  # seen a line above


def check_log_level(level: str | None) -> str | None:
    """Return a log level in capitals.

    Raises:
        ConfigurationError: It is none.
    """
    if level is None:
        return None
    if not isinstance(level, str) or level.upper() not in _LOG_LEVELS:
        raise ConfigurationError(f"log_level: {level!r} is none of {', '.join(_LOG_LEVELS).lower()}.")
    return level.upper()


def check_words(**words: str | None) -> None:
    """Refuse what is sent as it is and is no text: written as JSON it would fail when the intent is on its card.

    Raises:
        ConfigurationError: One is none; the message names the field.
    """
    for name, word in words.items():
        if word is not None and not isinstance(word, str):
            raise ConfigurationError(f"{name}: must be a text, not {type(word).__name__}.")


def whole(seconds: float) -> float:
    """Return seconds as they are sent: a whole number of them as one, which is all that IBM's service knows."""
    return int(seconds) if float(seconds).is_integer() else float(seconds)
