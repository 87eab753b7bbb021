"""Outcomes and values that a coroutine awaits."""

from __future__ import annotations

import asyncio
from typing import TypeVar

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


class Awaited(Pending):
    """An increment whose outcome is awaited."""

    __slots__ = ("future",)

    def __init__(self, increment: Increment, deadline: float, future: asyncio.Future[Outcome]) -> None:
        super().__init__(increment, deadline)
        self.future = future

    def reply(self, outcome: Outcome | TallyError) -> None:
        resolve(self.future, outcome)
