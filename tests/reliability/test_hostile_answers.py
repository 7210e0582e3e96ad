"""Generated answers of every kind: our own errors only, no hang, no memory, no code. In processes that are watched."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from .hostile_answers import KINDS, MAX_ANSWER_BYTES, MAX_DECODED_BYTES
from .hostile_bytes import UNLOADED

HANG_SECONDS = 2.0
ROOT = Path(__file__).parents[2]
CAP_MIB = (MAX_ANSWER_BYTES + MAX_DECODED_BYTES) / 2**20


def watched(*arguments: object, folder: Path) -> dict[str, Any]:
    """Run the process that is fed; gives its report."""
    path = os.pathsep.join((str(ROOT), str(ROOT / "tests")))
    done = subprocess.run(
        [sys.executable, "-m", "reliability.hostile_answers", *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": path},
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report: dict[str, Any] = json.loads(done.stdout)
    return report


def check(report: dict[str, Any]) -> None:
    assert report["failures"] == []
    assert report["found"] == {}, "code was run, or a file was written"
    assert report["growth_mib"] <= CAP_MIB + 64
    assert report["slowest"][0] < HANG_SECONDS, report["slowest"]
    assert {name.partition(",")[0] for name in report["numbers"]} == set(KINDS)


def test_the_watch_sees_what_it_is_there_for(tmp_path: Path) -> None:
    found = watched(1, 1, 1, "acts", folder=tmp_path)["found"]
    seen = " ".join(found)
    for what in ("import tabnanny", "exec <string>", "os.system", "subprocess.Popen", "pickle.find_class", "to write"):
        assert what in seen


@pytest.mark.pr
def test_the_watch_sees_a_decoder_that_imports_what_a_payload_names(tmp_path: Path) -> None:
    found = watched(1, 1, 1, "imports", folder=tmp_path)["found"]
    assert {f"import {name}" for name in UNLOADED} <= set(found)


@pytest.mark.pr
def test_the_bound_on_memory_is_broken_by_a_decoder_without_a_limit(tmp_path: Path) -> None:
    assert watched(1, 1, 1, "unpacks", folder=tmp_path)["growth_mib"] > CAP_MIB + 64


@pytest.mark.alone
def test_a_hundred_answers_that_nobody_should_send(tmp_path: Path) -> None:
    report = watched(100, 1, 100, folder=tmp_path)
    check(report)
    assert report["answers"] >= 100


@pytest.mark.pr
@pytest.mark.alone
@pytest.mark.timeout(180)
def test_half_a_minute_of_answers_that_nobody_should_send(tmp_path: Path) -> None:
    report = watched(20_000, 2, 30, folder=tmp_path)
    check(report)
    assert report["answers"] >= 200


@pytest.mark.long
@pytest.mark.alone
@pytest.mark.timeout(14_400)
@pytest.mark.parametrize("count", [20_000, 200_000])
def test_very_many_answers_that_nobody_should_send(count: int, tmp_path: Path) -> None:
    report = watched(count, 3, 14_000, folder=tmp_path)
    print(json.dumps(report, indent=2))
    check(report)
    assert report["answers"] >= count
