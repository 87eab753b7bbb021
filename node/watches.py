"""Counters that are watched: one reading of all of them every so often, however many watch.

A watcher is told a value once, and the newest only: who is slow misses those in between, and keeps nobody waiting.
"""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from enum import Enum
from types import TracebackType

from node.errors import Draining, TallyError, TooManyRequests, Unavailable
from node.strategy import Reading
from node.terms import Namespace

log = logging.getLogger(__name__)

WATCHERS_MAX = 1000
WATCHERS_PER_CLIENT_MAX = 100
INTERVAL_S = 0.25
HEARTBEAT_S = 15.0  # less than what is between here and a client waits for

Read = Callable[[Namespace, Sequence[str]], Awaitable[list[Reading | None]]]


class Nothing(Enum):
    """What a watcher is told instead of a value."""

    NEW = "the value is what it was"
    MORE = "there will be no more: the node leaves"


Told = int | None | Nothing


class Watcher:
    """One who watches, until the context ends. `client` is the address it watches from."""

    def __init__(self, watches: Watches, namespace: Namespace, counter: str, client: str) -> None:
        self.namespace, self.counter, self.client = namespace, counter, client
        self._watches = watches
        self._value: Told = Nothing.NEW  # what is to be told next
        self._told: Told = Nothing.NEW
        self._changed = asyncio.Event()

    def __enter__(self) -> Watcher:
        self._watches.join(self)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._watches.leave(self)

    def tell(self, value: Told) -> None:
        if self._value is not Nothing.MORE:
            self._value = value
            self._changed.set()

    async def next(self, timeout_s: float) -> Told:
        """The counter's value, when it is another than told before; Nothing.NEW after the time-out."""
        try:
            async with asyncio.timeout(timeout_s):
                while True:
                    await self._changed.wait()
                    self._changed.clear()
                    if self._value != self._told:
                        self._told = self._value
                        return self._told
        except TimeoutError:
            return Nothing.NEW


class Watches:
    """Those who watch on this node. `read` reads a namespace's counters, exactly."""

    def __init__(
        self,
        read: Read,
        per_client_max: int = WATCHERS_PER_CLIENT_MAX,
        interval_s: float = INTERVAL_S,
        watchers_max: int = WATCHERS_MAX,
    ) -> None:
        """`per_client_max`: 0 = no limit but `watchers_max`."""
        self._read, self._interval_s = read, interval_s
        self._per_client_max, self._watchers_max = per_client_max or watchers_max, watchers_max
        self._watched: dict[str, set[Watcher]] = {}  # by counter
        self._watching: Counter[str] = Counter()  # by client
        self._work = asyncio.Event()
        self._closed = False

    def watch(self, namespace: Namespace, counter: str, client: str) -> Watcher:
        """Errors: Draining; TooManyRequests and Unavailable when there are as many of the client, or in all, as there
        may be.
        """
        if self._closed:
            raise Draining
        if self._watching.total() >= self._watchers_max:
            raise Unavailable(f"There are {self._watchers_max} watchers on this node already; try again later.")
        if self._watching[client] >= self._per_client_max:
            raise TooManyRequests(
                f"There are {self._per_client_max} watchers from this address on this node already: end one of them, "
                "or read many counters at once with POST /v1/<ns>/counters/read."
            )
        return Watcher(self, namespace, counter, client)

    def join(self, watcher: Watcher) -> None:
        self._watching[watcher.client] += 1
        self._watched.setdefault(watcher.counter, set()).add(watcher)
        self._work.set()
        if self._closed:
            watcher.tell(Nothing.MORE)

    def leave(self, watcher: Watcher) -> None:
        self._watching[watcher.client] -= 1
        if not self._watching[watcher.client]:
            del self._watching[watcher.client]
        watchers = self._watched[watcher.counter]
        watchers.discard(watcher)
        if not watchers:
            del self._watched[watcher.counter]

    async def drain(self) -> None:
        """Ends every watch."""
        self._closed = True
        for watchers in self._watched.values():
            for watcher in watchers:
                watcher.tell(Nothing.MORE)

    async def run(self) -> None:
        """Reads what is watched, until cancelled."""
        while True:
            await self._work.wait()
            if not self._watched:
                self._work.clear()
                continue
            await self._look()
            await asyncio.sleep(self._interval_s)

    async def _look(self) -> None:
        wanted: dict[str, tuple[Namespace, list[str]]] = {}
        for counter, watchers in self._watched.items():
            namespace = next(iter(watchers)).namespace
            wanted.setdefault(namespace.name, (namespace, []))[1].append(counter)
        await asyncio.gather(*(self._look_at(namespace, counters) for namespace, counters in wanted.values()))

    async def _look_at(self, namespace: Namespace, counters: list[str]) -> None:
        try:
            readings = await self._read(namespace, counters)
        except TallyError as error:  # its watchers hear nothing, and the next reading may do
            log.debug("what is watched in %s cannot be read: %s", namespace.name, error)
            return
        for counter, reading in zip(counters, readings, strict=True):
            for watcher in self._watched.get(counter, ()):
                watcher.tell(None if reading is None else reading.value)
