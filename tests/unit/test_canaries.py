"""Whoever looks for canaries finds all twelve: in every form, in every place, and fails the test that let one out."""

from __future__ import annotations

import gzip
import json
import os
import pickle
import re
import sqlite3
import subprocess
import sys
import zlib
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

import pytest
from canaries import sinks
from canaries.allowed import leaks
from canaries.hooks import WITH_PROCESSES
from canaries.scanner import Hit, scan
from canaries.values import ALL, ISSUED
from prefect.filesystems import LocalFileSystem
from prefect.results import ResultStore
from prefect.serializers import PickleSerializer

from prefect_runtime.local.tokens import issue

FORMS: dict[str, Callable[[str], bytes]] = {
    "plain": str.encode,
    "JSON": lambda text: json.dumps(text).replace("/", "\\/").encode(),
    "UTF-16": lambda text: f"before {text}".encode("utf-16"),
    "UTF-16, the other byte order": lambda text: f"before {text} ".encode("utf-16-be"),
    "URL": lambda text: quote(text, safe="").encode(),
    "URL, in small letters": lambda text: re.sub("%..", lambda code: code[0].lower(), quote(text, safe="")).encode(),
    "URL, a path": lambda text: quote(text).encode(),
    "URL, as it is": lambda text: quote(text, safe="/:?=&").encode(),
    "hex": lambda text: text.encode().hex().encode(),
    "base64 +0": lambda text: b64encode(f"{text}, and more".encode()),
    "base64 +1": lambda text: b64encode(f"a{text}, and more".encode()),
    "base64 +2": lambda text: b64encode(f"ab{text}, and more".encode()),
    "base64 of URL +0": lambda text: b64encode(f"me:{quote(text, safe='')}".encode()),
    "gzip": lambda text: gzip.compress(f"before {text} after".encode() * 20),
}
"""Each made by the standard library, not by the code that looks for it; its name is what is before the comma."""

LINE = 76
"""Characters of a line of base64, as Prefect's pickles have them."""


def names(hits: list[Hit], form: str) -> set[str]:
    return {hit.canary for hit in hits if hit.form == form.partition(",")[0]}


@pytest.mark.parametrize("form", FORMS)
def test_all_twelve_are_found_in_every_form(form: str) -> None:
    for name, value in ALL.items():
        assert name in names(scan(b"\x00before " + FORMS[form](value) + b" after\xff", "here"), form)
    assert len(ALL) == len(set(ALL.values())) == 12


@pytest.mark.parametrize("form", FORMS)
def test_all_twelve_are_found_in_files_rows_and_names_of_columns_and_files(tmp_path: Path, form: str) -> None:
    with sqlite3.connect(tmp_path / "p.db") as database:
        database.execute("CREATE TABLE log (id INTEGER, message)")
        for number, value in enumerate(ALL.values()):
            (tmp_path / f"{number}.pickle").write_bytes(pickle.dumps(ValueError(FORMS[form](value))))
            # Longer than a page, so that the file has it in pieces.
            database.execute("INSERT INTO log VALUES (?, ?)", (number, b"." * 4080 + FORMS[form](value) + b"." * 9000))
    database.close()
    hits = list(sinks.folder(tmp_path, "Prefect"))
    for number, name in enumerate(ALL):
        where = {hit.where for hit in hits if name in names([hit], form)}
        assert {f"Prefect: {number}.pickle", "Prefect: p.db, log.message"} <= where
    assert leaks(hits) == hits
    with pytest.raises(AssertionError, match="stream token"):
        sinks.assert_clean(hits)


def test_what_is_in_a_write_ahead_log_only_is_found(tmp_path: Path) -> None:
    database = sqlite3.connect(tmp_path / "p.db")
    database.execute("PRAGMA journal_mode = WAL")
    database.execute("CREATE TABLE log (message)")
    database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with database:
        database.execute("INSERT INTO log VALUES (?)", (ALL["CRN"],))
    where = {hit.where for hit in sinks.folder(tmp_path, "Prefect")}
    database.close()
    assert where == {"Prefect: p.db-wal", "Prefect: p.db, log.message"}


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="there is no /proc here")
def test_all_twelve_are_found_in_arguments_and_environments_of_processes(tmp_path: Path) -> None:
    secrets = {f"SECRET_{number}": value for number, value in enumerate(ALL.values())}
    command = [sys.executable, "-c", "print(flush=True); input()", *ALL.values()]
    given = {**os.environ, **secrets, "PREFECT_RUNTIME_TOKEN": ALL["API key"]}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=given) as process:
        assert process.stdout is not None
        process.stdout.readline()
        hits = list(sinks.processes(tmp_path))
        process.communicate(b"\n")
    assert {hit.canary for hit in hits if hit.where == "process: arguments"} == set(ALL)
    assert {hit.canary for hit in hits if hit.where.startswith("process: environment SECRET_")} == set(ALL)
    own = [hit for hit in hits if hit.where == "process: environment PREFECT_RUNTIME_TOKEN"]
    assert {hit.canary for hit in own} == {"API key"}
    assert not leaks(own)  # a person has put it there


