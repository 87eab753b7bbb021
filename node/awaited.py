"""An increment whose outcome a coroutine awaits."""

from __future__ import annotations

import asyncio

from node.call import Outcome, Pending
from node.errors import TallyError
from node.increment import Increment


class Awaited(Pending):
    """An increment whose outcome is awaited."""

    __slots__ = ("future",)

    def __init__(self, increment: Increment, deadline: float, future: asyncio.Future[Outcome]) -> None:
        super().__init__(increment, deadline)
        self.future = future

    def reply(self, outcome: Outcome | TallyError) -> None:
        if self.future.done():  # the client has gone
            return
        if isinstance(outcome, TallyError):
            self.future.set_exception(outcome)
        else:
            self.future.set_result(outcome)
