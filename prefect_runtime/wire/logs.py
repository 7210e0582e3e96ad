"""Loggers that show no secret: each module of the package has its own from here.

The messages are made of what is clean already. This is the second wall, for the one that somebody forgets, and for the
traceback of an error that is not ours.
"""

from __future__ import annotations

import logging
import os
import threading

from prefect_runtime.wire.redaction import clean

MOST_HIDDEN = 64
"""Secrets that are looked for: access tokens change every hour, and the oldest open nothing any more."""

SHORTEST_HIDDEN = 8
"""A shorter one may be a part of any word."""

MOST_CHARACTERS = 20_000
"""Of a message, or of a traceback."""


class _Redaction(logging.Filter):
    """Lets every record through, cleaned."""

    def __init__(self) -> None:
        super().__init__()
        self.renew_lock()
        self._hidden: tuple[str, ...] = ()
        self._formatter = logging.Formatter()

    def renew_lock(self) -> None:
        """Have a lock that nobody holds: in a forked process, of a thread that is not in it."""
        self._lock = threading.Lock()

    def hide(self, *secrets: str) -> None:
        """Look for these too, from now on, or for longer than for what was hidden since they were."""
        with self._lock:
            new = [secret for secret in dict.fromkeys(secrets) if len(secret) >= SHORTEST_HIDDEN]
            self._hidden = (*(secret for secret in self._hidden if secret not in new), *new)[-MOST_HIDDEN:]

    def filter(self, record: logging.LogRecord) -> bool:
        message = record.getMessage()
        shown = self._clean(message)
        if shown != message:
            record.msg, record.args = shown, None
        if record.exc_info:
            trace = self._formatter.formatException(record.exc_info)
            shown = self._clean(trace)
            if shown != trace:
                record.exc_info, record.exc_text = None, shown
        return True

    def _clean(self, text: str) -> str:
        return clean(text, self._hidden, limit=MOST_CHARACTERS)


_redaction = _Redaction()
os.register_at_fork(after_in_child=_redaction.renew_lock)


def hide(*secrets: str) -> None:
    """Have no logger of the package show these from now on, as far as they are long enough to be told from words."""
    _redaction.hide(*secrets)


def get_logger(name: str) -> logging.Logger:
    """Return the logger of that name, which cleans what it is given."""
    logger = logging.getLogger(name)
    logger.addFilter(_redaction)  # does nothing the second time
    return logger
