"""One connection to Redis on which many calls are in flight, in order; and Redis' errors, which become ours here.

redis-py's clients send one command at a time on a connection, and retry by themselves, which would count twice.
"""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio.connection import AbstractConnection
from redis.exceptions import (
    BusyLoadingError,
    NoPermissionError,
    OutOfMemoryError,
    ReadOnlyError,
    ResponseError,
)

from cluster.functions import UNREACHABLE, Library
from node.errors import LogGap, LogRefused, LogUnavailable, LogUnrepaired

LIBRARY = Library.of("node", "log.lua")
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
    return kind(cause=f"Redis: {text or type(error).__name__}")


class Pipe:
    """One connection on which calls are written at once and answered in order. Once it has failed it is never used
    again.
    """

    def __init__(self, connection: AbstractConnection, key: str, broken: Callable[[], None]) -> None:
        connection.socket_timeout = None  # the reader waits for the next answer for as long as there is none due
        self._connection = connection
        self._key = key
        self._broken = broken
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._reader = asyncio.create_task(self._read(), name="pipe")
        self.error: LogUnavailable | None = None

    async def call(self, function: str, *args: str | int | bytes) -> Any:
        return await (await self.send(function, *args))

    async def send(self, function: str, *args: str | int | bytes) -> asyncio.Future[Any]:
        """-> what the answer comes in, once the call is on its way."""
        if self.error is not None:
            raise self.error
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append(answer)
        command = self._connection.pack_command("FCALL", LIBRARY.function(function), 1, self._key, *args)
        try:
            await self._connection.send_packed_command(command, check_health=False)
        except UNREACHABLE as error:
            self.fail(translated(error))
        except BaseException:  # cancelled: the driver has closed the connection, and would open another for the next
            self.fail(LogUnavailable())
            raise
        return answer

    async def close(self) -> None:
        self._broken = nothing
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
            except UNREACHABLE as error:
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


class Renewed:
    """A pipe that many share, made when it is first needed, and anew once it is broken."""

    def __init__(self, make: Callable[[], Awaitable[Pipe]]) -> None:
        self._make = make
        self._making = asyncio.Lock()
        self._pipe: Pipe | None = None

    async def get(self) -> Pipe:
        """Errors: LogUnavailable."""
        if self._pipe is None or self._pipe.error is not None:
            async with self._making:  # two callers need one connection
                if self._pipe is None or self._pipe.error is not None:
                    await self.close()
                    self._pipe = await self._make()
        return self._pipe

    def fail(self) -> None:
        """Gives what waits an error: another of Redis' connections was found dead."""
        if self._pipe is not None:
            self._pipe.fail(LogUnavailable())

    async def close(self) -> None:
        if self._pipe is not None:
            await self._pipe.close()


def nothing() -> None:
    """For who need not know that a connection broke."""
