"""Accounts that IBM's own client has saved."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from prefect_runtime.blocks import RuntimeCredentials
from prefect_runtime.client.saved_accounts import read_saved_account
from prefect_runtime.wire.errors import ConfigurationError

KEY = "geheimer-schluessel"
CRN = "crn:v1:bluemix:public:quantum-computing:us-east:a/acct:guid::"
PLAIN = {"channel": "ibm_quantum_platform", "url": "https://cloud.ibm.com", "token": KEY, "instance": CRN}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "qiskit-ibm.json"


def saved(file: Path, **accounts: Any) -> Path:
    file.write_text(json.dumps({name.replace("_", "-"): account for name, account in accounts.items()}))
    return file


def test_ibms_own_client_writes_what_is_read_here(file: Path) -> None:
    """The far end: the file is made by the client itself."""
    ibm = pytest.importorskip("qiskit_ibm_runtime")
    ibm.QiskitRuntimeService.save_account(
        token=KEY, channel="ibm_quantum_platform", instance=CRN, name="team", filename=str(file), verify=False,
        proxies={"urls": {"https": "http://proxy.example:3128"}}, private_endpoint=True,
    )  # fmt: skip
    assert read_saved_account("team", path=file) == {
        "channel": "ibm_quantum_platform", "token": KEY, "instance": CRN, "verify": False, "private_endpoint": True,
        "proxies": {"https": "http://proxy.example:3128"},
    }  # fmt: skip
    block = RuntimeCredentials.from_saved_account("team", path=file, backend="ibm_x")
    with block.get_client() as service:
        credentials = service.credentials
    assert (credentials.token, credentials.instance, credentials.private_endpoint) == (KEY, CRN, True)
    assert block.backend == "ibm_x"
    assert KEY not in repr(block)


def test_without_a_name_the_default_account_is_taken(file: Path) -> None:
    other = {**PLAIN, "instance": "other"}
    saved(file, default_ibm_cloud=PLAIN, mine={**other, "is_default_account": True})
    assert read_saved_account(path=file)["instance"] == "other"
    saved(file, default_ibm_cloud={**PLAIN, "channel": "ibm_cloud"}, mine=other)
    assert read_saved_account(path=file)["instance"] == CRN


def test_fields_of_the_call_count_more_than_the_accounts(file: Path) -> None:
    block = RuntimeCredentials.from_saved_account("mine", path=saved(file, mine=PLAIN), instance="another")
    assert block.instance.get_secret_value() == "another"


@pytest.mark.parametrize(
    ("account", "message"),
    [
        ({**PLAIN, "channel": "ibm_quantum"}, "IBM has closed"),
        ({**PLAIN, "url": "https://test.cloud.ibm.com"}, "url and auth_url"),
        ({**PLAIN, "proxies": {"urls": {}, "username_ntlm": "me"}}, "NTLM"),
        ("text", "no account 'mine'"),
        ({**PLAIN, "token": [KEY]}, "token is no text"),
        ({**PLAIN, "url": 5}, "url is no text"),
    ],
)
def test_an_account_that_cannot_be_used_is_refused_without_its_token(file: Path, account: Any, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message) as caught:
        read_saved_account("mine", path=saved(file, mine=account))
    assert KEY not in str(caught.value)


def test_what_is_not_there_is_told(file: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_saved_account(path=file)
    saved(file, a=PLAIN, b=PLAIN)
    with pytest.raises(ConfigurationError, match="no account 'c'; there are a, b"):
        read_saved_account("c", path=file)
    with pytest.raises(ConfigurationError, match="no default account"):
        read_saved_account(path=file)
    for text in ("no JSON", "[" * 100_000):
        file.write_text(text)
        with pytest.raises(ConfigurationError, match="no JSON"):
            read_saved_account(path=file)
