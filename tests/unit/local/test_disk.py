"""How an error of the system is told to people."""

from __future__ import annotations

import errno
import sqlite3

import pytest

from prefect_runtime.local.disk import in_words


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (OSError(errno.ENOSPC, "No space left on device", "/secret/path"), "No space left on device"),
        (OSError("no uid is free for programs"), "no uid is free for programs"),
        (OSError(), "OSError"),
        (sqlite3.OperationalError("disk I/O error"), "disk I/O error"),
        (sqlite3.OperationalError(), "OperationalError"),
    ],
)
def test_an_error_of_the_system_is_told_by_what_it_says_without_a_path(error: OSError, words: str) -> None:
    assert in_words(error) == words