def test_what_is_compressed_in_base64_or_twice_is_found() -> None:
    (name, value), *_ = ALL.items()
    packed = zlib.compress(value.encode() * 3)
    assert name in {hit.canary for hit in scan(b'{"__value__": "' + b64encode(packed) + b'"}', "here")}
    assert name in {hit.canary for hit in scan(gzip.compress(packed), "here")}
    assert name in {hit.canary for hit in scan(packed[:-6], "here")}  # cut
    for before in range(4):
        text = b64encode(b"." * before + gzip.compress(value.encode() * 3))
        assert name in {hit.canary for hit in scan(text, "here")}
        assert name in {hit.canary for hit in scan(b"." + b"a" * before + text, "here")}  # a word right before it


def test_all_twelve_are_found_in_a_result_that_prefect_has_stored_wherever_its_lines_break(tmp_path: Path) -> None:
    store = ResultStore(result_storage=LocalFileSystem(basepath=str(tmp_path)))
    for before in range(LINE):
        error = ValueError("." * before)
        error.request = list(ALL.values())  # type: ignore[attr-defined]
        store.write(error, key=f"{before}")
        record = (tmp_path / f"{before}").read_bytes()
        pickled = PickleSerializer().dumps(["." * before, *ALL.values()])
        for stored in (record, json.dumps(record.decode()), pickled, json.dumps(pickled.decode())):
            assert {hit.canary for hit in scan(stored, "here")} == set(ALL), before


def test_a_part_of_a_canary_and_a_token_that_a_runtime_has_issued_are_found() -> None:
    assert names(scan(ALL["API key"][:-2], "here"), "plain") == {"a part of one"}
    token, _ = issue("key", "subject")
    assert token.startswith(ISSUED)
    assert names(scan(f"Bearer {token}", "here"), "plain") == {"IAM token"}
    assert not scan(os.urandom(1_000_000) + b"nothing to see", "here")


LETS_OUT = """
import logging, subprocess, sys
import pytest
from canaries.values import ALL

VALUES = list(ALL.values())

def test_prints():
    print(VALUES)
    print(VALUES, file=sys.stderr)

def test_logs():
    logging.getLogger("not.heard").propagate = False
    for value in VALUES:
        logging.getLogger("not.heard").warning("with %s", value)

PRINTS = [sys.executable, "-c", "import sys; print(sys.argv[1:]); print(sys.argv[1:], file=sys.stderr)", *VALUES]

def test_reads_what_a_process_prints():
    subprocess.run(PRINTS, capture_output=True)

@pytest.mark.parametrize("n", range(12))
def test_raises(n):
    error = ValueError("clean")
    error.request = VALUES[n]
    raise error

def test_shows():
    raise ValueError(VALUES)

def test_is_clean():
    print("nothing to see")
"""


def test_a_test_that_lets_one_out_fails_and_says_which(tmp_path: Path) -> None:
    (tmp_path / "test_lets_out.py").write_text(LETS_OUT)
    command = [sys.executable, "-m", "pytest", "-p", "canaries.hooks", "-p", "no:cacheprovider", "-q", "-c", os.devnull]
    run = subprocess.run(
        # Not shown to this test, which would fail of it.
        [
            *command,
            "--show-capture=no",
            f"--rootdir={tmp_path}",
            f"--basetemp={tmp_path / 'base'}",
            "-rfE",
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
    )
    # What is printed and logged is looked at when a test is over: an error of its teardown.
    assert "13 failed, 4 passed, 3 errors" in run.stdout, run.stdout[-3000:]
    places = ("Captured stdout call", "Captured stderr call", "the log: not.heard", "a pickled exception")
    of_processes = ("a process's standard output", "a process's standard error")
    for place in (*places, *of_processes, "the failure's text"):
        for name in ALL:
            assert f"{name}, as plain, in {place}" in run.stdout


def test_the_folders_whose_processes_are_looked_at_are_there() -> None:
    assert all((Path(__file__).parents[2] / folder).is_dir() for folder in WITH_PROCESSES)
