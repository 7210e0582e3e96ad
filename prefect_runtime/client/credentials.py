"""Who we are and where the runtime is. Plain data, no I/O; any module of client may import it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal
from urllib.parse import urlsplit

from prefect_runtime.wire.errors import ConfigurationError

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
        instance: CRN, or hub/group/project.
        verify: Check TLS certificates; False turns it off, a text is the path of a CA bundle.
        proxies: Proxy URL by scheme, as `requests` takes them.

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

    def __post_init__(self) -> None:
        if self.channel not in ("local", "ibm_quantum_platform", "classic"):
            raise ConfigurationError(f"channel: {self.channel!r} is none of local, ibm_quantum_platform, classic.")
        for name in ("url", "auth_url"):
            _check_url(name, getattr(self, name))
        for name in ("token", "instance"):
            value = getattr(self, name)
            if value is not None and not re.fullmatch(r"[\x21-\x7e]+", value):
                raise ConfigurationError(f"{name}: must be printable ASCII without spaces (a line break in it?).")
        if self.channel == "local":
            return
        if not self.token:
            raise ConfigurationError(f"token: channel {self.channel!r} needs one.")
        if self.channel == "classic" and not (self.url or self.auth_url):
            raise ConfigurationError("url: channel 'classic' needs the base URL of the runtime, or auth_url.")
        if self.channel == "ibm_quantum_platform" and not (self.instance or "").startswith("crn:"):
            raise ConfigurationError("instance: channel 'ibm_quantum_platform' needs the instance's CRN (crn:v1:…).")

    @property
    def account(self) -> tuple[object, ...]:
        """What tells one account from another; two equal ones can share a session, a token and a watcher."""
        proxies = tuple(sorted((self.proxies or {}).items()))
        return (self.channel, self.url, self.auth_url, self.token, self.instance, self.verify, proxies)

    @property
    def secrets(self) -> tuple[str, ...]:
        """What may appear in no message."""
        return tuple(value for value in (self.token, self.instance) if value)


def _check_url(name: str, url: str | None) -> None:
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
