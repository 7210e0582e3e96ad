"""Each guard taken away in a copy of the package: the test that is named for it fails. By hand, before a release."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from .guards import GUARDS, Guard
from .record_guards import RECORDS
from .submission_guards import SUBMISSION

ROOT = Path(__file__).parents[2]
HANG_SECONDS = 120.0

ALL = [*GUARDS, *SUBMISSION, *RECORDS]


def package_in(folder: Path) -> Path:
    """Return a copy of the package in a folder."""
    package = folder / "prefect_runtime"
    shutil.copytree(ROOT / "prefect_runtime", package, ignore=shutil.ignore_patterns("__pycache__"))
    return package


def fails(folder: Path, test: str) -> bool:
    """Run one test with the package that is in a folder: where a process runs, it looks for modules first."""
    options = ["-q", "-x", "-o", "addopts=", "-p", "no:cacheprovider", f"--basetemp={folder / 'tmp'}"]
    where = ["-c", str(ROOT / "pyproject.toml"), f"--rootdir={ROOT}", f"{ROOT}/tests/{test}"]
    command = [sys.executable, "-m", "pytest", *options, *where]
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False, timeout=HANG_SECONDS)
    except subprocess.TimeoutExpired:
        return True  # what the guard is there for
    assert done.returncode in (0, 1), done.stdout[-2000:] + done.stderr[-2000:]
    return done.returncode == 1


@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.what)
def test_a_guard_stands_where_the_table_says(guard: Guard) -> None:
    assert (ROOT / "prefect_runtime" / guard.file).read_text(encoding="utf-8").count(guard.guard) == 1
    file, _, name = guard.test.partition("::")
    assert f"def {name.partition('[')[0]}(" in (ROOT / "tests" / file).read_text(encoding="utf-8")


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("test", sorted({guard.test for guard in ALL}))
def test_with_all_guards_in_place_their_tests_pass(test: str, tmp_path: Path) -> None:
    """One that always fails, or never starts there, would prove nothing."""
    package_in(tmp_path)
    assert not fails(tmp_path, test)


@pytest.mark.long
@pytest.mark.timeout(300)
@pytest.mark.parametrize("guard", ALL, ids=lambda guard: guard.what)
def test_without_a_guard_its_test_fails(guard: Guard, tmp_path: Path) -> None:
    file = package_in(tmp_path) / guard.file
    file.write_text(file.read_text(encoding="utf-8").replace(guard.guard, guard.without), encoding="utf-8")
    assert fails(tmp_path, guard.test), f"{guard.test} passes without: {guard.guard}"
