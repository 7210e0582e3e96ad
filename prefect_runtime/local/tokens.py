"""Access tokens of the embedded runtime's platform dialect: JSON Web Tokens, signed with the server's own token.

IBM's client reads ``iat`` and ``exp`` out of them without checking the signature (ibm_cloud_sdk_core); we check it.
Written out here because that is all there is to it: one algorithm, one key (RFC 7515, HS256).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import time
from collections.abc import Mapping

LIFE_SECONDS = 3600
"""As IBM Cloud's IAM gives them (expires_in of POST /identity/token)."""

_HEADER = {"alg": "HS256", "typ": "JWT"}


def issue(key: str, subject: str, *, seconds: float = LIFE_SECONDS) -> tuple[str, int]:
    """Return a token that is good for some seconds, and when that ends, in seconds since the epoch."""
    issued = int(time.time())
    expires = int(time.time() + seconds)
    claims = {"sub": subject, "iat": issued, "exp": expires, "iss": "prefect-runtime"}
    signed = f"{_encode(_HEADER)}.{_encode(claims)}"
    return f"{signed}.{_signature(key, signed)}", expires


def is_good(key: str, token: str) -> bool:
    """True if a token is one of ours and has not expired."""
    signed, _, signature = token.rpartition(".")
    if not hmac.compare_digest(signature.encode(), _signature(key, signed).encode()):
        return False
    claims = json.loads(_decode(signed.partition(".")[2]))  # ours: the signature says so
    return bool(claims["exp"] >= int(time.time()))  # cut to whole seconds like exp: none is born expired


def _signature(key: str, signed: str) -> str:
    return _text(hmac.new(key.encode(), signed.encode(), hashlib.sha256).digest())


def _encode(value: Mapping[str, object]) -> str:
    return _text(json.dumps(value, separators=(",", ":")).encode())


def _text(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
