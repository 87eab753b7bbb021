"""What may be asked of a namespace."""

from __future__ import annotations

import json

import pytest

from node.errors import BadRequest
from node.terms import Namespace, check_keep_days, check_key, describe, parse_terms


def test_terms_are_read_and_told_alike() -> None:
    body = (
        b'{"strategy":"rollup","idempotency_window_s":60,"idempotency_key_required":true,"negative_allowed":true,'
        b'"history":true,"keep_days":0}'
    )
    assert describe(Namespace("shop", **parse_terms("shop", None, body))) == {
        "name": "shop",
        **parse_terms("shop", None, body),
    }
    assert parse_terms("shop", None, b'{"keep_days":null,"idempotency_window_s":null}') == {
        "keep_days": None,
        "idempotency_window_s": None,
    }
    assert parse_terms("shop", None, b"{}") == {}


@pytest.mark.parametrize(
    ("body", "named"),
    [
        (b"", "JSON object"),
        (b"[]", "JSON object"),
        (b'{"history":true,"history":true}', "JSON object"),
        (b'{"colour":"red"}', "'colour'"),
        (b'{"name":"other"}', "'shop'"),
        (b'{"name":null}', "'shop'"),
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
        parse_terms("shop", None, body)
    assert named in str(refused.value)


def test_an_idempotency_key_is_asked_for_where_it_is_required_only() -> None:
    check_key(Namespace(), None)
    check_key(Namespace(idempotency_key_required=True), "x")
    with pytest.raises(BadRequest, match="idempotency key"):
        check_key(Namespace(idempotency_key_required=True), None)


def test_what_is_told_of_a_namespace_may_be_put_again() -> None:
    for namespace in (Namespace("shop"), Namespace("shop", "rollup", keep_days=7)):
        told = describe(namespace)
        terms = parse_terms("shop", "application/json", json.dumps(told).encode())
        check_keep_days(namespace.strategy, terms)
        assert {"name": "shop", **terms} == told


@pytest.mark.parametrize(
    "kind", ["", "text/plain", "application/x-www-form-urlencoded", "application/json; charset=utf-16"]
)
def test_terms_come_as_json(kind: str) -> None:
    with pytest.raises(BadRequest, match="Send"):
        parse_terms("shop", kind, b"{}")


def test_days_are_kept_only_where_increments_are() -> None:
    check_keep_days("rollup", {"keep_days": 3})
    for strategy in ("dist", "sync"):
        check_keep_days(strategy, {"keep_days": None})
        with pytest.raises(BadRequest, match=f"rollup only, and this namespace counts by {strategy}"):
            check_keep_days(strategy, {"keep_days": 0})
