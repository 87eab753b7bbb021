"""Bodies of POST /increment, and the headers that say how to read them."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterator

from tests.http.case import GOOD, POST, TYPE, Case, case, sized
from tests.http.client import FORM, post


def with_value(text: str) -> bytes:
    return post(f'{{"key":"@KEY@","value":{text}}}'.encode())


def with_key(text: str | bytes) -> bytes:
    """`text` is JSON."""
    return post(b'{"key":%s,"value":1}' % (text if isinstance(text, bytes) else text.encode()))


def form(text: str | bytes) -> bytes:
    return post(text if isinstance(text, bytes) else text.encode(), FORM)


def values() -> Iterator[Case]:
    for text in ("true", "false", "null", "NaN", "Infinity", "-Infinity", '"1"', '""', "[]", "[1]", "{}"):
        yield case(f"value {text}", with_value(text), 400)
    for text in ("1.0", "1e3", "1E0", "-0.0", "0.0", "-1", "-9007199254740991", "1e400", "0e0"):
        yield case(f"value {text}", with_value(text), 400)
    for text in ("01", "+1", "1_000", "0x10", "1.", ".5", "--1", "١", "１", "²", "1 2", "''", "tru", "1,"):
        yield case(f"value {text}", with_value(text), 400)
    yield case("value 0", with_value("0"), 204, value=0)
    yield case("value -0", with_value("-0"), 204, value=0)
    yield case("value 2^53 - 1", with_value(str(2**53 - 1)), 204, value=2**53 - 1)
    for exponent in (53, 63, 64):
        yield case(f"value 2^{exponent}", with_value(str(2**exponent)), 400)
    yield case("value 10^400", with_value("1" + "0" * 400), 400)
    yield case("value of 5000 digits", with_value("1" * 5000), 400)


def keys() -> Iterator[Case]:
    for text in ('""', "1", "null", "[]", "{}", "true", '["a"]'):
        yield case(f"key {text}", with_key(text), 400)
    for text in (r'"a\u0000b"', r'"\u0000"', r'"\ud800"', r'"\udc00\ud800"', r'"a\udfff"'):
        yield case(f"key {text}", with_key(text), 400)
    for name, raw in {
        "a raw surrogate": b"\xed\xa0\x80",
        "byte FF": b"\xff",
        "an overlong NUL": b"\xc0\x80",
        "half a character": b"\xe2\x82",
        "a raw NUL": b"\x00",
        "a raw line break": b"\n",
        "UTF-8 above U+10FFFF": b"\xf4\x90\x80\x80",
    }.items():
        yield case(f"key with {name}", with_key(b'"' + raw + b'"'), 400)
    yield case("key of 513 bytes", with_key('"' + "x" * 513 + '"'), 400)
    yield case("key of 513 bytes in 171 characters", with_key('"' + "€" * 171 + '"'), 400)
    for key in ("x" * 512, "🙂" * 128, *ODD_KEYS):
        yield case(f"key {key[:24]!r} of {len(key.encode())} bytes", with_key(json.dumps(key)), 204, key=key)
        raw = json.dumps(key, ensure_ascii=False)
        yield case(f"key {key[:24]!r} of {len(key.encode())} bytes, not escaped", with_key(raw), 204, key=key)


ODD_KEYS = (
    " ", "   ", "a b", "é", "e\u0301", "🙂", "👨\u200d👩\u200d👧", "\ufeff", "\u202e", "\uffff", "\U0010ffff", "a\r\nb",
    "a\nb", "\x1b[31m", "\t", "\x7f", "a:b|c", ":", "|c|@0", '"', "\\", "'", "<script>alert(1)</script>", "{p0}",
    "{tally}:members", "*", "%", "%41", "%2F", "%zz", "+", "&=", "?", "a?b=c", "#", "/", "//", "a/b", "../x", "..", ".",
    "a/../b", "__proto__", "constructor", "'; DROP TABLE key_counters; --", "$1", "${x}", "null", "0", "default:x",
    "x\u2028y", "\u00a0", "ß", "İ",
)  # fmt: skip


def bodies() -> Iterator[Case]:
    for text in ("", " ", "\n\t ", "[]", "[1]", "1", '"x"', "null", "true", "{}", "{", "}", '{"key"', "key=a&value=1"):
        yield case(f"body {text!r}", post(text.encode()), 400)
    for name, text in {
        "no key": '{"value":1}',
        "no value": '{"key":"@KEY@"}',
        "key twice": '{"key":"@KEY@","key":"@KEY@","value":1}',
        "value twice": '{"key":"@KEY@","value":1,"value":1}',
        "an ignored field twice": '{"key":"@KEY@","value":1,"x":{"y":1,"y":1}}',
        "key twice, once escaped": r'{"key":"@KEY@","k\u0065y":"@KEY@","value":1}',
        "upper case fields": '{"KEY":"@KEY@","Value":1}',
        "trailing data": '{"key":"@KEY@","value":1}x',
        "two objects": '{"key":"@KEY@","value":1}{"key":"@KEY@","value":1}',
        "a list of one": '[{"key":"@KEY@","value":1}]',
        "a trailing comma": '{"key":"@KEY@","value":1,}',
        "a comment": '{"key":"@KEY@",/* */"value":1}',
        "single quotes": "{'key':'@KEY@','value':1}",
        "bare names": '{key:"@KEY@",value:1}',
        "NaN in an ignored field": '{"key":"@KEY@","value":1,"x":NaN}',
        "a line break in a string": '{"key":"@KEY@","value":1,"x":"\n"}',
        "a bad escape": r'{"key":"@KEY@","value":1,"x":"\x41"}',
        "a form feed between": '{"key":"@KEY@",\f"value":1}',
        "no-break space between": '{"key":"@KEY@",\u00a0"value":1}',
        "a NUL after it": '{"key":"@KEY@","value":1}\0',
        "depth 900 in an ignored field": '{"key":"@KEY@","value":1,"x":' + "[" * 900 + "]" * 900 + "}",
        "depth 8000, unclosed": "[" * 8000,
        "depth 8000 of objects, unclosed": '{"a":' * 3000,
        "quotes without end": '"' + '\\"' * 8000,
        "backslashes without end": '"' + "\\" * 16000,
    }.items():
        yield case(name, post(text.encode()), 400)
    for name, body in {
        "a byte order mark": b"\xef\xbb\xbf" + GOOD,
        "UTF-16": GOOD.decode().encode("utf-16"),
        "UTF-16 without a mark": GOOD.decode().encode("utf-16-le"),
        "UTF-32": GOOD.decode().encode("utf-32"),
        "gzip without saying so": gzip.compress(GOOD),
        "byte FF in an ignored field": b'{"key":"@KEY@","value":1,"x":"\xff"}',
    }.items():
        yield case(f"body in {name}", post(body), 400)
    for name, text in {
        "extra fields": '{"a":[{}],"key":"@KEY@","b":1.5e3,"value":1,"c":null}',
        "value before key": '{"value":1,"key":"@KEY@"}',
        "white space everywhere": ' \r\n\t{ "key"\n:\t"@KEY@" , "value" : 1 } \r\n',
        "escapes": r'{"\u006bey":"@KEY@","v\u0061lue":1}',
        "brackets in strings": '{"key":"@KEY@","value":1,"x":"' + "[{" * 500 + '"}',
        "a lone surrogate in an ignored field": r'{"key":"@KEY@","value":1,"x":"\ud800"}',
        "fields of Python objects": '{"__class__":{},"__init__":1,"key":"@KEY@","value":1}',
    }.items():
        yield case(name, post(text.encode()), 204)
    padding = 16 * 1024 - len(GOOD)
    yield case("body of 16 KiB of spaces and JSON", post(b" " * (padding - 60) + GOOD), 204)
    yield case("body of 16 KiB + 1", post(b" " * 16384 + b"1"), 413)
    yield case("body of 1 MB in an ignored field", post(b'{"x":"' + b"x" * 1_000_000 + b'"}'), 413)
    yield case("body of 50,000 members", post(b"{" + b'"a":1,' * 50_000 + b'"key":"@KEY@","value":1}'), 413)


def content_types() -> Iterator[Case]:
    for kind in (
        "", "text/plain", "text/json", "application/jsonx", "application/xml", "*/*", "application/*", "json",
        "multipart/form-data; boundary=x", "application/json; charset=utf-16", "application/json;charset=latin-1",
        'application/json; charset="utf-16"', "application/json; charset=", "application/octet-stream", ";",
        "application/json,text/plain",
        FORM,
    ):  # fmt: skip
        yield case(f"Content-Type {kind!r}", post(GOOD, kind), 400)
    yield case("no Content-Type", post(GOOD, None), 400)
    yield case("Content-Type twice", sized(POST + TYPE, GOOD), 400)
    for kind in (
        "application/json; charset=utf-8", "application/json;charset=UTF-8", 'application/json; charset="utf-8"',
        "Application/JSON", "application/json ; x=y",
    ):  # fmt: skip
        yield case(f"Content-Type {kind!r}", post(GOOD, kind), 204)
    for coding in ("gzip", "deflate", "br", "identity, gzip", "x"):
        body = gzip.compress(GOOD) if "gzip" in coding else GOOD
        yield case(f"Content-Encoding {coding}", post(body, Content_Encoding=coding), 400)
    bomb = gzip.compress(b'{"key":"@KEY@","value":1,"x":"' + b"x" * 10_000_000 + b'"}')
    yield case("a gzip bomb", post(bomb[:16000], Content_Encoding="gzip"), 400)
    yield case("Content-Encoding identity", post(GOOD, Content_Encoding="identity"), 204)


def forms() -> Iterator[Case]:
    for text in (
        "1_000", "+12+", "%2012", "+5", "%2B5", "-1", "%D9%A1", "%EF%BC%91", "%C2%B2", "1e3", "0x10", "00012", "01",
        "1.0", "",
        "true", "9007199254740992", "99999999999999999", "1" * 5000, "1%00", "1;2", "0%0A",
    ):  # fmt: skip
        yield case(f"form value {text[:24]}", form(f"key=@KEY@&value={text}"), 400)
    for name, text in {
        "key twice": "key=@KEY@&key=@KEY@&value=1",
        "value twice": "key=@KEY@&value=1&value=1",
        "no value": "key=@KEY@",
        "no key": "value=1",
        "an empty key": "key=&value=1",
        "%00 in the key": "key=@KEY@%00&value=1",
        "%FF in the key": "key=@KEY@%FF&value=1",
        "a surrogate in the key": "key=@KEY@%ED%A0%80&value=1",
        "a key of 513 bytes": "key=" + "x" * 513 + "&value=1",
        "%FF in an ignored field": "key=@KEY@&value=1&x=%FF",
        "65 fields": "key=@KEY@&value=1" + "".join(f"&f{i}=" for i in range(63)),
        "semicolons": "key=@KEY@;value=1",
        "an empty idempotency key": "key=@KEY@&value=1&idempotency_key=",
        "nothing": "",
    }.items():
        yield case(f"form with {name}", form(text), 400)
    yield case("form in raw byte FF", form(b"key=@KEY@\xff&value=1"), 400)
    yield case("form", form("key=@KEY@&value=7"), 204, value=7)
    yield case("form with 0", form("key=@KEY@&value=0"), 204, value=0)
    yield case("form with an ignored field", form("a=b&key=@KEY@&value=1&c"), 204)
    yield case("form with an escaped digit", form("key=@KEY@&value=%31"), 204)
    yield case("form with charset", post(b"key=@KEY@&value=1", FORM + "; charset=UTF-8"), 204)
    for name, text, key in (
        ("+ for a space", "form+a", "form a"),
        ("%2B for a plus", "form%2Ba", "form+a"),
        ("percent-encoded UTF-8", "form%F0%9F%99%82", "form🙂"),
        ("raw UTF-8", "formé", "formé"),
        ("& and = in the key", "form%26%3D", "form&="),
        ("a % that begins no escape", "form%zz", "form%zz"),
    ):
        yield case(f"form with {name}", form(f"key={text}&value=1"), 204, key=key)


def idempotency_keys() -> Iterator[Case]:
    def header(text: str) -> bytes:
        return post(GOOD, Idempotency_Key=text)

    yield case("Idempotency-Key empty", header(""), 400)
    yield case("Idempotency-Key empty, quoted", header('""'), 400)
    yield case("Idempotency-Key of 255 characters", header("x" * 255), 204)
    yield case("Idempotency-Key of 256 characters", header("x" * 256), 400)
    yield case("Idempotency-Key of 255 characters, quoted", header('"' + "x" * 255 + '"'), 204)
    yield case("Idempotency-Key of 256 characters, quoted", header('"' + "x" * 256 + '"'), 400)
    yield case("Idempotency-Key not ASCII", header("caf\xe9"), 400)
    yield case("Idempotency-Key with a tab", header("a\tb"), 400)
    yield case("Idempotency-Key with DEL", header("a\x7fb"), 400)
    yield case("Idempotency-Key with ESC", header("a\x1bb"), 400)
    yield case("Idempotency-Key with NUL", header("a\x00b"), 400)
    yield case("Idempotency-Key with one quote", header('"a'), 400)
    yield case("Idempotency-Key with a parameter", header('"a";b=1'), 400)
    yield case("Idempotency-Key with a bad escape", header(r'"a\b"'), 400)
    twice = sized(POST + b"Idempotency-Key: a\r\nIdempotency-Key: a\r\n", GOOD)
    yield case("Idempotency-Key twice", twice, 400)
    for text in ("1", "true", "[]", "{}", '""', '"' + "x" * 256 + '"', r'"\u0000"', r'"\ud800"'):
        body = b'{"key":"@KEY@","value":1,"idempotency_key":%s}' % text.encode()
        yield case(f"idempotency_key {text[:16]}", post(body), 400)
    for text in ("null", '"a"', '"' + "é" * 255 + '"', '"a\\tb"'):
        body = b'{"key":"@KEY@","value":1,"idempotency_key":%s}' % text.encode()
        yield case(f"idempotency_key {text[:16]}", post(body), 204)
    both = b'{"key":"@KEY@","value":1,"idempotency_key":"b"}'
    yield case("Idempotency-Key and another idempotency_key", post(both, Idempotency_Key="a"), 400)
    yield case("Idempotency-Key and the same idempotency_key", post(both, Idempotency_Key='"b"'), 204)


def body_cases() -> Iterator[Case]:
    for group in (values, keys, bodies, content_types, forms, idempotency_keys):
        yield from group()
