"""Accounts as IBM's own client has saved them, ``~/.qiskit/qiskit-ibm.json``. Used by the block and by people.

Source: qiskit-ibm-runtime 0.51, ``accounts/``: names and members of the file, and which account is the default one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.json_text import read_json

DEFAULT_PATH = Path("~/.qiskit/qiskit-ibm.json")
DEFAULT_NAMES = ("default-ibm-quantum-platform", "default-ibm-cloud", "default")
DEFAULT_URL = "https://cloud.ibm.com"
PLATFORM_CHANNELS = ("ibm_quantum_platform", "ibm_cloud")


def read_saved_account(name: str | None = None, *, path: str | Path | None = None) -> dict[str, Any]:
    """Return a saved account's fields, by the names that `Credentials` has for them; only what it says.

    Args:
        name: Its name in the file; the default account if None.
        path: The file; IBM's own place if None.

    Raises:
        ConfigurationError: No such file or account, or one that cannot be used here. No token is in the message.
    """
    file = Path(path or DEFAULT_PATH).expanduser()
    accounts = _read(file)
    chosen = name if name is not None else _default_of(accounts)
    account = accounts.get(chosen) if chosen is not None else None
    if not isinstance(account, Mapping):
        there = ", ".join(sorted(accounts)) or "none"
        wanted = f"no account {name!r}" if name is not None else "no default account"
        raise ConfigurationError(f"{file}: there is {wanted}; there are {there}.")
    for field in ("channel", "url", "token", "instance"):
        if not isinstance(account.get(field), str | None):
            raise ConfigurationError(f"{file}: account {chosen!r} is not one of IBM's client: {field} is no text.")
    channel = account.get("channel") or "ibm_quantum_platform"
    if channel not in PLATFORM_CHANNELS:
        raise ConfigurationError(f"{file}: account {chosen!r} is for channel {channel!r}, which IBM has closed.")
    if (account.get("url") or DEFAULT_URL).rstrip("/") != DEFAULT_URL:
        raise ConfigurationError(
            f"{file}: account {chosen!r} is not for {DEFAULT_URL}; give url and auth_url of its services instead."
        )
    fields = {
        "channel": "ibm_quantum_platform",
        "token": account.get("token"),
        "instance": account.get("instance"),
        "verify": account.get("verify"),
        "private_endpoint": account.get("private_endpoint"),
        "proxies": _proxies(file, account.get("proxies")),
    }
    return {field: value for field, value in fields.items() if value is not None}


def _read(file: Path) -> Mapping[str, Any]:
    try:
        accounts = read_json(file.read_bytes())
    except OSError as error:
        raise ConfigurationError(f"{file}: cannot be read ({error.strerror}).") from None
    except (ValueError, RecursionError):
        raise ConfigurationError(f"{file}: not a file of saved accounts: it is no JSON.") from None
    if not isinstance(accounts, Mapping):
        raise ConfigurationError(f"{file}: not a file of saved accounts.")
    return accounts


def _default_of(accounts: Mapping[str, Any]) -> str | None:
    marked = [
        name for name, one in accounts.items() if isinstance(one, Mapping) and one.get("is_default_account") is True
    ]
    return next(iter([*marked, *(name for name in DEFAULT_NAMES if name in accounts)]), None)


def _proxies(file: Path, given: Any) -> dict[str, str] | None:
    if not isinstance(given, Mapping):
        return None
    if given.get("username_ntlm"):
        raise ConfigurationError(f"{file}: a proxy with NTLM, which cannot be used here.")
    urls = given.get("urls")
    return {str(scheme): str(url) for scheme, url in urls.items()} if isinstance(urls, Mapping) else None
