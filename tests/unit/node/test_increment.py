"""What is accepted, and that whatever is accepted can be stored."""

from __future__ import annotations

import json
import time
from typing import Any
from urllib.parse import quote, quote_plus, urlencode

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from node import increment
from node.errors import BadRequest
from node.increment import (
    BODY_BYTES_MAX,
    DEPTH_MAX,
    ID_CHARS_MAX,
    KEY_BYTES_MAX,
    VALUE_MAX,
    Increment,
    counter_name,
    json_object,
    key_of_path,
    parse_idempotency_header,
    parse_increment,
    split_counter,
    valid_key,
)

JSON = "application/json"
FORM = "application/x-www-form-urlencoded"

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | st.binary().map(repr),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
good_keys = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=128)
good_values = st.integers(0, VALUE_MAX)
good_ids = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), min_size=1, max_size=ID_CHARS_MAX)


def outcome(content_type: str | None, body: bytes, header: str | None = None) -> Increment | None:
    try:
        return parse_increment(content_type, body, header, None)
    except BadRequest as error:
        refusal = str(error)
    assert refusal == "Bad Request.", "the wire contract fixes the answer's bytes"
    return None


def storable(parsed: Increment) -> bool:
    namespace, key = split_counter(parsed.counter)
    encoded = key.encode()
    return (
        namespace == "default"
        and 1 <= len(encoded) <= KEY_BYTES_MAX
        and "\0" not in key
        and type(parsed.value) is int
        and 0 <= parsed.value <= VALUE_MAX
        and (parsed.idempotency_key is None or 1 <= len(parsed.idempotency_key) <= ID_CHARS_MAX)
    )


@given(
    st.fixed_dictionaries({}, optional={"key": anything, "value": anything, "idempotency_key": anything, "x": anything})
)
@example({"key": "a", "value": True})
@example({"key": "\ud800", "value": 1})
@example({"key": "a\0", "value": 1})
def test_whatever_json_is_accepted_can_be_stored(fields: dict[str, Any]) -> None:
    parsed = outcome(JSON, json.dumps(fields).encode())
    assert parsed is None or storable(parsed)


@given(st.sampled_from([JSON, FORM, None, "text/plain", JSON + "; charset=utf-8"]), st.binary(max_size=200))
def test_whatever_bytes_are_accepted_can_be_stored(content_type: str | None, body: bytes) -> None:
    parsed = outcome(content_type, body)
    assert parsed is None or storable(parsed)


@given(good_keys, good_values, st.none() | good_ids, st.booleans())
def test_every_good_increment_is_taken_from_json(key: str, value: int, id_: str | None, ascii_: bool) -> None:
    body = json.dumps({"key": key, "value": value, "idempotency_key": id_}, ensure_ascii=ascii_).encode()
    assert outcome(JSON, body) == Increment(f"default:{key}", value, id_)


@given(good_keys, good_values, st.none() | good_ids, st.sampled_from([quote, quote_plus]))
def test_form_and_json_agree(key: str, value: int, id_: str | None, quoting: Any) -> None:
    fields: dict[str, Any] = {"key": key, "value": value} | ({} if id_ is None else {"idempotency_key": id_})
    form = urlencode(fields, quote_via=quoting).encode()
    assert outcome(FORM, form) == outcome(JSON, json.dumps(fields).encode()) == Increment(f"default:{key}", value, id_)


@given(
    st.text(st.sampled_from(' \t\r\n{}":,\\keyvalu0123456789-+.eE/*\x0b\x0c\xa0é🙂\0')).map(str.encode)
    | st.builds(
        lambda spaces, key, digits: (
            f'{spaces[0]}{{{spaces[1]}"key"{spaces[2]}:{spaces[3]}"{key}"{spaces[4]},{spaces[5]}"value"{spaces[6]}:'
            f"{spaces[7]}{digits}{spaces[8]}}}{spaces[9]}"
        ).encode(),
        st.lists(st.sampled_from(["", " ", "\t\r\n", "\x0b", "\u00a0"]), min_size=10, max_size=10),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
        st.from_regex(r"\A-?[0-9]{1,18}\Z"),
    )
)
@example(b'{"key":"a","value":01}')
@example(b'{"key":"\x7f","value":0}')
@example(b'{"key":"\xff","value":0}')
@example(b'{"key":"' + b"\xed\xa0\x80" + b'","value":0}')
@example(b'{"key":"a","value":9007199254740992}')
def test_the_fast_path_and_the_strict_reader_agree(body: bytes) -> None:
    strict = outcome(JSON + ";", body)  # another content type: the fast path is for the common one only
    assert outcome(JSON, body) == strict


