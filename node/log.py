"""The Redis side of numbered batches: log.lua, called.

Two kinds of connection. Appends, reads and seals have a pipe each, on which several calls are in flight. Everything
else goes through a pool.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from functools import partial
from itertools import chain, repeat
from typing import Any

import msgspec
from redis._parsers.helpers import parse_info
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import TimeoutError as RedisTimeoutError

from cluster.functions import UNREACHABLE
from cluster.ring import partition_of
from node.errors import LogUnavailable
from node.pipe import LIBRARY, Pipe, Renewed, nothing, translated
from node.points import reach
from node.ports import Facts, Fenced, Introduced, RememberedId
from node.settlement import Batch, Unsettled

CONNECTIONS_MAX = 16
TIMEOUT_S = 5.0
SEAL_TIMEOUT_S = 60.0  # for all of a batch to come
REMEMBER_MAX = 1000  # ids put back in one step
FORGET_MAX = 4096  # buckets of remembered ids deleted in one step: a few milliseconds of Redis' time


def lane_key(lane: int) -> str:
    """The prefix of all of a lane's keys; the braces keep them in one slot of a Redis Cluster."""
    return f"tally:{{{lane}}}"


class RedisLog:
    """`ports.Log` on one Redis; `key` is the lane's prefix."""

    def __init__(self, redis: Redis, key: str, partitions: int) -> None:
        self.redis = redis
        self.key = key
        self._partitions = partitions
        self._reads = Renewed(self._pipe_for_reads)
        self._reads_run = ""  # the run of the Redis that they are connected to
        self._seals = Renewed(partial(self._pipe, nothing))

    @classmethod
    def open(cls, url: str, lane: int, partitions: int) -> RedisLog:
        """On a client without retries of its own; nothing is sent yet."""
        pool = BlockingConnectionPool.from_url(
            url,
            max_connections=CONNECTIONS_MAX,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        return cls(Redis.from_pool(pool), lane_key(lane), partitions)

    async def close(self) -> None:
        await self._reads.close()
        await self._seals.close()
        await self.redis.aclose()

    async def connect(self, broken: Callable[[], None]) -> RedisAppender:
        await self._begin_anew()
        return RedisAppender(await self._pipe(broken))

    async def _begin_anew(self) -> None:
        """Where one connection is dead, the others may be, too, and each would take its time to show it."""
        self._reads.fail()
        self._seals.fail()
        with suppress(*UNREACHABLE):
            await self.redis.connection_pool.disconnect(inuse_connections=False)

    async def _connection(self) -> AbstractConnection:
        connection: AbstractConnection = self.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        try:
            await LIBRARY.load(self.redis)
            await connection.connect()  # type: ignore[no-untyped-call]
        except UNREACHABLE as error:
            raise translated(error) from error
        return connection

    async def _pipe(self, broken: Callable[[], None]) -> Pipe:
        return Pipe(await self._connection(), self.key, broken)

    async def _pipe_for_reads(self) -> Pipe:
        """Each read names the run of the Redis it goes to: one that has come back, and that nobody has repaired yet,
        looks whole.
        """
        connection = await self._connection()
        try:
            await connection.send_command("INFO", "server")
            info = parse_info(await connection.read_response())  # type: ignore[no-untyped-call]
        except UNREACHABLE as error:
            await connection.disconnect(nowait=True)
            raise translated(error) from error
        self._reads_run = str(info["run_id"])
        return Pipe(connection, self.key, nothing)

    async def _read_by_pipe(self, function: str, *args: str | int | bytes) -> Any:
        """For what is called all the time: a pool's connection would take one call at a time, and longer over each."""
        pipe = await self._reads.get()
        return await _in_time(pipe, TIMEOUT_S, function, self._reads_run, *args)

    async def _seal_by_pipe(self, partition: int) -> Any:
        """For a large batch takes long to come; that Redis is gone, an append notices before."""
        return await _in_time(await self._seals.get(), SEAL_TIMEOUT_S, "seal", partition)

    async def facts(self) -> Facts:
        try:
            info = await self.redis.info()
            meta: dict[bytes, bytes] = await self.redis.hgetall(f"{self.key}:meta")  # type: ignore[assignment]
        except UNREACHABLE as error:
            raise translated(error) from error
        noted = {name.decode(): text.decode() for name, text in meta.items()}
        return Facts(
            run_id=str(info["run_id"]),
            cluster=noted.get("cluster"),
            incarnation=_integer(noted.get("incarnation")),
            whole=_integer(noted.get("whole")),
            life=noted.get("life"),
            repaired_run=noted.get("run"),
            trouble=trouble_of(info),
        )

    async def introduce(self, writer: str, last: int) -> Introduced:
        known, last = await self._call("introduce", writer, last)
        return Introduced(bool(known), last)

    async def forget_writers(self, writers: Sequence[str]) -> None:
        await self._call("forget_writers", *writers)

    async def remember_ids(self, ids: Sequence[RememberedId]) -> None:
        for start in range(0, len(ids), REMEMBER_MAX):
            await self._call("remember_ids", *chain.from_iterable(ids[start : start + REMEMBER_MAX]))

    async def whole(self, incarnation: int) -> None:
        await self._call("whole", incarnation)

    async def repair(self, fenced: Fenced, found: Facts) -> str:
        settled = msgspec.json.encode({str(p): n for p, n in fenced.settled.items()})
        lives = (found.life or "", secrets.token_hex(8))
        life: bytes = await self._call(
            "repair", fenced.cluster, fenced.incarnation, settled, found.run_id, *lives, *fenced.full
        )
        return life.decode()

    async def seal(self, partition: int) -> Batch | None:
        answer = await self._seal_by_pipe(partition)
        if answer is None:
            return None
        number, incarnation, sums, calls = answer
        noted = _pairs(calls)
        outcomes = {name: text for name, text in noted.items() if "/" in name}
        last_calls = {name: int(text) for name, text in noted.items() if name not in outcomes}
        return Batch(partition, int(number), int(incarnation), _integers(sums), last_calls, outcomes)

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        return bool(await self._call("drop", partition, settled, *full))

    async def forget_ids(self) -> int:
        return int(await self._call("forget_ids", FORGET_MAX))

    async def receipt(self, window_s: int, digest: str) -> str | None:
        value: bytes | None = await self._read_by_pipe("receipt", window_s, digest)
        return None if value is None else value.decode()

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        groups: dict[int, CountersOfPartition] = {}
        for counter in counters:
            partition = partition_of(counter, self._partitions)
            group = groups.get(partition)
            if group is None:
                group = groups[partition] = CountersOfPartition(str(partition), [])
            group.c.append(counter)
        answer = await self._read_by_pipe("read", msgspec.json.encode(list(groups.values())))
        found: dict[str, Unsettled] = {}
        for group, (open_number, sealed_number, sealed, opened) in zip(groups.values(), answer, strict=True):
            number, sealed_at = int(open_number), _integer(sealed_number)
            for counter, sealed_sum, open_sum in zip(group.c, sealed or repeat(None), opened, strict=False):
                found[counter] = Unsettled(number, sealed_at, _integer(sealed_sum), _integer(open_sum))
        return [found[counter] for counter in counters]

    async def _call(self, function: str, *args: Any) -> Any:
        try:
            return await LIBRARY.call(self.redis, function, [self.key], list(args))
        except UNREACHABLE as error:
            if isinstance(error, RedisTimeoutError):
                await self._begin_anew()
            raise translated(error) from error


class RedisAppender:
    """`ports.Appender`"""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def append(self, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        coming = await self._pipe.send("append", writer, incarnation, number, payload)
        reach("append-sent")
        answer: bytes = await coming
        return answer.decode()

    async def replay(self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int]) -> str:
        partitions = msgspec.json.encode([str(p) for p in skipped])
        answer: bytes = await self._pipe.call("append", writer, incarnation, number, payload, partitions)
        return answer.decode()

    async def close(self) -> None:
        await self._pipe.close()


def trouble_of(info: dict[str, Any]) -> str | None:
    """Why this Redis cannot keep the promises, from its INFO; None when it can."""
    if not info.get("aof_enabled"):
        return "Redis has no append-only file; set `appendonly yes`, or acknowledged increments die with it."
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        return f"Redis may evict keys (maxmemory-policy {policy}); set it to noeviction."
    return None


class CountersOfPartition(msgspec.Struct, gc=False):
    p: str
    c: list[str]


async def _in_time(pipe: Pipe, timeout_s: float, function: str, *args: str | int | bytes) -> Any:
    try:
        async with asyncio.timeout(timeout_s):
            return await pipe.call(function, *args)
    except TimeoutError:
        pipe.fail(LogUnavailable(f"Redis has not answered for {timeout_s:.0f} s; try again."))
        raise LogUnavailable from None


def _integer(text: str | bytes | None) -> int | None:
    return None if text is None else int(text)


def _integers(pairs: Sequence[bytes]) -> dict[str, int]:
    return {name: int(number) for name, number in _pairs(pairs).items()}


def _pairs(pairs: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in zip(pairs[::2], pairs[1::2], strict=True)}
