"""Group commit into Postgres: everything that queued while the last groups were on their way goes in the next one.

A group is decided and written in one transaction, or one statement. What fails before that is asked to commit has not
counted, and is tried again as long as its callers wait. Of a commit without an answer nobody knows; so operations that
count once under a key are tried again even then, and find out.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from enum import Enum

from node.counters import Counters
from node.deciding import Operation, Ruling, decide
from node.errors import Draining, Overloaded, StoreRefused, StoreUnanswered, StoreUnavailable, TallyError, Unavailable
from node.points import reach

log = logging.getLogger(__name__)

GROUP_MAX = 1000  # operations in a transaction
SWEEP_INTERVAL_S = 0.1
LATE = "Postgres has not answered in time; try again."
BACKOFF_S = (0.02, 0.05, 0.1, 0.2, 0.5)


@dataclass(slots=True, eq=False)
class Asked:
    """Operations that came together, at most GROUP_MAX. `reply` is called exactly once, with a ruling for each."""

    operations: Sequence[Operation]
    deadline: float  # monotonic seconds
    reply: Callable[[list[Ruling] | TallyError], None]
    answered: bool = False

    def answer(self, result: list[Ruling] | TallyError) -> None:
        if not self.answered:
            self.answered = True
            self.reply(result)


class Stage(Enum):
    """How far a group has come."""

    OPEN = "who gives up now is left out"
    DECIDED = "who gives up now may be counted"
    COMMITTING = "it may be counted whatever happens to the connection"


class Group:
    """What is committed together."""

    def __init__(self, asked: list[Asked]) -> None:
        self.asked = asked
        self.stage = Stage.OPEN
        self.in_doubt = False  # it may have been committed before

    def operations(self) -> list[Operation]:
        """Of those who still wait."""
        self.asked = [each for each in self.asked if not each.answered]
        return [operation for each in self.asked for operation in each.operations]

    def answer(self, rulings: list[Ruling]) -> None:
        position = 0
        for each in self.asked:
            after = position + len(each.operations)
            each.answer(rulings[position:after])
            position = after

    def doubt(self) -> None:
        """It was asked to commit, and there is no answer. What has a guard may come again: it waits for whoever has
        claimed that, and is a replay if it was counted.
        """
        self.in_doubt, self.stage = True, Stage.OPEN
        for each in self.asked:
            if any(operation.guard is None for operation in each.operations):
                each.answer(StoreUnanswered())

    def expire(self, now: float) -> None:
        late = StoreUnavailable("Postgres was too slow; nothing was counted. Try again.")
        error = late if self.stage is Stage.OPEN and not self.in_doubt else StoreUnanswered()
        for each in self.asked:
            if each.deadline <= now:
                each.answer(error)


Commit = Callable[[Group], Awaitable[None]]
"""Counts a group and answers it, and says how far it has come. Errors: StoreUnavailable."""


class Committer:
    """`now` gives monotonic seconds; `at_once` groups are on their way at the same time."""

    def __init__(
        self, commit: Commit, now: Callable[[], float], deadline_s: float, inbox_max: int, at_once: int
    ) -> None:
        self._commit, self._now, self.deadline_s = commit, now, deadline_s
        self._inbox_max, self._at_once = inbox_max, at_once
        self._inbox: deque[Asked] = deque()
        self._waiting = 0  # operations in the inbox
        self._groups: set[Group] = set()
        self._work = asyncio.Event()
        self._closed = False
        self.trouble: str | None = None

    def due(self) -> float:
        """When an increment that comes now has to be answered, in monotonic seconds."""
        return self._now() + self.deadline_s

    def submit(self, asked: Asked) -> None:
        """Queues it; it is answered by its deadline. Errors: Draining, Overloaded."""
        if self._closed:
            raise Draining
        if self._waiting >= self._inbox_max:
            raise Overloaded
        self._waiting += len(asked.operations)
        self._inbox.append(asked)
        self._work.set()

    async def ask(self, operations: Sequence[Operation], due: float) -> list[Ruling] | TallyError:
        """`submit`, awaited. Cancelling the caller does not take it back."""
        answer: asyncio.Future[list[Ruling] | TallyError] = asyncio.get_running_loop().create_future()

        def reply(result: list[Ruling] | TallyError) -> None:
            if not answer.done():
                answer.set_result(result)

        try:
            self.submit(Asked(operations, due, reply))
        except TallyError as error:
            return error
        return await answer

    async def drain(self) -> None:
        """Takes no more, and returns when everything taken has been answered."""
        self._closed = True
        while self._inbox or self._groups:
            await asyncio.sleep(SWEEP_INTERVAL_S / 10)

    async def run(self) -> None:
        """Commits until cancelled."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._sweep(), name="committer deadlines")
            for _ in range(self._at_once):
                tasks.create_task(self._work_on(), name="committer")

    async def _work_on(self) -> None:
        while True:
            await self._work.wait()
            group = self._form()
            if not group.asked:  # another has taken them
                self._work.clear()
                continue
            self._groups.add(group)
            try:
                await self._try(group)
            finally:
                self._groups.discard(group)

    def _form(self) -> Group:
        asked: list[Asked] = []
        size = 0
        while self._inbox and (not asked or size + len(self._inbox[0].operations) <= GROUP_MAX):
            each = self._inbox.popleft()
            self._waiting -= len(each.operations)
            if not each.answered:
                asked.append(each)
                size += len(each.operations)
        return Group(asked)

    async def _try(self, group: Group) -> None:
        """Until it is answered, be it by the sweep."""
        failures = 0
        while group.operations():
            try:
                async with asyncio.timeout(self.deadline_s):
                    await self._commit(group)
                self.trouble = None
                return
            except (Unavailable, TimeoutError) as error:
                self._in_trouble(error)
                if group.stage is Stage.COMMITTING and not isinstance(error, StoreRefused):
                    group.doubt()
                group.stage = Stage.OPEN
            await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
            failures += 1

    def _in_trouble(self, error: Exception) -> None:
        if self.trouble is None:
            log.warning("counting in Postgres stopped: %s", str(error) or LATE)
        self.trouble = error.message if isinstance(error, Unavailable) else LATE

    async def _sweep(self) -> None:
        while True:
            await asyncio.sleep(SWEEP_INTERVAL_S)
            now = self._now()
            while self._inbox and (self._inbox[0].answered or self._inbox[0].deadline <= now):
                each = self._inbox.popleft()
                self._waiting -= len(each.operations)
                each.answer(StoreUnavailable(self.trouble))
            for group in self._groups:
                group.expire(now)


async def commit_held(counters: Counters, group: Group) -> None:
    """Holds the group's counters, decides, writes. For `Committer`."""
    while operations := group.operations():
        async with counters.hold() as held:
            totals, remembered = await held.look(operations)
            decision = decide(group.operations(), totals, remembered)  # some may have given up meanwhile
            if decision.counted:
                group.stage = Stage.DECIDED
                if not await held.write(decision):
                    group.stage = Stage.OPEN
                    continue
                group.stage = Stage.COMMITTING
                await held.commit()
                reach("committed")
            group.answer(decision.rulings)
            return
