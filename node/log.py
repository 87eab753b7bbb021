"""The Redis side of numbered batches: log.lua, called. Redis' errors become ours here and nowhere else.

Two kinds of connection. Appends have one of their own on which several calls are in flight, in order: redis-py's
clients send one command at a time, and retry by themselves, which would count twice. Everything else goes through a
pool.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Sequence
from itertools import chain
from typing import Any

import msgspec
from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    RedisError,
    ResponseError,
)

from cluster.functions import Library
from cluster.ring import partition_of
from node.errors import LogGap, LogRefused, LogUnavailable, LogUnrepaired
from node.ports import Facts, Fenced, Introduced, RememberedId
from node.settlement import Batch, Unsettled

LIBRARY = Library.of("node", "log.lua")
CONNECTIONS_MAX = 16
TIMEOUT_S = 5.0
REMEMBER_MAX = 1000  # ids put back in one step
FORGET_MAX = 4096  # buckets of remembered ids deleted in one step: a few milliseconds of Redis' time
REFUSED = (OutOfMemoryError, ReadOnlyError, NoPermissionError)
REFUSED_CODES = ("MISCONF", "NOREPLICAS", "MASTERDOWN", "BUSY", "CLUSTERDOWN", "TRYAGAIN")
UNREPAIRED_CODES = ("UNREPAIRED", "STALE", "Function not found", "ERR Function not found")


def translated(error: Exception) -> LogUnavailable:
    """What a driver's error means for the call that met it."""
    text = str(error)
    if isinstance(error, BusyLoadingError) or not isinstance(error, ResponseError):
        kind: type[LogUnavailable] = LogUnavailable
    elif text.startswith("GAP"):
        kind = LogGap
    elif text.startswith(UNREPAIRED_CODES):
        kind = LogUnrepaired
    elif isinstance(error, REFUSED) or text.startswith(REFUSED_CODES):
        kind = LogRefused
    else:  # a script that failed half-way, or something in Redis that is not ours: nobody knows what it did
        kind = LogUnavailable
    return kind(f"Redis: {text}; try again")


def lane_key(lane: int) -> str:
    """The prefix of all of a lane's keys; the braces keep them in one slot of a Redis Cluster."""
    return f"tally:{{{lane}}}"


class RedisLog:
    """`ports.Log` on one Redis; `key` is the lane's prefix."""

    def __init__(self, redis: Redis, key: str, partitions: int) -> None:
        self.redis = redis
        self.key = key
        self._partitions = partitions

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
        await self.redis.aclose()

    async def connect(self, broken: Callable[[], None]) -> RedisAppender:
        connection: AbstractConnection = self.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        connection.socket_timeout = None  # the reader waits for the next answer for as long as there is none due
        try:
            await LIBRARY.load(self.redis)
            await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise translated(error) from error
        return RedisAppender(connection, self.key, broken)

    async def facts(self) -> Facts:
        try:
            info = await self.redis.info()
            meta: dict[bytes, bytes] = await self.redis.hgetall(f"{self.key}:meta")  # type: ignore[assignment]
        except (RedisError, OSError) as error:
            raise translated(error) from error
        return Facts(
            run_id=str(info["run_id"]),
            cluster=meta[b"cluster"].decode() if meta else None,
            incarnation=int(meta[b"incarnation"]) if meta else None,
            whole=int(meta[b"whole"]) if b"whole" in meta else None,
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

    async def repair(self, fenced: Fenced) -> None:
        settled = msgspec.json.encode({str(p): n for p, n in fenced.settled.items()})
        await self._call("repair", fenced.cluster, fenced.incarnation, settled, *fenced.full)

    async def seal(self, partition: int) -> Batch | None:
        answer = await self._call("seal", partition)
        if answer is None:
            return None
        number, incarnation, sums, calls = answer
        return Batch(partition, int(number), int(incarnation), _integers(sums), _integers(calls))

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        return bool(await self._call("drop", partition, settled, *full))

    async def forget_ids(self) -> int:
        return int(await self._call("forget_ids", FORGET_MAX))

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        args: list[Any] = []
        for counter in counters:
            args += (partition_of(counter, self._partitions), counter)
        answer = await self._call("read", *args)
        return [Unsettled(int(row[0]), *(None if n is None else int(n) for n in row[1:])) for row in answer]

    async def _call(self, function: str, *args: Any) -> Any:
        try:
            return await LIBRARY.call(self.redis, function, [self.key], list(args))
        except (RedisError, OSError) as error:
            raise translated(error) from error


class RedisAppender:
    """`ports.Appender`: calls are written at once and answered in order."""

    def __init__(self, connection: AbstractConnection, key: str, broken: Callable[[], None]) -> None:
        self._connection = connection
        self._key = key
        self._broken = broken
        self._error: LogUnavailable | None = None
        self._waiting: deque[asyncio.Future[str]] = deque()
        self._reader = asyncio.create_task(self._read(), name="appender")

    async def append(self, writer: str, number: int, payload: bytes) -> str:
        return await self._append(writer, number, payload)

    async def replay(self, writer: str, number: int, payload: bytes, skipped: Collection[int]) -> str:
        return await self._append(writer, number, payload, msgspec.json.encode([str(p) for p in skipped]))

    async def _append(self, *args: str | int | bytes) -> str:
        if self._error is not None:
            raise self._error
        answer: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        command = self._connection.pack_command("FCALL", LIBRARY.function("append"), 1, self._key, *args)
        try:
            await self._connection.send_packed_command(command, check_health=False)
        except (RedisError, OSError) as error:
            self._fail(translated(error))
        return await answer

    async def close(self) -> None:
        self._broken = _nothing
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self._fail(LogUnavailable())
        await self._connection.disconnect(nowait=True)

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response(timeout=math.inf)
            except ResponseError as error:
                self._answer(translated(error))
            except (RedisError, OSError) as error:
                return self._fail(translated(error))
            else:
                self._answer(answer.decode())

    def _answer(self, answer: str | LogUnavailable) -> None:
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(answer, str):
            waiting.set_result(answer)
        else:
            waiting.set_exception(answer)

    def _fail(self, error: LogUnavailable) -> None:
        if self._error is not None:
            return
        self._error = error
        while self._waiting:
            self._answer(error)
        self._broken()


def trouble_of(info: dict[str, Any]) -> str | None:
    """Why this Redis cannot keep the promises, from its INFO; None when it can."""
    if not info.get("aof_enabled"):
        return "Redis has no append-only file; set `appendonly yes`, or acknowledged increments die with it"
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        return f"Redis may evict keys (maxmemory-policy {policy}); set it to noeviction"
    return None


def _integers(pairs: Sequence[bytes]) -> dict[str, int]:
    return {name.decode(): int(number) for name, number in zip(pairs[::2], pairs[1::2], strict=True)}


def _nothing() -> None:
    pass
