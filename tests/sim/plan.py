"""What happens in a story, drawn from its seed beforehand: who sends what, and what breaks when."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Literal

from tests.sim.net import Weather
from tests.sim.nodes import LEASE_S, Settings

Kind = Literal[
    "crash",
    "flush",
    "cut",
    "hang redis",
    "hang postgres",
    "hang way",
    "hang way to postgres",
    "hang answers",
    "postgres down",
    "kill",
    "freeze",
    "leave",
    "join",
    "settle",
    "no room",
]
ANY: tuple[Kind, ...] = (
    "cut",
    "hang redis",
    "hang postgres",
    "hang way",
    "hang way to postgres",
    "postgres down",
    "no room",
    "settle",
    "settle",
    "settle",
)
BACK: tuple[Kind, ...] = ("crash", "crash", "crash", "flush")
DEATHS: tuple[Kind, ...] = ("kill", "kill", "freeze", "freeze", "leave", "join")
WHOLE: tuple[Kind, ...] = ("crash",)
MOODS: tuple[tuple[Kind, ...], ...] = (
    BACK,
    DEATHS + WHOLE,
    BACK,
    DEATHS + BACK,
)  # by seed; BACK twice, for it is worst
LONG_S = 5.5  # longer than anybody waits for an answer


@dataclass
class Trouble:
    at: float
    kind: Kind
    lasts: float = 0.0
    back_to: float | None = None  # a crash: when the state was written that is left; None = all of it is left
    target: int = 0  # which node, as far as it matters


@dataclass
class Plan:
    seed: int
    nodes: int
    clients: int
    steps: int  # of a client
    pause_s: float  # between them, at most
    counters: int
    lasts: float  # until everything is mended
    midnight_at: float  # when a new window of idempotency keys begins
    weather: Weather
    settings: Settings
    troubles: list[Trouble] = field(default_factory=list)


def plan(seed: int) -> Plan:
    chance = random.Random(seed)
    mood = MOODS[seed % len(MOODS)]
    lasts = chance.uniform(1.0, 5.0)
    steps = chance.randrange(2, 12)
    settings = Settings(
        deadline_s=chance.choice((0.5, 2.0)),
        flush_interval_s=chance.choice((0.15, 0.4, 0.8)),
        horizon_s=chance.choice((60.0, 60.0, 4.0)),
        greedy=chance.choice((0.0, 0.0, 0.5)),
    )
    drawn = Plan(
        seed=seed,
        nodes=chance.choice((2, 2, 3)),
        clients=chance.randrange(2, 7),
        steps=steps,
        pause_s=2 * lasts / steps * chance.uniform(0.3, 1.1),
        counters=chance.choice((2, 5, 8)),
        lasts=lasts,
        midnight_at=chance.choice((DAYTIME_S, chance.uniform(0.0, lasts))),
        weather=_weather(chance),
        settings=settings,
    )
    for _ in range(chance.randrange(1, 7)):
        kinds = mood if chance.random() < 0.6 else ANY
        drawn.troubles += _trouble(chance, chance.choice(kinds), lasts, mood is not DEATHS + WHOLE, settings)
    drawn.troubles.sort(key=lambda trouble: trouble.at)
    return drawn


DAYTIME_S = 40_000.0


def _weather(chance: random.Random) -> Weather:
    slow = chance.choice((0.0, 0.1, 0.5))
    if chance.random() < 0.4:
        return Weather(slow=slow)
    lost, unheard, late = (chance.choice((0.0, 0.02, 0.06, 0.15)) for _ in range(3))
    return Weather(lost, unheard, late, slow)


def _trouble(chance: random.Random, kind: Kind, lasts: float, loses: bool, settings: Settings) -> list[Trouble]:
    at = chance.uniform(0.1, lasts)
    trouble = Trouble(at, kind, target=chance.randrange(3))
    if kind == "flush" and settings.horizon_s < lasts:
        kind = trouble.kind = "crash"
    match kind:
        case "crash":
            longest = min(at, 1.5 if settings.horizon_s < lasts else at)
            trouble.back_to = at - chance.random() ** 2 * longest if loses else None
            trouble.lasts = chance.choice((0.005, 0.05, 0.3))
            if chance.random() < 0.3:  # and once more while they come back
                again = at + trouble.lasts + chance.uniform(0.0, 0.4)
                back_to = at + trouble.lasts + chance.random() * (again - at - trouble.lasts) if loses else None
                return [trouble, Trouble(again, "crash", 0.02, back_to)]
        case "kill":
            trouble.lasts = chance.choice((0.05, 1.0, 3.0))
        case "freeze":
            trouble.lasts = chance.choice((0.2, LEASE_S, 3 * LEASE_S))
        case _:
            trouble.lasts = chance.choice((0.05, 0.5, 1.5)) if chance.random() < 0.9 else LONG_S
    return [trouble]


# --- stories of one moment ----------------------------------------------------------------------------------------


def read_in_flight(seed: int) -> Plan:
    """Redis goes back to before calls that others have read, and whose own node has no answer to them yet."""
    chance = random.Random(seed)
    hangs, crash = Trouble(1.0, "hang answers", chance.uniform(0.2, 0.5)), Trouble(0.0, "crash", 0.01, back_to=1.0)
    crash.at = hangs.at + hangs.lasts
    return _crowded(seed, Weather(slow=chance.choice((0.05, 0.2, 0.5))), hangs, crash)


def flushed_under_a_new_node(seed: int) -> Plan:
    """Redis is flushed while a node joins that has nothing to put back, and those that have do not reach it."""
    flush = Trouble(random.Random(seed).uniform(2.0, 2.3), "flush")
    hang = [Trouble(2.0, "hang way", 1.5, target=target) for target in (0, 1)]
    return _crowded(seed, Weather(slow=0.2), *hang, Trouble(2.0, "join"), flush)


def _crowded(seed: int, weather: Weather, *troubles: Trouble) -> Plan:
    return Plan(
        seed=seed,
        nodes=2,
        clients=6,
        steps=30,
        pause_s=0.1,
        counters=6,
        lasts=2.0,
        midnight_at=DAYTIME_S,
        weather=weather,
        settings=Settings(),
        troubles=list(troubles),
    )


PLANS: dict[str, Callable[[int], Plan]] = {
    each.__name__: each for each in (plan, read_in_flight, flushed_under_a_new_node)
}
