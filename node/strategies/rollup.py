"""`rollup`: an increment is acknowledged when Postgres has committed a row of its own, which is rolled up later.

Nobody waits for anybody's row, so a hot counter costs no more than others. What depends on the total (bounds, resets,
and values so large that many of them could pass the end of a bigint before they are rolled up) is decided under a lock.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from node.call import Outcome
from node.committer import Committer, Group, Stage, commit_held
from node.counters import IncrementLog
from node.deciding import Operation, Remembered, Ruling, repeated
from node.errors import StoreUnanswered, StoreUnavailable
from node.points import reach
from node.strategies.direct import Direct

APPENDS_AT_ONCE = 2
DECISIONS_AT_ONCE = 1
PLAIN_MAX = 2**31  # 2^30 such increments of one counter, not rolled up, stay below settlement.SUM_MAX


def rollup(
    increments: IncrementLog, now: Callable[[], float], deadline_s: float, inbox_max: int, request_id_window_s: int
) -> Direct:
    plain = Committer(partial(append, increments), now, deadline_s, inbox_max, APPENDS_AT_ONCE)
    exact = Committer(partial(commit_held, increments), now, deadline_s, inbox_max, DECISIONS_AT_ONCE)
    return Direct(increments, plain, exact, PLAIN_MAX, request_id_window_s)


async def append(increments: IncrementLog, group: Group) -> None:
    """Counts a group of plain increments in one statement. For `Committer`."""
    async with increments.appending() as append_all:
        operations = group.operations()  # only now: some may have given up meanwhile
        if not operations:
            return
        firsts, repeats = first_of_each_guard(operations)
        group.stage = Stage.COMMITTING
        refused = await append_all([operations[position] for position in firsts])
    reach("appended")
    exceptions = [firsts[index] for index in (*refused.known, *refused.full)]
    remembered = await _remembered(increments, [operations[position] for position in exceptions])
    outcomes = dict.fromkeys(firsts, Outcome.COUNTED)
    outcomes |= {firsts[index]: Outcome.REPLAYED for index in refused.known}
    outcomes |= {firsts[index]: Outcome.FULL for index in refused.full}
    for position, first in ({position: position for position in exceptions} | repeats).items():
        outcomes[position] = _judge(operations[position], operations[first], outcomes[first], remembered)
    group.answer([Ruling(outcomes[position], None) for position in range(len(operations))])


def first_of_each_guard(operations: Sequence[Operation]) -> tuple[list[int], dict[int, int]]:
    """Positions of those that come without a guard or are the first with it; position of each other -> of its first."""
    first: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for position, operation in enumerate(operations):
        if operation.guard is not None and first.setdefault(operation.guard, position) != position:
            repeats[position] = first[operation.guard]
    return [position for position in range(len(operations)) if position not in repeats], repeats


def _judge(operation: Operation, first: Operation, outcome: Outcome, remembered: Mapping[bytes, Remembered]) -> Outcome:
    """Of one that was not counted, or whose guard came before in the same group: on `first`, with this outcome."""
    had = remembered.get(operation.guard) if operation.guard is not None else None
    if had is None and outcome is Outcome.COUNTED:
        had = Remembered(first.value, False)
    return outcome if had is None else repeated(operation, had)


async def _remembered(increments: IncrementLog, known: Sequence[Operation]) -> dict[bytes, Remembered]:
    """What has counted has counted: should this fail, the group must not be appended again."""
    guards = [operation.guard for operation in known if operation.guard is not None]
    try:
        return await increments.remembered(guards) if guards else {}
    except StoreUnavailable as error:
        raise StoreUnanswered from error
