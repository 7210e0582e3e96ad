"""Makes answers that nobody should send: documents, results and frames, changed, cut, blown up, in any framing."""

# ruff: noqa: E501 - tables

from __future__ import annotations

import base64
import gzip
import io
import json
import struct
import zlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from random import Random
from typing import Any

import numpy as np

GOLDEN = [
    json.loads(path.read_text())["text"] for path in sorted((Path(__file__).parents[1] / "wire/golden").glob("*.json"))
]
CLIENT_SIDE = next(text for text in GOLDEN if '"semantic_role"' in text)
JOB: dict[str, Any] = {
    "id": "job-1", "status": "Running", "state": {"status": "Failed", "reason": "why", "reason_code": 1305},
    "backend": "generic_5q", "program": {"id": "sampler"}, "created": "2026-01-02T03:04:05.678Z", "tags": ["a", "b"],
    "params": {"pubs": [], "options": {}}, "usage": {"quantum_seconds": 1.5}, "session_id": "s-1", "private": False,
    "estimated_running_time_seconds": 3,
}  # fmt: skip
METRICS = {"timestamps": {"created": "2026-01-02T03:04:05Z", "running": None}, "usage": {"seconds": 3}}
REFUSAL = {"errors": [{"message": "no", "code": 1234, "solution": "do"}], "trace": "t", "id": "job-1"}

ODD: list[Any] = [
    None, True, False, 0, -1, 10**18, 10**300, 10**400, 1e308, float("inf"), float("nan"), "", "x", "\ud800", "\0", "é☃",
    "../../etc/passwd", "a\r\nb: c", "x" * 5000, [], {}, [[]], {"": 0}, [None] * 50, "Completed", "9999-12-31T23:59:59-23:59",
    "0001-01-01T00:00:00+23:59", {"__type__": "ndarray", "__value__": ["x" * 4000, *["y"] * 300]},
    {"__type__": "settings", "__module__": "os", "__class__": "system", "__value__": {"command": "true"}},
    {"__type__": "settings", "__module__": "qiskit.quantum_info.operators.x", "__class__": "Popen", "__value__": {}},
    {"__type__": "to_json", "__value__": "x", "__module__": "subprocess", "__class__": "Popen"},
    {"__type__": "module", "__value__": "tabnanny"}, {"__class__": "x", "__module__": "tabnanny"},
]  # fmt: skip
TAGS = [
    "QuantumCircuit",
    "settings",
    "BitArray",
    "DataBin",
    "PubResult",
    "SamplerPubResult",
    "EstimatorPubResult",
    "PrimitiveResult",
    "BindingsArray",
    "ObservablesArray",
    "ndarray",
    "complex",
    "set",
    "datetime",
    "ExecutionSpans",
    "ExecutionSpan",
    "DoubleSliceSpan",
    "TwirledSliceSpan",
    "TwirledSliceSpanV2",
    "Result",
    "NoiseLearnerResult",
    "spmatrix",
    "callable",
    "nobody",
]
UNLOADED = ("tabnanny", "qiskit.quantum_info.operators.operator_utils")
"""Modules that there are, and that nothing here has loaded: who imports what a payload names loads them."""
BOMB_BYTES = 400 * 10**6
STATUSES = [200] * 12 + [100, 101, 103, 199, 201, 204, 206, 299, 301, 302, 307, 400, 401, 403, 404, 408, 409, 410, 416,
                         422, 429, 500, 502, 503, 507, 599, 600, 999]  # fmt: skip
TYPES = ["application/json", "text/plain", "text/html; charset=utf-7", "application/octet-stream", "", "é", "a" * 2000]


def pack(data: bytes) -> str:
    return base64.standard_b64encode(zlib.compress(data)).decode()


