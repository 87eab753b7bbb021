"""What the drivers say of a connection that is gone, and what it means here."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import asyncpg
import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from cluster.errors import RegistryUnavailable
from cluster.registry import _translated
from node.errors import LogUnavailable, StoreRefused, StoreUnavailable
from node.pipe import Pipe
from node.postgres import translated

CLOSED = RuntimeError("unable to perform operation on <TCPTransport closed=True>; the handler is closed")
GONE = [CLOSED, ConnectionResetError(), TimeoutError()]


class Connection:
    """A driver's, of which the transport is closed."""

    socket_timeout: float | None = 1.0

    def __init__(self, error: Exception) -> None:
        self._error = error

    def pack_command(self, *args: Any) -> list[bytes]:
        return []

    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        raise self._error

    async def read_response(self, **_: float) -> None:
        await asyncio.Event().wait()

    async def disconnect(self, nowait: bool) -> None:
        pass


@pytest.mark.parametrize("error", [*GONE, RedisConnectionError()], ids=repr)
async def test_a_call_on_a_closed_connection_fails_as_unavailable_and_breaks_the_pipe(error: Exception) -> None:
    broken: list[int] = []
    told: Callable[[], None] = lambda: broken.append(1)  # noqa: E731
    pipe = Pipe(Connection(error), "key", told)  # type: ignore[arg-type]
    with pytest.raises(LogUnavailable):
        await pipe.call("append")
    assert broken == [1]
    await pipe.close()


class Congested(Connection):
    """A driver's that has no room for more."""

    def __init__(self) -> None:
        super().__init__(OSError())
        self.sending, self.sent = asyncio.Event(), 0

    async def send_packed_command(self, command: list[bytes], check_health: bool) -> None:
        self.sent += 1
        self.sending.set()
        await asyncio.Event().wait()


async def test_a_call_that_is_cancelled_before_it_is_all_sent_breaks_the_pipe() -> None:
    """Redis-py has closed the connection then, and would open another for the next call, which nobody reads."""
    broken: list[int] = []
    connection = Congested()
    pipe = Pipe(connection, "key", lambda: broken.append(1))  # type: ignore[arg-type]
    calling = asyncio.create_task(pipe.call("read"))
    await connection.sending.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    with pytest.raises(LogUnavailable):
        async with asyncio.timeout(10):
            await pipe.call("read")
    assert (connection.sent, broken) == (1, [1])
    await pipe.close()


async def test_a_connection_on_which_postgres_said_goodbye_while_it_idled_is_gone() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        async with translated():
            raise asyncpg.InternalClientError("cannot switch to state 12; another operation (2) is in progress")
    assert not isinstance(caught.value, StoreRefused), "nobody answered"


@pytest.mark.parametrize("error", GONE, ids=repr)
async def test_a_closed_connection_is_never_anything_but_unavailable(error: Exception) -> None:
    async def call() -> None:
        raise error

    with pytest.raises(RegistryUnavailable):
        await _translated(call())
    with pytest.raises(StoreUnavailable):
        async with translated():
            await call()
