"""The bounds of reads, fed with reads that cannot be: each must be flagged, and nothing else."""

from __future__ import annotations

import pytest

from cluster.attack.audit import History, Outcome
from cluster.attack.bounds import Bounds
from cluster.attack.plan import POWERS

ACK, REFUSED = Outcome.ACKNOWLEDGED, Outcome.REFUSED


class World:
    """One plain key `p` and one digit key `d`."""

    def __init__(self) -> None:
        self.history = History()
        self.bounds = Bounds(self.history)
        self.count("p", 1, ACK)
        self.count("d", POWERS[0], ACK)

    def send(self, key: str, value: int) -> None:
        self.bounds.sent(key, value)

    def answer(self, key: str, value: int, outcome: Outcome) -> None:
        self.history.add(key, value, outcome, digit=key == "d")

    def count(self, key: str, value: int, outcome: Outcome) -> None:
        self.send(key, value)
        self.answer(key, value, outcome)

    def read(self, key: str, value: int) -> bool:
        """Whether it may say this."""
        before = len(self.bounds.wrong)
        self.bounds.end(key, self.bounds.begin(key), value)
        return len(self.bounds.wrong) == before


@pytest.fixture
def world() -> World:
    return World()


@pytest.mark.parametrize(("value", "may"), [(0, False), (1, True), (2, True), (3, False)])
def test_a_read_has_what_was_acknowledged_and_no_more_than_what_was_sent(world: World, value: int, may: bool) -> None:
    world.send("p", 1)
    assert world.read("p", value) == may


@pytest.mark.parametrize("value", [2, 1])
def test_what_was_refused_is_in_no_read(world: World, value: int) -> None:
    world.count("p", 1, REFUSED)
    assert world.read("p", value) == (value == 1)


def test_what_is_acknowledged_while_a_read_is_under_way_may_be_in_it_or_not(world: World) -> None:
    for value in (1, 2):
        least = world.bounds.begin("p")
        world.count("p", 1, ACK)
        world.bounds.end("p", least, value)
    assert not world.bounds.wrong


def test_a_read_never_goes_back_behind_one_that_ended_before_it_began(world: World) -> None:
    world.send("p", 1)
    assert world.read("p", 2)
    assert not world.read("p", 1)
    assert world.read("p", 2)


def test_two_reads_at_once_may_say_it_in_either_order(world: World) -> None:
    world.send("p", 1)
    one, other = world.bounds.begin("p"), world.bounds.begin("p")
    world.bounds.end("p", one, 2)
    world.bounds.end("p", other, 1)
    assert not world.bounds.wrong
    assert world.bounds.reads == 2


def test_a_missing_increment_is_not_made_up_for_by_a_larger_one(world: World) -> None:
    world.count("d", POWERS[1], ACK)
    world.send("d", POWERS[2])
    assert world.read("d", POWERS[0] + POWERS[1])
    assert not world.read("d", POWERS[0] + POWERS[2])  # from 9 to 73, and yet 8 is missing
    assert not world.read("d", 2 * POWERS[0] + POWERS[1])


def test_each_digit_never_goes_back_by_itself(world: World) -> None:
    world.send("d", POWERS[1])
    world.send("d", POWERS[2])
    assert world.read("d", POWERS[0] + POWERS[1])
    assert not world.read("d", POWERS[0] + POWERS[2])


def test_a_wrong_read_says_what_it_may_say(world: World) -> None:
    world.count("d", POWERS[1], ACK)
    assert not world.read("d", 0)
    assert str(world.bounds.wrong[0]) == "a read of d says 0, which is not from 9 to 9"
