"""Which faults an attack makes, and when. Pure: the same seed gives the same plan.

Faults come at irregular times, SPACING_S apart on the average, in rounds: a round has every kind, in an order of its
own. Whom a fault meets is decided when it comes, by `choice`, among those that are well then.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

SPACING_S = 3.0
FIRST_AT_S, LAST_BEFORE_END_S = 1.5, 2.5
PAUSE_MORE_S = 1.5  # longer than a lease
FLAPS = 5
POINTS = ("append-sent", "append-answered", "sealed", "settled", "dropped", "fenced", "repaired", "drained")
COMING_BACK = ("fenced", "repaired")  # met at a start, too: the pass at which nothing has happened yet is left out
PASSES_MAX = 3
POINT_TAKES_S = 15.0  # a node that is killed, started again and then dies at a point


class Kind(Enum):
    """What happens."""

    KILL = "node killed"
    POINT = "node killed at a point"
    PAUSE = "node paused"
    DRAIN = "node drained"
    FLAP = "membership flapping"
    REDIS = "redis killed"
    POSTGRES = "postgres killed"


@dataclass(frozen=True, slots=True)
class Fault:
    """`choice` is from 0 to 1; `point` is name:n where the kind has one."""

    at_s: float
    kind: Kind
    choice: float
    point: str = ""


@dataclass(frozen=True, slots=True)
class Happened:
    """A fault that was seen to happen, `at_s` after the start; `what` tells whom it met and what came of it."""

    at_s: float
    kind: Kind
    what: str

    def __str__(self) -> str:
        return f"{self.at_s:5.1f} s  {self.kind.value}: {self.what}"


def plan_faults(seed: int, duration_s: float, kinds: Sequence[Kind]) -> list[Fault]:
    """In the order of their times. ValueError when the attack is too short for one, or there is no kind."""
    room_s = duration_s - FIRST_AT_S - LAST_BEFORE_END_S
    if room_s <= 0 or not kinds:
        raise ValueError(f"faults need a duration of more than {FIRST_AT_S + LAST_BEFORE_END_S:g} s")
    chance = random.Random(seed)
    count = max(1, round(room_s / SPACING_S))
    planned: list[Kind] = []
    while len(planned) < count:
        planned += chance.sample(kinds, len(kinds))
    faults = []
    for number, kind in enumerate(planned[:count]):
        at_s = FIRST_AT_S + room_s * (number + chance.random()) / count
        if kind is Kind.POINT and at_s > duration_s - POINT_TAKES_S:
            kind = Kind.KILL
        faults.append(Fault(at_s, kind, chance.random(), _point(kind, chance)))
    return faults


def _point(kind: Kind, chance: random.Random) -> str:
    if kind is not Kind.POINT:
        return ""
    point = chance.choice(POINTS)
    return f"{point}:2" if point in COMING_BACK else f"{point}:{chance.randint(1, PASSES_MAX)}"


def by_kind(happened: Sequence[Happened]) -> dict[str, int]:
    """How often each kind happened, by its name."""
    return dict(Counter(each.kind.value for each in happened))
