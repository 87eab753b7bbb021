"""Add and get, bounds, reset and receipts, by every front, with every strategy."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from urllib.parse import urlencode

import pytest

from tests.http.client import PROXY, Answer, Front, request
from tests.http.v1.conftest import Asking, at, put

pytestmark = [pytest.mark.redis, pytest.mark.postgres]

KEYS = ["a/b", "/", "//", "a/reset", "a/history", "a/watch", "read", "%2F", "?x=1#y", "é\n🙂", '"\\', "x" * 512, " "]


def told(answer: Answer) -> object:
    return json.loads(answer.body)


async def test_an_increment_tells_the_total_right_after_it(asking: Asking) -> None:
    key = asking.key("a")
    assert told(await asking.add(key, 5)) == {"key": key, "value": 5, "replayed": False}
    assert told(await asking.add(key, 0)) == {"key": key, "value": 5, "replayed": False}
    answers = await asyncio.gather(*(asking.add(key) for _ in range(20)))
    assert sorted(told(answer)["value"] for answer in answers) == list(range(6, 26))  # type: ignore[index]
    for node in asking.nodes:
        assert await replace(asking, front=node).value(key) == 25


async def test_a_key_may_be_any_text_in_a_path_as_in_a_body(asking: Asking) -> None:
    for number, name in enumerate(KEYS, 1):
        before = await asking.value(name) or 0
        assert told(await asking.add(name, number)) == {"key": name, "value": before + number, "replayed": False}
        assert await asking.value(name) == before + number
    for name in KEYS:
        before = await asking.value(name)
        assert told(await asking.reset(name)) == {"key": name, "taken": before}
        assert await asking.value(name) == 0


async def test_a_repeat_counts_once_and_another_value_is_a_mismatch(asking: Asking) -> None:
    key = asking.key("a")
    first = await asking.add(key, 5, Idempotency_Key="x")
    assert "idempotent-replayed" not in first.headers
    await asking.add(key, 1)
    again = await asking.add(key, 5, idempotency_key="x")
    assert (told(again), again.headers["idempotent-replayed"]) == ({"key": key, "value": 6, "replayed": True}, "true")
    assert (await asking.add(key, 6, Idempotency_Key='"x"')).status == 422
    assert (await asking.add(key, 5, Idempotency_Key="x", idempotency_key="y")).status == 400
    shared = await asking.reset(key, Idempotency_Key="x")
    assert (shared.status, "for something else" in shared.error["message"]) == (422, True)
    assert await asking.value(key) == 6


async def test_a_bound_that_would_be_passed_is_a_409_and_changes_nothing(asking: Asking) -> None:
    key = asking.key("a")
    refused = await asking.add(key, 4, max=3)
    assert (refused.status, refused.error["value"]) == (409, None)
    assert await asking.value(key) is None, "what is refused does not make a counter known"
    assert told(await asking.add(key, 3, max=3, idempotency_key="x"))["value"] == 3  # type: ignore[index]
    assert told(await asking.add(key, 3, max=3, idempotency_key="x"))["replayed"]  # type: ignore[index]
    refused = await asking.add(key, 1, max=3, min=None)
    assert (refused.status, refused.error["value"]) == (409, 3)
    assert (await asking.add(key, -4, min=0)).status == 409
    assert (await asking.add(key, 1, min=2**63 - 1)).status == 409
    assert told(await asking.add(key, -3, min=0, max=2**63 - 1))["value"] == 0  # type: ignore[index]


async def test_values_past_what_a_double_holds_stay_exact_in_the_text(asking: Asking) -> None:
    key = asking.key("a")
    for times in range(1, 4):
        answer = await asking.add(key, 2**53 - 1)
        assert b'"value":%d,' % (times * (2**53 - 1)) in answer.body
    shown = await asking.ask("GET", at(key))
    assert b'"value":27021597764222973,' in shown.body
    assert b'"taken":27021597764222973}' in (await asking.reset(key)).body


async def test_a_reset_takes_off_what_it_returns_once(asking: Asking) -> None:
    key = asking.key("a")
    assert (await asking.reset(key)).status == 404
    await asking.add(key, 7)
    first = await asking.reset(key, Idempotency_Key="r")
    await asking.add(key, 2)
    again = await asking.ask("POST", at(key, "/reset"), {"idempotency_key": "r"})
    assert told(first) == told(again) == {"key": key, "taken": 7}
    assert [answer.headers.get("idempotent-replayed") for answer in (first, again)] == [None, "true"]
    assert await asking.value(key) == 2
    assert told(await asking.ask("POST", at(key, "/reset"), {}))["taken"] == 2  # type: ignore[index]
    assert told(await asking.reset(key))["taken"] == 0  # type: ignore[index]


async def test_what_a_proxy_sends_again_is_done_once_and_answered_alike(direct: Asking) -> None:
    """As nginx does when a node dies with a request: on another node, under the same request id."""
    key = direct.key("a")
    one, other = (replace(direct, front=node) for node in direct.nodes)
    for through in (one, other, one):
        answer = await through.add(key, 5, X_Request_ID=f"add {key}", source=PROXY)
        assert told(answer) == {"key": key, "value": 5, "replayed": False}
        assert "idempotent-replayed" not in answer.headers
    for through in (other, one):
        answer = await through.reset(key, X_Request_ID=f"reset {key}", source=PROXY)
        assert told(answer) == {"key": key, "taken": 5}
        assert "idempotent-replayed" not in answer.headers
    for _ in range(2):  # nobody else's word is taken for it
        await one.add(key, 1, X_Request_ID="mine")
    assert await other.value(key) == 2


async def test_a_receipt_says_whether_it_counted(asking: Asking) -> None:
    key = asking.key("a")
    window = {"window_s": 86_400}
    asked = f"/receipts?{urlencode({'key': key, 'idempotency_key': 'x'})}"
    said = {"key": key, "idempotency_key": "x"}
    assert await asking.asked("GET", asked) == {**said, "counted": False, "value": None, **window}
    await asking.add(key, 5, idempotency_key="x", max=4)
    assert await asking.asked("GET", asked) == {**said, "counted": False, "value": None, **window}
    await asking.add(key, -5, idempotency_key="x")
    assert await asking.asked("GET", asked) == {**said, "counted": True, "value": -5, **window}


async def test_the_terms_of_a_namespace_hold(direct: Asking, ops: Front) -> None:
    ns = f"strict-{direct.ns}"
    await put(ops, ns, json.dumps({"strategy": direct.ns, "idempotency_key_required": True}).encode())
    strict = replace(direct, ns=ns)
    negative = await strict.add("a", -1, idempotency_key="x")
    assert (negative.status, "value" in negative.error["message"]) == (400, True)
    for answer in (await strict.add("a", 1), await strict.add("a", 1, X_Request_ID="i", source=PROXY)):
        assert (answer.status, "requires an idempotency key" in answer.error["message"]) == (400, True)
    assert (await strict.add("a", 1, idempotency_key="x")).status == 200
    assert (await strict.reset("a")).status == 400
    assert (await strict.reset("a", Idempotency_Key="r")).status == 200


async def test_an_increment_that_is_out_of_bounds_founds_its_namespace_too(direct: Asking, ops: Front) -> None:
    new = replace(direct, ns=f"beyond-{direct.ns}")
    assert (await new.add("a", 2, max=1)).status == 409
    assert (await ops.ask(request("GET", f"/namespaces/{new.ns}"))).status == 200


async def test_only_a_good_increment_founds_a_namespace(direct: Asking, ops: Front) -> None:
    new = replace(direct, ns=f"new-{direct.ns}")
    for answer in (
        await new.add("a", -1),
        await new.reset("a"),
        await new.ask("GET", "/counters/a"),
        await new.ask("GET", "/counters"),
        await new.ask("POST", "/counters/read", {"keys": ["a"]}),
        await new.ask("GET", "/receipts?key=a&idempotency_key=x"),
    ):
        assert answer.status in (400, 404), answer
        assert (await ops.ask(request("GET", f"/namespaces/{new.ns}"))).status == 404
    assert told(await new.add("a", 1)) == {"key": "a", "value": 1, "replayed": False}
    assert await replace(new, front=direct.nodes[1]).value("a") == 1