def squeezed(size: int, kind: int) -> bytes:
    """So many zeros compressed, a little at a time: what they take is not to be seen in this process."""
    stream = zlib.compressobj(wbits=kind)
    piece = bytes(10**5)
    return b"".join(stream.compress(piece) for _ in range(size // len(piece))) + stream.flush()


@cache
def bomb(size: int) -> str:
    return base64.standard_b64encode(squeezed(size, zlib.MAX_WBITS)).decode()


@cache
def gzip_bomb() -> bytes:
    return squeezed(BOMB_BYTES, zlib.MAX_WBITS | 16)


def passed_through(value: Any) -> str:
    """A client-side primitive's answer with this among what it passes through."""
    answer = json.loads(CLIENT_SIDE)
    answer["passthrough_data"]["post_processor"]["options"]["mine"] = value
    return json.dumps(answer)


def naming() -> Iterator[str]:
    """Results that name a module under every tag, by themselves and in what a client-side primitive passes through."""
    for tag in TAGS:
        for module in (*UNLOADED, "qiskit.quantum_info.operators.nobodys"):
            for value in ({}, {"data": ["X"], "coeffs": [1]}, [1], "x", module):
                named = {"__type__": tag, "__value__": value, "__module__": module, "__class__": "X"}
                yield json.dumps(named)
                yield passed_through(named)


def bombs() -> Iterator[str]:
    """Results that unpack to far more than they may, wherever something is unpacked; one by one, for they are large."""
    one, small = bomb(BOMB_BYTES), bomb(5 * 10**6)
    tensor = {"data": one, "shape": [BOMB_BYTES], "dtype": "u8"}
    values: list[Any] = [{"__type__": tag, "__value__": one} for tag in (*TAGS, "Instruction")]
    values += [tensor, {**tensor, "__type__": "ndarray", "__value__": [1]}, {**tensor, "dtype": "x", "inside": tensor}]
    values += [[{"data": small, "shape": [5 * 10**6], "dtype": "u8"}] * 40]
    for value in values:
        yield json.dumps(value)
        yield passed_through(value)


def npy(rng: Random) -> bytes:
    """An array, its header changed."""
    shape = rng.choice(["(10000000000,)", "(-1,)", "(2, 2)", "()", "(0, 99999999999)", "(" * 400, "(True,)", "(1e9,)"])
    descr = rng.choice(
        ["'<f8'", "'|O'", "'|V0'", "'<U4000000'", "[('a', '<f8')]", "'" + "x" * 3000 + "'", "__import__('os')"]
    )
    head = f"{{'descr': {descr}, 'fortran_order': False, 'shape': {shape}, }}\n".encode()
    version = rng.choice([(1, 0), (2, 0), (3, 0), (9, 9)])
    size = struct.pack("<H" if version == (1, 0) else "<I", len(head) % 65536)
    return b"\x93NUMPY" + bytes(version) + size + head + rng.randbytes(rng.randrange(64))


def packed(rng: Random) -> str:
    """What may stand for an array or circuit: bombs, cuts, lies, pickles."""
    kind = rng.randrange(8)
    if kind == 0:
        return bomb(rng.choice([10**5, 10**6, BOMB_BYTES]))
    if kind == 1:
        return pack(npy(rng))
    if kind == 2:
        return pack(b"cos\nsystem\n(S'true'\ntR.")
    if kind == 3:
        return pack(b"QISKIT" + bytes([rng.randrange(256)]) + rng.randbytes(60))
    if kind == 4:
        buffer = io.BytesIO()
        np.save(buffer, np.array([{"a": 1}], dtype=object), allow_pickle=True)
        return pack(buffer.getvalue())
    if kind == 5:
        return pack(rng.randbytes(40))[: -rng.randrange(1, 9)]
    return rng.choice(["", "é", "====", "AAAA", pack(b""), base64.b64encode(gzip.compress(b"x")).decode()])


def odd(rng: Random) -> Any:
    if rng.random() < 0.3:
        value = rng.choice([packed(rng), rng.choice(ODD), {"data": packed(rng)}, [packed(rng)] * 3])
        place = {"__module__": rng.choice(UNLOADED), "__class__": "X"} if rng.random() < 0.3 else {}
        return {"__type__": rng.choice(TAGS), "__value__": value, **place}
    return rng.choice(ODD)


def repacked(rng: Random, text: str) -> str:
    """A compressed value with some of its bytes changed, compressed again; now and then a bomb in its place."""
    try:
        data = bytearray(zlib.decompress(base64.b64decode(text, validate=True)))
    except (ValueError, zlib.error):
        return text
    if rng.random() < 0.1:
        return bomb(BOMB_BYTES)
    for _ in range(rng.choice([1, 1, 2, 8])):
        if data:
            data[rng.randrange(len(data))] = rng.choice([0, 1, 127, 128, 255, rng.randrange(256)])
    if rng.random() < 0.2:
        del data[rng.randrange(len(data) + 1) :]
    return pack(bytes(data))


def changed(rng: Random, value: Any, chance: float) -> Any:
    """A value with something else at some of its places."""
    if rng.random() < chance:
        return odd(rng)
    if isinstance(value, dict):
        again = {key: changed(rng, one, chance) for key, one in value.items() if rng.random() > chance / 3}
        if rng.random() < chance / 2:
            again[str(rng.choice(["x", "__type__", "__class__", "shape", "data", *value]))] = odd(rng)
        return again
    if isinstance(value, list):
        return [changed(rng, one, chance) for one in value] * rng.choice([1] * 9 + [3])
    if isinstance(value, str) and len(value) > 12 and rng.random() < 0.3:
        return repacked(rng, value)
    return value


def text_of(rng: Random, value: Any) -> bytes:
    """A value's JSON text, sometimes not quite."""
    text = json.dumps(changed(rng, value, rng.choice([0.02, 0.1, 0.3])))
    kind = rng.randrange(16)
    if kind == 0:
        text = text[: rng.randrange(len(text) + 1)]
    elif kind == 1:
        text = (
            rng.choice(["[", '{"a":', '{"__type__":"set","__value__":[']) * rng.choice([100, 900, 900, 900, 50_000])
            + text
        )
    elif kind == 2:
        text = text.replace("1", "9" * rng.choice([20, 400, 5000]), 1)
    elif kind == 3 and text.startswith("{"):
        text = text[:-1] + f', "id": {json.dumps(odd(rng))}, "id": 5, "__type__": "ndarray"}}'
    elif kind == 4:
        text = "[" + ",".join([text] * (rng.choice([2, 30]) if len(text) < 100_000 else 2)) + "]"
    elif kind == 5:
        text = "[" * 150 + text + "]" * 150
    data = text.encode()
    if kind == 6:
        data = rng.choice([text.encode("utf-16"), b"\xef\xbb\xbf" + data, data + b"\0\xff", rng.randbytes(50), b""])
    elif kind == 7:
        data = b"[" + b"[]," * rng.choice([*[1000] * 9, 300_000]) + b"1]"
    return data


def head_of(rng: Random, body: bytes) -> tuple[list[bytes], bytes]:
    """Header lines and a body in some framing, right or wrong."""
    kind = rng.randrange(14)
    lines = [b"Content-Type: " + rng.choice(TYPES).encode()]
    if kind <= 3:
        return [*lines, b"Content-Length: %d" % len(body)], body
    if kind == 4:
        length = rng.choice(
            [b"-1", b"\xb2", b"9" * 5000, b"99999999999", b"%d, 5" % len(body), b"%d" % (len(body) + 7), b""]
        )
        return [*lines, b"Content-Length: " + length], body
    if kind <= 6:
        chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (body[:50], body[50:]) if part)
        end = rng.choice(
            [
                b"0\r\n\r\n",
                b"0\r\n\r\n",
                b"",
                b"0\r\n",
                b"-5\r\n",
                b"zz\r\n",
                b"f" * 30 + b"\r\n",
                b"0\r\n" + b"a: b\r\n" * 500,
            ]
        )
        return [*lines, b"Transfer-Encoding: chunked"], chunks + end
    if kind == 7:
        packed_body = rng.choice([gzip.compress(body, 1), gzip_bomb()])
        cut = packed_body[: rng.choice([len(packed_body), len(packed_body) // 2])]
        coding = rng.choice([b"gzip", b"deflate", b"br", b"gzip, gzip"])
        return [*lines, b"Content-Encoding: " + coding, b"Content-Length: %d" % len(cut)], cut
    if kind == 8:
        return [*lines, b"Transfer-Encoding: gzip, chunked"], body
    if kind == 9:
        return [*lines, *(b"X-%d: %s" % (i, b"y" * 50) for i in range(rng.choice([50, 101, 3000])))], body
    if kind == 10:
        location = rng.choice([b"http://[::1", b"\xff", b"http://127.0.0.1:9/", b"//evil.example", b""])
        after = rng.choice([b"5", b"-1", b"nan", b"1e999", b"x" * 500, b"Thu, 99 Jan 99999 99:99:99 GMT", b"\xff"])
        return [*lines, b"Location: " + location, b"Retry-After: " + after, b"Content-Length: %d" % len(body)], body
    if kind == 11:
        return [
            *lines,
            rng.choice([b"no colon", b": no name", b"a b: c", b"X: " + b"y" * 70_000, b"Set-Cookie: a/b=c; \xff"]),
        ], body
    return lines, body  # ends with the connection


def http_answer(rng: Random, body: bytes) -> bytes:
    lines, sent = head_of(rng, body)
    first = b"HTTP/1.1 %d OK" % rng.choice(STATUSES)
    if rng.random() < 0.03:
        first = rng.choice([b"HTTP/9.9 abc", b"\xff\xfe", b"SSH-2.0", b"HTTP/1.1 200" + b" " * 70_000, b""])
    before = b"HTTP/1.1 100 Continue\r\n\r\n" * rng.choice([0] * 15 + [1, 2000])
    whole = before + b"\r\n".join([first, *lines, b"", b""]) + sent
    return whole[: rng.randrange(len(whole))] if rng.random() < 0.05 else whole


def frames(rng: Random, body: bytes) -> bytes:
    """WebSocket frames: right ones, and then some that are not."""

    def frame(first: int, data: bytes, mask: bool = False) -> bytes:
        size = len(data)
        bit = 0x80 if mask else 0
        length = bytes([bit | size]) if size < 126 else bytes([bit | 127]) + size.to_bytes(8, "big")
        return bytes([first]) + length + (b"\1\2\3\4" if mask else b"") + data

    kinds = [
        lambda: frame(0x81, body), lambda: frame(0x81, body, mask=True), lambda: frame(0x82, body),
        lambda: frame(0x01, body[:5]) + frame(0x80, body[5:]), lambda: frame(0x80, body), lambda: frame(0x01, body) * 2,
        lambda: frame(0x89, b"p" * rng.choice([0, 125, 200])) * 3, lambda: frame(0x8A, b""), lambda: frame(0xF1, body),
        lambda: frame(0x83, body), lambda: b"\x81\x7f" + (2**63 - 1).to_bytes(8, "big"), lambda: b"\x81\x7e\xff",
        lambda: frame(0x81, b"\xff\xfe"), lambda: frame(0x09, b"x"),
        lambda: frame(0x88, rng.choice([b"", b"\x03", b"\x03\xe8", b"\x00\x00", b"\xff\xff\xff", b"\x03\xf3" + b"r" * 200])),
    ]  # fmt: skip
    return b"".join(rng.choice(kinds)() for _ in range(rng.randrange(1, 5)))
