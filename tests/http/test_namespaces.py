"""Namespaces on the operations listener, and what they mean on the public one."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Servers
from tests.http.client import Front, Ledger, increment, post, request
from tests.http.conftest import PORTS, empty_stores, running_node

pytestmark = [pytest.mark.redis, pytest.mark.postgres]


class Node:
    """A node's two listeners."""

    def __init__(self, port: int, ops_port: int) -> None:
        self.public, self.ops = Front("node", port, Ledger()), Front("ops", ops_port, Ledger())

    async def asked(self, method: str, target: str, body: object = None) -> tuple[int, Any]:
        sent = b"" if body is None else json.dumps(body).encode()
        answer = await self.ops.ask(request(method, target, sent))
        return answer.status, json.loads(answer.body)

    async def batch(self, namespace: str, *items: dict[str, Any]) -> tuple[int, Any]:
        body = json.dumps(items).encode()
        answer = await self.public.ask(
            request("POST", f"/v1/{namespace}/increments/batch", body, Content_Type="application/json")
        )
        return answer.status, json.loads(answer.body)


@pytest.fixture(scope="module")
def nodes(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Node]]:
    """Two nodes of one cluster."""
    with empty_stores(servers) as dsn, ExitStack() as stack:
        nodes = []
        for name in ("n1", "n2"):
            folder: Path = tmp_path_factory.mktemp(name)
            ops_port = PORTS.take(f"ops-{name}-{time.monotonic_ns()}")
            log = folder / "node.log"
            port = stack.enter_context(running_node(servers, dsn, log, node=name, ops_port=str(ops_port)))
            nodes.append(Node(port, ops_port))
        yield nodes


async def test_a_namespace_is_put_and_seen_by_the_other_node_within_a_second(nodes: list[Node]) -> None:
    terms = {"strategy": "rollup", "idempotency_window_s": 60, "keep_days": 3}
    told = {"name": "seen", "idempotency_key_required": False, "negative_allowed": False, "history": False, **terms}
    assert await nodes[0].asked("PUT", "/namespaces/seen", terms) == (200, told)
    assert await nodes[0].asked("PUT", "/namespaces/seen", {"history": True}) == (200, told | {"history": True})
    assert await nodes[0].asked("PUT", "/namespaces/seen", told | {"history": True}) == (200, told | {"history": True})
    await asyncio.sleep(1)
    for node in nodes:
        assert await node.asked("GET", "/namespaces/seen") == (200, told | {"history": True})
        _, listed = await node.asked("GET", "/namespaces")
        assert {each["name"]: each["strategy"] for each in listed["namespaces"]}.items() >= {
            ("default", "dist"),
            ("seen", "rollup"),
        }


async def test_what_is_wrong_with_a_namespace_is_named(nodes: list[Node]) -> None:
    node = nodes[0]
    for body, named in (
        ({"x": 1}, "'x'"),
        ({"history": 1}, "history"),
        ({"keep_days": -1}, "keep_days"),
        ({"keep_days": 1}, "counts by dist"),
        ({"keep_days": 1, "strategy": "sync"}, "counts by sync"),
        ({"name": "other"}, "'wrong'"),
        ([], "object"),
    ):
        status, told = await node.asked("PUT", "/namespaces/wrong", body)
        assert (status, named in told["error"]["message"]) == (400, True), told
    status, told = await node.asked("GET", "/namespaces/wrong")
    assert (status, told["error"]["message"]) == (404, "There is no namespace 'wrong'.")
    form = request("PUT", "/namespaces/wrong", b"{}", Content_Type="application/x-www-form-urlencoded")
    assert (await node.ops.ask(form)).status == 400
    assert (await node.asked("PUT", "/namespaces/Wrong", {}))[0] == 400
    assert (await node.asked("PUT", "/namespaces/default", {"strategy": "sync"}))[0] == 409


async def test_the_public_listener_has_no_namespaces_to_change(nodes: list[Node]) -> None:
    assert (await nodes[0].public.ask(request("PUT", "/namespaces/shop", b"{}"))).status == 404
    assert (await nodes[0].public.ask(request("GET", "/namespaces"))).status == 404


async def test_only_a_good_request_founds_a_namespace(nodes: list[Node]) -> None:
    one, other = nodes
    assert (await one.batch("bad", {"key": "a", "value": "1"}))[1]["refused"] == 1
    assert (await one.asked("GET", "/namespaces/bad"))[0] == 404
    assert (await one.batch("good", {"key": "a", "value": 1}))[1]["counted"] == 1
    assert (await other.asked("GET", "/namespaces/good"))[0] == 200


async def test_the_terms_of_a_namespace_hold_for_its_batches(nodes: list[Node]) -> None:
    one, other = nodes
    await one.asked("PUT", "/namespaces/strict", {"idempotency_key_required": True, "negative_allowed": True})
    items = [{"key": "a", "value": 1}, {"key": "a", "value": -2, "idempotency_key": "x"}]
    status, told = await other.batch("strict", *items)
    assert (status, told["counted"], told["refused"]) == (200, 1, 1)
    assert "idempotency key" in told["results"][0]["message"]
    assert (await other.batch("strict", items[1]))[1]["replayed"] == 1


async def test_the_default_namespace_may_require_an_idempotency_key(nodes: list[Node]) -> None:
    one, other = nodes
    await one.asked("PUT", "/namespaces/default", {"idempotency_key_required": True})
    await asyncio.sleep(1)
    quart = Front("quart", other.public.port, Ledger(), extra=b"Expect: 100-continue\r\n")
    for front in (one.public, other.public, quart):
        refused = await front.ask(post(increment("required", 1)))
        assert (refused.status, refused.body) == (400, b'{"error":{"message":"Bad Request."}}')
        taken = await front.ask(post(increment("required", 1), Idempotency_Key=front.name))
        assert taken.status == 204
    await one.asked("PUT", "/namespaces/default", {"idempotency_key_required": False})
    await asyncio.sleep(1)
    assert (await quart.ask(post(increment("required", 1)))).status == 204
