"""Many increments at once: how they are bundled into calls, and what became of each. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice

from node.call import Outcome
from node.errors import TallyError
from node.increment import Increment
from node.settlement import CALL_SUM_MAX

BUNDLE_MAX = 1000  # increments counted in one call

BundleAnswer = (
    tuple[frozenset[str], list[Outcome]] | TallyError
)  # counters whose sum was refused, outcomes of the items


@dataclass(slots=True)
class Bundling:
    """The increments from `start` to `end` of a request, as they go into one call.

    What has no idempotency key is summed by counter. So is what a proxy may send a second time, but each sum becomes an
    item then, under the request id of the first in it: the same increments make the same ids.
    """

    start: int
    end: int
    sums: dict[str, int] = field(default_factory=dict)
    items: list[Increment] = field(default_factory=list)
    positions: list[list[int]] = field(default_factory=list)  # of each item's increments, in the request
    total: int = 0  # of all values without their signs


def bundle(increments: Sequence[Increment]) -> list[Bundling]:
    """At most BUNDLE_MAX increments in each, nor more than one call may add. The same make the same bundles."""
    bundlings: list[Bundling] = []
    start = 0
    while start < len(increments):
        bundlings.append(_one_bundle(increments, start))
        start = bundlings[-1].end
    return bundlings


def _one_bundle(increments: Sequence[Increment], start: int) -> Bundling:
    one = Bundling(start, start)
    guarded: dict[str, int] = {}  # counter -> its item
    for position, increment in enumerate(islice(increments, start, start + BUNDLE_MAX), start):
        if one.total + abs(increment.value) > CALL_SUM_MAX:
            break
        one.total += abs(increment.value)
        one.end = position + 1
        if increment.idempotency_key is None:
            one.sums[increment.counter] = one.sums.get(increment.counter, 0) + increment.value
            continue
        index = guarded.get(increment.counter) if increment.short_lived else None
        if index is None:
            if increment.short_lived:
                guarded[increment.counter] = len(one.items)
            one.items.append(increment)
            one.positions.append([position])
        else:
            first = one.items[index]
            one.items[index] = Increment(
                first.counter, first.value + increment.value, first.idempotency_key, short_lived=True
            )
            one.positions[index].append(position)
    return one


def outcomes_of(
    increments: Sequence[Increment], bundlings: Sequence[Bundling], answers: Sequence[BundleAnswer]
) -> list[Outcome | TallyError]:
    """What became of each increment, in the order of the request."""
    found: list[Outcome | TallyError] = [Outcome.COUNTED] * len(increments)
    for bundling, answer in zip(bundlings, answers, strict=True):
        if isinstance(answer, TallyError):
            found[bundling.start : bundling.end] = [answer] * (bundling.end - bundling.start)
            continue
        full, outcomes = answer
        for positions, outcome in zip(bundling.positions, outcomes, strict=True):
            for position in positions:
                found[position] = outcome
        if full:
            _refuse(found, increments, bundling, full)
    return found


def _refuse(
    found: list[Outcome | TallyError], increments: Sequence[Increment], bundling: Bundling, full: frozenset[str]
) -> None:
    for position in range(bundling.start, bundling.end):
        increment = increments[position]
        if increment.idempotency_key is None and increment.counter in full:
            found[position] = Outcome.FULL
