"""Whatever comes, the parsers take it as what it says, or say BadRequest: never another error, never something else."""

from __future__ import annotations

import json
from urllib.parse import quote

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from node import batch
from node.batch import Item
from node.errors import BadRequest, Forbidden, Unauthorized
from node.heads import guarded_request, whole_request
from node.increment import (
    DEFAULT_NAMESPACE,
    ID_CHARS_MAX,
    KEY_BYTES_MAX,
    VALUE_MAX,
    key_of_path,
    parse_increment,
)
from node.terms import Namespace, parse_terms
from node.tokens import Need, Tokens, line_of, parse_tokens
from tests.unit.node.batches import parse_batch

JSON, FORM, NDJSON = "application/json", "application/x-www-form-urlencoded", "application/x-ndjson"
GOOD = [
    b'{"key":"a","value":1}',
    b'{"value": 9007199254740991, "key": "\\u00e9\\ud83d\\ude42", "x": [1.5e3, {"y": null}], "idempotency_key": "i"}',
    b"key=a+b%41&value=12&idempotency_key=x",
    b'[{"key":"a","value":1},{"key":"b","value":0,"idempotency_key":"i"}]',
    b'{"key":"a","value":1}\n{"key":"b","value":2}\n',
    b'{"strategy":"dist","idempotency_window_s":60,"history":true,"keep_days":null}',
]
PIECES = [
    *(b'"', b"\\", b"{", b"}", b"[", b"]", b",", b":", b"0", b"-", b"1e3", b".5", b"null", b"NaN", b"true", b" "),
    *(b"\n", b"\x00", b"\xff", b"\xed\xa0\x80", b"\\ud800", b"\\u0000", b'"key":', b'"value":1', b"%00", b"%FF"),
    *(b"&", b"=", b";"),
]
KINDS = st.sampled_from([JSON, FORM, NDJSON, "", "text/plain", JSON + "; charset=utf-8", JSON + ";charset=x"])


@st.composite
def edited(draw: st.DrawFn, bodies: list[bytes]) -> bytes:
    """One of the bodies with some bytes put in, taken out, doubled."""
    body = bytearray(draw(st.sampled_from(bodies)))
    for _ in range(draw(st.integers(0, 4))):
        at = draw(st.integers(0, len(body)))
        match draw(st.integers(0, 3)):
            case 0:
                body[at:at] = draw(st.sampled_from(PIECES))
            case 1:
                del body[at : at + draw(st.integers(1, 8))]
            case 2:
                body[at:at] = body[at : at + draw(st.integers(1, 30))]
            case _:
                body[at : at + 1] = draw(st.binary(max_size=2))
    return bytes(body)


BODIES = edited(GOOD) | st.binary(max_size=60)


@given(KINDS, BODIES)
def test_an_increment_that_is_taken_is_what_the_body_says(kind: str, body: bytes) -> None:
    try:
        taken = parse_increment(kind, body, None, None)
    except BadRequest:
        return
    key = taken.counter.removeprefix(DEFAULT_NAMESPACE + ":")
    assert 1 <= len(key.encode()) <= KEY_BYTES_MAX
    assert "\0" not in key
    assert type(taken.value) is int
    assert 0 <= taken.value <= VALUE_MAX
    if kind.startswith(JSON):
        said = json.loads(body.decode())
        assert (said["key"], said["value"], said.get("idempotency_key")) == (key, taken.value, taken.idempotency_key)


@given(KINDS, BODIES, st.booleans())
def test_the_items_of_a_batch_are_what_it_says_by_either_reader(kind: str, body: bytes, negative: bool) -> None:
    namespace = Namespace(negative_allowed=negative)
    try:
        taken = parse_batch(kind, body, namespace)
    except BadRequest:
        return
    ndjson = kind == NDJSON
    said = [line for line in body.split(b"\n") if line.strip()] if ndjson else json.loads(body.decode())
    assert len(said) == len(taken)
    for fields, item in zip(said, taken, strict=True):
        if isinstance(item, Item):
            fields = json.loads(fields.decode()) if ndjson else fields
            assert (
                fields.items()
                <= {
                    "key": item.key,
                    "value": item.value,
                    "idempotency_key": item.idempotency_key,
                }.items()
            )
            assert -VALUE_MAX * negative <= item.value <= VALUE_MAX
            assert item.idempotency_key is None or 1 <= len(item.idempotency_key) <= ID_CHARS_MAX
            assert 1 <= len(item.key.encode()) <= KEY_BYTES_MAX
    assert list(map(told, taken)) == list(map(told, batch._strict(ndjson, body, namespace)))


