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
from itertools import chain, repeat
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
        self._reads: Pipe | None = None
        self._connecting = asyncio.Lock()

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
        if self._reads is not None:
            await self._reads.close()
        await self.redis.aclose()

    async def connect(self, broken: Callable[[], None]) -> RedisAppender:
        return RedisAppender(await self._pipe(broken))

    async def _pipe(self, broken: Callable[[], None]) -> Pipe:
        connection: AbstractConnection = self.redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        connection.socket_timeout = None  # the reader waits for the next answer for as long as there is none due
        try:
            await LIBRARY.load(self.redis)
            await connection.connect()  # type: ignore[no-untyped-call]
        except (RedisError, OSError) as error:
            raise translated(error) from error
        return Pipe(connection, self.key, broken)

    async def _call_by_pipe(self, function: str, argument: bytes) -> Any:
        """For what is called all the time: a pool's connection would take one call at a time, and longer over each."""
        if self._reads is None or self._reads.error is not None:
            async with self._connecting:  # two callers need one connection
                if self._reads is None or self._reads.error is not None:
                    if self._reads is not None:
                        await self._reads.close()
                    self._reads = await self._pipe(_nothing)
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._reads.call(function, argument)
        except TimeoutError:
            self._reads.fail(LogUnavailable(f"Redis has not answered for {TIMEOUT_S:.0f} s; try again"))
            raise LogUnavailable from None

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
        noted = _pairs(calls)
        outcomes = {name: text for name, text in noted.items() if "/" in name}
        last_calls = {name: int(text) for name, text in noted.items() if name not in outcomes}
        return Batch(partition, int(number), int(incarnation), _integers(sums), last_calls, outcomes)

    async def drop(self, partition: int, settled: int, full: Sequence[str]) -> bool:
        return bool(await self._call("drop", partition, settled, *full))

    async def forget_ids(self) -> int:
        return int(await self._call("forget_ids", FORGET_MAX))

    async def receipt(self, window_s: int, digest: str) -> str | None:
        value: bytes | None = await self._call("receipt", window_s, digest)
        return None if value is None else value.decode()

    async def read(self, counters: Sequence[str]) -> list[Unsettled]:
        groups: dict[int, CountersOfPartition] = {}
        for counter in counters:
            partition = partition_of(counter, self._partitions)
            group = groups.get(partition)
            if group is None:
                group = groups[partition] = CountersOfPartition(str(partition), [])
            group.c.append(counter)
        answer = await self._call_by_pipe("read", msgspec.json.encode(list(groups.values())))
        found: dict[str, Unsettled] = {}
        for group, (open_number, sealed_number, sealed, opened) in zip(groups.values(), answer, strict=True):
            number, sealed_at = int(open_number), _integer(sealed_number)
            for counter, sealed_sum, open_sum in zip(group.c, sealed or repeat(None), opened, strict=False):
                found[counter] = Unsettled(number, sealed_at, _integer(sealed_sum), _integer(open_sum))
        return [found[counter] for counter in counters]

    async def _call(self, function: str, *args: Any) -> Any:
        try:
            return await LIBRARY.call(self.redis, function, [self.key], list(args))
        except (RedisError, OSError) as error:
            raise translated(error) from error


class Pipe:
    """One connection on which calls are written at once and answered in order. Once it has failed it is never used
    again.
    """

    def __init__(self, connection: AbstractConnection, key: str, broken: Callable[[], None]) -> None:
        self._connection = connection
        self._key = key
        self._broken = broken
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._reader = asyncio.create_task(self._read(), name="pipe")
        self.error: LogUnavailable | None = None

    async def call(self, function: str, *args: str | int | bytes) -> Any:
        if self.error is not None:
            raise self.error
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        command = self._connection.pack_command("FCALL", LIBRARY.function(function), 1, self._key, *args)
        try:
            await self._connection.send_packed_command(command, check_health=False)
        except (RedisError, OSError) as error:
            self.fail(translated(error))
        return await answer

    async def close(self) -> None:
        self._broken = _nothing
        self._reader.cancel()
        await asyncio.wait([self._reader])
        self.fail(LogUnavailable())
        await self._connection.disconnect(nowait=True)

    def fail(self, error: LogUnavailable) -> None:
        """Gives everything that waits an error; the connection is of no use any more."""
        if self.error is not None:
            return
        self.error = error
        while self._waiting:
            self._answer(error)
        self._broken()

    async def _read(self) -> None:
        while True:
            try:
                answer = await self._connection.read_response(timeout=math.inf)
            except ResponseError as error:
                self._answer(translated(error))
            except (RedisError, OSError) as error:
                return self.fail(translated(error))
            else:
                self._answer(answer)

    def _answer(self, answer: Any) -> None:
        waiting = self._waiting.popleft()
        if waiting.done():
            return
        if isinstance(answer, LogUnavailable):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)


class RedisAppender:
    """`ports.Appender`"""

    def __init__(self, pipe: Pipe) -> None:
        self._pipe = pipe

    async def append(self, writer: str, number: int, payload: bytes) -> str:
        answer: bytes = await self._pipe.call("append", writer, number, payload)
        return answer.decode()

    async def replay(self, writer: str, number: int, payload: bytes, skipped: Collection[int]) -> str:
        partitions = msgspec.json.encode([str(p) for p in skipped])
        answer: bytes = await self._pipe.call("append", writer, number, payload, partitions)
        return answer.decode()

    async def close(self) -> None:
        await self._pipe.close()


def trouble_of(info: dict[str, Any]) -> str | None:
    """Why this Redis cannot keep the promises, from its INFO; None when it can."""
    if not info.get("aof_enabled"):
        return "Redis has no append-only file; set `appendonly yes`, or acknowledged increments die with it"
    if (policy := info.get("maxmemory_policy", "noeviction")) != "noeviction":
        return f"Redis may evict keys (maxmemory-policy {policy}); set it to noeviction"
    return None


class CountersOfPartition(msgspec.Struct, gc=False):
    p: str
    c: list[str]


def _integer(text: bytes | None) -> int | None:
    return None if text is None else int(text)


def _integers(pairs: Sequence[bytes]) -> dict[str, int]:
    return {name: int(number) for name, number in _pairs(pairs).items()}


def _pairs(pairs: Sequence[bytes]) -> dict[str, str]:
    return {name.decode(): text.decode() for name, text in zip(pairs[::2], pairs[1::2], strict=True)}


def _nothing() -> None:
    pass