def test_the_common_body_takes_the_fast_path(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(increment, "_fields", lambda *_: pytest.fail("the strict reader was asked"))
    for body in (
        '{"key":"hello world","value":1}',
        '{ "key" : "é🙂", "value" : 0 }\n',
        '{"key":"<a>","value":9007199254740991}',
    ):
        assert outcome(JSON, body.encode()) is not None


@pytest.mark.parametrize("size", [1, KEY_BYTES_MAX, KEY_BYTES_MAX + 1])
@pytest.mark.parametrize("character", ["x", "é", "€", "🙂"])
def test_a_keys_limit_is_in_bytes(character: str, size: int) -> None:
    key = character * (size // len(character.encode())) + "x" * (size % len(character.encode()))
    assert len(key.encode()) == size
    for body in (json.dumps({"key": key, "value": 1}), json.dumps({"key": key, "value": 1}, ensure_ascii=False)):
        assert (outcome(JSON, body.encode()) is not None) == (size <= KEY_BYTES_MAX)


@pytest.mark.parametrize(
    "value", ["-0", "0", "00", "1", "9007199254740991", "9007199254740992", "1" * 5000, "1.0", "1e0"]
)
def test_a_value_is_an_integer_from_0_to_2_to_the_53_minus_1(value: str) -> None:
    parsed = outcome(JSON, b'{"key":"a","value":%s}' % value.encode())
    assert (parsed is not None) == (value in ("-0", "0", "1", "9007199254740991"))


@pytest.mark.parametrize("depth", [DEPTH_MAX - 1, DEPTH_MAX, 1000, 7000])
def test_depth_is_bounded_wherever_it_is(depth: int) -> None:
    body = b'{"key":"a","value":1,"x":%s%s}' % (b"[" * depth, b"]" * depth)
    assert (outcome(JSON, body) is not None) == (depth < DEPTH_MAX)


def test_brackets_in_a_string_are_no_depth() -> None:
    assert json_object(b'{"x":"' + b"[" * 500 + b'\\"[[["}') == {"x": "[" * 500 + '"[[['}


@pytest.mark.parametrize(
    "body",
    [
        b'"' + b'\\"' * 8000,
        b'"' * 16000,
        b'"\\' * 8000,
        b"\\" * 16000,
        b'{"key":"' + b" " * 16000,
        b" " * 16000 + b"x",
        b'{"key":"' + b"a" * 16000 + b'","value":',
        b"[" * 16000,
        b'{"a":' * 3000,
        b"9" * 16000,
        b'{"key":"a","value":' + b"1" * 16000 + b"}",
    ],
    ids=range(11),
)
def test_no_body_takes_long_to_refuse(body: bytes) -> None:
    assert len(body) <= BODY_BYTES_MAX
    began = time.perf_counter()
    for _ in range(5):
        assert outcome(JSON, body) is None
        assert outcome(FORM, body) is None
    assert time.perf_counter() - began < 0.5, "a body that is quadratic takes seconds"


# --- idempotency keys -------------------------------------------------------------------------------------------------


def quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'


@given(st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=ID_CHARS_MAX))
def test_a_quoted_header_is_the_same_key_as_a_bare_one(text: str) -> None:
    assert parse_idempotency_header(quoted(text)) == text
    if text == text.strip() and not text.startswith('"'):
        assert parse_idempotency_header(text) == parse_idempotency_header(f" {text}\t") == text


@given(st.text(max_size=300) | st.text(st.characters(max_codepoint=255), max_size=300))
@example('"')
@example('""')
@example('"a"b"')
@example('"a\\"')
def test_an_idempotency_header_is_visible_ascii_of_1_to_255_characters_or_refused(text: str) -> None:
    try:
        key = parse_idempotency_header(text)
    except BadRequest:
        return
    assert key is not None
    assert 1 <= len(key) <= ID_CHARS_MAX
    assert key.isascii()
    assert key.isprintable()
    assert parse_idempotency_header(quoted(key)) == key


def test_header_and_body_may_both_name_the_key_if_they_agree() -> None:
    body = b'{"key":"a","value":1,"idempotency_key":"x"}'
    assert (
        outcome(JSON, body, '"x"') == outcome(JSON, body, "x") == outcome(JSON, body) == Increment("default:a", 1, "x")
    )
    assert outcome(JSON, body, "y") is None


def test_a_request_id_is_a_short_lived_key_unless_the_client_has_its_own() -> None:
    body = b'{"key":"a","value":1}'
    assert parse_increment(JSON, body, None, "r") == Increment("default:a", 1, "r", short_lived=True)
    assert parse_increment(JSON, body, "x", "r") == Increment("default:a", 1, "x", short_lived=False)
    assert parse_increment(JSON, body, None, "") == Increment("default:a", 1)
    assert len(str(parse_increment(JSON, body, None, "r" * 5000).idempotency_key)) == ID_CHARS_MAX


# --- paths ------------------------------------------------------------------------------------------------------------


@given(good_keys, st.sampled_from(["", "/", "/:@!$&'()*+,;=~"]))
def test_a_key_is_found_under_its_percent_encoded_path(key: str, safe: str) -> None:
    assert key_of_path(quote(key, safe=safe).encode()) == key


@given(st.binary(max_size=60))
def test_a_path_decodes_to_a_key_that_can_be_stored_or_is_refused(raw: bytes) -> None:
    try:
        key = key_of_path(raw)
    except BadRequest as error:
        refusal = str(error)
    else:
        refusal = "Bad Request."
        assert valid_key(key) == key
    assert refusal == "Bad Request."


@given(st.lists(st.integers(0, 255), min_size=1, max_size=4))
def test_two_paths_are_one_key_only_if_their_bytes_are(octets: list[int]) -> None:
    raw = bytes(octets)
    try:
        assert key_of_path("".join(f"%{octet:02x}" for octet in octets).encode()).encode() == raw
    except BadRequest:
        with pytest.raises((BadRequest, UnicodeDecodeError)):
            valid_key(raw.decode())


@pytest.mark.parametrize("raw", [b"%", b"%4", b"%zz", b"a%2", b"%%41", b"%u0041", b"%00", b"%FF", b"%C0%80", b""])
def test_a_path_that_is_badly_encoded_is_refused(raw: bytes) -> None:
    with pytest.raises(BadRequest):
        key_of_path(raw)


@given(st.from_regex(r"\A[a-z0-9_-]{1,8}\Z"), good_keys)
def test_a_counters_name_splits_at_its_first_colon(namespace: str, key: str) -> None:
    assert split_counter(counter_name(namespace, key)) == (namespace, key)
