"""The canaries: what tests use as secrets. They share a stem, so that looking for one is looking for all."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

STEM = "C4n/Ry+9vQ7z-K2"
"""Not as it is in a URL; a multiple of three bytes, so that its name goes through base64 the same way."""

API_KEY = f"{STEM}.api-key"
IAM_TOKEN = f"{STEM}.iam-token"
REFRESH_TOKEN = f"{STEM}.refresh-token"
ACCESS_TOKEN = f"{STEM}.access-token"
CRN = f"crn:v1:bluemix:public:quantum-computing:us-east:a/{STEM}.crn:guid::"
PROXY_PASSWORD = f"{STEM}.proxy-password"
PRESIGNED_URL = f"https://cos.example/results?X-Amz-Signature={STEM}.presigned-url"
PARAMETERS = (f"{STEM}.parameter-1", f"{STEM}.parameter-2", f"{STEM}.parameter-3")
PROGRAM_SOURCE = f"{STEM}.program-source"
STREAM_TOKEN = f"{STEM}.stream-token"

PROXIES = {"https": f"http://me:{quote(PROXY_PASSWORD, safe='')}@127.0.0.1:9"}
"""Harmless: all servers of tests speak http."""

ALL = {
    "API key": API_KEY,
    "IAM token": IAM_TOKEN,
    "refresh token": REFRESH_TOKEN,
    "access token": ACCESS_TOKEN,
    "CRN": CRN,
    "proxy password": PROXY_PASSWORD,
    "presigned URL": PRESIGNED_URL,
    "parameter 1": PARAMETERS[0],
    "parameter 2": PARAMETERS[1],
    "parameter 3": PARAMETERS[2],
    "program source": PROGRAM_SOURCE,
    "stream token": STREAM_TOKEN,
}

INPUTS = dict(zip(("one", "two", "three"), PARAMETERS, strict=True))
"""For any program that takes such, or more inputs than it knows."""

ISSUED = base64.b64encode(b'{"alg":"HS256","typ":"JWT"}').decode().rstrip("=") + "."
"""How each IAM token of the embedded runtime begins; the last character is no part of its base64."""


def give_token(data_dir: Path) -> None:
    """Have the embedded runtime of a folder use a canary as its token, as if it had made that at its first start."""
    data_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    if not (data_dir / "token").exists():
        (data_dir / "token").touch(mode=0o600)
        (data_dir / "token").write_text(ACCESS_TOKEN)


def forms(text: str) -> Iterator[tuple[str, bytes]]:
    """Yield a text in every form in which it may be somewhere, but compressed, by the form's name."""
    data = text.encode()
    yield "plain", data
    yield "JSON", data.replace(b"/", rb"\/")
    yield "UTF-16", text.encode("utf-16-le")[:-1]  # without its last byte, it is in the other byte order as well
    yield "hex", data.hex().encode()
    yield "hex", data.hex().upper().encode()
    yield from (("URL", url) for url in _in_a_url(text))
    for name, whole in (("base64", data), ("base64 of URL", quote(text, safe="").encode())):
        yield from ((f"{name} +{before}", sure) for before in range(3) for sure in _in_base64(whole, before))


def _in_a_url(text: str) -> Iterator[bytes]:
    for safe in ("", "/", "/:?&="):  # as whole, as a path, as a URL that is made to fit
        url = quote(text, safe=safe)
        yield url.encode()
        yield re.sub("%..", lambda code: code[0].lower(), url).encode()


def _in_base64(data: bytes, before: int) -> Iterator[bytes]:
    whole = base64.b64encode(bytes(before) + data)
    # Without the characters that depend on what is before it and after it.
    sure = whole[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6]
    yield sure
    yield sure.translate(bytes.maketrans(b"+/", b"-_"))
