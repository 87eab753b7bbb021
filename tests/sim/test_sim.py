"""A short run of the simulation; `python -m tests.sim` tells as many stories as one has time for."""

from __future__ import annotations

from collections import Counter
from time import monotonic

import pytest

from tests.sim.mutants import MUTANTS, Mutant
from tests.sim.plan import PLANS, plan
from tests.sim.story import tell

STORIES = 60
BUDGET_S = 10.0  # for a mutant that its own story does not catch any more
USUAL = (
    "call came again",
    "call replayed",
    "call replayed in part",
    "ids put back",
    "commit unknown: committed",
    "commit unknown: not committed",
    "rewind past a settled batch",
    "settle refused: settled already",
    "settled for others",
    "redis: append unheard",
    "redis: append lost",
    "retried elsewhere",
)  # what no such run does without; of a long one more is asked


@pytest.mark.parametrize("kind", PLANS)
def test_nothing_is_lost_or_doubled_or_read_wrongly_whatever_breaks(kind: str) -> None:
    odd: Counter[str] = Counter()
    for seed in range(STORIES):
        told = tell(PLANS[kind](seed))
        assert not told.wrong, f"python -m tests.sim --plan {kind} --seed {seed}"
        odd += told.odd
    assert kind != plan.__name__ or not [name for name in USUAL if not odd[name]]


def test_a_seed_tells_the_same_story_again() -> None:
    traces: list[list[str]] = [[], []]
    for trace in traces:
        tell(plan(11), trace.append)
    assert len(traces[0]) > 100
    assert traces[0] == traces[1]


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_protocol_with_a_piece_left_out_is_caught(mutant: Mutant) -> None:
    give_up_at = monotonic() + BUDGET_S
    for seed in [mutant.seed, *range(10_000)]:
        if mutant.tell(seed).wrong:
            return
        if monotonic() > give_up_at:
            break
    pytest.fail("nothing was wrong")
