"""Group commit: everything that queued while the last calls were in flight goes in the next one.

There is no linger timer: an idle node answers at once, a busy one makes larger calls. At most CALLS_IN_FLIGHT calls
are on their way to Redis, in order and numbered, so that one whose answer was lost can be made again and is counted
once.

Every broken connection is treated as if Redis had gone back in time: `comeback.py` comes before anything else on the
new one. Then the calls in flight are made again, with their numbers.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from node.awaited import Awaited
from node.call import Bundle, Call, Outcome, Part, Windows, form_call
from node.comeback import Comeback, Unfinished
from node.errors import (
    Draining,
    LogRefused,
    LogUnavailable,
    Overloaded,
    TallyError,
    Unanswered,
    Unavailable,
)
from node.increment import Increment
from node.keep import Keep
from node.points import reach
from node.ports import Appender, Log
from node.stock import take_stock

log = logging.getLogger(__name__)

CALLS_IN_FLIGHT = 2  # one alone leaves the node idle half of the time; log.lua remembers as many answers
ANSWER_TIMEOUT_S = 5.0  # a Redis that is silent for so long counts as gone: the calls are made again
SWEEP_INTERVAL_S = 0.1
BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5)
REFUSED_PAUSE_S = 0.1
STARTING = "This node has not reached Redis yet; try again."
WATCH_INTERVAL_S = 1.0
TIDY_INTERVAL_S = 60.0


class Writer:
    """The way of increments into one lane of the log. `now` gives monotonic seconds."""

    def __init__(
        self,
        log: Log,
        comeback: Comeback,
        keep: Keep,
        name: str,
        partitions: int,
        windows: Windows,
        now: Callable[[], float],
        deadline_s: float = 2.0,
        inbox_max: int = 50_000,
    ) -> None:
        self._log, self._comeback, self._keep = log, comeback, keep
        self._partitions, self._windows, self._now = partitions, windows, now
        self._deadline_s, self._inbox_max = deadline_s, inbox_max
        self._inbox: deque[Part] = deque()
        self._waiting = 0  # increments in the inbox
        self._flight: deque[Call] = deque()  # calls without an answer, in the order of their numbers
        self._last = 0  # number of the last call that was formed
        self._work = asyncio.Event()
        self._broken = asyncio.Event()  # the connection, or what was known of the Redis behind it
        self._room = True  # whether another call may be sent
        self._closed = False
        self._probe_due = False  # an empty call, by which an idle writer learns that Redis takes calls again
        self.name = name  # new at every start: a restarted node's call 1 must not be taken for an old one
        self.trouble: str | None = STARTING  # why nothing is being written; None when all is well

    def due(self) -> float:
        """When an increment that comes now has to be answered, in monotonic seconds."""
        return self._now() + self._deadline_s

    def submit_bundle(
        self,
        sums: dict[str, int],
        items: list[Increment],
        total: int,
        reply: Callable[[tuple[frozenset[str], list[Outcome]] | TallyError], None],
    ) -> None:
        """Queues increments that came together. Errors: Draining, Overloaded."""
        self.submit(Bundle(sums, items, total, reply, self.due()))

    def submit(self, part: Part) -> None:
        """Queues it; it gets its outcome, or an error, by its deadline. Errors: Draining, Overloaded."""
        if self._closed:
            raise Draining
        if self._waiting >= self._inbox_max:
            raise Overloaded
        self._waiting += part.weight
        self._inbox.append(part)
        if self._room:
            self._work.set()

    async def add(self, increment: Increment) -> Outcome:
        """`submit`, awaited. Cancelling the caller does not take the increment back."""
        future: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        self.submit(Awaited(increment, self.due(), future))
        return await future

    async def drain(self) -> None:
        """Takes no more, and returns when everything taken has been answered."""
        self._closed = True
        while self._inbox or self._flight:
            await asyncio.sleep(SWEEP_INTERVAL_S / 10)

    async def run(self) -> None:
        """Writes until cancelled. Errors: Misconfigured, when going on could count wrongly."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="writer deadlines")
            tasks.create_task(self._write(), name="writer")
            tasks.create_task(self._watch(), name="writer watch")
            tasks.create_task(self._tidy(), name="writer tidy")

    # --- connections ----------------------------------------------------------------------------------------------

    async def _write(self) -> None:
        failures = 0
        while True:
            try:
                appender = await self._resume()
                failures = 0
                try:
                    await self._pump(appender)
                finally:
                    await appender.close()
            except Unavailable as error:
                self._in_trouble(error)
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    def _in_trouble(self, error: Unavailable) -> None:
        if self.trouble in (None, STARTING):
            log.warning("writing stopped: %s" if self.trouble is None else "not writing yet: %s", error)
        self.trouble = error.message

    async def _resume(self) -> Appender:
        """The connection is made first: should Redis go away while the writer comes back, it breaks."""
        self._broken.clear()
        appender = await self._log.connect(self.come_back)
        for call in self._flight:
            call.in_doubt = True
        flight = [
            Unfinished(call.number, call.payload, call.partitions, partial(self._done, call)) for call in self._flight
        ]
        try:
            await self._comeback.run(appender, self._keep, flight, self._last, self._broken.is_set)
        except BaseException:
            await appender.close()
            raise
        if self.trouble is not None:
            log.info("writing as %s", self.name)
        self.trouble = None
        return appender

    def come_back(self) -> None:
        """The connection is broken, or Redis is not what this writer came back to."""
        self._broken.set()
        self._work.set()

    async def _watch(self) -> None:
        """Looks whether Redis is still the one that this writer came back to: an idle one meets no error that would
        say so.
        """
        while True:
            await asyncio.sleep(WATCH_INTERVAL_S)
            if self.trouble is not None:
                continue  # it is coming back already
            with suppress(Unavailable):
                if await self._comeback.is_over():
                    self.come_back()
                self._keep.forget_old(self._now(), await self._comeback.settled())

    async def _tidy(self) -> None:
        while True:
            await asyncio.sleep(TIDY_INTERVAL_S)
            with suppress(Unavailable):
                await self._comeback.tidy()

    # --- calls ----------------------------------------------------------------------------------------------------

    async def _pump(self, appender: Appender) -> None:
        """Keeps calls on their way until the connection breaks. Errors: LogUnavailable."""
        while True:
            sent: deque[tuple[Call, asyncio.Task[str]]] = deque()
            try:
                await self._exchange(appender, sent)
            except LogUnavailable as error:
                refused = isinstance(error, LogRefused)
                usable = await self._take_stock(dict(sent), ANSWER_TIMEOUT_S if refused else 0)
                if not (refused and usable):
                    raise
                self._in_trouble(error)
                await asyncio.sleep(REFUSED_PAUSE_S)
                self._probe_due = True
            finally:
                for _, answer in sent:
                    answer.cancel()

    async def _exchange(self, appender: Appender, sent: deque[tuple[Call, asyncio.Task[str]]]) -> None:
        again = deque(self._flight)
        while True:
            self._work.clear()
            if self._broken.is_set():
                raise LogUnavailable
            while sent and sent[0][1].done():
                call, answer = sent[0]
                self._done(call, answer.result())
                self.trouble = None
                sent.popleft()
            while len(sent) < CALLS_IN_FLIGHT and (again or self._inbox or self._probe_due):
                call = again.popleft() if again else self._form()
                sent.append((call, self._send(appender, call)))
            self._room = len(sent) < CALLS_IN_FLIGHT
            try:
                async with asyncio.timeout(ANSWER_TIMEOUT_S if sent else None):
                    await self._work.wait()
            except TimeoutError:
                raise LogUnavailable(f"Redis has not answered for {ANSWER_TIMEOUT_S:.0f} s; try again.") from None

    def _done(self, call: Call, answer: str) -> None:
        """Calls are answered in the order of their numbers."""
        assert self._flight[0] is call
        reach("append-answered")
        call.settle(answer)
        self._keep.add(call.number, call.payload, call.partitions, self._now())
        self._flight.popleft()

    def _form(self) -> Call:
        self._last += 1
        self._probe_due = False
        call = form_call(self._last, self._inbox, self._partitions, self._windows)
        self._waiting -= sum(part.weight for part in call.parts)
        self._flight.append(call)
        return call

    def _send(self, appender: Appender, call: Call) -> asyncio.Task[str]:
        assert self._comeback.incarnation is not None
        answer = asyncio.create_task(appender.append(self.name, self._comeback.incarnation, call.number, call.payload))
        answer.add_done_callback(lambda _: self._work.set())
        return answer

    async def _take_stock(self, sent: dict[Call, asyncio.Task[str]], wait_s: float) -> bool:
        """After an error; -> whether the connection may be used on."""
        if sent:
            await asyncio.wait(sent.values(), timeout=wait_s)
        errors = {call: _error_of(sent.get(call)) for call in self._flight}
        stock = take_stock(self._flight, errors, all_answered=all(answer.done() for answer in sent.values()))
        for call in stock.in_doubt:
            call.in_doubt = True
        for call in stock.refused:
            call.fail(stock.refusal or LogUnavailable())
            self._flight.remove(call)
        if stock.refused:
            self._last = stock.refused[0].number - 1
        return stock.usable

    # --- deadlines ------------------------------------------------------------------------------------------------

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            self._expire(self._now())

    def _expire(self, now: float) -> None:
        while self._inbox and self._inbox[0].deadline <= now:
            part = self._inbox.popleft()
            self._waiting -= part.weight
            part.answer(LogUnavailable(self.trouble))
        for call in self._flight:
            for part in call.parts:
                if part.deadline > now:
                    break  # they are in the order of their deadlines
                part.answer(Unanswered())


def _error_of(answer: asyncio.Task[str] | None) -> BaseException | None:
    if answer is None or not answer.done() or answer.cancelled():
        return None
    return answer.exception()
