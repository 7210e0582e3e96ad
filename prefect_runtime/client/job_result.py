"""The text of a finished job's result: asked for until it is there, fetched once. Used by job.py."""

from __future__ import annotations

from prefect_runtime.client.board import CONFIRM_GONE
from prefect_runtime.client.private_results import PrivateResult
from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.retry import Deadline, RetryPolicy
from prefect_runtime.wire.errors import JobTimeoutError, QiskitRuntimeError, ResultLostError, RuntimeJobNotFound

LOOKS = 5  # a job may be DONE a moment before its result can be had
PAUSE_SECONDS = 0.5
PATIENCE_SECONDS = 900.0  # for which a result is asked for, where the caller has set no time
GRACE_SECONDS = 0.4  # past the caller's deadline, for a result that is there already

_STUBBORN = RetryPolicy(attempts=1000, first=1.0, cap=30.0, to_the_end=True)


class JobResult:
    """The result of one job, as text.

    Args:
        client: Talks to the server.
        job_id: The job.
    """

    def __init__(self, client: RuntimeClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._text: str | None = None

    def fetch(self, deadline: Deadline, *, private: bool) -> str:
        """Return the text.

        Args:
            deadline: Until when it is asked for.
            private: The server shows it once: it is kept on disk before that.

        Raises:
            JobTimeoutError: It had not come by then.
            ResultLostError: The server has none (any more).
            RuntimeJobNotFound: The server said so twice.
        """
        times_gone = 0
        within = Deadline(deadline.remaining() + GRACE_SECONDS, deadline.clock)
        for _ in range(LOOKS):
            if self._text is None:
                try:
                    self._text = self._ask(within, private=private)
                except RuntimeJobNotFound:
                    times_gone += 1
                    if times_gone == CONFIRM_GONE:
                        raise
            if self._text is not None:
                return self._text
            self._client.clock.sleep(min(PAUSE_SECONDS, within.remaining()))
        raise ResultLostError(
            f"Job {self._job_id} is done, but the server has no result for it: deleted, or a private job's, which can "
            "be read once.",
            job_id=self._job_id,
        )

    def _ask(self, within: Deadline, *, private: bool) -> str | None:
        """Ask until there is an answer: that a request fails is no reason to leave a finished job's result behind."""
        patience = within.at_most(PATIENCE_SECONDS)
        seconds = self._client.request_timeout

        def read() -> str | None:
            nonlocal seconds
            if private:
                return PrivateResult(self._client, self._job_id).fetch(patience)
            # Twice as long each time: over a slow line a large one has to come in the end.
            once, seconds = patience.at_most(seconds), 2 * seconds
            return self._client.results(self._job_id, deadline=once)

        try:
            return _STUBBORN.run(read, patience)
        except QiskitRuntimeError as error:
            if not (error.retryable and within.expired):
                raise
            raise JobTimeoutError(
                f"Job {self._job_id} is done, but its result had not come when the time was up: fetch it again with "
                f"its id. {error}",
                job_id=self._job_id,
            ) from None
