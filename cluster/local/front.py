"""The public entrance when there is an nginx: its process. `cluster.balancer` writes its configuration."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Awaitable, Callable
from pathlib import Path

from cluster.balancer import Balancer
from cluster.local.child import Recipe
from cluster.local.guard import command_of, members
from cluster.local.service import Service


class Front(Service):
    """nginx in the foreground. Ready when it passes requests to a ready node."""

    name = "nginx"
    start_timeout_s = 20.0
    stop_steps = ((signal.SIGQUIT, 10.0), (signal.SIGTERM, 2.0))  # requests in flight are finished, then not

    def __init__(self, balancer: Balancer, log: Path, group: int, answers: Callable[[], Awaitable[bool]]) -> None:
        """`answers` says whether the public port answers as a ready node does."""
        super().__init__(group)
        self.balancer = balancer
        self._log = log
        self._answers = answers

    def prepare(self) -> None:
        """Workers survive a killed master and keep the port: they are ended before a new one starts."""
        for pid in members(self._group):
            if command_of(pid).startswith("nginx:"):
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    def recipe(self) -> Recipe:
        return Recipe(self.balancer.command(), self._log, self.balancer.directory)

    async def is_ready(self) -> bool:
        return await self._answers()
