"""A job's interim results as an `InterimStream`: in order, each once, over as many connections as it takes."""

from __future__ import annotations

import contextlib
import queue
import threading
from collections import Counter
from collections.abc import Iterator
from typing import Protocol

from prefect_runtime.client.board import CONFIRM_GONE
from prefect_runtime.client.interim_list import ListOfResults
from prefect_runtime.client.replay import Replay
from prefect_runtime.client.retry import Clock
from prefect_runtime.client.transport.sockets import NORMAL, Socket
from prefect_runtime.wire.errors import ConnectFailedError, QiskitRuntimeError, RuntimeJobNotFound, StreamClosedError
from prefect_runtime.wire.json_text import read_json
from prefect_runtime.wire.logs import get_logger
from prefect_runtime.wire.models import JobDocument, JobStatus

_log = get_logger(__name__)

MAX_REFUSALS = 5
MAX_DROPS_AT_THE_END = 5
TRIES = 5  # to get the list where it is needed


class StreamSource(Protocol):
    """What a stream needs of a `RuntimeClient`."""

    @property
    def clock(self) -> Clock:
        """Where the time comes from."""

    def open_stream(self, job_id: str, *, after: int) -> Socket:
        """Open a connection."""

    def job(self, job_id: str, *, with_params: bool = False, patient: bool = True) -> JobDocument:
        """Ask for a job."""

    def interim_results(self, job_id: str, *, patient: bool = True) -> list[str]:
        """Ask for the list of a job's interim results so far."""


_END = object()


