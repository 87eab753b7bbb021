"""What reads: a counter, many, a namespace's in order, and what was counted when."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from urllib.parse import urlencode

import pytest

from tests.http.client import Front
from tests.http.v1.conftest import Asking, at, put

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


async def test_a_counter_says_what_is_stored_and_what_is_not_yet(asking: Asking) -> None:
    key = asking.key("a")
    assert (await asking.ask("GET", at(key))).status == 404
    await asking.add(key, 7)
    shown = await asking.asked("GET", at(key))
    assert list(shown) == ["key", "value", "stored", "pending", "updated_at"]
    assert (shown["key"], shown["value"], shown["stored"] + shown["pending"]) == (key, 7, 7)
    await asking.until_settled(key)
    shown = await asking.asked("GET", at(key, consistency="exact"))
    assert (shown["value"], shown["stored"], shown["pending"]) == (7, 7, 0)
    at_time = datetime.fromisoformat(shown["updated_at"])
    assert timedelta(0) <= datetime.now(UTC) - at_time < timedelta(minutes=1)
    assert shown["updated_at"].endswith("Z")
    stored = await asking.asked("GET", at(key, consistency="stored"))
    assert stored == {**shown, "pending": None}
    assert (await asking.ask("GET", at(asking.key("b"), consistency="stored"))).status == 404


async def test_a_counter_that_is_what_it_was_is_a_304(asking: Asking) -> None:
    key = asking.key("a")
    await asking.add(key, 7)
    await asking.until_settled(key)
    first = await asking.ask("GET", at(key))
    tag = first.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        again = await asking.ask("GET", at(key), If_None_Match=known)
        assert (again.status, again.body, again.headers["etag"]) == (304, b"", tag)
        assert "content-type" not in again.headers
    await asking.add(key, 1)
    changed = await asking.ask("GET", at(key), If_None_Match=tag)
    assert (changed.status, json.loads(changed.body)["value"]) == (200, 8)
    assert changed.headers["etag"] != tag


async def test_many_are_read_at_once_in_the_order_of_the_request(asking: Asking) -> None:
    keys = [asking.key(f"{number:04}") for number in range(600)]
    for key in keys[:3]:
        await asking.add(key, int(key[:4]) + 1)
    answer = await asking.asked("POST", "/counters/read", {"keys": [*reversed(keys), keys[0]]})
    values = [each["value"] for each in answer["counters"]]
    assert values == [None] * 597 + [3, 2, 1, 1]
    assert [each["key"] for each in answer["counters"]] == [*reversed(keys), keys[0]]
    await asking.until_settled(*keys[:3])
    stored = await asking.asked("POST", "/counters/read?consistency=stored", {"keys": keys[:4]})
    assert [each["value"] for each in stored["counters"]] == [1, 2, 3, None]
    longest = ["\\u00e9" * 256] * 1000
    body = b'{"keys": ["' + '", "'.join(longest).encode() + b'"]}'
    assert len(body) > 1_000_000
    assert len((await asking.asked("POST", "/counters/read", body))["counters"]) == 1000


async def test_counters_are_listed_by_prefix_page_by_page_with_exact_values(asking: Asking) -> None:
    names = sorted(f"{asking.key('p')} {letter}" for letter in ("a", "b", "é", "z", "\ue000", "🙂"))
    for number, name in enumerate(names, 1):
        await asking.add(name, number)
    await asking.until_settled(*names)
    await asking.add(names[0], 100)
    found, cursor = [], ""
    while cursor is not None:
        query = urlencode({"prefix": asking.key("p"), "limit": 4, "cursor": cursor})
        page = await asking.asked("GET", f"/counters?{query}")
        found += page["counters"]
        cursor = page["cursor"]
        assert len(page["counters"]) == (4 if cursor else 2)
    assert [(each["key"], each["value"]) for each in found] == list(zip(names, (101, 2, 3, 4, 5, 6), strict=True))
    stored = await asking.asked("GET", f"/counters?{urlencode({'prefix': names[1], 'consistency': 'stored'})}")
    assert [(each["key"], each["value"], each["pending"]) for each in stored["counters"]] == [(names[1], 2, None)]
    nothing = await asking.asked("GET", f"/counters?{urlencode({'prefix': asking.key('q')})}")
    assert nothing == {"counters": [], "cursor": None}


async def test_history_has_sums_per_step(asking: Asking) -> None:
    key = asking.key("a")
    began = datetime.now(UTC)
    for value in (5, 2, -3):
        await asking.add(key, value)
    await asking.reset(key)
    await asking.add(key, 6)
    await asking.until_settled(key)
    for step in ("minute", "hour", "day", "month"):
        query = {"from": began.isoformat(), "to": (began + timedelta(minutes=5)).isoformat(), "step": step}
        told = await asking.asked("GET", at(key, "/history", **query))
        assert (told["key"], told["step"]) == (key, step)
        assert sum(bucket["sum"] for bucket in told["buckets"]) == 6
        assert all(datetime.fromisoformat(bucket["at"]) <= datetime.now(UTC) for bucket in told["buckets"])
    assert sum(bucket["sum"] for bucket in (await asking.asked("GET", at(key, "/history")))["buckets"]) == 6
    past = {"from": "2020-01-01T00:00:00Z", "to": "2020-02-01T00:00:00+01:00", "step": "day"}
    assert (await asking.asked("GET", at(key, "/history", **past)))["buckets"] == []


async def test_a_namespace_without_history_says_so(direct: Asking, ops: Front) -> None:
    plain = replace(direct, ns=f"plain-{direct.ns}")
    await put(ops, plain.ns, json.dumps({"strategy": direct.ns}).encode())
    await plain.add("a", 1)
    answer = await plain.ask("GET", at("a", "/history"))
    assert (answer.status, "no history" in answer.error["message"]) == (404, True)
