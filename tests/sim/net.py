"""Servers that can be away, slow or out of reach, and the ways to them, on which requests and answers get lost.

A request that met an error may have been lost, may have been run, or may be run yet: nobody can know.
"""

from __future__ import annotations

import asyncio
import random
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, TypeVar

from node.errors import TallyError, Unavailable
from tests.sim.clock import WORLD, Host, Loop

T = TypeVar("T")

LATENCY_S = 0.004  # at most, mostly
SLOW_S = 0.3  # at most, sometimes
TIMEOUT_S = 5.0
LATE_S = 4.0  # at most so long after its client has given up a request is run


@dataclass
class Weather:
    """How often what happens, between 0 and 1."""

    lost: float = 0.0  # requests, never run
    unheard: float = 0.0  # answers of requests that were run
    late: float = 0.0  # requests that are run after their client has met an error
    slow: float = 0.0


@dataclass
class Server:
    """`unreachable` is the error its clients meet. `run` counts its processes: a connection is to one of them."""

    loop: Loop
    name: str
    unreachable: type[Unavailable]
    up: bool = True
    run: int = 1
    hangs_until: float = 0.0
    pipes: list[Pipe] = field(default_factory=list)
    trace: Callable[[str], None] | None = None
    quiet_at: float = 0.0  # when the last of the requests that are on their way has arrived

    def stop(self) -> None:
        self.up = False
        self.run += 1
        self.cut()

    def expect(self, takes_s: float) -> None:
        self.quiet_at = max(self.quiet_at, self.loop.time() + takes_s)

    def cut(self) -> None:
        """Breaks the connections that are kept."""
        for pipe in list(self.pipes):
            pipe.fail()

    def note(self, host: Host, request: str, answer: object, error: BaseException | None, fate: str) -> None:
        """What became of a request."""
        if self.trace is not None:
            self.trace(f"{host.name} {self.name}.{request}: {answer if error is None else repr(error)} ({fate})")


def finished(coroutine: Awaitable[T]) -> T:
    """The result of one of a twin's methods, which never waits."""
    steps = coroutine.__await__()
    try:
        next(steps)
    except StopIteration as stop:
        result: T = stop.value
        return result
    raise AssertionError("a twin waited")


class Way:
    """From one host to one server."""

    def __init__(self, host: Host, server: Server, weather: Weather, seed: str) -> None:
        self.host, self.server, self.weather = host, server, weather
        self.loop = server.loop
        self.chance = random.Random(seed)
        self.hangs_until = self.answers_hang_until = 0.0

    def latency(self, back: bool = False) -> float:
        late = max(self.server.hangs_until, self.hangs_until, self.answers_hang_until * back) - self.loop.time()
        longest = SLOW_S if self.chance.random() < self.weather.slow else LATENCY_S
        return max(late, 0.0) + self.chance.random() * longest

    def fate(self) -> str:
        drawn = self.chance.random()
        for name in ("lost", "unheard", "late"):
            drawn -= getattr(self.weather, name)
            if drawn < 0:
                return name
        return "well"

    async def ask(self, request: str, operation: Callable[[], Awaitable[T]]) -> T:
        """One request on a connection of its own."""
        if self.host.dead or not self.server.up:
            await asyncio.sleep(0)
            raise self.server.unreachable
        future: asyncio.Future[T] = self.loop.create_future()
        _Request(self, request, operation, future).send()
        return await future

    async def connect(self, broken: Callable[[], None]) -> Pipe:
        async def nothing() -> None:
            pass

        await self.ask("connect", nothing)
        return Pipe(self, broken)


