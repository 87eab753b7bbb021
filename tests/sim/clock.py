"""An event loop on which time passes only when nobody has anything to do, so that a story of many seconds takes
milliseconds, and a seed tells it again exactly.

What a process schedules belongs to its `Host`: a host that is frozen does nothing until it thaws, and then does
everything that came due meanwhile. That is a SIGSTOP.
"""

from __future__ import annotations

import asyncio
import random
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from heapq import heappop, heappush
from typing import Any, TypeVar

T = TypeVar("T")

JITTER_S = 0.002  # by which a process' timers may be late
WORLD = Context()  # of what belongs to no process: messages on their way


class Stuck(Exception):
    """Nothing will ever happen again, or nothing new."""


class Host:
    """A process, as far as the loop knows of one."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.frozen = False
        self.dead = False
        self.held: list[tuple[Host | None, asyncio.Handle]] = []

    def context(self) -> Context:
        """What runs in it, or in copies of it, is this host's."""
        context = copy_context()
        context.run(HOST.set, self)
        return context


HOST: ContextVar[Host | None] = ContextVar("HOST", default=None)


class Loop(asyncio.AbstractEventLoop):
    """What asyncio's tasks, futures and timeouts need of a loop; no sockets, no threads."""

    def __init__(self, seed: int) -> None:
        self._now = 0.0
        self._ready: deque[tuple[Host | None, asyncio.Handle]] = deque()
        self._timers: list[tuple[float, int, Host | None, asyncio.TimerHandle]] = []
        self._made = 0
        self._chance = random.Random(seed)
        self.complaints: list[str] = []  # errors that nobody caught

    # --- time -----------------------------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def tell(self, story: Coroutine[Any, Any, T], limit_s: float) -> T:
        """Runs it to its end. Errors: its own; Stuck, when it takes longer."""
        task = self.create_task(story)
        events._set_running_loop(self)
        try:
            while not task.done():
                self._step(limit_s)
            return task.result()
        finally:
            events._set_running_loop(None)

    def close(self) -> None:
        """Ends what is still running, so that nothing is left to the garbage collector's own time."""
        self._timers.clear()
        events._set_running_loop(self)
        try:
            while tasks := asyncio.all_tasks(self):
                for task in tasks:
                    task.cancel()
                if self._ready:
                    self._step()
        finally:
            events._set_running_loop(None)

    def _step(self, limit_s: float = float("inf")) -> None:
        """Runs what is ready, or else what is due next."""
        ready = self._ready
        if not ready:
            if not self._timers or self._now > limit_s:
                raise Stuck
            due, _, host, timer = heappop(self._timers)
            if due > self._now:
                self._now = due
            ready.append((host, timer))
        while ready:
            entry = ready.popleft()
            host, handle = entry
            if handle._cancelled:
                continue
            if host is not None and host.frozen:
                host.held.append(entry)
            else:
                handle._run()

    def thaw(self, host: Host) -> None:
        """As after a SIGCONT: first what has arrived on its sockets, then its timers."""
        host.frozen = False
        held, host.held = host.held, []
        self._ready.extend(sorted(held, key=lambda entry: isinstance(entry[1], asyncio.TimerHandle)))

    # --- what asyncio calls ---------------------------------------------------------------------------------------

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.Handle:
        handle = asyncio.Handle(callback, args, self, context)
        self._ready.append((_host(context), handle))
        return handle

    def call_later(  # type: ignore[override]
        self, delay: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(  # type: ignore[override]
        self, when: float, callback: Callable[..., object], *args: Any, context: Context | None = None
    ) -> asyncio.TimerHandle:
        timer = asyncio.TimerHandle(when, callback, args, self, context)
        host = _host(context)
        self._made += 1
        due = when if host is None else when + self._chance.random() * JITTER_S
        heappush(self._timers, (due, self._made, host, timer))
        return timer

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(
        self,
        coro: Generator[Any, None, T] | Coroutine[Any, Any, T],
        *,
        name: str | None = None,
        context: Context | None = None,
    ) -> asyncio.Task[T]:
        return asyncio.Task(coro, loop=self, name=name, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if context["message"].startswith("Exception in callback"):
            self.complaints.append(f"{context['message']}: {context['exception']!r}")

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return False

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        """It stays in the heap until it is due."""


def _host(context: Context | None) -> Host | None:
    return HOST.get() if context is None else context.get(HOST)
