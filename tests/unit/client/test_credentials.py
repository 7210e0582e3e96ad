"""Credentials: what is refused before anything is sent, and what is never shown."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from pathlib import Path
from typing import Any

import pytest
from pydantic import SecretStr

from prefect_runtime.client import Credentials
from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.logs import get_logger

CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/acct:guid::"
CLASSIC: dict[str, Any] = {"channel": "classic", "token": "t", "url": "https://runtime.example"}
PLATFORM: dict[str, Any] = {"channel": "ibm_quantum_platform", "token": "t", "instance": CRN}


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"url": "http://127.0.0.1:8000", "token": "t"},
        CLASSIC,
        {**CLASSIC, "instance": "hub/group/project"},
        {"channel": "classic", "token": "t", "auth_url": "https://auth.example/api"},
        PLATFORM,
        {**PLATFORM, "url": "https://eu-de.quantum.cloud.ibm.com/api/v1", "verify": "/etc/ca.pem"},
        {**CLASSIC, "token": "!~\\\"'{}"},
    ],
)
def test_what_can_work_is_taken(fields: dict[str, Any]) -> None:
    credentials = Credentials(**fields)
    assert {name: getattr(credentials, name) for name in fields} == fields


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"channel": "ibm_quantum"}, "channel"),
        ({"channel": None}, "channel"),
        ({**CLASSIC, "token": None}, "token"),
        ({**CLASSIC, "token": ""}, "token"),
        ({**PLATFORM, "token": None}, "token"),
        ({**CLASSIC, "token": "two words"}, "token"),
        ({**CLASSIC, "token": "line\n"}, "token"),
        ({**CLASSIC, "token": "line\r\nX-Other: 1"}, "token"),
        ({**CLASSIC, "token": "schlüssel"}, "token"),
        ({**PLATFORM, "instance": CRN + "\n"}, "instance"),
        ({**PLATFORM, "instance": None}, "instance"),
        ({**PLATFORM, "instance": " my instance"}, "instance"),
        ({**PLATFORM, "instance": "my\ninstance"}, "instance"),
        ({**PLATFORM, "instance": CRN + " x"}, "instance"),
        ({**PLATFORM, "api_version": "newest"}, "api_version"),
        ({**CLASSIC, "url": None}, "url"),
        ({**CLASSIC, "url": "runtime.example"}, "url"),
        ({**CLASSIC, "url": "ftp://runtime.example"}, "url"),
        ({**CLASSIC, "url": "file:///etc/passwd"}, "url"),
        ({**CLASSIC, "url": "https://"}, "url"),
        ({**CLASSIC, "url": ""}, "url"),
        ({**CLASSIC, "url": "http://[::1"}, "url"),
        ({**CLASSIC, "url": "https://runtime.example:port"}, "url"),
        ({**CLASSIC, "url": "https://me:geheim@runtime.example"}, "url"),
        ({**CLASSIC, "url": "https://runtime.example?key=geheim"}, "url"),
        ({**CLASSIC, "url": "https://runtime.example#geheim"}, "url"),
        ({**CLASSIC, "auth_url": "http://auth.example"}, "auth_url"),
        ({**CLASSIC, "verify": ""}, "verify"),
        ({**CLASSIC, "verify": " "}, "verify"),
        ({**CLASSIC, "verify": None}, "verify"),
        ({**CLASSIC, "verify": 0}, "verify"),
        ({"verify": ""}, "verify"),
        ({**CLASSIC, "token": SecretStr("geheim-geheim")}, "token"),
        ({**CLASSIC, "token": b"geheim-geheim"}, "token"),
        ({**CLASSIC, "token": "geheim-\udcff-geheim"}, "token"),
        ({**CLASSIC, "url": 5}, "url"),
        ({**CLASSIC, "instance": 5}, "instance"),
        ({**PLATFORM, "api_version": 20260415}, "api_version"),
        ({**CLASSIC, "proxies": "http://me:geheim@proxy.example"}, "proxies"),
        ({**CLASSIC, "proxies": {"https": None}}, "proxies"),
    ],
)
def test_what_cannot_work_is_refused_with_the_fields_name_and_nothing_secret(
    fields: dict[str, Any], named: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        Credentials(**fields)
    assert str(caught.value).startswith(f"{named}: ")
    for secret in ("geheim", "schlüssel", "two words", CRN):
        assert secret not in str(caught.value)
    get_logger("prefect_runtime.client.of_a_test").warning("what is logged later is logged")


def test_the_path_of_a_ca_bundle_may_be_a_path() -> None:
    assert Credentials(**{**CLASSIC, "verify": Path("/etc/ca.pem")}).verify == "/etc/ca.pem"


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "LOCALHOST", "[::1]", "127.0.0.1:8000", "localhost:1"])
def test_plain_http_is_for_this_machine(host: str) -> None:
    Credentials(**{**CLASSIC, "url": f"http://{host}/base"})


@pytest.mark.parametrize(
    "host", ["runtime.example", "localhost.evil.example", "127.0.0.1.evil.example", "10.0.0.1", "0.0.0.0", "[::2]"]
)
def test_plain_http_to_another_machine_is_refused(host: str) -> None:
    with pytest.raises(ConfigurationError, match="this machine only"):
        Credentials(**{**CLASSIC, "url": f"http://{host}/base"})
    Credentials(**{**CLASSIC, "url": f"https://{host}/base"})


def test_a_repr_shows_neither_token_nor_instance_nor_proxy_password() -> None:
    proxies = {"https": "http://me:geheim@proxy.example"}
    credentials = Credentials(**{**PLATFORM, "token": "geheim", "proxies": proxies})
    for shown in (repr(credentials), str(credentials), f"{credentials}", repr([credentials])):
        assert "geheim" not in shown
        assert CRN not in shown
    assert "ibm_quantum_platform" in repr(credentials)


def test_credentials_survive_pickle_and_copy_whole() -> None:
    credentials = Credentials(**PLATFORM, verify=False, proxies={"https": "http://proxy.example"})
    for again in (pickle.loads(pickle.dumps(credentials)), copy.deepcopy(credentials)):
        assert again == credentials
        assert again.account == credentials.account


def test_credentials_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Credentials().token = "x"  # type: ignore[misc]


@pytest.mark.parametrize(
    "change",
    [
        {"token": "u"},
        {"instance": CRN + "x"},
        {"private_endpoint": True},
        {"api_version": "2027-01-31"},
        {"url": "https://a.example"},
        {"auth_url": "https://a.example"},
        {"verify": False},
        {"proxies": {"https": "http://proxy.example"}},
    ],
)
def test_two_accounts_are_the_same_only_if_everything_is(change: dict[str, Any]) -> None:
    one = Credentials(**PLATFORM)
    assert one.account == Credentials(**PLATFORM).account
    assert hash(one.account) == hash(Credentials(**PLATFORM).account)
    assert Credentials(**(PLATFORM | change)).account != one.account


def test_the_order_of_proxies_makes_no_other_account() -> None:
    proxies = {"http": "http://a.example", "https": "http://b.example"}
    turned = dict(reversed(proxies.items()))
    assert Credentials(proxies=proxies).account == Credentials(proxies=turned).account


def test_the_secrets_are_what_must_not_be_shown() -> None:
    assert Credentials(**PLATFORM).secrets == ("t", CRN)
    assert Credentials().secrets == ()
