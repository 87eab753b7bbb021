"""log.lua on fakeredis: the adapter's own code over a Redis in Python. It has no INFO and no raw connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from redis.exceptions import RedisError

from node.log import RedisLog
from node.pipe import LIBRARY, translated
from node.ports import Facts

RUN = "fake"


class FakeAppender:
    """`ports.Appender` over a client."""

    def __init__(self, log: FakeRedisLog) -> None:
        self._log = log

    async def append(self, writer: str, incarnation: int, number: int, payload: bytes) -> str:
        return await self._call(writer, incarnation, number, payload)

    async def replay(self, writer: str, incarnation: int, number: int, payload: bytes, skipped: Collection[int]) -> str:
        return await self._call(writer, incarnation, number, payload, json.dumps([str(p) for p in skipped]))

    async def _call(self, *args: str | int | bytes) -> str:
        try:
            answer: bytes = await LIBRARY.call(self._log.redis, "append", [self._log.key], list(args))
        except RedisError as error:
            raise translated(error) from error
        return answer.decode()

    async def close(self) -> None:
        pass


class FakeRedisLog(RedisLog):
    """`ports.Log` over fakeredis."""

    async def facts(self) -> Facts:
        meta: dict[bytes, bytes] = await self.redis.hgetall(f"{self.key}:meta")  # type: ignore[assignment]
        noted = {name.decode(): text.decode() for name, text in meta.items()}
        incarnation, whole = noted.get("incarnation"), noted.get("whole")
        return Facts(
            RUN,
            noted.get("cluster"),
            incarnation and int(incarnation),
            whole and int(whole),
            noted.get("life"),
            noted.get("run"),
        )

    async def _read_by_pipe(self, function: str, *args: str | int | bytes) -> Any:
        return await self._call(function, RUN, *args)

    async def _seal_by_pipe(self, partition: int) -> Any:
        return await self._call("seal", partition)

    async def connect(self, broken: Callable[[], None]) -> FakeAppender:  # type: ignore[override]
        return FakeAppender(self)
