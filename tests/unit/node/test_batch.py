"""Batches: what is asked for, how it is bundled, what is answered."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node import batch
from node.batch import Item, bundle, describe, parse_batch, results, valid_namespace, worst
from node.call import Outcome
from node.errors import BadRequest, LogUnavailable, Unanswered
from node.increment import VALUE_MAX
from node.settlement import CALL_SUM_MAX

JSON, NDJSON = "application/json", "application/x-ndjson"


def parsed(items: object) -> list[Item | BadRequest]:
    return parse_batch(JSON, json.dumps(items).encode())


def test_an_array_is_read_in_order():
    body = [{"key": "a", "value": 1}, {"key": "b", "value": 0, "idempotency_key": "x"}]
    assert parsed(body) == [Item("a", 1), Item("b", 0, "x")]


def test_lines_are_read_in_order_and_empty_ones_are_passed_over():
    body = b'{"key":"a","value":1}\n\n{"key":"b","value":2}\n'
    assert parse_batch(NDJSON, body) == [Item("a", 1), Item("b", 2)]


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
def test_a_member_given_twice_is_never_one_of_the_two(twice, kind):
    body = "{" + twice + "}"
    try:
        (item,) = parse_batch(kind, (f"[{body}]" if kind == JSON else body).encode())
    except BadRequest:
        return
    assert isinstance(item, BadRequest)


@pytest.mark.parametrize(
    "body", [b"{}", b"[", b"", b"1", b'[{"key":"a","value":1}]x', b"\xff", b"[" * 100_000, b"[NaN]"]
)
def test_what_is_no_array_is_refused_whole(body):
    with pytest.raises(BadRequest):
        parse_batch(JSON, body)


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
    strict = list(batch._strict(False, text))
    quick = batch._quick(False, text)
    if quick is not None:
        assert quick == strict


ITEMS_GIVEN = st.lists(
    st.builds(
        Item,
        st.sampled_from("abc"),
        st.integers(0, 9) | st.just(VALUE_MAX),
        st.none() | st.sampled_from("xyz"),
    ),
    max_size=400,
)


@given(ITEMS_GIVEN, st.none() | st.just("request-1"))
def test_bundling_loses_and_adds_nothing(items, request_id):
    bundlings = bundle("shop", items, request_id)
    for each in bundlings:
        assert sum(each.sums.values()) + sum(item.value for item in each.items) == each.total <= CALL_SUM_MAX
        if request_id:
            assert not each.sums
    assert sum(each.total for each in bundlings) == sum(item.value for item in items)
    assert [p for each in bundlings for p in range(each.start, each.end)] == list(range(len(items)))


def test_a_batch_that_a_proxy_sends_again_carries_the_same_ids():
    items = parsed([{"key": key, "value": 1} for key in "abab"] * 800)
    first, again = (bundle("shop", items, "request-1") for _ in range(2))
    assert [each.items for each in first] == [each.items for each in again]
    ids = [(item.counter, item.idempotency_key) for each in first for item in each.items]
    assert len(ids) == len(set(ids)) == 2 * len(first)


def test_outcomes_find_their_items():
    items = parsed(
        [
            {"key": "a", "value": 1},
            {"key": "a", "value": 1, "idempotency_key": "x"},
            {"key": "", "value": 1},
            {"key": "b", "value": 1},
            {"key": "b", "value": 1, "idempotency_key": "y"},
        ]
    )
    (one,) = bundle("shop", items)
    found = results("shop", items, [one], [(frozenset({"shop:b"}), [Outcome.REPLAYED, Outcome.MISMATCH])])
    assert found[:2] == [Outcome.COUNTED, Outcome.REPLAYED]
    assert isinstance(found[2], BadRequest)
    assert found[3:] == [Outcome.FULL, Outcome.MISMATCH]
    described = describe(found, minimal=False)
    assert (described["counted"], described["replayed"], described["refused"]) == (1, 1, 3)
    assert [each["status"] for each in described["results"]] == ["counted", "replayed", "refused", "refused", "refused"]
    assert "results" not in describe(found, minimal=True)


def test_a_guarded_sum_that_was_counted_before_is_counted_and_a_full_one_is_refused():
    items = parsed(
        [{"key": "a", "value": 1}, {"key": "b", "value": 1}, {"key": "c", "value": 1, "idempotency_key": "x"}]
    )
    (one,) = bundle("shop", items, "request-1")
    found = results("shop", items, [one], [(frozenset(), [Outcome.COUNTED, Outcome.REPLAYED, Outcome.FULL])])
    assert found == [Outcome.COUNTED, Outcome.FULL, Outcome.COUNTED]


def test_an_item_in_doubt_decides_what_the_request_is_answered():
    assert worst([Outcome.COUNTED]) is None
    doubt, refused = Unanswered(), LogUnavailable()
    assert worst([refused, doubt, Outcome.COUNTED]) is doubt
    assert worst([refused, Outcome.COUNTED]) is refused
