"""Finds canaries in bytes: as they are, in base64 at three offsets, in a URL, in hex, and inside what is compressed.

All of it also across breaks of lines.
"""

from __future__ import annotations

import base64
import itertools
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass

from .values import ALL, ISSUED, STEM, forms

MOST_BYTES = 64 * 1024 * 1024
"""Of one compressed stream."""

DEEPEST = 3  # a stream in a stream

_HINTS = tuple({hint for text in (STEM, ISSUED) for _, hint in forms(text)})
_FORMS = tuple({(name, form, data) for name, text in ALL.items() for form, data in forms(text)})
_ISSUED = tuple(set(forms(ISSUED)))
_STEMS = tuple(set(forms(STEM)))

_GZIP, _ZLIB = re.compile(rb"\x1f\x8b\x08"), re.compile(rb"\x78[\x01\x5e\x9c\xda]")

_BASE64 = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/-_"
_IS_BASE64 = bytes(ord("a" if byte in _BASE64 else " ") for byte in range(256))
_SHORTEST = b"a" * 40
"""Nothing with a canary in it is compressed to less."""


@dataclass(frozen=True, slots=True, order=True)
class Hit:
    """A canary that was found: which, in which form, and where."""

    canary: str
    form: str
    where: str

    def __str__(self) -> str:
        return f"{self.canary}, as {self.form}, in {self.where}"


def scan(data: bytes | str, where: str) -> list[Hit]:
    """Return the canaries in there, each form once."""
    raw = data.encode("utf-8", "surrogateescape") if isinstance(data, str) else data
    return sorted({Hit(canary, form, where) for canary, form in _found(raw, DEEPEST)})


def _found(data: bytes, depth: int) -> Iterator[tuple[str, str]]:
    line = _without_breaks(data)
    if any(hint in line for hint in _HINTS):
        yield from _named(line)
    if depth:
        for packed in itertools.chain([data], _decoded(line)):
            for inner in _decompressed(packed):
                for canary, form in _found(inner, depth - 1):
                    yield canary, "gzip" if form == "plain" else f"{form} in gzip"


def _without_breaks(data: bytes) -> bytes:
    """Return it as one line: Prefect's pickles are base64 with a break after 76 characters, in JSON a \\n."""
    line = data.translate(None, b"\r\n") if b"\n" in data else data
    return line.replace(rb"\\n", b"").replace(rb"\n", b"") if rb"\n" in line else line


def _named(data: bytes) -> Iterator[tuple[str, str]]:
    """Say which canaries are in there, once it is known that there are some."""
    named = [(name, form) for name, form, needle in _FORMS if needle in data]
    yield from named
    yield from (("IAM token", form) for form, needle in _ISSUED if needle in data)
    if not named:
        yield from (("a part of one", form) for form, needle in _STEMS if needle in data)


def _decoded(line: bytes) -> Iterator[bytes]:
    """Yield what all that could be base64 stands for: from each of four characters on, as a word may be before it."""
    mask = line.translate(_IS_BASE64)
    end = 0
    while (begin := mask.find(_SHORTEST, end)) >= 0:
        end = mask.find(b" ", begin)
        end = len(line) if end < 0 else end
        text = line[begin:end].translate(bytes.maketrans(b"-_", b"+/"))
        yield from (base64.b64decode(text[skip : skip + (len(text) - skip) // 4 * 4]) for skip in range(4))


def _decompressed(data: bytes) -> Iterator[bytes]:
    for magic, bits in ((_GZIP, 31), (_ZLIB, 15)):
        for match in magic.finditer(data):
            yield from _stream(memoryview(data)[match.start() :], bits)


def _stream(data: memoryview, bits: int) -> Iterator[bytes]:
    """Yield what a compressed stream has in it, cut or not; most of what looks like one is none."""
    stream = zlib.decompressobj(bits)
    try:
        # A piece first: nothing is copied for what only looks like a stream.
        begun = stream.decompress(data[:512], MOST_BYTES)
        yield begun + stream.decompress(stream.unconsumed_tail + data[512:], MOST_BYTES)
    except zlib.error:
        return
