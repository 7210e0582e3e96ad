"""Which folder ``--data-dir`` names."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from prefect_runtime.cli import main
from prefect_runtime.cli.account import folder_of


def test_a_folder_at_home_is_the_same_for_all_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    with pytest.raises(SystemExit):
        main(["status", "--json", "--data-dir=~/runtime"])
    assert (
        json.loads(capsys.readouterr().out)["data_dir"]
        == str(tmp_path / "runtime")
        == str(folder_of(Path("~/runtime")))
    )
