"""The row of the settle: many distinct keys from Redis into Postgres, beside the one statement that does only that.

A node settles every interval, and tells how long it took by StatsD. So one increment is sent and its settle awaited;
then the keys are sent, well within the interval, and the next settle is the one that is measured.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import aiohttp
import asyncpg

from cluster.bench.load import KEY_FORMAT, LoadFailed, Sample
from cluster.bench.ours import Bench, Measure, Statsd, Tally, stored_sum

KEYS = 100_000
ITEMS_MAX = 10_000  # in one batch request
INTERVAL_MS = 6000  # the keys are sent within
TABLE = "create table bare (like key_counters including all) with (fillfactor = 85)"
UPSERT = """
insert into bare as c (namespace, key, value)
select b.namespace, b.key, b.value from unnest($1::text[], $2::text[], $3::bigint[]) as b (namespace, key, value)
on conflict (key, namespace) do update set value = c.value + excluded.value, updated_at = now()
"""


async def settle(bench: Bench, stack: AsyncExitStack) -> tuple[Measure, Measure]:
    statsd = await Statsd.listen(stack, "kv.dist.sync_to_db")
    settings = {"STATSD": statsd.address, "FLUSH_INTERVAL_MS": str(INTERVAL_MS)}
    tally = await Tally.start(bench, stack, "load", settings=settings)
    connection = await asyncpg.connect(tally.dsn)
    stack.push_async_callback(connection.close)
    await connection.execute(TABLE)
    settled = Settles(tally, statsd)

    async def bare(_seconds: float) -> Sample:
        return await upsert(connection)

    return settled.measure, bare


async def upsert(connection: asyncpg.Connection) -> Sample:
    names = [KEY_FORMAT.format(number) for number in range(KEYS)]
    began = time.perf_counter()
    await connection.execute(UPSERT, ["default"] * KEYS, names, [1] * KEYS)
    seconds = time.perf_counter() - began
    return Sample(KEYS, seconds, KEYS / seconds)


class Settles:
    """Settles of KEYS keys, again and again."""

    def __init__(self, tally: Tally, statsd: Statsd) -> None:
        self._tally, self._statsd = tally, statsd
        self._sent = 0
        self.ms: list[float] = []

    async def fill(self) -> None:
        """Just after a settle, and before the next."""
        self._statsd.forget()
        await self._post(["mark"])
        await self._statsd.next()
        await self._post(KEY_FORMAT.format(number) for number in range(KEYS))

    async def measure(self, _seconds: float) -> Sample:
        await self.fill()
        if not self._statsd.heard.empty():
            raise LoadFailed(f"{KEYS} keys were not sent within an interval of {INTERVAL_MS} ms: is the machine busy?")
        ms = await self._statsd.next()
        self.ms.append(ms)
        found = await stored_sum(self._tally.dsn)
        if found != self._sent:
            raise LoadFailed(f"{found} increments are settled, not {self._sent}: see the node's log.")
        return Sample(KEYS, ms / 1000, KEYS / ms * 1000)

    async def _post(self, keys: Iterator[str] | list[str]) -> None:
        names = list(keys)
        for start in range(0, len(names), ITEMS_MAX):
            await self._post_some(names[start : start + ITEMS_MAX])
        self._sent += len(names)

    async def _post_some(self, names: list[str]) -> None:
        body = json.dumps([{"key": name, "value": 1} for name in names])
        headers = {"Content-Type": "application/json", "Prefer": "return=minimal"}
        url = f"{self._tally.node.url}/v1/default/increments/batch"
        timeout = aiohttp.ClientTimeout(total=10)
        async with self._tally.bench.stage.session.post(url, data=body, headers=headers, timeout=timeout) as answer:
            if answer.status != 200:
                raise LoadFailed(f"a batch was answered {answer.status} {(await answer.text())[:200]}")
