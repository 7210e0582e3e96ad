"""A callback for a job's interim results: one at a time, in a thread of its own. Used by job.py."""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any

from prefect_runtime.client.rest import RuntimeClient
from prefect_runtime.client.streaming import InterimStream
from prefect_runtime.wire.codec import ResultDecoder
from prefect_runtime.wire.errors import (
    InterimResultsUnavailableError,
    JobTimeoutError,
    QiskitRuntimeError,
    RuntimeInvalidStateError,
)
from prefect_runtime.wire.logs import get_logger

_log = get_logger(__name__)

Callback = Callable[[str, Any], None]


class Callbacks:
    """The stream of one job to a callback, if there is one.

    Args:
        client: Talks to the server.
        job_id: The job.
    """

    def __init__(self, client: RuntimeClient, job_id: str) -> None:
        self._client = client
        self._job_id = job_id
        self._start_afresh()
        _all.add(self)

    def _start_afresh(self) -> None:
        """Have no stream: that of a parent process has its threads there, and nobody here would ever end it."""
        self._lock = threading.Lock()  # guards the one below
        self._stream: InterimStream | None = None

    def start(self, callback: Callback, decoder: type[ResultDecoder]) -> None:
        """Start streaming; returns at once.

        Raises:
            RuntimeInvalidStateError: A callback is streaming already.
            InterimResultsUnavailableError: This channel has no streams.
            QiskitRuntimeError: No thread could be started.
        """
        if not self._client.has_streams:
            raise InterimResultsUnavailableError(
                f"Job {self._job_id}: this channel has no stream of interim results.", job_id=self._job_id
            )
        with self._lock:
            if self._stream is not None and not self._stream.finished:
                raise RuntimeInvalidStateError(
                    f"Job {self._job_id}: a callback is streaming its results already.", job_id=self._job_id
                )
            try:
                self._stream = self._streaming(callback, decoder)
            except RuntimeError:  # the job may have been made a moment ago: its id must not be lost
                raise QiskitRuntimeError(
                    f"Job {self._job_id}: no thread could be started to stream its interim results: this process, or "
                    "its machine, has as many as it may have. The job goes on; stream its results with fewer threads.",
                    job_id=self._job_id,
                ) from None

    def _streaming(self, callback: Callback, decoder: type[ResultDecoder]) -> InterimStream:
        """Return a new stream whose results go to the callback."""
        stream = InterimStream(self._client, self._job_id)
        deliver = threading.Thread(
            target=_deliver,
            args=(stream, self._job_id, callback, decoder),
            name=f"callback-{self._job_id}",
            daemon=True,
        )
        try:
            deliver.start()
        except RuntimeError:
            stream.cancel()
            raise
        return stream

    def wait(self, timeout: float | None) -> None:
        """Wait until the callback has had every interim result; harmless when nothing streams or has streamed.

        Raises:
            JobTimeoutError: It still streams.
            QiskitRuntimeError: The stream could not be opened, or broke.
        """
        with self._lock:
            stream = self._stream
        if stream is None:
            return
        if not stream.wait_finished(timeout):
            raise JobTimeoutError(f"Job {self._job_id} still streams after {timeout:g} s.", job_id=self._job_id)
        if stream.error is not None:
            raise stream.error

    def cancel(self) -> None:
        """Stop: at most a callback that was about to start still does."""
        with self._lock:
            stream = self._stream
        if stream is not None:
            stream.cancel()


_all: weakref.WeakSet[Callbacks] = weakref.WeakSet()
"""Those of this process, for the moment after a fork."""


def _start_all_afresh() -> None:
    for callbacks in list(_all):
        callbacks._start_afresh()


os.register_at_fork(after_in_child=_start_all_afresh)


def _deliver(stream: InterimStream, job_id: str, callback: Callback, decoder: type[ResultDecoder]) -> None:
    """Call the callback with each interim result."""
    try:
        for text in stream:
            try:
                value = decoder.decode(text)
            except Exception as error:  # noqa: BLE001 - a user's decoder may raise anything
                _log.warning("job %s: an interim result could not be decoded (%s)", job_id, type(error).__name__)
                continue
            if stream.cancelled:
                return
            try:
                callback(job_id, value)
            except BaseException:  # noqa: BLE001 - sys.exit() in a callback ends neither the stream nor us
                _log.warning("job %s: the callback for interim results raised", job_id, exc_info=True)
    except QiskitRuntimeError as error:
        _log.warning("job %s: the stream of interim results ended early (%s)", job_id, error)
    finally:
        stream.finish()
