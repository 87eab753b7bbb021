"""A cluster for the v1 routes: three nodes of one kind and another, nginx before them, a namespace of each strategy."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlencode

import pytest

from tests.conftest import Servers
from tests.http.client import Answer, Front, Ledger, request
from tests.http.conftest import NGINX, PORTS, empty_stores, running_nginx, running_node

STRATEGIES = ("dist", "sync", "rollup")
TERMS = {"negative_allowed": True, "history": True}


@dataclass
class Asking:
    """One namespace by one front; keys are this test's own."""

    front: Front
    ns: str
    test: str
    nodes: list[Front]
    dsn: str

    def key(self, name: str) -> str:
        return f"{name} {self.test}"

    async def ask(self, method: str, path: str, body: object = None, **headers: str) -> Answer:
        """`path` below the namespace; a body goes as JSON."""
        sent = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        if sent:
            headers.setdefault("Content_Type", "application/json")
        source = headers.pop("source", "127.0.0.2")
        return await self.front.ask(request(method, f"/v1/{self.ns}{path}", sent, **headers), source)

    async def asked(self, method: str, path: str, body: object = None, **headers: str) -> Any:
        """The body of an answer that must be 200."""
        answer = await self.ask(method, path, body, **headers)
        assert answer.status == 200, answer
        return json.loads(answer.body)

    async def add(self, key: str, value: int = 1, **members: Any) -> Answer:
        headers = {name: members.pop(name) for name in list(members) if name[0].isupper() or name == "source"}
        return await self.ask("POST", "/increments", {"key": key, "value": value, **members}, **headers)

    async def value(self, key: str) -> int | None:
        answer = await self.ask("GET", at(key))
        assert answer.status in (200, 404), answer
        return int(json.loads(answer.body)["value"]) if answer.status == 200 else None

    async def reset(self, key: str, **headers: str) -> Answer:
        return await self.ask("POST", at(key, "/reset"), **headers)

    async def until_settled(self, *keys: str) -> None:
        deadline = time.monotonic() + 30
        while any(each["pending"] for each in (await self.asked("POST", "/counters/read", {"keys": keys}))["counters"]):
            assert time.monotonic() < deadline, "not settled"
            await asyncio.sleep(0.05)


def at(key: str, rest: str = "", **query: object) -> str:
    """A counter's path."""
    return f"/counters/{quote(key, safe='')}{rest}" + (f"?{urlencode(query)}" if query else "")


@pytest.fixture(scope="module")
def fronts(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[dict[str, Front], Front, str]]:
    """By name: two nodes, of which one is served by Hypercorn, and nginx; a node's operations listener; the DSN."""
    with empty_stores(servers) as dsn, ExitStack() as stack:
        found: dict[str, Front] = {}
        ops_port = PORTS.take(f"ops-v1-{time.monotonic_ns()}")
        for name, settings in (("node", {"ops_port": str(ops_port)}), ("hypercorn", {"server": "hypercorn"})):
            log = tmp_path_factory.mktemp(name) / "node.log"
            port = stack.enter_context(running_node(servers, dsn, log, node=name, **settings))
            found[name] = Front("node", port, Ledger())
        if NGINX is not None:
            port = stack.enter_context(running_nginx(tmp_path_factory.mktemp("nginx"), found["node"].port))
            found["nginx"] = Front("nginx", port, Ledger())
        ops = Front("ops", ops_port, Ledger())
        for strategy in STRATEGIES:
            body = json.dumps({"strategy": strategy, **TERMS}).encode()
            asyncio.run(put(ops, strategy, body))
        yield found, ops, dsn


async def put(ops: Front, ns: str, body: bytes) -> None:
    answer = await ops.ask(request("PUT", f"/namespaces/{ns}", body))
    assert answer.status == 200, answer


@pytest.fixture(params=STRATEGIES)
def strategy(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=["node", "hypercorn", pytest.param("nginx", marks=pytest.mark.nginx)])
def asking(request: pytest.FixtureRequest, fronts: tuple[dict[str, Front], Front, str], strategy: str) -> Asking:
    """A namespace of each strategy, by each front."""
    found, _, dsn = fronts
    if request.param not in found:
        pytest.skip("nginx is not on this machine")
    nodes = [found["node"], found["hypercorn"]]
    return Asking(found[request.param], strategy, request.node.name.replace("/", "|"), nodes, dsn)


@pytest.fixture
def direct(request: pytest.FixtureRequest, fronts: tuple[dict[str, Front], Front, str], strategy: str) -> Asking:
    """A namespace of each strategy, by one node."""
    found, _, dsn = fronts
    return Asking(found["node"], strategy, request.node.name, [found["node"], found["hypercorn"]], dsn)


@pytest.fixture
def ops(fronts: tuple[dict[str, Front], Front, str]) -> Front:
    return fronts[1]
