"""What a runtime sees of the environment it is started from."""

from __future__ import annotations

import socket

import pytest

from prefect_runtime.wire.environment import MAX_TMPDIR_BYTES, clean_environment

SOCKET_NAME = "/pymp-xxxxxxxx/listener-xxxxxxxx"


def test_a_folder_for_temporary_files_that_is_too_long_for_a_sockets_path_is_left_out() -> None:
    long = "/" + "é" * ((MAX_TMPDIR_BYTES - 1) // 2)
    assert clean_environment({"TMPDIR": long, "HOME": "/root"}) == {"TMPDIR": long, "HOME": "/root"}
    assert clean_environment({"TMPDIR": long + "e", "HOME": "/root"}) == {"HOME": "/root"}
    assert clean_environment({"HOME": "/root"}) == {"HOME": "/root"}


def test_in_the_longest_folder_for_temporary_files_there_is_room_for_a_socket() -> None:
    folder = "/tmp/" + "x" * (MAX_TMPDIR_BYTES - len("/tmp/"))
    with socket.socket(socket.AF_UNIX) as one, pytest.raises(FileNotFoundError):  # not: AF_UNIX path too long
        one.bind(f"{folder}{SOCKET_NAME}")
