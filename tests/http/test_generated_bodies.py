"""Bodies that nobody would write: every one is a bad request, or an increment that is rightly counted."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator

import pytest

from tests.http.client import Front, post, request

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

GOOD = '{"key":"generated @","value":1,"x":[1.5e3,-0,{"y":null,"é\\n\\u00e9\\ud83d\\ude42":[true,false]},"\\"\\\\\\/"]}'
SIGNS = ("", "-", "+", "--")
INTEGERS = (
    "0",
    "00",
    "7",
    "07",
    "9007199254740991",
    "9007199254740992",
    "18446744073709551616",
    "1" * 400,
    "",
    "x",
    "Ⅷ",
    "٣",
)
FRACTIONS = ("", ".", ".0", ".5", ".0.0")
EXPONENTS = ("", "e", "e0", "E1", "e-1", "e+1", "e400", "e1.0")
ESCAPES = (
    r"\u", r"\u1", r"\u123", r"\u123g", r"\ud800", r"\udc00", r"\ud800\ud800", r"\ud83d\ude42", r"\u0000", r"\x41",
    r"\'", r"\0", "\\", r"\U0001F642", r"\u{41}", "\t", "\n", "\x00", "\x1f", "\x7f", "\u2028",
)  # fmt: skip
ENCODINGS = ("utf-8", "utf-8-sig", "utf-16", "utf-16-le", "utf-16-be", "utf-32", "latin-1", "cp1252", "utf-7", "cp037")
RAW = (b"\xff", b"\xfe\xff", b"\xc0\x80", b"\xed\xa0\x80", b"\xf4\x90\x80\x80", b"\x80", b"\xe2\x82", b"\xf0\x9f\x99")
STRUCTURES = (
    "[",
    "]",
    "{",
    "}",
    ",",
    ":",
    '"',
    "[]",
    "{}",
    ",,",
    "[,]",
    "{,}",
    '{"a"}',
    '{"a":}',
    "[1,]",
    "#",
    "//",
    "/**/",
    "NaN",
)


def truncations() -> Iterator[bytes]:
    whole = GOOD.encode()
    yield from (whole[:end] for end in range(len(whole) + 1))
    yield from (whole[start:] for start in range(1, len(whole), 3))


def numbers() -> Iterator[bytes]:
    for sign in SIGNS:
        for integer in INTEGERS:
            for fraction in FRACTIONS:
                for exponent in EXPONENTS[:: 1 if integer in ("0", "7") else 4]:
                    yield f'{{"key":"generated @","value":{sign}{integer}{fraction}{exponent}}}'.encode()


def strings() -> Iterator[bytes]:
    for escape in ESCAPES:
        yield f'{{"key":"generated @","value":1,"x":"{escape}"}}'.encode()
        yield f'{{"key":"generated @","value":1,"{escape}":0}}'.encode()
        yield f'{{"key":"generated @{escape}","value":1}}'.encode()
    for raw in RAW:
        yield b'{"key":"generated @","value":1,"x":"%s"}' % raw
        yield b'{"key":"generated @%s","value":1}' % raw
        yield raw + GOOD.encode()


def structures() -> Iterator[bytes]:
    for structure in STRUCTURES:
        yield structure.encode()
        for at in (1, 20, 30, len(GOOD) - 1, len(GOOD)):
            yield (GOOD[:at] + structure + GOOD[at:]).encode()
    for depth in (10, 60, 62, 63, 64, 65, 100, 1000, 4000):
        for opening, closing in (("[", "]"), ('{"a":', "}"), ("[", ""), ('{"a":', ""), ("", "]"), ("[", "}")):
            yield f'{{"key":"generated @","value":1,"x":{opening * depth}0{closing * depth}}}'.encode()[:16_000]


def encodings() -> Iterator[bytes]:
    for encoding in ENCODINGS:
        yield GOOD.encode(encoding, "replace")
        yield GOOD.replace("é", "\u00ff").encode(encoding, "replace")


def mutations(count: int = 400) -> Iterator[bytes]:
    dice = random.Random(20261123)
    alphabet = b'{}[]":,\\0123456789eE+-.truefalsn \t\r\n\x00\x7f\x80\xff'
    for _ in range(count):
        body = bytearray(GOOD.encode())
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(body))
            match dice.randrange(4):
                case 0:
                    body[at] = dice.choice(alphabet)
                case 1:
                    body.insert(at, dice.choice(alphabet))
                case 2:
                    del body[at]
                case _:
                    body[at:at] = body[at : at + dice.randint(1, 12)]
        yield bytes(body)


GROUPS = {group.__name__: group for group in (truncations, numbers, strings, structures, encodings, mutations)}


@pytest.mark.parametrize("group", GROUPS)
async def test_a_generated_body_is_refused_or_rightly_counted(front: Front, group: str) -> None:
    counted = 0
    async with front.connect() as connection:
        for body in GROUPS[group]():
            body = body.replace(b"@", front.name.encode())
            answer = await connection.ask(front.dressed(post(body)))
            assert answer.status in (204, 400), (body, answer)
            if answer.status == 204:
                key, value = by_the_book(body)
                front.ledger.count(key, value)
                counted += 1
    assert counted > 0 or group == "structures"
    for key in [key for key in front.ledger.counts if key.startswith(f"generated {front.name}")]:
        assert await front.value(key) == front.ledger.counts[key]


def by_the_book(body: bytes) -> tuple[str, int]:
    """What a body that was taken says; it must be JSON in UTF-8, without a BOM."""
    fields = json.loads(body.decode("utf-8"))
    key, value = fields["key"], fields["value"]
    assert type(key) is str
    assert 1 <= len(key.encode()) <= 512
    assert "\0" not in key
    assert type(value) is int
    assert 0 <= value < 2**53
    return key, value


@pytest.mark.parametrize("group", GROUPS)
async def test_a_generated_item_of_a_batch_is_refused_or_rightly_counted(node: Front, group: str) -> None:
    counted = 0
    async with node.connect() as connection:
        for body in GROUPS[group]():
            body = body.replace(b"@", b"batch")
            for kind, sent in (("application/json", b"[" + body + b"]"), ("application/x-ndjson", body)):
                asked = request("POST", "/v1/default/increments/batch", sent, Content_Type=kind)
                answer = await connection.ask(asked)
                assert answer.status in (200, 400), (sent, answer)
                if answer.status == 200 and json.loads(answer.body)["counted"]:
                    for key, value in counted_items(kind, sent, json.loads(answer.body)["results"]):
                        node.ledger.count(key, value)
                        counted += 1
    assert counted > 0 or group not in ("numbers", "strings")
    for key in [key for key in node.ledger.counts if key.startswith("generated batch")]:
        assert await node.value(key) == node.ledger.counts[key]


def counted_items(kind: str, sent: bytes, results: list[dict[str, str]]) -> Iterator[tuple[str, int]]:
    """What the items that were counted say."""
    lines = [line for line in sent.split(b"\n") if line.strip()]
    items = [json.dumps(item).encode() for item in json.loads(sent.decode())] if kind == "application/json" else lines
    for item, result in zip(items, results, strict=True):
        if result["status"] == "counted":
            yield by_the_book(item)
