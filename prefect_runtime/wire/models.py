"""Documents that cross the wire, read leniently: a newer server may add fields and words. Imported by every room.

Sources: qiskit-ibmq-provider 0.20.2 for the classic API; IBM's REST API 0.45.3 (job object, states, reasons).
"""

from __future__ import annotations

import enum
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from prefect_runtime.wire.errors import ProtocolError, UnknownJobStatusError
from prefect_runtime.wire.fields import number_of, text_of, texts_of, whole_number_of

PROTOCOL = 1
"""Version of what the embedded runtime adds to the two public dialects (change feed, resume, discovery file)."""

TAG = "prefect-runtime"
"""Tag on every job this package creates, so that one list request shows them all."""

KEY_PREFIX = "prt1-"
"""First characters of a request's key (client/fingerprint.py makes it, a server may hold it unique)."""


_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def is_id(value: object) -> bool:
    """Tell whether this can be the id of a job or session: ids become parts of addresses, names of files and tags."""
    return isinstance(value, str) and _ID.fullmatch(value) is not None


class JobStatus(enum.Enum):
    """Status of a remote job; members and values are those of `qiskit.providers.JobStatus`."""

    INITIALIZING = "job is being initialized"
    QUEUED = "job is queued"
    VALIDATING = "job is being validated"
    RUNNING = "job is actively running"
    CANCELLED = "job has been cancelled"
    DONE = "job has successfully run"
    ERROR = "job incurred error"

    @property
    def is_final(self) -> bool:
        """True for DONE, CANCELLED and ERROR: nothing more will happen."""
        return self in _FINAL


_FINAL = frozenset({JobStatus.DONE, JobStatus.CANCELLED, JobStatus.ERROR})

_WORDS = {
    "initializing": JobStatus.INITIALIZING,
    "queued": JobStatus.QUEUED,
    "validating": JobStatus.VALIDATING,
    "running": JobStatus.RUNNING,
    "completed": JobStatus.DONE,
    "failed": JobStatus.ERROR,
    "cancelled": JobStatus.CANCELLED,
    "cancelled - ran too long": JobStatus.ERROR,
}

RAN_TOO_LONG_WORD = "Cancelled - Ran too long"
RAN_TOO_LONG_CODE = 1305  # IBM's registry of error codes: the job exceeded its maximum execution time


@dataclass(frozen=True, slots=True, kw_only=True)
class JobDocument:
    """What a server says of one job, at one moment.

    Attributes:
        id: The job's id.
        word: The status word as the server wrote it.
        status: The same as a `JobStatus`; None for a word we do not know.
        reason: Why it failed or was cancelled; empty when the server says nothing.
        reason_code: The server's code for it.
        solution: What the server suggests.
        program_id: Program the job is for; empty when the document does not say.
        backend: Name of the backend; empty when the document does not say.
        created: Creation time as written by the server (ISO 8601, UTC).
        started: Start of the execution, where the server gives one (the embedded runtime does).
        ended: End of the execution, as `started`.
        tags: The job's tags.
        params: Inputs as they came (not decoded); None when left out.
        session_id: Session of the job.
        usage_seconds: Charged QPU seconds, where known.
        running_seconds: How long the server thinks that it will run, where it says so.
        private: Whether the server hides its inputs, and shows its result once.
    """

    id: str
    word: str
    status: JobStatus | None
    reason: str = ""
    reason_code: int | None = None
    solution: str = ""
    program_id: str = ""
    backend: str = ""
    created: str | None = None
    started: str | None = None
    ended: str | None = None
    tags: tuple[str, ...] = ()
    params: Any = field(default=None, repr=False)
    session_id: str | None = None
    usage_seconds: float | None = None
    running_seconds: float | None = None
    private: bool = False

    @property
    def is_final(self) -> bool:
        """True once nothing more will happen; an unknown word counts as not final."""
        return self.status is not None and self.status.is_final

    @property
    def ran_too_long(self) -> bool:
        """True when the server ended the job for running longer than its max_execution_time."""
        if self.status is not JobStatus.ERROR:
            return False
        if self.reason_code == RAN_TOO_LONG_CODE:
            return True
        # The reason of a failed one is its program's traceback, which may have any words in it.
        return self.word.strip().lower() != "failed" and "ran too long" in f"{self.word} {self.reason}".lower()

    def known_status(self) -> JobStatus:
        """Return the status.

        Raises:
            UnknownJobStatusError: The server used a word that this version does not know.
        """
        if self.status is None:
            raise UnknownJobStatusError(
                f"Job {self.id}: the server says status {self.word[:80]!r}, which this version of prefect-runtime does "
                "not know. The job is left alone; upgrade prefect-runtime, or look at it with the provider's tools.",
                word=self.word,
                job_id=self.id,
            )
        return self.status

    @classmethod
    def parse(cls, doc: Any) -> JobDocument:
        """Read a job object of either dialect.

        The status stands at the top level (classic) or in ``state`` (platform), in mixed case; "ran too long" has three
        shapes (classic word, platform code 1305, platform reason without a code).

        Raises:
            ProtocolError: Not an object, or no id that can be one or no status in it.
        """
        if not isinstance(doc, Mapping):
            raise ProtocolError(f"A job document must be a JSON object, the server sent {type(doc).__name__}.")
        raw_state = doc.get("state")
        state: Mapping[str, Any] = raw_state if isinstance(raw_state, Mapping) else {}
        job_id, word = doc.get("id"), _word(doc.get("status"), state.get("status"))
        if not isinstance(job_id, str) or not isinstance(word, str):
            raise ProtocolError("A job document without an id or a status came from the server.")
        if not is_id(job_id):
            raise ProtocolError("A job document came from the server whose id cannot be one.")
        reason = text_of(state.get("reason") or doc.get("reason"))
        code = whole_number_of(state.get("reason_code", state.get("reasonCode", doc.get("reason_code"))))
        return cls(
            id=job_id,
            word=word,
            status=_status(word, reason, code),
            reason=reason,
            reason_code=code,
            solution=text_of(state.get("reason_solution")),
            program_id=_program_id(doc),
            backend=text_of(doc.get("backend")),
            created=text_of(doc.get("created")) or None,
            started=text_of(doc.get("started")) or None,
            ended=text_of(doc.get("ended")) or None,
            tags=texts_of(doc.get("tags")),
            params=doc.get("params"),
            session_id=text_of(doc.get("session_id")) or None,
            running_seconds=number_of(doc.get("estimated_running_time_seconds")),
            usage_seconds=charged_seconds(doc.get("usage")),
            private=doc.get("private") is True,
        )

    def inputs_json(self) -> str:
        """Return the inputs as the JSON text of one object, whatever shape the server wrapped them in.

        Classic servers send an object, a list with one object or one JSON string in it, or an empty list.
        """
        params = self.params
        if isinstance(params, Sequence) and not isinstance(params, str):
            params = params[0] if params else {}
        if isinstance(params, str):
            return params or "{}"
        return json.dumps(params if isinstance(params, Mapping) else {})


