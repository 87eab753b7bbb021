"""What the v1 routes take, and how pages and steps of time fit together."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.answers import as_problem, of_error
from node.errors import BadRequest, StoreUnanswered
from node.increment import VALUE_MAX, Increment, parse_idempotency_header
from node.strategy import Bounds
from node.terms import Namespace
from node.v1.bodies import Add, guard, parse_add, parse_keys, parse_path_key, parse_reset
from node.v1.headers import BARE, IDEMPOTENCY_KEY, QUOTED
from node.v1.query import bucket_of, cursor_of, parse_page, parse_receipt, parse_span

JSON = "application/json"
SHOP = Namespace("shop", negative_allowed=True)
KEYS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1, max_size=128)
TIMES = st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1), timezones=st.just(UTC))
STEPS = st.sampled_from(["minute", "hour", "day", "month"])


@given(KEYS, st.integers(-VALUE_MAX, VALUE_MAX), st.none() | KEYS, st.none() | st.integers(-(2**63) + 1, 2**63 - 1))
def test_a_good_body_is_taken_as_it_is(key: str, value: int, idempotency_key: str | None, bound: int | None) -> None:
    members = {"key": key, "value": value, "idempotency_key": idempotency_key, "min": bound, "max": bound}
    body = json.dumps(members, ensure_ascii=False).encode()
    asked = parse_add(f"{JSON}; charset=UTF-8", body, None, SHOP)
    assert asked == Add(key, value, idempotency_key, Bounds(bound, bound))


def named(parse: Callable[[], object]) -> str | None:
    """What the error says; None when there is none."""
    try:
        parse()
    except BadRequest as error:
        return str(error)
    return None


@given(st.binary(max_size=64))
def test_whatever_else_comes_is_a_bad_request_that_says_why(body: bytes) -> None:
    said = [
        named(lambda: parse_add(JSON, body, None, SHOP)),
        named(lambda: parse_reset(JSON, body, None, SHOP)),
        named(lambda: parse_keys(JSON, body)),
    ]
    assert "Bad Request." not in said
    assert named(lambda: parse_add(JSON, body[:20], None, SHOP)) is not None, "there is no room for an increment"


def test_a_clients_own_key_comes_before_a_proxys_request_id() -> None:
    assert guard("x", "id") == ("x", False)
    assert guard(None, "id") == ("id", True)
    assert guard(None, "i" * 300) == ("i" * 255, True)
    assert guard(None, None) == guard(None, "") == (None, False)
    asked = parse_add(JSON, b'{"key":"a","value":1}', None, SHOP)
    assert asked.increment(SHOP, "id") == Increment("shop:a", 1, "id", short_lived=True)


@given(KEYS)
def test_a_cursor_is_the_key_it_was_made_of(key: str) -> None:
    page = parse_page(urlencode({"cursor": cursor_of(key), "prefix": key}).encode())
    assert (page.after, page.prefix, page.limit, page.consistency) == (key, key, 100, "exact")


@given(st.text(max_size=30))
def test_any_other_cursor_is_refused_or_stands_for_one_key(text: str) -> None:
    try:
        query = urlencode({"cursor": text}).encode()
        page = parse_page(query)
    except (BadRequest, UnicodeEncodeError):
        return
    assert page.after == "" if not text else cursor_of(page.after) == text


@given(KEYS, KEYS)
def test_a_receipt_is_asked_for_by_two_texts(key: str, idempotency_key: str) -> None:
    assert parse_receipt(urlencode({"key": key, "idempotency_key": idempotency_key}).encode()) == (key, idempotency_key)


@given(TIMES, STEPS)
def test_a_time_is_in_the_bucket_that_begins_last_before_it(at: datetime, step: str) -> None:
    begin = bucket_of(at, step)  # type: ignore[arg-type]
    assert begin <= at
    assert bucket_of(begin, step) == begin  # type: ignore[arg-type]
    assert bucket_of(begin - timedelta(microseconds=1), step) < begin  # type: ignore[arg-type]
    assert at - begin < {"minute": timedelta(minutes=1), "hour": timedelta(hours=1)}.get(step, timedelta(days=31))


def test_a_span_is_what_is_asked_for_or_ends_now() -> None:
    now = datetime(2026, 3, 15, 10, 31, 7, tzinfo=UTC)
    assert parse_span(b"", now) == ("hour", datetime(2026, 3, 14, 10, tzinfo=UTC), now)
    query = urlencode({"from": "2026-01-31T23:59:59.5+01:00", "to": "2026-02-01t00:00z", "step": "month"}).encode()
    assert parse_span(query, now) == ("month", datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 2, 1, tzinfo=UTC))


@pytest.mark.parametrize("raw", ["", "%", "%0", "%zz", "%FF", "%ED%A0%80", "a%00", "x" * 513, "é"])
def test_a_key_in_a_path_that_is_none_is_said_to_be(raw: str) -> None:
    if raw == "é":
        raw = "\u20ac"  # no byte of a path
    with pytest.raises(BadRequest, match="path"):
        parse_path_key(raw)


def test_a_problem_has_all_that_the_error_has() -> None:
    answer = of_error(StoreUnanswered())
    problem = json.loads(as_problem(answer.status, answer.body[:-1] + b',"counted":1}'))
    assert problem.pop("detail").startswith("Postgres has not answered")
    assert problem == {"type": "about:blank", "title": "Service Unavailable", "status": 503, "counted": 1}


@given(
    st.from_regex(BARE, fullmatch=True)
    | st.from_regex(QUOTED, fullmatch=True)
    | st.text('"\\ a~\x1f\xe9', max_size=300).map(lambda text: text.strip(" \t"))
    | st.integers(250, 260).map(lambda size: "x" * size)
)
def test_the_idempotency_key_in_a_header_is_taken_as_it_is_described(raw: str) -> None:
    try:
        taken = parse_idempotency_header(raw) is not None
    except BadRequest:
        taken = False
    assert taken == (re.fullmatch(IDEMPOTENCY_KEY, raw) is not None)
