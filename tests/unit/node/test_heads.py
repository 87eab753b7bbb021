"""Heads that are known: taken without a parser only where the parser would have said the same."""

from __future__ import annotations

import pytest

from node.heads import HEAD_BYTES_MAX, Head, Heads, Whole, whole_request

HEAD = b"POST /increment HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\nContent-Length: 2\r\n"
KNOWN = Head(b"/increment", "application/json", 2, None)


def request(*lines: bytes, body: bytes = b"{}") -> bytes:
    return HEAD + b"".join(line + b"\r\n" for line in lines) + b"\r\n" + body


def whole(data: bytes) -> Whole:
    found = whole_request(data)
    assert found is not None
    return found


@pytest.fixture
def heads() -> Heads:
    heads = Heads()
    heads.learn(whole(request()), KNOWN)
    heads.learn(whole(request(b"Idempotency-Key: one")), KNOWN)
    heads.learn(whole(request(b"X-Request-ID: 1", b"Idempotency-Key: one")), KNOWN)
    return heads


def test_the_same_bytes_are_known(heads: Heads) -> None:
    assert heads.find(whole(request())) is KNOWN
    assert heads.find(whole(request(body=b"[]"))) is KNOWN


@pytest.mark.parametrize("key", ["two", "x" * 255, '"quoted"', "a:b", "}{"])
def test_another_id_in_a_known_head_is_found(heads: Heads, key: str) -> None:
    found = whole(request(b"Idempotency-Key: " + key.encode()))
    assert (heads.find(found), found.idempotency_key, found.request_id) == (KNOWN, key, None)
    both = whole(request(b"X-Request-ID: 77", b"Idempotency-Key: " + key.encode()))
    assert (heads.find(both), both.idempotency_key, both.request_id) == (KNOWN, key, "77")


@pytest.mark.parametrize(
    "value", [b"", b" ", b"a b", b"a\tb", b"a ", b" a", b"\xff", b"a\x00b", b"x" * 256, b"\r", b"a\nb"]
)
def test_an_id_that_a_parser_might_read_differently_is_left_to_it(value: bytes) -> None:
    assert whole_request(request(b"Idempotency-Key: " + value)) is None


@pytest.mark.parametrize(
    "data",
    [
        request(body=b"{"),  # not all of it yet
        request(body=b"{} "),  # and the next request's first byte
        request(body=b"{}") * 2,
        request(b"idempotency-key: one"),
        request(b"Idempotency-Key: one", b"Idempotency-Key: two"),
        request(b"Idempotency-Key:one"),
        request(b"X-Request-ID: 1"),
        request(b"Expect: 100-continue"),
        request(b"Transfer-Encoding: chunked"),
        request().replace(b"Host: a", b"Host: b"),
        request().replace(b"HTTP/1.1", b"HTTP/1.0"),
        request().replace(b"POST", b"post"),
        request().replace(b"\r\n", b"\n"),
        b"\r\n" + request(),
        b"",
        b"\r\n\r\n",
    ],
)
def test_anything_else_is_not_known(heads: Heads, data: bytes) -> None:
    found = whole_request(data)
    assert found is None or heads.find(found) is None


def test_a_head_that_was_not_one_whole_request_is_not_learned() -> None:
    heads = Heads()
    heads.learn(whole(request(body=b"{}POST")), KNOWN)
    assert heads.find(whole(request())) is None


def test_an_id_in_the_body_is_no_header(heads: Heads) -> None:
    body = b"\r\nIdempotency-Key: one\r\n\r\n"
    found = whole(request(body=body))
    assert (found.idempotency_key, found.body) == (None, body)


def test_a_long_head_is_parsed_each_time() -> None:
    assert whole_request(request(b"A: " + b"x" * HEAD_BYTES_MAX)) is None


def test_the_number_of_heads_is_bounded() -> None:
    heads = Heads(heads_max=10)
    for i in range(25):
        heads.learn(whole(request(b"A: %d" % i)), KNOWN)
    known = [i for i in range(25) if heads.find(whole(request(b"A: %d" % i))) is not None]
    assert known == list(range(20, 25))