def _word(*said: Any) -> Any:
    """Return the status word: the first that is said, or the one of them that says more than "Cancelled"."""
    more = (word for word in said if isinstance(word, str) and word.strip().lower() == RAN_TOO_LONG_WORD.lower())
    return next(more, next(filter(None, said), None))


def _status(word: str, reason: str, code: int | None) -> JobStatus | None:
    status = _WORDS.get(word.strip().lower())
    if status is JobStatus.CANCELLED and (code == RAN_TOO_LONG_CODE or "ran too long" in reason.lower()):
        return JobStatus.ERROR
    return status


def _program_id(doc: Mapping[str, Any]) -> str:
    program = doc.get("program")
    if isinstance(program, Mapping):
        return text_of(program.get("id"))
    return text_of(program or doc.get("program_id"))


def charged_seconds(value: Any) -> float | None:
    """Return the seconds in the ``usage`` of a job or of its metrics; None if it does not say.

    Source: IBM's REST API, versions 2026-02-01 to 2026-04-15.
    """
    if not isinstance(value, Mapping):
        return None
    for name in ("qpu_charge_time_seconds", "quantum_seconds", "seconds"):  # newest API version first
        seconds = value.get(name)
        if number_of(seconds) is not None:
            return number_of(seconds)
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class ProgramDocument:
    """A program a server offers.

    Attributes:
        id: What to pass as ``program_id``.
        name: Its name.
        description: What it does.
        max_execution_time: Longest run, in seconds; None when the server does not say.
        spec: JSON Schemas of parameters, results and interim results.
        data: Source text; None unless asked for by its author.
    """

    id: str
    name: str
    description: str = ""
    max_execution_time: float | None = None
    is_public: bool = False
    spec: Mapping[str, Any] = field(default_factory=dict)
    data: str | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, doc: Any) -> ProgramDocument:
        """Read a program object.

        Raises:
            ProtocolError: Not an object, or no id in it.
        """
        if not isinstance(doc, Mapping) or not isinstance(doc.get("id"), str):
            raise ProtocolError("A program document without an id came from the server.")
        cost = doc.get("cost")
        return cls(
            id=doc["id"],
            name=text_of(doc.get("name")) or doc["id"],
            description=text_of(doc.get("description")),
            max_execution_time=number_of(cost),
            is_public=bool(doc.get("is_public")),
            spec=doc["spec"] if isinstance(doc.get("spec"), Mapping) else {},
            data=text_of(doc.get("data")) or None,
        )
