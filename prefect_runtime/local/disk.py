"""When the disk does not take what it is given, or gives nothing back: in words, and as the server's answer.

A full disk is told apart (507): then it is certain that nothing was kept, and room helps. After any other failure of a
write (503) what was refused may turn up after a restart: whole, and under the key of its request.
"""

from __future__ import annotations

import errno
import sqlite3

from prefect_runtime.local.refusals import Refusal

_FULL = (errno.ENOSPC, errno.EDQUOT)
_SOLUTION = "Make room on the disk of the runtime's folder, or delete jobs that are not needed any more."


def in_words(error: OSError | sqlite3.Error) -> str:
    """Return what went wrong, without paths."""
    words = error.strerror if isinstance(error, OSError) else str(error)
    if not words and len(error.args) == 1:  # Python's own and ours, with a text in the place of a number
        words = str(error)
    return words or type(error).__name__


def refusal(error: OSError | sqlite3.Error) -> Refusal:
    """Return the answer to a request that failed so."""
    if _is_full(error):
        return Refusal(507, 507, "The runtime's disk is full: nothing was kept of this request.", solution=_SOLUTION)
    solution = "See the runtime's log, and whether its folder can be written."
    return Refusal(503, 503, f"The runtime's disk failed: {in_words(error)}.", solution=solution)


def _is_full(error: OSError | sqlite3.Error) -> bool:
    if isinstance(error, OSError):
        return error.errno in _FULL
    return getattr(error, "sqlite_errorcode", None) == sqlite3.SQLITE_FULL
