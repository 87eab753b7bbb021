"""A server beside the nodes (Redis, Postgres, nginx): started, waited for, started again when it dies,
stopped."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable

from cluster.local.child import Child, Recipe
from cluster.local.errors import LocalError, StartFailed

POLL_S = 0.05
RESTART_S, RESTART_MAX_S = 1.0, 30.0
STEADY_S = 10.0
"""A server that ran so long has recovered: its next death is a new one."""

Report = Callable[[str, str], None]
"""Called with (name of the part, state) when a server dies and when it is back."""


class Service(ABC):
    """One server. A subclass says how it is started, what ready means, and which signals end it."""

    name: str
    start_timeout_s = 60.0
    attempts = 1
    stop_steps: tuple[tuple[signal.Signals, float], ...]

    def __init__(self, group: int) -> None:
        self._group = group
        self.child: Child | None = None

    def prepare(self) -> None:
        """What has to be there, or to be gone, before each start."""
        return

    @abstractmethod
    def recipe(self) -> Recipe:
        """How to start it, now."""

    @abstractmethod
    async def is_ready(self) -> bool:
        """One look, without waiting long."""

    async def start(self) -> None:
        """Returns when it is ready. StartFailed, with the end of its log, when it does not get so."""
        for attempt in range(1, self.attempts + 1):
            self.prepare()
            self.child = child = await Child.start(self.recipe(), self._group)
            if await until(self.is_ready, self.start_timeout_s, give_up=child.has_ended):
                return
            if child.exit_code is None or attempt == self.attempts:
                break
            await asyncio.sleep(RESTART_S)
        lines = child.last_lines()
        await self.stop()
        raise StartFailed(f"{self.name} does not start; the end of its log says:", lines)

    async def keep(self, report: Report) -> None:
        """Starts it again whenever it dies, for ever; with back-off when it dies soon."""
        delay_s = RESTART_S
        while True:
            since = time.monotonic()
            if self.child is not None:
                await self.child.wait()
                report(self.name, "dead")
            delay_s = RESTART_S if time.monotonic() - since > STEADY_S else min(delay_s * 2, RESTART_MAX_S)
            await asyncio.sleep(delay_s)
            with contextlib.suppress(LocalError):  # its log tells; here it is tried again
                await self.start()
                report(self.name, "ready")

    async def stop(self) -> None:
        """Ends it in order, or by force when that takes too long."""
        if self.child is not None:
            await self.child.stop(*self.stop_steps)


async def until(
    condition: Callable[[], Awaitable[bool]], timeout_s: float, give_up: Callable[[], bool] = lambda: False
) -> bool:
    """Looks until the condition holds. False when time is up or there is no more hope."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline and not give_up():
        if await condition():
            return not give_up()  # what answered may be an earlier process on the same port
        await asyncio.sleep(POLL_S)
    return False
