"""Batches: what is asked for, how it is bundled, what is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import batch
from node.batch import Item, all_replayed, describe, increments_of, prefers_minimal, results, terms_under, worst
from node.call import Outcome, digest_of
from node.errors import BadRequest, LogUnavailable, Unanswered
from node.increment import VALUE_MAX, Increment, parse_idempotency_header, valid_id, valid_namespace
from node.terms import Namespace
from tests.unit.node.batches import parse_batch

JSON, NDJSON = "application/json", "application/x-ndjson"
NS = Namespace()


def parsed(items: object) -> list[Item | BadRequest]:
    return parse_batch(JSON, json.dumps(items).encode(), NS)


def test_an_array_is_read_in_order():
    body = [{"key": "a", "value": 1}, {"key": "b", "value": 0, "idempotency_key": "x"}]
    assert parsed(body) == [Item("a", 1), Item("b", 0, "x")]


def test_lines_are_read_in_order_and_empty_ones_are_passed_over():
    body = b'{"key":"a","value":1}\n\n{"key":"b","value":2}\n'
    assert parse_batch(NDJSON, body, NS) == [Item("a", 1), Item("b", 2)]


@pytest.mark.parametrize(
    ("item", "about"),
    [
        ({"key": "a"}, "value"),
        ({"value": 1}, "key"),
        ({"key": "", "value": 1}, "key"),
        ({"key": "a", "value": True}, "value"),
        ({"key": "a", "value": 1.0}, "value"),
        ({"key": "a", "value": -1}, "value"),
        ({"key": "a", "value": VALUE_MAX + 1}, "value"),
        ({"key": "a\0", "value": 1}, "key"),
        ({"key": "\ud800", "value": 1}, "key"),
        ({"key": "x" * 513, "value": 1}, "512"),
        ({"key": "a", "value": 1, "idempotency_key": ""}, "idempotency_key"),
        ({"key": "a", "value": 1, "idempotency_key": "x" * 256}, "idempotency_key"),
        ({"key": "a", "value": 1, "colour": "red"}, "colour"),
        ([1], "object"),
        (7, "object"),
        (None, "object"),
    ],
)
def test_a_bad_item_is_named_and_the_others_count(item, about):
    first, bad, last = parsed([{"key": "a", "value": 1}, item, {"key": "a", "value": 2}])
    assert (first, last) == (Item("a", 1), Item("a", 2))
    assert isinstance(bad, BadRequest)
    assert about in str(bad)


@pytest.mark.parametrize("twice", ['"key":"a","key":"b","value":1', r'"key":"a","\u006bey":"b","value":1'])
@pytest.mark.parametrize("kind", [JSON, NDJSON])
@pytest.mark.parametrize("before", ["", r'{"key":"\ud800","value":1}'], ids=["cut apart", "read whole"])
def test_a_member_given_twice_is_never_one_of_the_two_and_the_other_items_count(twice, kind, before):
    bodies = [before] * bool(before) + ["{" + twice + "}", '{"key":"c","value":2}']
    body = f"[{','.join(bodies)}]" if kind == JSON else "\n".join(bodies)
    *_, item, last = parse_batch(kind, body.encode(), NS)
    assert isinstance(item, BadRequest)
    assert "twice" in str(item)
    assert last == Item("c", 2)


def test_a_line_that_is_no_json_is_refused_alone_and_says_why():
    bad, last = parse_batch(NDJSON, b'{"key":"a"\n{"key":"b","value":1}', NS)
    assert "JSON object" in str(bad)
    assert last == Item("b", 1)


@pytest.mark.parametrize(
    "body", [b"{}", b"[", b"", b"1", b'[{"key":"a","value":1}]x', b"\xff", b"[" * 100_000, b"[NaN]"]
)
def test_what_is_no_array_is_refused_whole_and_says_why(body):
    with pytest.raises(BadRequest, match="array of items"):
        parse_batch(JSON, body, NS)


@pytest.mark.parametrize("kind", [JSON, NDJSON])
def test_a_batch_is_read_as_utf_8_only(kind):
    body = b'[{"key":"a","value":1}]' if kind == JSON else b'{"key":"a","value":1}'
    for charset in ("utf-8", '"UTF-8"'):
        assert parse_batch(f"{kind.upper()}; charset={charset}", body, NS) == [Item("a", 1)]
    with pytest.raises(BadRequest, match="UTF-8"):
        parse_batch(f"{kind}; charset=utf-16", body, NS)


@pytest.mark.parametrize("namespace", ["", "A", "a b", "a:b", "x" * 65, "-a", "é", "a\n"])
def test_a_namespace_is_a_plain_name(namespace):
    with pytest.raises(BadRequest):
        valid_namespace(namespace)


def test_too_many_items_are_refused_whole():
    with pytest.raises(BadRequest, match="10000"):
        parsed([{"key": "a", "value": 1}] * (batch.ITEMS_MAX + 1))


KEYS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=6)
ITEMS = st.lists(
    st.tuples(
        KEYS, st.integers(0, VALUE_MAX), st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    )
)


@given(ITEMS, st.booleans())
def test_the_quick_reader_agrees_with_the_strict_one(items, ascii_only):
    body = [
        {"key": key, "value": value} | ({} if id_ is None else {"idempotency_key": id_}) for key, value, id_ in items
    ]
    text = json.dumps(body, ensure_ascii=ascii_only).encode()
    strict = list(batch._strict(False, text, NS))
    quick = batch._quick(False, text, NS)
    if quick is not None:
        assert quick == strict


def test_outcomes_find_their_items():
    items = parsed(
        [
            {"key": "a", "value": 1},
            {"key": "", "value": 1},
            {"key": "b", "value": 2, "idempotency_key": "y"},
        ]
    )
    increments = increments_of("shop", items)
    assert increments == [Increment("shop:a", 1), Increment("shop:b", 2, "y")]
    found = results(items, increments, [Outcome.REPLAYED, Outcome.MISMATCH])
    assert (found[0], found[2]) == (Outcome.REPLAYED, Outcome.MISMATCH)
    assert isinstance(found[1], BadRequest)
    described = describe(found, minimal=False)
    assert (described["counted"], described["replayed"], described["refused"]) == (0, 1, 2)
    assert [each["status"] for each in described["results"]] == ["replayed", "refused", "refused"]
    assert "results" not in describe(found, minimal=True)


def test_what_a_proxy_sends_again_is_guarded_and_its_client_hears_nothing_of_it():
    items = parsed([{"key": "a", "value": 1}, {"key": "b", "value": 1, "idempotency_key": "x"}])
    increments = increments_of("shop", items, request_id="request-1")
    assert increments == [Increment("shop:a", 1, "request-1/0", short_lived=True), Increment("shop:b", 1, "x")]
    found = results(items, increments, [Outcome.REPLAYED, Outcome.REPLAYED])
    assert found == [Outcome.COUNTED, Outcome.REPLAYED]


def test_the_requests_own_idempotency_key_guards_each_item_by_its_place():
    items = parsed([{"key": "a", "value": 1}, {"key": ""}, {"key": "b", "value": 1, "idempotency_key": "x"}])
    increments = increments_of("shop", items, "order", "request-1")
    assert increments == [Increment("shop:a", 1, "order\0" + "0"), Increment("shop:b", 1, "x")]
    found = results(items, increments, [Outcome.REPLAYED, Outcome.REPLAYED])
    assert (found[0], found[2]) == (Outcome.REPLAYED, Outcome.REPLAYED)
    assert not all_replayed(found), "one item is refused"
    assert all_replayed([Outcome.REPLAYED] * 2)
    assert not all_replayed([])


@given(st.text(max_size=8), st.integers(0, batch.ITEMS_MAX), st.text(min_size=1, max_size=12))
def test_no_key_that_a_client_gives_is_that_of_a_place_in_a_batch(header, position, own):
    """Neither in a header nor in a body."""
    try:
        idempotency_key = parse_idempotency_header(header)
        own = valid_id(own)
    except BadRequest:
        return
    (increment,) = increments_of("shop", [*[BadRequest()] * position, Item("a", 1)], idempotency_key)
    assert increment.idempotency_key.count("\0") == 1
    assert digest_of(increment) != digest_of(Increment("shop:a", 1, own))


def test_the_requests_own_idempotency_key_is_the_one_that_a_namespace_requires():
    required = Namespace(idempotency_key_required=True)
    assert terms_under(None, required) is required
    for body in (b'[{"key":"a","value":1}]', rb'[{"key":"\u0061","value":1}]'):
        assert parse_batch(JSON, body, terms_under("order", required)) == [Item("a", 1)]
        (refused,) = parse_batch(JSON, body, required)
        assert "requires" in str(refused)


@pytest.mark.parametrize(
    ("headers", "minimal"),
    [
        ([], False),
        (["return=minimal"], True),
        (["Return = Minimal"], True),
        (['return="minimal"; foo=bar'], True),
        (["respond-async, return=minimal"], True),
        (["respond-async", "wait=5,return=minimal"], True),
        (["return=representation"], False),
        (["return=representation, return=minimal"], False),
        (["return=minimalist"], False),
        (['other="x, return=minimal"'], False),
    ],
)
def test_a_preference_is_read_from_several_headers_and_lists(headers, minimal):
    assert prefers_minimal(headers) is minimal


def test_an_item_in_doubt_decides_what_the_request_is_answered():
    assert worst([Outcome.COUNTED]) is None
    doubt, refused = Unanswered(), LogUnavailable()
    assert worst([refused, doubt, Outcome.COUNTED]) is doubt
    assert worst([refused, Outcome.COUNTED]) is refused


def test_negative_values_are_taken_where_the_namespace_allows_them():
    body = b'[{"key":"a","value":-5},{"key":"b","value":-9007199254740992}]'
    refused, too_small = parse_batch(JSON, body, NS)
    assert isinstance(refused, BadRequest)
    taken, too_small = parse_batch(JSON, body, Namespace(negative_allowed=True))
    assert (taken.key, taken.value) == ("a", -5)
    assert isinstance(too_small, BadRequest)
    (quick,) = batch._quick(False, body[:23] + b"]", Namespace(negative_allowed=True))
    assert (quick.key, quick.value) == ("a", -5)


def test_an_item_without_the_idempotency_key_that_its_namespace_requires_is_refused():
    required = Namespace(idempotency_key_required=True)
    body = b'[{"key":"a","value":1},{"key":"b","value":2,"idempotency_key":"x"}]'
    refused, taken = parse_batch(JSON, body, required)
    assert "idempotency key" in str(refused)
    assert (taken.key, taken.idempotency_key) == ("b", "x")
