"""What a server or driver says, before it is shown: nothing secret, not too long, JSON or a typed error."""

from __future__ import annotations

import time

import pytest

from prefect_runtime.client.transport import Answer, clean
from prefect_runtime.wire.errors import ProtocolError

TOKEN = "geheimer-token-0123456789"


@pytest.mark.parametrize(
    ("text", "cleaned"),
    [
        ("nothing to hide", "nothing to hide"),
        (f"bad {TOKEN}!", "bad …!"),
        ("crn:v1:bluemix:public:a/b:c:: is wrong", "… is wrong"),
        ("'crn:v1:x' and \"crn:v1:y\"", "'…' and \"…\""),
        ("Bearer abcdefgh.ij-k", "…"),
        ("apikey=abcdefgh12", "…"),
        ('{"token": "abcdefgh12"}', '{"…"}'),
        ("eyJhbGciOi.eyJzdWIi.c2ln end", "… end"),
        ("see https://cos.example/x?X-Amz-Signature=abc now", "see … now"),
        ("see https://cos.example/x now", "see https://cos.example/x now"),
        ("via http://me:pw@proxy.example:80/ now", "via … now"),
        ("no token was given", "no token was given"),
    ],
)
def test_what_must_not_be_shown_is_taken_out(text: str, cleaned: str) -> None:
    assert clean(text, [TOKEN]) == cleaned


def test_a_long_text_is_cut_after_it_was_cleaned() -> None:
    assert clean("x" * 99 + TOKEN, [TOKEN], limit=105) == "x" * 99 + "…"
    assert len(clean("x" * 10_000)) == 2000


@pytest.mark.parametrize("text", ["http://" * 200_000, "eyJ" * 400_000, "token " * 200_000, "crn: " * 200_000])
def test_a_text_made_for_it_does_not_keep_us_busy(text: str) -> None:
    start = time.monotonic()
    clean(text, [TOKEN])
    assert time.monotonic() - start < 2


def test_a_secret_is_not_cut_in_half_before_it_is_taken_out() -> None:
    """What is shown may come from behind where a long text is cut: much before it was taken out."""
    jwt = "eyJ" + "x" * 1500 + "." + "y" * 500 + "." + "z" * 40
    for offset in range(0, 4000, 97):
        shown = clean("crn:v1:" + "a" * 3000 + " " + "-" * offset + " " + jwt + " end" * 2000, limit=2000)
        assert "xxxx" not in shown, offset


@pytest.mark.parametrize("body", [b"", b"<html>", b"[" * 100_000, b"\xff\xfe", b"9" * 5000])
def test_a_body_that_is_not_json_is_a_protocol_error(body: bytes) -> None:
    with pytest.raises(ProtocolError):
        Answer(200, {}, body).json()
