"""Large bodies are held in memory whole, so only some at once are taken; small ones, which are most, do not wait.

Who reads takes no place: nothing of a GET's body is kept beyond `increment.BODY_BYTES_MAX`, and a watch goes on for
hours.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from node.answers import of_error
from node.errors import Overloaded

LARGE_BYTES = 64 * 1024
LARGE_MAX = 64  # in the node at once; each has at most batch.BODY_BYTES_MAX, and what is made of it
WAIT_S = 2.0  # for another to be done
BODILESS = ("GET", "HEAD")  # methods

Asgi = Callable[[Any, Any, Any], Awaitable[None]]


class LargeBodies:
    """An ASGI application before another one. What waits is not read on: it is kept by the client's side."""

    def __init__(self, app: Asgi, at_once: int = LARGE_MAX, wait_s: float = WAIT_S) -> None:
        self._app, self._wait_s = app, wait_s
        self._room = asyncio.Semaphore(at_once)

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] in BODILESS or not _is_large(scope["headers"]):
            return await self._app(scope, receive, send)
        try:
            async with asyncio.timeout(self._wait_s):
                await self._room.acquire()
        except TimeoutError:
            return await _refuse(send)
        try:
            await self._app(scope, receive, send)
        finally:
            self._room.release()


def _is_large(headers: list[tuple[bytes, bytes]]) -> bool:
    """By what it says of itself; in chunks, it says nothing."""
    for name, value in headers:
        if name == b"transfer-encoding":
            return True
        if name == b"content-length":
            return not (value.isdigit() and int(value) <= LARGE_BYTES)
    return False


async def _refuse(send: Any) -> None:
    answer = of_error(Overloaded())
    headers = [("content-type", "application/json"), ("content-length", str(len(answer.body))), *answer.headers]
    encoded = [(name.lower().encode(), value.encode()) for name, value in headers]
    await send({"type": "http.response.start", "status": answer.status, "headers": encoded})
    await send({"type": "http.response.body", "body": answer.body})
