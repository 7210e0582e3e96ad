"""What a job leaves behind: whole or not at all."""

from __future__ import annotations

import hashlib
import resource
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from prefect_runtime.local.files import InterimReader, InterimWriter, JobFolder


@contextmanager
def room_for(size: int) -> Iterator[None]:
    """Let no file grow beyond a size in bytes: what is written over that is taken in part, then refused."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


@pytest.fixture
def folder(tmp_path: Path) -> JobFolder:
    folder = JobFolder(tmp_path / "job")
    folder.create()
    return folder


def test_an_interim_result_for_which_there_is_no_room_leaves_nothing(folder: JobFolder) -> None:
    file = folder.interim.open("ab", buffering=0)
    writer, reader = InterimWriter(file), InterimReader(folder)
    writer.write(b'"first"')
    with room_for(20), pytest.raises(OSError, match="large"):
        writer.write(b'"much too long for the rest"')
    assert reader.read_new() == ['"first"']
    writer.write(b'"second"')
    file.close()
    assert reader.read_new() == ['"second"']
    assert folder.read_interim() == ['"first"', '"second"']


def test_a_reader_leaves_alone_what_is_half_written(folder: JobFolder) -> None:
    reader = InterimReader(folder)
    folder.interim.write_text("1\n2")
    assert reader.read_new() == ["1"]
    folder.interim.write_text("1\n34\n")  # taken back, and another came
    assert reader.read_new() == ["34"]


@pytest.mark.parametrize("after", [0, 4, 5])
def test_a_reader_that_comes_late_is_given_many_large_results_a_part_at_a_time(folder: JobFolder, after: int) -> None:
    results = [f'"{number}{"x" * 10 * 1024**2}"' for number in range(5)]
    folder.interim.write_text("".join(f"{result}\n" for result in results))
    reader = InterimReader(folder, after)
    parts = list(iter(reader.read_new, []))
    assert [result for part in parts for result in part] == results[after:]
    assert all(sum(map(len, part)) <= 32 * 1024**2 for part in parts)


def test_a_result_for_which_there_is_no_room_leaves_nothing(folder: JobFolder) -> None:
    with folder.unfinished.open("wb", buffering=0) as file, room_for(10), pytest.raises(OSError, match="large"):
        folder.write_result('"much too long"', file)
    assert not folder.result.exists()
    folder.drop_result()
    assert list(folder.path.iterdir()) == []


def test_a_result_is_there_once_it_is_finished(folder: JobFolder) -> None:
    with folder.unfinished.open("wb", buffering=0) as file:
        digest = folder.write_result('"whole"', file)
    assert not folder.result.exists()
    folder.finish_result(digest)
    assert [path.read_text() for path in folder.path.iterdir()] == ['"whole"']
    assert folder.result.exists()
    assert folder.digest == hashlib.sha256(b'"whole"').hexdigest()


@pytest.mark.parametrize("said", ["", "../../elsewhere", "0" * 63, "A" * 64])
def test_a_digest_that_is_none_is_no_part_of_a_path(folder: JobFolder, said: str) -> None:
    folder.unfinished.write_text("1")
    folder.finish_result(said)
    assert [path.name for path in folder.path.iterdir()] == ["result.json"]
    assert folder.digest == ""


def test_a_result_that_a_program_took_away_is_not_finished(folder: JobFolder) -> None:
    with pytest.raises(FileNotFoundError):
        folder.finish_result("")
    assert list(folder.path.iterdir()) == []


def test_a_part_of_a_log_that_grows_ends_where_its_size_says(folder: JobFolder) -> None:
    over = threading.Event()

    def grow() -> None:
        with folder.log.open("ab", buffering=0) as log:
            while not over.is_set():
                log.write(b"x" * 100)

    folder.log.touch()
    growing = threading.Thread(target=grow)
    growing.start()
    try:
        for _ in range(2_000):
            start = max(0, folder.log.stat().st_size - 50)
            part, size = folder.read_log_from(start)
            assert start + len(part) == size
    finally:
        over.set()
        growing.join(10)
    assert folder.read_log_from(folder.log.stat().st_size + 5)[0] == b""
