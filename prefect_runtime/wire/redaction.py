"""Takes out of a text what must not be shown. Any room may import it: whoever shows what a server has said.

Servers and proxies throw back what they were sent, and not always as it was: a token may come back in a URL, or in the
base64 of a header. So what is known to be secret is looked for in every form that it travels in, and besides that
whatever has the shape of a secret.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Iterator, Sequence
from urllib.parse import SplitResult, quote, quote_plus, unquote, urlsplit

_SHORTEST_FORM = 8
"""A shorter piece of base64 or hex may stand for anything, and is in many a word."""

_TOKEN = r"[\w.~+/=%\-]{8,}"  # noqa: S105 - what is let into a header
_SECRET_SHAPES = re.compile(
    r"crn(?:%3A|:)[^\s\"']+"
    r"|eyJ[\w-]+\.[\w-]+\.[\w-]*"  # JSON Web Token
    rf"|(?i:bearer|apikey|token)[\s:=\"']+{_TOKEN}"
    rf"|(?i:authorization)[\s:=\"']+\w+\s+{_TOKEN}"
    r"|https?://[^\s\"']*\?[^\s\"']*"  # a query string may be a signature
    r"|https?://[^\s/\"']*@[^\s\"']*"
    r"|(?i:x-amz-(?:signature|credential|security-token))(?:=|%3D)[^\s&\"']+"
)


_UNKEPT = re.compile(r"[\x00\ud800-\udfff]")
"""What PostgreSQL keeps in no text, and half a character, which has no UTF-8: a flow run that Prefect's API cannot take
the state of, for such a message, stays Running (3.8.8)."""

_MARGIN = 4096  # more than the longest secret, which must not be cut in half
_LAST_WORD = re.compile(rf"[^\s\"']{{0,{_MARGIN}}}\Z")


def clean(text: str, secrets: Sequence[str] = (), *, limit: int = 2000) -> str:
    """Return a server's or driver's text without anything that must not be shown, cut to `limit` characters.

    What cannot be kept in every database is a replacement character.
    """
    if len(text) > limit + _MARGIN:  # a text made for it keeps the search below busy for hours
        text = _LAST_WORD.sub("…", text[: limit + _MARGIN])
    known = tuple(filter(None, secrets))
    if known:
        text = _known(known).sub("…", text)
    return _UNKEPT.sub("\ufffd", _SECRET_SHAPES.sub("…", text)[:limit])


def split_proxy(url: str) -> SplitResult:
    """Take a proxy's URL apart, which may lack its scheme: it is http then, as requests reads it.

    Raises:
        ValueError: It is no URL.
    """
    return urlsplit(url if "://" in url else f"http://{url}")


def of_proxy(url: str) -> Iterator[str]:
    """Yield what is secret in a proxy's URL, in the forms in which it gets into headers and messages."""
    try:
        parts = split_proxy(url)
    except ValueError:
        yield url
        return
    if parts.password:
        user, password = unquote(parts.username or ""), unquote(parts.password)
        yield from {parts.password, password}
        yield base64.b64encode(
            f"{user}:{password}".encode("utf-8", "surrogatepass")
        ).decode()  # Proxy-Authorization: Basic


@functools.lru_cache(maxsize=16)
def _known(secrets: tuple[str, ...]) -> re.Pattern[str]:
    forms = {form for secret in secrets for form in _forms(secret)}
    return re.compile("|".join(map(re.escape, sorted(forms, key=len, reverse=True))))  # the longest first


def _forms(secret: str) -> Iterator[str]:
    """Yield a secret as it is, in a URL, and as part of a longer text in base64 or hex."""
    yield secret
    data = secret.encode("utf-8", "surrogatepass")  # half a character may come from the environment
    yield from (quote(data, safe=""), quote_plus(data), quote(data))
    encoded = [data.hex(), data.hex().upper()]
    for before in range(3):  # base64 turns three bytes into four characters: it depends on where they begin
        whole = base64.b64encode(bytes(before) + data).decode()
        first, last = (before * 8 + 5) // 6, (before + len(data)) * 8 // 6
        encoded += [whole[first:last], whole[first:last].translate(str.maketrans("+/", "-_"))]
    yield from (form for form in encoded if len(form) >= _SHORTEST_FORM)
