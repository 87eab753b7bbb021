"""A request's place on its connection in the hot lane."""

from __future__ import annotations

from typing import TYPE_CHECKING

from node import answers
from node.answers import Answer
from node.call import Outcome, Pending
from node.errors import TallyError
from node.increment import Increment

if TYPE_CHECKING:
    from node.lane import Lane


class Slot(Pending):
    """A request's place in the order of its connection's answers; an increment that waits for its outcome, or a
    read.
    """

    __slots__ = ("_key", "_lane", "_passed_on", "encoded")

    def __init__(
        self, lane: Lane, increment: Increment, deadline: float, key: str = "", passed_on: bool = False
    ) -> None:
        super().__init__(increment, deadline)
        self._passed_on = passed_on
        self._lane = lane
        self._key = key
        self.encoded: bytes | None = None

    def reply(self, outcome: Outcome | TallyError) -> None:
        door = self._lane.door
        if isinstance(outcome, TallyError):
            self.write(door.failed(outcome, passed_on=self._passed_on))
        else:
            self.write(door.counted(outcome, self.increment))

    def read(self, value: int | TallyError) -> None:
        if isinstance(value, TallyError):
            self.write(self._lane.door.failed(value))
        else:
            self.write(answers.of_value(self._key, value))

    def write(self, answer: Answer) -> None:
        self.encoded = self._lane.encoded(answer)
        self._lane.flush()
