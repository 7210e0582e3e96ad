"""The digest that goes with a result from the program's process over the disk and the line to whoever reads it.

In an answer it is the header ``Repr-Digest: sha-256=:…:`` (RFC 9530), which the embedded runtime sends. Servers that
send none lose nothing.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping

HEADER = "Repr-Digest"


def digest_of(data: bytes) -> str:
    """Return the SHA-256 of some bytes, in hex."""
    return hashlib.sha256(data).hexdigest()


def is_digest(text: str) -> bool:
    """Tell whether a text may be what `digest_of` returns."""
    return re.fullmatch(r"[0-9a-f]{64}", text) is not None


def header_for(digest: str) -> dict[str, str]:
    """Return the header that says a digest; none for an empty one."""
    return {HEADER: f"sha-256=:{base64.b64encode(bytes.fromhex(digest)).decode()}:"} if digest else {}


def contradicts(headers: Mapping[str, str], body: bytes) -> bool:
    """True if an answer's header promises another body. `headers` has lower-case names.

    Not looked at where the body was compressed on its way: the digest is of the compressed one then.
    """
    promised = re.search(r"sha-256=:([A-Za-z0-9+/=]{44}):", headers.get(HEADER.lower(), ""))
    if promised is None or headers.get("content-encoding", "identity") != "identity":
        return False
    return base64.b64encode(hashlib.sha256(body).digest()).decode() != promised[1]