def told(item: Item | BadRequest) -> tuple[object, ...]:
    return (item.key, item.value, item.idempotency_key) if isinstance(item, Item) else (str(item),)


@given(st.binary(max_size=40) | st.text(max_size=20).map(lambda text: quote(text, safe="/ ").encode()))
def test_a_key_in_a_path_is_its_bytes_decoded_once(raw: bytes) -> None:
    try:
        key = key_of_path(raw)
    except BadRequest:
        return
    assert quote(key, safe="").lower() == quote_rest(raw).lower()


def quote_rest(raw: bytes) -> str:
    """`raw` with everything escaped that may be, and what is escaped already left so."""
    text, at = "", 0
    while at < len(raw):
        size = 3 if raw[at] == 0x25 else 1
        text += quote(bytes((int(raw[at + 1 : at + 3], 16),)) if size == 3 else raw[at : at + 1], safe="")
        at += size
    return text


@given(edited(GOOD[-1:]) | st.binary(max_size=40))
def test_terms_are_taken_or_refused(body: bytes) -> None:
    try:
        terms = parse_terms("shop", None, body)
    except BadRequest:
        return
    assert terms.items() <= {**json.loads(body.decode()), **terms}.items()


# --- heads and tokens -------------------------------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(
        [
            *("Host: a", "Content-Length: 2", "Idempotency-Key: one", "X-Request-ID: 1", "Authorization: Bearer t"),
            *("idempotency-key: two", "Authorization: Basic t", "Authorization: Bearer  t", "Idempotency-Key: a b", ""),
        ]
    ),
    max_size=6,
)


@given(
    LINES | st.text(max_size=40).map(lambda text: [text]), st.sampled_from([b"", b"{}", b"\r\nIdempotency-Key: x\r\n"])
)
def test_what_is_cut_out_of_a_head_is_all_that_is_missing(lines: list[str], body: bytes) -> None:
    """So requests that are taken for one another differ in these values and the body only."""
    data = "\r\n".join(["POST /increment HTTP/1.1", *lines, "", ""]).encode() + body
    for split, with_token in ((whole_request, False), (guarded_request, True)):
        whole = split(data)
        if whole is None:
            continue
        head = whole.template
        values = [
            (b"\r\nX-Request-ID: ", whole.request_id),
            (b"\r\nIdempotency-Key: ", whole.idempotency_key),
            (b"\r\nAuthorization: Bearer ", whole.authorization and whole.authorization.removeprefix("Bearer ")),
        ]
        for name, value in values:
            if value is not None:
                at = head.index(name) + len(name)
                head = head[:at] + value.encode() + head[at:]
        assert head + whole.body == data
        assert with_token or whole.authorization is None


@given(st.text(max_size=200) | edited([line_of("t", ["read"], ["a"]).encode()]).map(lambda raw: raw.decode("latin-1")))
def test_lines_of_tokens_are_taken_or_refused_and_never_shown(text: str) -> None:
    said = ""
    try:
        tokens = parse_tokens(text)
    except ValueError as error:
        said, tokens = str(error), []
    assert not [word for word in text.split() if len(word) > 20 and word in said]
    assert all(token.scopes and token.namespaces and len(token.digest) == 32 for token in tokens)


@given(st.none() | st.text(max_size=60) | st.text(max_size=10).map("Bearer {}".format))
def test_no_header_but_the_tokens_own_is_let_in(authorization: str | None) -> None:
    assume(authorization is None or authorization.rstrip(" ") != "Bearer t")
    with pytest.raises((Unauthorized, Forbidden)):
        Tokens(parse_tokens(line_of("t", ["read"], ["a"]))).check(authorization, Need("read", "a"))
