"""A process of tests that dies takes one test with it, and the run comes to its end."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

CONFTEST = "from side_by_side import *\n"
DONE_FIRST = "".join(f"def test_{number}(): pass\n" for number in range(6))
DIES = """
import os
def test_one(): pass
def test_two(): os._exit(1)
def test_three(): pass
def test_four(): pass
"""


def test_a_dead_process_costs_one_test_and_all_others_run_once(tmp_path: Path) -> None:
    (tmp_path / "conftest.py").write_text(CONFTEST)
    (tmp_path / "side_by_side.py").write_text(Path(__file__).parents[1].joinpath("side_by_side.py").read_text())
    (tmp_path / "test_a.py").write_text(DONE_FIRST)
    (tmp_path / "test_b.py").write_text(DIES)
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-n", "1", "-q", "-c", os.devnull, f"--rootdir={tmp_path}", str(tmp_path)],
        capture_output=True,
        check=False,
        text=True,
        timeout=60,
    )
    assert "1 failed, 9 passed" in run.stdout, run.stdout
