"""What a program publishes its interim results with, and how the server hears of them. Used by worker.py only."""

from __future__ import annotations

import contextlib
import json
import threading
import time
from collections.abc import Callable
from typing import IO, Any

from prefect_runtime.local.files import InterimWriter
from prefect_runtime.wire.codec import RuntimeEncoder

MAX_INTERIM_BYTES, MAX_INTERIM_RESULTS = 16 * 1024 * 1024, 100_000
"""How long an interim result may be, and how many a job may publish."""

NEWS_SECONDS = 0.01
"""Between two reports of new interim results: each makes the server look into the file, however many are in it."""


class TooMuchError(Exception):
    """A program wants to say more than there is room for; the message says what, and how much there is."""


class UserMessenger:
    """What a program publishes its interim results with; the second argument of its ``main``."""

    def __init__(self, file: IO[bytes], published: Callable[[], None]) -> None:
        self._published = published
        self._interim = InterimWriter(file)
        self._left = MAX_INTERIM_RESULTS
        self.final: str | None = None

    def publish(self, message: Any, encoder: type[json.JSONEncoder] = RuntimeEncoder, final: bool = False) -> None:
        """Stream a value to whoever listens, or with ``final=True`` give the final result.

        Args:
            message: Anything the encoder can encode.
            encoder: Class that encodes it.
            final: This is the result, not an interim one (the older style; returning it from ``main`` does the same).

        Raises:
            TooMuchError: It is too long, or one too many.
        """
        text = json.dumps(message, cls=encoder)
        if final:
            self.final = text
            return
        line = text.replace("\n", " ").encode()  # an encoder may indent; within JSON's texts there is none
        if len(line) >= MAX_INTERIM_BYTES:
            raise TooMuchError(f"An interim result may have at most {MAX_INTERIM_BYTES} bytes as JSON.")
        if not self._left:
            raise TooMuchError(f"A job may publish at most {MAX_INTERIM_RESULTS} interim results.")
        self._left -= 1
        self._interim.write(line)
        self._published()


class News:
    """Tells the server of new interim results: soon after one came, but not of each when many come."""

    def __init__(self, send: Callable[[], None]) -> None:
        self._send = send
        self._news = threading.Event()
        threading.Thread(target=self._tell, daemon=True).start()

    def __call__(self) -> None:
        """Say that one came."""
        self._news.set()

    def _tell(self) -> None:
        with contextlib.suppress(OSError):  # a program may have closed the pipe
            while self._news.wait():
                self._news.clear()
                self._send()
                time.sleep(NEWS_SECONDS)
