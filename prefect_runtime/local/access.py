"""From where the embedded runtime can be reached: addresses, names and certificates. Used by launcher.py.

By itself it listens on loopback, in clear. Beyond this machine it listens only with TLS: the token is in every request.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterable
from pathlib import Path

from prefect_runtime.wire.errors import ConfigurationError

LOOPBACK = ("127.0.0.1", "localhost", "::1")
_HTTPS_PORT = 443


def check(host: str, certificate: Path | None, key: Path | None) -> tuple[Path | None, Path | None]:
    """Check who would get in; return the two files so that they are found from any folder.

    Raises:
        ConfigurationError: The address leads beyond this machine and there is no certificate, or it cannot be used.
    """
    if certificate is None and key is None:
        if host in LOOPBACK:
            return None, None
        raise ConfigurationError(
            f"host: {host} is not a loopback address: others would get in, and read the token on its way. "
            "Give --tls-certificate and --tls-key as well, or leave --host out."
        )
    if certificate is None or key is None:
        raise ConfigurationError("tls-certificate, tls-key: give both or neither.")
    try:
        # With an empty password, because OpenSSL would ask the terminal for one.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")  # nosec B106 # see above
    except OSError as error:
        why = error.strerror or type(error).__name__
        raise ConfigurationError(f"tls-certificate, tls-key: {certificate} and {key} cannot be used ({why}).") from None
    return certificate.absolute(), key.absolute()


def known_hosts(host: str, port: int, allowed: Iterable[str]) -> frozenset[str]:
    """Return what may stand in a request's Host: exact names, against DNS rebinding."""
    names = ["127.0.0.1", "localhost", "[::1]"]
    if host not in LOOPBACK:
        names += [socket.gethostname(), *allowed]
    known = {f"{name}:{port}" for name in names}
    return frozenset(known | set(names) if port == _HTTPS_PORT else known)  # a URL leaves that port out


def own_url(host: str, port: int, *, tls: bool) -> str:
    """Return where clients on this machine find the server."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  # nosec B104 # not to listen on
    name = f"[{host}]" if ":" in host else host
    return f"{'https' if tls else 'http'}://{name}:{port}"
