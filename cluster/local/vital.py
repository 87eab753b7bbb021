"""Loops that must not die unseen: when one fails, whoever waits is told, and learns why."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any


class Vital:
    """Background tasks and the one event on which everything ends: asked for, or because a task failed."""

    def __init__(self) -> None:
        self.ended = asyncio.Event()
        self.failure: BaseException | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    def run(self, work: Coroutine[Any, Any, None]) -> None:
        """Runs it beside everything else. It may end; when it fails, `ended` is set."""
        task = asyncio.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.failure = self.failure or error
            self.ended.set()

    async def until_ended(self, work: Coroutine[Any, Any, None]) -> None:
        """Does the work to its end, or gives it up when `ended` is set. Raises what the work raises."""
        task = asyncio.create_task(work)
        ended = asyncio.create_task(self.ended.wait())
        await asyncio.wait({task, ended}, return_when=asyncio.FIRST_COMPLETED)
        ended.cancel()
        if not task.done():
            task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task

    async def cancel(self) -> None:
        """Ends all tasks."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