class _Request:
    """A request under way: sent, run, answered; or not."""

    def __init__(
        self, way: Way, name: str, operation: Callable[[], Awaitable[Any]], future: asyncio.Future[Any]
    ) -> None:
        self._way, self._name, self._operation, self._future = way, name, operation, future
        self._run = way.server.run
        self._fate = way.fate()

    def send(self) -> None:
        way = self._way
        takes = way.latency()
        if takes > TIMEOUT_S:
            way.loop.call_later(TIMEOUT_S, self._fail, context=WORLD)
            self._fate = "late"
        elif self._fate == "late":
            way.loop.call_later(takes, self._fail, context=WORLD)
            takes += way.chance.random() ** 3 * LATE_S
        way.server.expect(takes)
        way.loop.call_later(takes, self._arrive, context=WORLD)

    def _arrive(self) -> None:
        server = self._way.server
        if not server.up or server.run != self._run or self._fate == "lost":
            server.note(self._way.host, self._name, None, None, "lost")
            return self._fail()
        answer, error = outcome_of(self._operation)
        server.note(self._way.host, self._name, answer, error, self._fate)
        back = self._fail if self._fate == "unheard" else self._answer
        takes = self._way.latency(back=True)
        self._way.loop.call_later(min(takes, TIMEOUT_S), back, answer, error, context=WORLD)
        return None

    def _fail(self, *_: object) -> None:
        if not self._future.done():
            self._future.set_exception(self._way.server.unreachable())

    def _answer(self, answer: Any, error: BaseException | None) -> None:
        give(self._future, answer, error)


class Pipe:
    """A connection that is kept: requests are run in the order in which they were made. Once broken it stays so."""

    def __init__(self, way: Way, broken: Callable[[], None]) -> None:
        self._way, self._broken = way, broken
        self._run = way.server.run
        self._waiting: deque[asyncio.Future[Any]] = deque()
        self._arrives, self._answered = 0.0, 0.0
        self._open = True
        self._delivered = 2**62  # requests that still reach the server: fewer once it is broken
        self._made = 0
        self._context = way.host.context()
        way.server.pipes.append(self)

    async def ask(self, request: str, operation: Callable[[], Awaitable[T]]) -> T:
        if not self._open or self._way.host.dead:
            raise self._way.server.unreachable
        future: asyncio.Future[T] = self._way.loop.create_future()
        self._waiting.append(future)
        self._made += 1
        self._arrives = max(self._arrives, self._way.loop.time() + self._way.latency())
        self._way.server.expect(self._arrives - self._way.loop.time())  # also if the host dies meanwhile
        self._way.loop.call_at(
            self._arrives, self._arrive, request, self._made, operation, future, self._way.fate(), context=WORLD
        )
        return await future

    def _arrive(
        self,
        request: str,
        number: int,
        operation: Callable[[], Awaitable[Any]],
        future: asyncio.Future[Any],
        fate: str,
        overdue: bool = False,
    ) -> None:
        server = self._way.server
        if not server.up or server.run != self._run or number > self._delivered or fate == "lost":
            self._delivered = 0  # what follows on this connection comes to nothing either
            server.note(self._way.host, request, None, None, "lost")
            return self.fail()
        if fate == "late" and not overdue:
            self.fail(number)
            takes = self._way.chance.random() ** 3 * LATE_S
            server.expect(takes)
            self._way.loop.call_later(
                takes, self._arrive, request, number, operation, future, fate, True, context=WORLD
            )
            return None
        answer, error = outcome_of(operation)
        server.note(self._way.host, request, answer, error, fate if self._open or overdue else "unheard")
        if fate == "unheard":
            return self.fail()
        self._answered = max(self._answered, self._way.loop.time() + self._way.latency(back=True))
        self._way.loop.call_at(self._answered, self._answer, future, answer, error, context=WORLD)
        return None

    def _answer(self, future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
        if self._open:
            self._waiting.popleft()
            give(future, answer, error)

    def fail(self, delivered: int | None = None) -> None:
        """Breaks; some of what is on its way may still be run. The host hears of it when it next runs."""
        if not self._open:
            return
        self._end(delivered)
        self._way.loop.call_soon(self._broken, context=self._context.copy())

    def close(self) -> None:
        if self._open:
            self._end(None)

    def _end(self, delivered: int | None) -> None:
        self._open = False
        self._way.server.pipes.remove(self)
        if delivered is None:
            delivered = self._made - self._way.chance.randrange(3)
        self._delivered = min(self._delivered, delivered)
        for future in self._waiting:
            if not future.done():
                future.set_exception(self._way.server.unreachable())
        self._waiting.clear()


def outcome_of(operation: Callable[[], Awaitable[Any]]) -> tuple[Any, BaseException | None]:
    """An error of ours is an answer; any other is a fault of the twin, and nobody's answer."""
    try:
        return finished(operation()), None
    except TallyError as error:
        return None, error


def give(future: asyncio.Future[Any], answer: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(answer)
    else:
        future.set_exception(error)
