"""log.lua on fakeredis: the adapter's own code over a Redis in Python. It has no INFO and no raw connection."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from typing import Any

from redis.exceptions import RedisError

from node.log import LIBRARY, RedisLog, translated


class FakeAppender:
    """`ports.Appender` over a client."""

    def __init__(self, log: FakeRedisLog) -> None:
        self._log = log

    async def append(self, writer: str, number: int, payload: bytes) -> str:
        try:
            answer: bytes = await LIBRARY.call(self._log.redis, "append", [self._log.key], [writer, number, payload])
        except RedisError as error:
            raise translated(error) from error
        return answer.decode()

    async def replay(self, writer: str, number: int, payload: bytes, skipped: Collection[int]) -> str:
        skip = json.dumps([str(p) for p in skipped])
        answer: bytes = await LIBRARY.call(self._log.redis, "append", [self._log.key], [writer, number, payload, skip])
        return answer.decode()

    async def close(self) -> None:
        pass


class FakeRedisLog(RedisLog):
    """`ports.Log` over fakeredis."""

    async def _call_by_pipe(self, function: str, argument: bytes) -> Any:
        return await self._call(function, argument)

    async def connect(self, broken: Callable[[], None]) -> FakeAppender:  # type: ignore[override]
        return FakeAppender(self)
