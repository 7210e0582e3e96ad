"""Where programs run: whose they are, what they may put where, and what a runtime that was killed left behind."""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.local.cells import FIRST_UID, LAST_UID, Cells, Limits, _is_open, remove_tree


@pytest.fixture
def cells(tmp_path: Path) -> Iterator[Callable[..., Cells]]:
    made: list[Cells] = []

    def make(**options: Any) -> Cells:
        made.append(Cells(tmp_path, **options))
        return made[-1]

    yield make
    for one in made:
        one.remove()


def test_a_cell_is_a_folder_of_its_programs_own_and_gone_afterwards(cells: Callable[..., Cells]) -> None:
    one = cells()
    cell = one.open("job", 0)
    assert stat.S_IMODE(cell.folder.stat().st_mode) == 0o700
    assert cell.folder.stat().st_uid == (os.geteuid() if cell.uid is None else cell.uid)
    (cell.folder / "folder").mkdir()
    (cell.folder / "folder" / "file").touch()
    one.close(cell)
    assert not cell.folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give programs a user of their own")
def test_no_two_slots_share_a_user_nor_do_two_runtimes(tmp_path: Path, cells: Callable[..., Cells]) -> None:
    first, second = cells(), cells()
    uids = [one.open(f"{number}-{slot}", slot).uid for number, one in enumerate((first, second)) for slot in (0, 1)]
    assert len(set(uids)) == 4
    assert all(uid is not None and FIRST_UID <= uid <= LAST_UID for uid in uids)
    assert first.open("again", 0).uid == uids[0]


def test_programs_run_as_the_servers_user_where_that_was_asked_for(cells: Callable[..., Cells]) -> None:
    cell = cells(same_user=True).open("job", 0)
    assert (cell.uid, cell.reads_all) == (None, False)


def test_what_a_killed_runtime_left_is_removed_by_the_next(tmp_path: Path, cells: Callable[..., Cells]) -> None:
    left = cells().open("job", 0).folder
    (left / "file").touch()
    cells()
    assert not left.exists()


def test_only_what_looks_like_ours_is_removed(tmp_path: Path, cells: Callable[..., Cells]) -> None:
    precious = tmp_path / "precious"
    precious.mkdir()
    (tmp_path / "cells.at").write_text(str(precious))
    cells()
    assert precious.exists()


def test_a_folder_that_is_too_full_is_said_so(cells: Callable[..., Cells]) -> None:
    one = cells(limits=Limits(folder_bytes=100_000, folder_files=10))
    cell = one.open("bytes", 0)
    assert one.too_full(cell) is None
    (cell.folder / "deep").mkdir()
    (cell.folder / "deep" / "file").write_bytes(b"x" * 200_000)
    assert "more than 100000 bytes" in (one.too_full(cell) or "")
    cell = one.open("files", 0)
    for number in range(10):
        (cell.folder / str(number)).touch()
    assert one.too_full(cell) is None
    (cell.folder / "one more").touch()
    assert "more than 10 files" in (one.too_full(cell) or "")


def test_a_link_out_of_a_cell_is_not_followed(tmp_path: Path, cells: Callable[..., Cells]) -> None:
    one = cells(limits=Limits(folder_bytes=100_000))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "file").write_bytes(b"x" * 200_000)
    cell = one.open("job", 0)
    (cell.folder / "link").symlink_to(elsewhere)
    assert one.too_full(cell) is None
    one.close(cell)
    assert (elsewhere / "file").exists()


@pytest.mark.parametrize(
    ("folder", "file", "is_open"), [(0o755, 0o644, True), (0o700, 0o644, False), (0o755, 0o600, False)]
)
def test_what_is_open_to_others_is_told_from_what_is_not(folder: int, file: int, is_open: bool) -> None:
    import tempfile

    with tempfile.TemporaryDirectory(dir="/tmp") as place:
        path = Path(place)
        (path / "file").touch()
        (path / "file").chmod(file)
        path.chmod(folder)
        assert _is_open(path / "file") is is_open
        link = Path(place).with_name(path.name + "-link")
        link.symlink_to(path / "file")
        try:
            assert _is_open(link) is is_open
        finally:
            link.unlink()


def test_a_cell_is_there_although_somebody_has_cleared_the_place_of_all_cells(
    tmp_path: Path, cells: Callable[..., Cells]
) -> None:
    one = cells()
    place = one.open("first", 0).folder.parent
    mode = stat.S_IMODE(place.stat().st_mode)
    shutil.rmtree(place)
    assert one.open("second", 0).folder.is_dir()
    assert stat.S_IMODE(place.stat().st_mode) == mode


def test_a_folder_is_removed_that_its_owner_made_read_only() -> None:
    with tempfile.TemporaryDirectory() as place:  # where anybody may walk: tests' own folders are in one that is closed
        folder = Path(place) / "folder"
        folder.mkdir()
        (folder / "deep").mkdir()
        (folder / "deep" / "file").touch()
        (folder / "deep").chmod(0o500)
        with nobody_in_particular(Path(place), folder, folder / "deep"):
            remove_tree(folder)
        assert not folder.exists()


@contextlib.contextmanager
def nobody_in_particular(*owned: Path) -> Iterator[None]:
    """Be a user who may not write everywhere, as root may, and own some folders."""
    if os.geteuid() != 0:
        yield
        return
    for folder in owned:
        os.chown(folder, FIRST_UID, -1)
    os.seteuid(FIRST_UID)
    try:
        yield
    finally:
        os.seteuid(0)
