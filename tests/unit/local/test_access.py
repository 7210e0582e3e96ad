"""From where a runtime can be reached, and under which names."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest

from prefect_runtime.local import access
from prefect_runtime.wire.errors import ConfigurationError


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "::1"])
def test_loopback_needs_no_certificate(host: str) -> None:
    assert access.check(host, None, None) == (None, None)
    assert access.known_hosts(host, 5, ["other"]) == {"127.0.0.1:5", "localhost:5", "[::1]:5"}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "runtime.example", "127.0.0.1.evil.example", ""])
def test_every_other_address_does(host: str) -> None:
    with pytest.raises(ConfigurationError, match=r"^host: .*--tls-certificate and --tls-key"):
        access.check(host, None, None)


def test_half_a_certificate_is_refused(tmp_path: Path) -> None:
    for files in ((tmp_path, None), (None, tmp_path)):
        with pytest.raises(ConfigurationError, match="both or neither"):
            access.check("127.0.0.1", *files)


def test_a_certificate_that_is_not_there_or_none_is_refused_with_its_name(tmp_path: Path) -> None:
    (tmp_path / "no-certificate").write_text("hello")
    for name in ("missing", "no-certificate"):
        with pytest.raises(ConfigurationError, match=rf"{name}.*cannot be used"):
            access.check("0.0.0.0", tmp_path / name, tmp_path / name)


def test_names_are_exact_and_carry_the_port() -> None:
    known = access.known_hosts("0.0.0.0", 8443, ["runtime.example"])
    assert {"runtime.example:8443", f"{socket.gethostname()}:8443"} <= known
    assert "runtime.example" not in known
    assert "0.0.0.0:8443" not in known
    assert "runtime.example" in access.known_hosts("0.0.0.0", 443, ["runtime.example"])


@pytest.mark.parametrize(
    ("host", "tls", "url"),
    [
        ("127.0.0.1", False, "http://127.0.0.1:5"),
        ("::1", False, "http://[::1]:5"),
        ("0.0.0.0", True, "https://127.0.0.1:5"),
        ("::", True, "https://[::1]:5"),
        ("192.0.2.1", True, "https://192.0.2.1:5"),
    ],
)
def test_clients_on_this_machine_are_told_an_address_they_can_reach(host: str, tls: bool, url: str) -> None:
    assert access.own_url(host, 5, tls=tls) == url
