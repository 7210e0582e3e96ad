"""What a server or driver says, before it is shown: nothing secret, not too long, JSON or a typed error."""

from __future__ import annotations

import time
from base64 import b64encode, urlsafe_b64encode
from urllib.parse import quote, quote_plus

import pytest

from prefect_runtime.client import Credentials
from prefect_runtime.client.transport.exchange import Answer
from prefect_runtime.wire.errors import ProtocolError
from prefect_runtime.wire.redaction import clean

TOKEN = "geheimer-token-0123456789"
ODD = "Zq7/secret+key~0123456789="
FORMS = {
    "plain": lambda text: text,
    "URL": lambda text: quote(text, safe=""),
    "form": quote_plus,
    "hex": lambda text: text.encode().hex(),
    "HEX": lambda text: text.encode().hex().upper(),
    **{f"base64 at {n}": lambda text, n=n: b64encode(b"<" * n + text.encode() + b"> end").decode() for n in range(4)},
    "base64 for URLs": lambda text: urlsafe_b64encode(b"user:" + text.encode()).decode(),
}


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


@pytest.mark.parametrize("form", FORMS)
def test_a_known_secret_is_taken_out_in_every_form_it_travels_in(form: str) -> None:
    sent = FORMS[form](ODD)
    assert sent[8:-8] not in clean(f"the server got {sent} and said so", ["", ODD])
    assert clean("the server got nothing and said so", ["", ODD]) == "the server got nothing and said so"


@pytest.mark.parametrize("scheme", ["http://", ""])
def test_a_proxys_password_is_no_more_shown_than_a_token(scheme: str) -> None:
    proxies = {"https": f"{scheme}me:s%2Fcret-pass@proxy.example:3128", "http": "http://proxy.example:3128"}
    secrets = Credentials(channel="local", proxies=proxies).secrets
    for said in ("s%2Fcret-pass", "s/cret-pass", b64encode(b"me:s/cret-pass").decode()):
        assert clean(f"407 for {said} from proxy.example", secrets) == "407 for … from proxy.example"


@pytest.mark.parametrize("name", ["Signature", "Credential", "Security-Token"])
def test_a_presigned_url_is_not_shown_in_parts_either(name: str) -> None:
    signed = f"https://cos.example/x?X-Amz-{name}=abcdef0123456789"
    assert "abcdef" not in clean(f"see {signed} or {quote(signed, safe='')} or x?{signed.partition('?')[2]}&y=1")


def test_a_long_text_is_cut_after_it_was_cleaned() -> None:
    assert clean("x" * 99 + TOKEN, [TOKEN], limit=105) == "x" * 99 + "…"
    assert len(clean("x" * 10_000)) == 2000


def test_what_no_database_keeps_is_not_there_any_more() -> None:
    shown = clean("a\x00b\ud800c\udfffd é \U0001f600\tx")
    assert shown == "a\ufffdb\ufffdc\ufffdd é \U0001f600\tx"
    assert shown.encode()


@pytest.mark.parametrize("text", ["http://" * 200_000, "eyJ" * 400_000, "token " * 200_000, "crn: " * 200_000])
def test_a_text_made_for_it_does_not_keep_us_busy(text: str) -> None:
    start = time.thread_time()
    clean(text, [TOKEN])
    assert time.thread_time() - start < 2


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
