"""Many increments in one request, by every front, with every strategy."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.http.client import PROXY, Front
from tests.http.v1.conftest import Asking, put

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

BATCH = "/increments/batch"
NDJSON = "application/x-ndjson"


async def test_a_batch_that_is_repeated_under_its_idempotency_key_counts_once(asking: Asking) -> None:
    key, other = asking.key("a"), asking.key("b")
    items = [{"key": key, "value": 1}, {"key": other, "value": 2}, {"key": key, "value": 1}, {"key": ""}]
    first = await asking.ask("POST", BATCH, items[:3], Idempotency_Key=f"order {key}")
    again = await asking.ask("POST", BATCH, items[:3], Idempotency_Key=f'"order {key}"')
    assert [(told["counted"], told["replayed"]) for told in map(json.loads, (first.body, again.body))] == [
        (3, 0),
        (0, 3),
    ]
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again)] == [None, "true"]
    more = await asking.ask("POST", BATCH, items, Idempotency_Key=f"order {key}")
    assert [each["status"] for each in json.loads(more.body)["results"]] == ["replayed"] * 3 + ["refused"]
    assert "idempotent-replayed" not in more.headers
    changed = await asking.asked("POST", BATCH, [{"key": key, "value": 7}], Idempotency_Key=f"order {key}")
    assert (changed["refused"], "idempotency key" in changed["results"][0]["message"]) == (1, True)
    assert (await asking.value(key), await asking.value(other)) == (2, 2)


async def test_an_items_own_key_comes_before_the_batchs(asking: Asking) -> None:
    key = asking.key("a")
    items = [{"key": key, "value": 5, "idempotency_key": "x"}, {"key": key, "value": 1}]
    assert (await asking.add(key, 5, idempotency_key="x")).status == 200
    told = await asking.asked("POST", BATCH, items, Idempotency_Key="x")
    assert (told["counted"], told["replayed"]) == (1, 1), "the batch's place 1 is not what was counted under x"
    assert await asking.value(key) == 6


async def test_what_a_proxy_sends_again_of_a_batch_under_a_key_is_told_as_replayed(direct: Asking) -> None:
    key = direct.key("a")
    headers = {"Idempotency_Key": "order", "X_Request_ID": f"batch {key}", "source": PROXY}
    told = [await direct.asked("POST", BATCH, [{"key": key, "value": 1}], **headers) for _ in range(2)]
    assert [each["replayed"] for each in told] == [0, 1]
    assert await direct.value(key) == 1


async def test_a_batchs_key_is_the_one_that_a_namespace_requires(direct: Asking, ops: Front) -> None:
    ns = f"required-{direct.ns}"
    await put(ops, ns, json.dumps({"strategy": direct.ns, "idempotency_key_required": True}).encode())
    strict = replace(direct, ns=ns)
    long = [{"key": "x" * 300, "value": 1}]  # for the strict reader
    for items in ([{"key": "a", "value": 1}], long):
        assert (await strict.asked("POST", BATCH, items))["refused"] == 1
        assert (await strict.asked("POST", BATCH, items, Idempotency_Key="order"))["counted"] == 1
        assert (await strict.asked("POST", BATCH, items, Idempotency_Key="order"))["replayed"] == 1


async def test_what_is_no_batch_is_refused_whole_and_named(asking: Asking) -> None:
    items = [{"key": "bad batch", "value": 1}]
    cases: list[tuple[str, Any, dict[str, str], str]] = [
        (f"{BATCH}?x=1", items, {}, "Unknown parameter 'x'"),
        (BATCH, items, {"Content_Type": "application/json; charset=utf-16"}, "UTF-8"),
        (BATCH, items, {"Content_Type": "text/plain"}, "application/x-ndjson"),
        (BATCH, b"", {"Content_Type": "application/json"}, "empty"),
        (BATCH, b'[{"key":"bad batch","value":1}', {}, "cut short"),
        (BATCH, items, {"Idempotency_Key": ""}, "Idempotency-Key"),
        (BATCH, items, {"Idempotency_Key": "x" * 256}, "Idempotency-Key"),
        (BATCH, items, {"Idempotency_Key": "x\r\nIdempotency-Key: y"}, "Idempotency-Key was given twice"),
    ]
    for path, body, headers, named in cases:
        answer = await asking.ask("POST", path, body, **headers)
        assert (answer.status, named in answer.error["message"]) == (400, True), (path, body, headers, answer)
    assert await asking.value("bad batch") is None


async def test_one_bad_item_is_refused_alone_in_an_array_and_in_lines(direct: Asking) -> None:
    key = direct.key("a")
    twice, good = b'{"key":"a","key":"b","value":1}', json.dumps({"key": key, "value": 1}).encode()
    for body, kind in ((b"[%b,%b]" % (twice, good), "application/json"), (b"%b\n%b" % (twice, good), NDJSON)):
        told = await direct.asked("POST", BATCH, body, Content_Type=kind)
        assert [each["status"] for each in told["results"]] == ["refused", "counted"]
        assert "twice" in told["results"][0]["message"]


async def test_a_preference_may_stand_among_others(asking: Asking) -> None:
    for prefer in ("RETURN=Minimal", "respond-async, return=minimal", "respond-async\r\nPrefer: return=minimal"):
        told = await asking.asked("POST", BATCH, [{"key": asking.key("a"), "value": 1}], Prefer=prefer)
        assert told == {"counted": 1, "replayed": 0, "refused": 0}
