"""Asks the server how jobs are: many by list, few by themselves. Used by monitor.py, in its thread."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Protocol

from prefect_runtime.client.board import Board
from prefect_runtime.client.transport.sockets import Socket
from prefect_runtime.wire.errors import (
    AuthenticationError,
    ConfigurationError,
    QiskitRuntimeError,
    RateLimitedError,
    ServerError,
    TransportError,
)
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import TAG, JobDocument

_log = get_logger(__name__)

PAGE = 200  # the most that a runtime gives at once (IBM's REST API 0.45.3)
SPARE_PAGES = 4  # for jobs of others among ours, before those that have not been seen are asked for by themselves
ASK_ITSELF_EVERY = 10  # rounds: some servers move a job on only when that job is asked for
_LAST_ROUND = ASK_ITSELF_EVERY - 1
SAMPLE = 10  # of many jobs so many are asked for, until one of them shows that this server is of that kind


class StatusSource(Protocol):
    """What the monitor needs of a `RuntimeClient`."""

    @property
    def has_feed(self) -> bool:
        """True where the server tells of status changes by itself."""

    def open_feed(self) -> Socket:
        """Open that stream."""

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Ask for one job."""

    def jobs(
        self,
        *,
        limit: int = 200,
        offset: int = 0,
        tags: Sequence[str] = (),
        created_after: str | None = None,
        patient: bool = True,
    ) -> list[JobDocument]:
        """Ask for a page of jobs."""


class Inquiry:
    """Looks at jobs, and puts what the server says of them on the board.

    Args:
        source: Asks the server.
        board: Where the answers go.
    """

    def __init__(self, source: StatusSource, board: Board) -> None:
        self._source = source
        self._board = board
        self._random = random.Random()  # noqa: S311 - a sample
        self._list_lags = False  # a job that was asked for itself was further than the list said

    def ask(self, job_ids: Sequence[str]) -> Sequence[str]:
        """Ask for jobs: one by itself, several by list, and those by themselves that the list does not show.

        Returns:
            Those that were not asked for, because the server wants a pause.
        """
        alone = list(job_ids)
        if len(job_ids) > 1:
            alone = [job_id for job_id in job_ids if self._board.rounds(job_id) % ASK_ITSELF_EVERY == _LAST_ROUND]
            if len(alone) > SAMPLE and not self._list_lags:
                alone = self._random.sample(alone, SAMPLE)
            others = set(job_ids) - set(alone)
            listed = self._ask_list(others) if others else others
            alone += [job_id for job_id in job_ids if job_id not in listed and job_id not in alone]
        for number, job_id in enumerate(alone):
            if self._board.is_to_wait:
                return alone[number:]
            before = self._board.word(job_id)
            self._ask_one(job_id)
            # A change that the list did not tell of; if it was only quicker than the list, that costs some requests.
            self._list_lags |= len(job_ids) > 1 and before not in ("", self._board.word(job_id))
        return []

    def _ask_list(self, wanted: set[str]) -> set[str]:
        """Ask for a list and take in what it says of the wanted jobs; return those it shows."""
        seen: set[str] = set()
        oldest = self._board.oldest(wanted)
        for page in range(SPARE_PAGES + -(-len(wanted) // PAGE)):
            try:
                documents = self._source.jobs(
                    limit=PAGE, offset=page * PAGE, tags=[TAG], created_after=oldest, patient=False
                )
            except (TransportError, ServerError, RateLimitedError, AuthenticationError, ConfigurationError) as error:
                self._board.failed(wanted - seen, error)
                return wanted
            except QiskitRuntimeError as error:  # says nothing of the jobs: each is asked for
                _log.warning("the server's list of jobs is of no use (%s)", error)
                return seen
            for document in documents:
                if document.id in wanted:
                    seen.add(document.id)
                    self._board.take(document)
            if len(documents) < PAGE or seen == wanted:
                break
        return seen

    def _ask_one(self, job_id: str) -> None:
        try:
            document = self._source.job(job_id, patient=False)
        except QiskitRuntimeError as error:
            self._board.failed([job_id], error)
        else:
            self._board.take(document)
