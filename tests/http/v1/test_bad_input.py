"""What v1 does not take: each answer names what is wrong, and nothing is counted or founded."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

import pytest

from tests.http.client import Front, request
from tests.http.v1.conftest import Asking

pytestmark = [pytest.mark.redis, pytest.mark.postgres]
PROBLEM = "application/problem+json"


@dataclass(frozen=True)
class Bad:
    """One request, and what its error must name."""

    method: str
    path: str
    body: Any
    named: str
    status: int = 400
    by_nginx: bool = False  # which refuses it itself, as the seed's routes would


def add(named: str, **members: Any) -> Bad:
    return Bad("POST", "/increments", {"key": "bad", "value": 1, **members}, named)


CASES = [
    Bad("POST", "/increments", b"", "application/json"),
    Bad("POST", "/increments", b"{", "JSON object"),
    Bad("POST", "/increments", b"[]", "JSON object"),
    Bad("POST", "/increments", b'{"key":"bad","key":"bad","value":1}', "twice"),
    Bad("POST", "/increments", b'{"key":"bad","value":NaN}', "JSON"),
    Bad("POST", "/increments", b'{"key":"\xff","value":1}', "UTF-8"),
    Bad("POST", "/increments", {"value": 1}, "key"),
    Bad("POST", "/increments", {"key": "bad"}, "value"),
    Bad("POST", "/increments?x=1", {"key": "bad", "value": 1}, "'x'"),
    add("'amount'", amount=1),
    add("key", key=""),
    add("key", key="a\0"),
    add("512", key="x" * 513),
    add("512", key="é" * 257),
    add("surrogate", key="\ud800"),
    add("key", key=1),
    add("value", value="1"),
    add("value", value=1.0),
    add("value", value=True),
    add("value", value=None),
    add("value", value=2**53),
    add("value", value=-(2**53)),
    add("idempotency_key", idempotency_key=""),
    add("idempotency_key", idempotency_key="x" * 256),
    add("idempotency_key", idempotency_key=1),
    add("min", min="0"),
    add("max", max=1.5),
    add("max", max=False),
    add("max", max=2**63),
    add("must not be above `max`", min=2, max=1),
    Bad("POST", "/counters/read", {}, "keys"),
    Bad("POST", "/counters/read", {"keys": []}, "1 to 1000"),
    Bad("POST", "/counters/read", {"keys": ["a"] * 1001}, "1 to 1000"),
    Bad("POST", "/counters/read", {"keys": "a"}, "keys"),
    Bad("POST", "/counters/read", {"keys": [""]}, "key"),
    Bad("POST", "/counters/read", {"keys": ["a"], "x": 1}, "'x'"),
    Bad("POST", "/counters/a/reset", {"value": 1}, "'value'"),
    Bad("POST", "/counters/%FF/reset", b"", "path"),
    Bad("POST", "/counters/%zz/reset", b"", "path", by_nginx=True),
    Bad("GET", "/counters/%00", None, "path", by_nginx=True),
    Bad("GET", "/counters/" + "x" * 513, None, "path"),
    Bad("GET", "/counters/a?consistency=maybe", None, "consistency"),
    Bad("GET", "/counters/a?x=1", None, "'x'"),
    Bad("GET", "/counters/a?consistency=exact&consistency=exact", None, "twice"),
    Bad("GET", "/counters?limit=0", None, "limit"),
    Bad("GET", "/counters?limit=1001", None, "limit"),
    Bad("GET", "/counters?limit=1_0", None, "limit"),
    Bad("GET", "/counters?limit=%EF%BC%91", None, "limit"),
    Bad("GET", "/counters?prefix=%00", None, "prefix"),
    Bad("GET", "/counters?prefix=%FF", None, "UTF-8"),
    Bad("GET", "/counters?prefix=%F", None, "percent"),
    Bad("GET", "/counters?cursor=%21", None, "cursor"),
    Bad("GET", "/counters?cursor=YQ%3D%3D", None, "cursor"),
    Bad("GET", "/counters/a/history?step=week", None, "step"),
    Bad("GET", "/counters/a/history?from=yesterday", None, "from"),
    Bad("GET", "/counters/a/history?from=2026-01-01T00:00:00", None, "from"),
    Bad("GET", "/counters/a/history?from=2026-01-02T00:00:00Z&to=2026-01-01T00:00:00Z", None, "before"),
    Bad("GET", "/counters/a/history?from=2020-01-01T00:00:00Z&step=minute", None, "5000"),
    Bad("GET", "/counters/a/history?to=0001-01-01T00:00:00Z", None, "to"),
    Bad("GET", "/counters/a/watch?x=1", None, "'x'"),
    Bad("GET", "/receipts?key=a", None, "idempotency_key"),
    Bad("GET", "/receipts?idempotency_key=a", None, "key"),
    Bad("PUT", "/counters/a", None, "Method", 405),
    Bad("POST", "/counters/a%2Freset", None, "Method", 405),
    Bad("GET", "/counters/", None, "Not Found", 404),
    Bad("GET", "/counters/a/b", None, "Not Found", 404),
    Bad("GET", "", None, "Not Found", 404),
    *(
        Bad(method, f"{path}/", body, "Not Found", 404)
        for method, path, body in (
            ("POST", "/increments", {"key": "bad", "value": 1}),
            ("POST", "/increments/batch", [{"key": "bad", "value": 1}]),
            ("GET", "/counters/bad", None),
            ("POST", "/counters/bad/reset", b""),
            ("GET", "/counters/bad/history", None),
            ("GET", "/counters/bad/watch", None),
            ("POST", "/counters/read", {"keys": ["bad"]}),
            ("GET", "/receipts", None),
        )
    ),
    Bad("GET", "/counters/never", None, "There is no counter with this key in", 404),
    Bad("GET", "/counters/never%2F", None, "There is no counter with this key in", 404),
    Bad("POST", "/counters/never/reset", b"", "There is no counter with this key in", 404),
]


async def test_bad_input_is_named_and_nothing_is_counted(asking: Asking) -> None:
    for bad in CASES:
        for accept in ("*/*", f"application/json, {PROBLEM}"):
            answer = await asking.ask(bad.method, bad.path, bad.body, Accept=accept)
            assert answer.status == bad.status, (bad, answer)
            told = json.loads(answer.body)
            if bad.by_nginx and asking.front.name == "nginx":
                continue
            if PROBLEM not in accept:
                assert answer.headers["content-type"] == "application/json"
                assert bad.named in told["error"]["message"], (bad, answer)
                continue
            assert answer.headers["content-type"] == PROBLEM
            assert (told["type"], told["status"]) == ("about:blank", bad.status)
            assert told["title"]
            assert bad.named in told["detail"], (bad, answer)
    assert await asking.value("bad") is None


async def test_headers_that_come_twice_or_are_no_keys_are_refused(asking: Asking) -> None:
    body = json.dumps({"key": "bad", "value": 1}).encode()
    for header in ("", "x" * 256, '"x', "é"):
        answer = await asking.ask("POST", "/increments", body, Idempotency_Key=header)
        assert (answer.status, "Idempotency-Key" in answer.error["message"]) == (400, True), header
    for path, sent in (("/increments", body), ("/counters/bad/reset", b"")):
        answer = await asking.ask("POST", path, sent, Idempotency_Key="x\r\nIdempotency-Key: x")
        assert (answer.status, "Idempotency-Key was given twice" in answer.error["message"]) == (400, True), path
    for kind in ("text/plain", "application/json; charset=latin-1", "application/x-www-form-urlencoded"):
        assert (await asking.ask("POST", "/increments", body, Content_Type=kind)).status == 400
    assert (await asking.ask("POST", "/increments", body, Content_Encoding="gzip")).status == 400
    assert await asking.value("bad") is None


async def test_a_namespaces_name_is_checked_first(direct: Asking, ops: Front) -> None:
    for name in ("Shop", "-shop", "x" * 65, "%73hop", "a%2Fb"):
        wrong = replace(direct, ns=name)
        for answer in (await wrong.add("a", 1), await wrong.ask("GET", "/counters/a"), await wrong.reset("a")):
            assert (answer.status, "namespace" in answer.error["message"]) == (400, True), answer
    assert b"%" not in (await ops.ask(request("GET", "/namespaces"))).body


async def test_a_problem_keeps_what_an_error_says_beside_its_message(direct: Asking) -> None:
    answer = await direct.add(direct.key("a"), 4, max=3, Accept=PROBLEM)
    told = json.loads(answer.body)
    assert answer.headers["content-type"] == PROBLEM
    assert told == {
        "type": "about:blank",
        "title": "Conflict",
        "status": 409,
        "detail": "The total would pass a bound; nothing was counted.",
        "value": None,
    }
    plain = await direct.add(direct.key("a"), 4, max=3, Accept=f"{PROBLEM};q=0")
    assert plain.error["value"] is None
