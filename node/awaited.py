"""Outcomes and values that a coroutine awaits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from node.call import Outcome, Pending
from node.errors import TallyError
from node.increment import Increment

T = TypeVar("T")


def resolve(future: asyncio.Future[T], result: T | TallyError) -> None:
    """Gives the awaiting its result, or raises the error there; nothing when its client has gone."""
    if future.done():
        return
    if isinstance(result, TallyError):
        future.set_exception(result)
    else:
        future.set_result(result)


async def apart(work: Coroutine[Any, Any, T]) -> T:
    """Awaits it in a task of its own, which goes on when the caller is cancelled.

    A client that hangs up while half of a command is sent would break the connection for all.
    """
    task = asyncio.create_task(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        task.add_done_callback(lambda done: done.cancelled() or done.exception())  # nobody asks for it any more
        raise


class Awaited(Pending):
    """An increment whose outcome is awaited."""

    __slots__ = ("future",)

    def __init__(self, increment: Increment, deadline: float, future: asyncio.Future[Outcome]) -> None:
        super().__init__(increment, deadline)
        self.future = future

    def reply(self, outcome: Outcome | TallyError) -> None:
        resolve(self.future, outcome)
