"""The arithmetic of numbered batches, on every small history there is."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import pytest

from node.settlement import CALL_SUM_MAX, FULL, SUM_MAX, After, Apart, Stored, Unsettled, after_settle, value_of


@dataclass
class Model:
    """One counter of one partition, by the book: what is in Postgres, in the sealed batch and in the open one."""

    stored: int | None = None
    settled: int = 0
    open_number: int = 1
    sealed: int | None = None
    has_sealed: bool = False
    open: int | None = None
    total: int | None = None

    def step(self, name: str) -> None:
        match name:
            case "add":
                self.open = (self.open or 0) + self.open_number
                self.total = (self.total or 0) + self.open_number
            case "add zero":
                self.open, self.total = self.open or 0, self.total or 0
            case "seal" if not self.has_sealed:
                self.has_sealed, self.sealed, self.open = True, self.open, None
                self.open_number += 1
            case "settle" if self.has_sealed and self.settled == self.open_number - 2:
                if self.sealed is not None:
                    self.stored = (self.stored or 0) + self.sealed
                self.settled += 1
            case "drop" if self.has_sealed and self.settled == self.open_number - 1:
                self.has_sealed, self.sealed = False, None

    def in_postgres(self) -> Stored:
        return Stored(self.stored, self.settled)

    def in_redis(self) -> Unsettled:
        return Unsettled(self.open_number, self.open_number - 1 if self.has_sealed else None, self.sealed, self.open)


STEPS = ("add", "add zero", "seal", "settle", "drop")


def test_a_value_read_at_one_moment_is_the_total_in_every_history() -> None:
    for history in product(STEPS, repeat=7):
        model = Model()
        for step in history:
            model.step(step)
        assert value_of(model.in_postgres(), model.in_redis()) == model.total, history


def test_readings_of_two_moments_give_the_later_total_or_none_at_all() -> None:
    """Postgres is read first, Redis any number of steps later: what was acknowledged before that is in the value."""
    decided = 0
    for history in product(STEPS, repeat=7):
        model = Model()
        readings = [model.in_postgres()]
        for step in history:
            model.step(step)
            readings.append(model.in_postgres())
        for stored in readings:
            value = value_of(stored, model.in_redis())
            assert value is Apart.READ_AGAIN or value == model.total, (history, stored)
            decided += value is not Apart.READ_AGAIN
    assert decided > 100_000


def test_a_redis_that_went_back_in_time_is_told_from_a_read_that_came_too_early() -> None:
    for settled, open_number in product(range(6), range(1, 6)):
        for sealed in (None, open_number - 1):
            value = value_of(Stored(1, settled), Unsettled(open_number, sealed, None, None))
            if settled >= open_number:
                assert value is Apart.REWOUND
            elif settled == open_number - 1 or (settled == open_number - 2 and sealed is not None):
                assert value == 1
            else:
                assert value is Apart.READ_AGAIN


def test_a_counter_that_only_took_zeros_is_known() -> None:
    assert value_of(Stored(None, 0), Unsettled(1, None, None, None)) is None
    assert value_of(Stored(None, 0), Unsettled(1, None, None, 0)) == 0
    assert value_of(Stored(0, 3), Unsettled(4, None, None, None)) == 0
    assert value_of(Stored(None, 0), Unsettled(2, 1, 0, None)) == 0


def test_a_sealed_batch_that_is_settled_already_is_not_added_again() -> None:
    assert value_of(Stored(5, 1), Unsettled(2, 1, 5, 3)) == 8
    assert value_of(Stored(0, 0), Unsettled(2, 1, 5, 3)) == 8


def test_no_settle_can_overflow_a_bigint() -> None:
    assert FULL - 1 + SUM_MAX - 1 < 2**63, "a counter that is not full takes a whole batch"
    assert FULL - 1 + 2 * (SUM_MAX - 1) < 2**63, "and the one that was open meanwhile"
    assert CALL_SUM_MAX < SUM_MAX


@pytest.mark.parametrize("number", range(1, 5))
@pytest.mark.parametrize("settled", range(6))
def test_a_batch_is_dropped_only_when_postgres_has_it(number: int, settled: int) -> None:
    after = after_settle(number, settled)
    assert (after is After.DROP) == (settled >= number)
    assert (after is After.SEAL_AGAIN) == (settled == number - 1)
    assert (after is After.WENT_BACK) == (settled < number - 1)