class InterimStream:
    """The interim results of one job as texts: in order, each once, over as many connections as it takes.

    A thread reads the socket into a queue, so that a slow consumer neither loses anything nor lets the connection die.
    Iterate over it (from one thread) or take single ones with `next_text`.

    What was published while no connection stood is had in one of three ways: the server leaves out what we have
    (`Socket.resumes`), or sends everything again, or has a list to ask for (`ListOfResults`). Where it does none of
    these, the end is a `StreamClosedError` that says from where on results may be missing.

    Args:
        source: Opens connections and knows the job's status.
        job_id: The job.
    """

    def __init__(self, source: StreamSource, job_id: str) -> None:
        self._source = source
        self._job_id = job_id
        self._texts: queue.SimpleQueue[object] = queue.SimpleQueue()
        self._seen: list[int] = []  # hashes of the texts so far
        self._list = ListOfResults(source, job_id)
        self._replay = Replay([])  # of the last connection
        self._doubt: int | None = None  # how many results had come when some may have been missed for the first time
        self._times_gone: Counter[str] = Counter()  # 404s in a row, to each of our two questions
        self._told_of_the_line = False
        self._socket: Socket | None = None
        self._cancelled = threading.Event()
        self._finished = threading.Event()
        self._error: QiskitRuntimeError | None = None
        self._thread = threading.Thread(target=self._read, name=f"stream-{job_id}", daemon=True)
        self._thread.start()

    @property
    def finished(self) -> bool:
        """True once the consumer has said `finish`, or will get nothing any more."""
        return self._finished.is_set() or self.cancelled

    def finish(self) -> None:
        """Say that the consumer has taken all there was."""
        self._finished.set()

    def wait_finished(self, timeout: float | None = None) -> bool:
        """Wait until the consumer has said `finish`; False if it has not in time."""
        return self._finished.wait(timeout)

    @property
    def error(self) -> QiskitRuntimeError | None:
        """Why it ended before its time, or with something missing; None where all is well."""
        return None if self.cancelled else self._error

    @property
    def cancelled(self) -> bool:
        """True once `cancel` was called."""
        return self._cancelled.is_set()

    def cancel(self) -> None:
        """End the stream; what has not been taken is dropped."""
        self._cancelled.set()
        if self._socket is not None:
            self._socket.close()
        self._texts.put(_END)

    def next_text(self, timeout: float | None = None) -> str | None:
        """Return the next result, or None at the end.

        Args:
            timeout: Seconds to wait for it.

        Raises:
            TimeoutError: None came in time.
            QiskitRuntimeError: The stream failed for good; what came before it has been given out.
        """
        try:
            item = self._texts.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError from None
        if isinstance(item, str) and not self.cancelled:
            return item
        self._texts.put(_END)  # the end stays the end
        if self._error is not None and not self.cancelled:
            raise self._error
        return None

    def __iter__(self) -> Iterator[str]:
        while (text := self.next_text()) is not None:
            yield text

    def _read(self) -> None:
        try:
            self._read_to_the_end()
        except QiskitRuntimeError as error:
            self._error = error
        except Exception as error:  # noqa: BLE001 - it must not look like the end
            _log.exception("job %s: the stream of interim results stumbled", self._job_id)
            self._error = StreamClosedError(
                f"Job {self._job_id}: a fault of ours ended the stream of interim results ({type(error).__name__}). "
                "The last ones may be missing; the result is not affected.",
                job_id=self._job_id,
            )
        finally:
            self._texts.put(_END)

    def _read_to_the_end(self) -> None:
        """Read connection after connection until the job is final.

        An idle connection that drops says nothing of the job, however often it happens while that queues, nor does a
        line that is down, however long; only a server that is there and refuses to open a stream, again and again, ends
        it.
        """
        refusals = drops_at_the_end = 0
        while not self.cancelled:
            try:
                socket = self._source.open_stream(self._job_id, after=len(self._seen))
            except QiskitRuntimeError as error:
                self._raise_if_for_good(error, "stream")
                refusals += 1
                self._may_have_missed()
                document = self._look() if _may_say_not_running(error) or refusals > MAX_REFUSALS else None
                if document is not None and document.is_final:
                    return self._conclude()
                if refusals > MAX_REFUSALS:
                    if document is not None:
                        raise
                    refusals = MAX_REFUSALS
                    self._tell_of_the_line(error)
            else:
                refusals = self._times_gone["stream"] = 0
                code = self._drain(socket)
                if self._cancelled.is_set():
                    return None
                final = self._is_final()
                # 1000 from a job that still runs, or in the middle of what we have already, is just another drop.
                if code == NORMAL and final and not self._replay.is_under_way:
                    return self._conclude()
                self._may_have_missed()
                drops_at_the_end += final
                if final and not socket.resumes and self._take_listed(last=True):
                    return self._raise_if_order_guessed()
                if drops_at_the_end > MAX_DROPS_AT_THE_END:
                    raise StreamClosedError(
                        f"Job {self._job_id} is final, but the stream of its interim results broke off. "
                        "The last ones may be missing; the result is not affected.",
                        job_id=self._job_id,
                    )
            self._cancelled.wait(min(8.0, 0.25 * 2**refusals))
        return None

    def _tell_of_the_line(self, error: QiskitRuntimeError) -> None:
        """Say once that the server is out of reach: whoever waits for a result does not hear of it otherwise."""
        if not self._told_of_the_line:
            _log.warning(
                "job %s: the stream of interim results cannot be opened now, will try again: %s", self._job_id, error
            )
        self._told_of_the_line = True

    def _is_final(self) -> bool:
        document = self._look()
        return document is not None and document.is_final

    def _is_queued(self) -> bool:
        document = self._look()
        return document is not None and document.status is JobStatus.QUEUED

    def _look(self) -> JobDocument | None:
        """Return how the job is; None if that is not known now: the stream goes on trying."""
        try:
            document = self._source.job(self._job_id, patient=False)
        except QiskitRuntimeError as error:
            self._raise_if_for_good(error, "job")
            return None
        self._times_gone["job"] = 0
        return document

    def _raise_if_for_good(self, error: QiskitRuntimeError, asked_for: str) -> None:
        """Let an event of the line pass, and the first 404: a known job is gone when that is said twice in a row."""
        if isinstance(error, RuntimeJobNotFound):
            self._times_gone[asked_for] += 1
            if self._times_gone[asked_for] < CONFIRM_GONE:
                return
        if not error.retryable:
            raise error

    def _conclude(self) -> None:
        """The job is final: take in what only the list has, and say whether something may be missing.

        Raises:
            StreamClosedError: Something may.
        """
        if self._socket is not None and self._socket.resumes and self._doubt is None:
            return None
        if self._take_listed(last=True) or self._doubt is None:
            return self._raise_if_order_guessed()
        # A replay seems to have shown that none was missed, or none so far could have shown it: only now is it certain.
        if (self._replay.is_whole or (self._doubt == 0 and self._seen)) and self._sends_again():
            return None
        raise StreamClosedError(
            f"Job {self._job_id}: the connection broke after interim result {self._doubt}, and the server does not "
            "repeat what it sent meanwhile. Some may be missing; the result is not affected.",
            job_id=self._job_id,
        )

    def _raise_if_order_guessed(self) -> None:
        if self._list.order_guessed:
            raise StreamClosedError(
                f"Job {self._job_id}: interim results came from a list, and nothing told whether its newest is first. "
                "All are there, but they may be the wrong way round; the result is not affected.",
                job_id=self._job_id,
            )

    def _sends_again(self) -> bool:
        """Tell whether a new connection brings all results from the first, just as they came."""
        again: list[int] = []
        with contextlib.suppress(QiskitRuntimeError):
            self._socket = socket = self._source.open_stream(self._job_id, after=0)
            try:
                while not self.cancelled and again == self._seen[: len(again)]:
                    text = socket.receive()
                    if again or not _is_acknowledgement(text, self._job_id):
                        again.append(hash(text))
            finally:
                socket.close()
        return again == self._seen

    def _drain(self, socket: Socket) -> int:
        """Take in what a connection gives and return the code it was closed with."""
        self._socket = socket
        self._replay = Replay([] if socket.resumes else self._seen)
        first = True
        try:
            live = self._begin(socket)
            while not self.cancelled:
                text = socket.receive()
                acknowledgement, first = first and _is_acknowledgement(text, self._job_id), False
                if acknowledgement:
                    continue
                if not live:
                    self._take_announced(text)
                    if self._list.there:
                        continue
                    live = True  # the list is of no use after all
                for new in self._replay.take(text):
                    self._give(new)
        except StreamClosedError as error:
            return error.close_code
        finally:
            socket.close()
        return NORMAL

    def _begin(self, socket: Socket) -> bool:
        """Find out what was missed before this connection stood; True if frames are to be taken as they come."""
        if socket.resumes:
            self._nothing_missed()
            return True
        if self._take_listed(patient=True):
            return not self._seen
        if self._doubt is None and not self._list.answered:
            return True  # the first connection
        self._list.raise_if_out_of_reach()
        if self._doubt == 0 and self._is_queued():
            self._nothing_missed()  # there was nothing yet
        return not self._list.there

    def _take_announced(self, text: str) -> None:
        """Take in what the list has, now that a frame says it has grown.

        In the list, results that look the same are told apart by their place, whatever the server repeats.
        """
        if self._list.was_announced(text):
            return
        if self._take_listed(patient=True):
            self._list.was_announced(text)
            return
        self._may_have_missed()
        self._list.raise_if_out_of_reach()

    def _take_listed(self, *, patient: bool = False, last: bool = False) -> bool:
        """Take in what the list has and we have not; False if it could not be had, or contradicts what came."""
        texts = self._list.look(self._seen, tries=TRIES if patient or last else 1, last=last)
        if texts is None:
            return False
        self._nothing_missed()
        new = texts[len(self._seen) :]
        for text in new:
            self._give(text)
        self._list.give_out(new)
        return True

    def _may_have_missed(self) -> None:
        if self._doubt is None:
            self._doubt = len(self._seen)

    def _nothing_missed(self) -> None:
        self._doubt = None

    def _give(self, text: str) -> None:
        self._seen.append(hash(text))
        self._texts.put(text)


def _may_say_not_running(error: QiskitRuntimeError) -> bool:
    """Tell the classic service's 302 from refusals that say nothing of what a stream would still give.

    websocket-client does not always tell its status: only those that are known to be something else are left out.
    """
    if isinstance(error, StreamClosedError):
        return error.close_code not in (429, 500, 502, 503, 504)
    return isinstance(error, ConnectFailedError)


def _is_acknowledgement(text: str, job_id: str) -> bool:
    """Tell the classic service's first frame ("Listening to results for job: ID") from a result, which is JSON."""
    if job_id in text and "listening" in text.lower():
        return True
    try:
        read_json(text)
    except (ValueError, RecursionError):
        return True
    return False
