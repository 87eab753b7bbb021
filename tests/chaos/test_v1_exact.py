"""Every strategy, by v1 and by the seed's routes through Quart, while a node is killed: exact to the unit."""

from __future__ import annotations

import asyncio
import json
import secrets
import subprocess
import urllib.error
import urllib.request
from collections.abc import AsyncIterator, Iterator
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import pytest

from cluster.attack.load import KEEP_ALIVE_S
from tests.chaos.local_cluster import DEADLINE_S, Up, until

pytestmark = [pytest.mark.cluster, pytest.mark.redis, pytest.mark.postgres, pytest.mark.nginx]

MOST = 1000
CLIENTS = 50
EACH = 60  # increments of one adder
ATTACK = ("--rate", "100", "--duration", "8", "--json")


@dataclass
class Client:
    """Asks through nginx. What was not answered is asked again, under the same key."""

    session: aiohttp.ClientSession
    url: str

    async def post(self, path: str, body: dict[str, Any]) -> tuple[int, Any]:
        headers = {"Idempotency-Key": secrets.token_hex(8)}
        async with asyncio.timeout(DEADLINE_S):
            while True:
                async with self.session.post(self.url + path, json=body, headers=headers) as answer:
                    told = await answer.json()
                if answer.status != 503:
                    return answer.status, told
                await asyncio.sleep(0.05)

    async def value(self, key: str) -> int:
        async with self.session.get(f"{self.url}/counters/{key}") as answer:
            assert answer.status == 200
            value: int = (await answer.json())["value"]
        return value


async def fifty_add_up_to_a_bound(client: Client) -> None:
    async def add() -> list[int]:
        totals = []
        while True:
            status, told = await client.post("/increments", {"key": "bound", "value": 1, "max": MOST})
            if status == 409:
                assert told["error"]["value"] == MOST
                return totals
            assert status == 200, told
            totals.append(told["value"])

    totals = [total for each in await asyncio.gather(*(add() for _ in range(CLIENTS))) for total in each]
    assert len(totals) == MOST == await client.value("bound")
    assert max(totals) == MOST


async def eight_reset_while_eight_add(client: Client) -> None:
    await client.post("/increments", {"key": "till", "value": 0})
    adding = 8

    async def add() -> int:
        nonlocal adding
        for value in range(1, EACH + 1):
            status, told = await client.post("/increments", {"key": "till", "value": value})
            assert status == 200, told
        adding -= 1
        return sum(range(1, EACH + 1))

    async def reset() -> int:
        taken = 0
        while adding:
            status, told = await client.post("/counters/till/reset", {})
            assert status == 200, told
            taken += told["taken"]
            await asyncio.sleep(0.02)
        return taken

    adders, resetters = [add() for _ in range(8)], [reset() for _ in range(8)]
    added, taken = await asyncio.gather(asyncio.gather(*adders), asyncio.gather(*resetters))
    assert sum(taken) > 0
    assert sum(taken) + await client.value("till") == sum(added)


@asynccontextmanager
async def asking(url: str) -> AsyncIterator[Client]:
    timeout = aiohttp.ClientTimeout(total=30)
    connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=KEEP_ALIVE_S)
    async with aiohttp.ClientSession(timeout=timeout, connector=connector) as session:
        yield Client(session, url)


async def stories(up: Up) -> None:
    url = up.state()["public_url"] + "/v1/shop"
    async with asking(url) as client, asyncio.TaskGroup() as tasks:
        tasks.create_task(fifty_add_up_to_a_bound(client))
        tasks.create_task(eight_reset_while_eight_add(client))
        async with asyncio.timeout(DEADLINE_S):
            while (await client.post("/increments", {"key": "bound", "value": 0}))[1]["value"] < MOST // 4:
                await asyncio.sleep(0.01)
        killed = await asyncio.to_thread(up.run, "kill", "n2")
        assert killed.returncode == 0, killed.stderr


@pytest.mark.parametrize("strategy", ["dist", "sync", "rollup"])
def test_bounds_resets_and_two_attacks_are_exact_while_a_node_is_killed(up: Up, strategy: str) -> None:
    up.environment |= {"TALLY_STRATEGY": strategy, "TALLY_HOT_LANE": "false"}
    up.start("--nodes", "3").ready()
    with ExitStack() as attacks_end:
        shop, seed = ("--namespace", "shop", "--strategy", strategy), ()
        attacks = [attacks_end.enter_context(attack(up, *options)) for options in (shop, seed)]
        until(lambda: any_counted(up), "the load has begun")
        asyncio.run(stories(up))
        for process in attacks:
            result = json.loads(process.communicate(timeout=120)[0])
            wrong = {name: result[name] for name in ("failed", "unknown", "lost", "doubled")}
            assert wrong == dict.fromkeys(wrong, 0), result
            assert result["sent"] == result["acknowledged"] == result["counted"] == result["settled"] > 0
            assert process.returncode == 0


@contextmanager
def attack(up: Up, *options: str) -> Iterator[subprocess.Popen[bytes]]:
    command = up.command("attack", *ATTACK, *options)
    with subprocess.Popen(command, stdout=subprocess.PIPE, cwd=up.root, env=up.environment) as process:
        try:
            yield process
        finally:
            process.kill()


def any_counted(up: Up) -> bool:
    try:
        with urllib.request.urlopen(up.state()["public_url"] + "/v1/shop/counters", timeout=10) as answer:
            return bool(json.load(answer)["counters"])
    except urllib.error.HTTPError:
        return False
