"""What may be asked of a namespace."""

from __future__ import annotations

import pytest

from node.errors import BadRequest
from node.terms import Namespace, check_key, describe, parse_terms


def test_terms_are_read_and_told_alike() -> None:
    body = (
        b'{"strategy":"rollup","idempotency_window_s":60,"idempotency_key_required":true,"negative_allowed":true,'
        b'"history":true,"keep_days":0}'
    )
    assert describe(Namespace("shop", **parse_terms(body))) == {"name": "shop", **parse_terms(body)}
    assert parse_terms(b'{"keep_days":null,"idempotency_window_s":null}') == {
        "keep_days": None,
        "idempotency_window_s": None,
    }
    assert parse_terms(b"{}") == {}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON object"),
        (b"[]", "JSON object"),
        (b'{"history":true,"history":true}', "JSON object"),
        (b'{"colour":"red"}', "'colour'"),
        (b'{"name":"other"}', "'name'"),
        (b'{"strategy":"fast"}', "`strategy` must be one of dist, sync, rollup"),
        (b'{"strategy":null}', "strategy"),
        (b'{"strategy":["dist"]}', "strategy"),
        (b'{"history":1}', "`history` must be true or false"),
        (b'{"negative_allowed":"yes"}', "negative_allowed"),
        (b'{"idempotency_key_required":null}', "idempotency_key_required"),
        (b'{"idempotency_window_s":59}', "`idempotency_window_s` must be an integer from 60"),
        (b'{"idempotency_window_s":true}', "idempotency_window_s"),
        (b'{"idempotency_window_s":60.5}', "idempotency_window_s"),
        (b'{"keep_days":-1}', "`keep_days` must be an integer from 0"),
        (b'{"keep_days":36501}', "keep_days"),
    ],
)
def test_what_is_wrong_is_named(body: bytes, named: str) -> None:
    with pytest.raises(BadRequest) as refused:
        parse_terms(body)
    assert named in str(refused.value)


def test_an_idempotency_key_is_asked_for_where_it_is_required_only() -> None:
    check_key(Namespace(), None)
    check_key(Namespace(idempotency_key_required=True), "x")
    with pytest.raises(BadRequest, match="idempotency key"):
        check_key(Namespace(idempotency_key_required=True), None)
