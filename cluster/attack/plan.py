"""What is sent when. Pure: the same seed gives the same plan.

Two kinds of counter keys. A *plain* key takes increments of 1: its value is how many counted. A *digit* key
takes each of 8^0, 8^1 .. 8^16 once: written in base 8, its value names every increment, digit by digit: 0 is
missing, 1 was counted once, 2 and more was counted that often. A loss and a double cancel out in a sum, never
in digits.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count

BASE = 8
DIGITS = 17  # 8^17 < 2^53, the largest value one increment may have
POWERS = tuple(BASE**place for place in range(DIGITS))
MAX_REQUESTS = 5_000_000


@dataclass(frozen=True, slots=True)
class Increment:
    """One request: when (seconds after the start), on which key, how much, under which idempotency key."""

    at_s: float
    key: str
    value: int
    idempotency_key: str
    digit: bool  # on a digit key


@dataclass(frozen=True, slots=True)
class Plan:
    """An attack: `rate` requests per second for `duration_s`, part on digit keys, the rest on `keys`.

    `keys` 0 means digit keys only. `run` makes keys and idempotency keys new for this run. ValueError when
    there would be nothing to send, or more than MAX_REQUESTS.
    """

    rate: float
    duration_s: float
    keys: int
    digits: float
    run: str
    seed: int

    def __post_init__(self) -> None:
        if not 1 <= self.rate * self.duration_s <= MAX_REQUESTS:
            raise ValueError(f"rate x duration must give 1 to {MAX_REQUESTS} requests")
        if not 0 <= self.digits <= 1 or self.keys < 0:
            raise ValueError("the share of digit keys is from 0 to 1, and the number of keys is not negative")

    @property
    def requests(self) -> int:
        return int(self.rate * self.duration_s)

    def __iter__(self) -> Iterator[Increment]:
        """Every increment, in the order of its time."""
        chance = random.Random(self.seed)
        share = self.digits if self.keys else 1.0
        digits = self._digit_increments(chance)
        for number in range(self.requests):
            at_s, idempotency_key = number / self.rate, f"{self.run}-{number:08x}"
            if chance.random() < share:
                key, value = next(digits)
                yield Increment(at_s, key, value, idempotency_key, True)
            else:
                key = f"attack-{self.run}-{chance.randrange(self.keys)}"
                yield Increment(at_s, key, 1, idempotency_key, False)

    def _digit_increments(self, chance: random.Random) -> Iterator[tuple[str, int]]:
        """Digit keys one after the other, each with its powers in an order of its own."""
        for number in count():
            powers = list(POWERS)
            chance.shuffle(powers)
            for power in powers:
                yield f"attack-{self.run}-d{number}", power
