"""Who we are and where the runtime is. Plain data, no I/O; any module of client may import it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from prefect_runtime.wire.errors import ConfigurationError
from prefect_runtime.wire.logs import hide
from prefect_runtime.wire.redaction import of_proxy

Channel = Literal["local", "ibm_quantum_platform", "classic"]

_LOOPBACK = ("127.0.0.1", "localhost", "::1")


@dataclass(frozen=True, kw_only=True)
class Credentials:
    """An account at a runtime. The repr shows neither token nor instance.

    Args:
        channel: "local" (embedded runtime), "ibm_quantum_platform" or "classic".
        token: API key, access token or, with `auth_url` on "classic", API token.
        url: Base URL of the API; "local" finds it by itself.
        auth_url: Root of the service that exchanges the token.
        instance: CRN, or hub/group/project. On "ibm_quantum_platform" also the instance's name, which costs one
            look-up a process.
        verify: Check TLS certificates; False turns it off, a text, or a path, is that of a CA bundle.
        proxies: Proxy URL by scheme, as `requests` takes them; "no_proxy": hosts to reach without, with commas between.
            This machine is always reached without.
        private_endpoint: Use IBM Cloud's private hosts, on "ibm_quantum_platform".
        api_version: ``IBM-API-Version`` to ask for, YYYY-MM-DD; None for the one that this version was tested with.

    Raises:
        ConfigurationError: A value that cannot work; the message names the field.
    """

    channel: Channel = "local"
    token: str | None = field(default=None, repr=False)
    url: str | None = field(default=None)
    auth_url: str | None = field(default=None)
    instance: str | None = field(default=None, repr=False)
    verify: bool | str = True
    proxies: Mapping[str, str] | None = field(default=None, repr=False)
    private_endpoint: bool = False
    api_version: str | None = None

    def __post_init__(self) -> None:
        self._check_types()  # first: what is no text would be looked for in every line that is logged
        self.hide_secrets()
        if self.channel not in ("local", "ibm_quantum_platform", "classic"):
            raise ConfigurationError(f"channel: {self.channel!r} is none of local, ibm_quantum_platform, classic.")
        for name in ("url", "auth_url"):
            check_url(name, getattr(self, name))
        if self.token is not None and not re.fullmatch(r"[\x21-\x7e]+", self.token):
            raise ConfigurationError("token: must be printable ASCII without spaces (a line break in it?).")
        if self.instance is not None and not self._is_instance(self.instance):
            raise ConfigurationError("instance: must be printable ASCII (a line break in it?).")
        if self.has_crn and not is_crn(self.instance or ""):
            raise ConfigurationError(
                "instance: is no CRN (crn:v1:…): its region, the sixth field, has other characters."
            )
        if self.api_version is not None and not re.fullmatch(r"\d{4}-\d{2}-\d{2}", self.api_version):
            raise ConfigurationError("api_version: must be a date like 2026-04-15.")
        if not (isinstance(self.verify, bool) or (isinstance(self.verify, str) and self.verify.strip())):
            # requests takes whatever is empty for False, and says nothing.
            raise ConfigurationError("verify: must be True, or a CA bundle's path, or False to check nothing.")
        if self.channel == "local":
            return
        if not self.token:
            raise ConfigurationError(f"token: channel {self.channel!r} needs one.")
        if self.channel == "classic" and not (self.url or self.auth_url):
            raise ConfigurationError("url: channel 'classic' needs the base URL of the runtime, or auth_url.")
        if self.channel == "ibm_quantum_platform" and not self.instance:
            raise ConfigurationError(
                "instance: channel 'ibm_quantum_platform' needs the instance's CRN (crn:v1:…), or its name."
            )

    def _check_types(self) -> None:
        """Refuse fields of wrong types, and take a path for its text."""
        for name in ("token", "url", "auth_url", "instance", "api_version"):
            value = getattr(self, name)
            if not isinstance(value, str | None):
                raise ConfigurationError(f"{name}: must be a text, not {type(value).__name__}.")
        proxies = {} if self.proxies is None else self.proxies
        texts = [*proxies, *proxies.values()] if isinstance(proxies, Mapping) else [None]
        if not all(isinstance(text, str) for text in texts):
            raise ConfigurationError("proxies: must be a mapping from schemes to proxies' URLs.")
        if isinstance(self.verify, os.PathLike):
            object.__setattr__(self, "verify", os.fspath(self.verify))

    def hide_secrets(self) -> None:
        """Have no logger show them; again with each token they are exchanged for: of all only the newest are kept."""
        # Not the instance: its name may be any word of a message, and a CRN is known by its shape.
        hide(*(secret for secret in self.secrets if secret != self.instance))

    def _is_instance(self, text: str) -> bool:
        # Names of IBM Cloud's instances may have spaces within; nothing else may, and no header could take more.
        spaced = self.channel == "ibm_quantum_platform" and not self.has_crn and text == text.strip()
        return bool(re.fullmatch(r"[\x20-\x7e]+" if spaced else r"[\x21-\x7e]+", text))

    @property
    def has_crn(self) -> bool:
        """True if `instance` is a CRN: then nothing has to be looked up."""
        return (self.instance or "").startswith("crn:")

    @property
    def account(self) -> tuple[object, ...]:
        """What tells one account from another; two equal ones can share a session, a token and a watcher."""
        proxies = tuple(sorted((self.proxies or {}).items()))
        server = (self.channel, self.url, self.auth_url, self.private_endpoint, self.api_version)
        return (*server, self.token, self.instance, self.verify, proxies)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may appear in no message."""
        hidden = [value for value in (self.token, self.instance) if value]
        hidden += (secret for url in (self.proxies or {}).values() for secret in of_proxy(url))
        return tuple(hidden)


def is_crn(text: str) -> bool:
    """Tell whether this can be the CRN of an instance. It goes into a header, and its region into a host's name."""
    region = (text.split(":") + [""] * 6)[5]
    return bool(re.fullmatch(r"crn:[\x21-\x7e]+", text) and re.fullmatch(r"[a-z0-9-]*", region))


def check_url(name: str, url: str | None) -> None:
    """Refuse a URL that no token may go to.

    Raises:
        ConfigurationError: It is; the message names the field.
    """
    if url is None:
        return
    try:
        parts = urlsplit(url)
        _ = parts.port  # a port that is no number
    except ValueError:
        raise ConfigurationError(f"{name}: not a URL.") from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ConfigurationError(f"{name}: must be an http:// or https:// URL.")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ConfigurationError(f"{name}: must have no user, password, query or fragment in it.")
    if parts.scheme == "http" and parts.hostname not in _LOOPBACK:
        raise ConfigurationError(f"{name}: http:// is for this machine only; {parts.hostname} needs https://.")


def proxies_for(url: str, proxies: Mapping[str, str] | None) -> dict[str, str]:
    """Return the proxies for a URL, by scheme; none for this machine: its token is nobody else's business."""
    chosen = dict(proxies or {})
    named = chosen.pop("no_proxy", "").lower().split(",")
    direct = [name.strip().removeprefix("*").removeprefix(".") for name in named]
    try:
        host = urlsplit(url).hostname or ""
    except ValueError:  # refused where it is sent
        return chosen
    without = host in _LOOPBACK or any(f".{host}".endswith(f".{name}") for name in direct if name)
    return {} if without else chosen
