"""Finds canaries in bytes: as they are, in base64 at three offsets, in a URL, in hex, and inside what is compressed."""

from __future__ import annotations

import base64
import binascii
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
# What begins like that in base64, as in the arrays and circuits of a job's inputs and results.
_COMPRESSED_IN_BASE64 = re.compile(rb"(?:H4sI|e(?:A[E-H]|F[4-7]|J[w-z]|N[o-r]))[A-Za-z0-9+/_-]{16,}={0,2}")


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
    if any(hint in data for hint in _HINTS):
        yield from _named(data)
    if depth:
        for inner in _decompressed(data):
            for canary, form in _found(inner, depth - 1):
                yield canary, "gzip" if form == "plain" else f"{form} in gzip"


def _named(data: bytes) -> Iterator[tuple[str, str]]:
    """Say which canaries are in there, once it is known that there are some."""
    named = [(name, form) for name, form, needle in _FORMS if needle in data]
    yield from named
    yield from (("IAM token", form) for form, needle in _ISSUED if needle in data)
    if not named:
        yield from (("a part of one", form) for form, needle in _STEMS if needle in data)


def _decompressed(data: bytes) -> Iterator[bytes]:
    for magic, bits in ((_GZIP, 31), (_ZLIB, 15)):
        for match in magic.finditer(data):
            yield from _stream(memoryview(data)[match.start() :], bits)
    for match in _COMPRESSED_IN_BASE64.finditer(data):
        text = match[0].translate(bytes.maketrans(b"-_", b"+/")).rstrip(b"=")
        try:
            raw = base64.b64decode(text[: len(text) // 4 * 4])
        except binascii.Error:
            continue
        yield from _stream(memoryview(raw), 31 if raw[0] == 0x1F else 15)


def _stream(data: memoryview, bits: int) -> Iterator[bytes]:
    """Yield what a compressed stream has in it, cut or not; most of what looks like one is none."""
    stream = zlib.decompressobj(bits)
    try:
        # A piece first: nothing is copied for what only looks like a stream.
        begun = stream.decompress(data[:512], MOST_BYTES)
        yield begun + stream.decompress(stream.unconsumed_tail + data[512:], MOST_BYTES)
    except zlib.error:
        return
