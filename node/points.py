"""Named points in a node's life at which it can be made to die, so that tests reach the moment they mean.

    TALLY_KILL_POINT=sealed:3      SIGKILL of this process by itself, when it comes to `sealed` for the third time

A point that is not armed costs a call and a comparison. Points are passed once for a call or a batch, never for an
increment.
"""

from __future__ import annotations

import logging
import os
import signal
from typing import NamedTuple

log = logging.getLogger(__name__)

POINTS = {
    "append-sent": "a call is on its way to Redis; its answer has not come",
    "append-answered": "Redis has a call, its clients have no answer",
    "sealed": "a batch is sealed, Postgres does not have it",
    "settled": "Postgres has a batch, Redis still has it too",
    "dropped": "a batch is gone from Redis",
    "fenced": "Postgres has been fenced for this Redis, which is not repaired",
    "repaired": "Redis has been repaired; no id and no call has been put back",
    "remembered": "this writer's ids are back in Redis, others' may not be",
    "replaying": "one of the calls that Redis lost is back, the next is not",
    "replayed": "this writer's answered calls are back; others', and those in flight, may not be",
    "committed": "Postgres has committed a group (sync), its clients have no answer",
    "appended": "Postgres has a group's rows (rollup), its clients have no answer",
    "rolled-up": "a partition's rows are in their counters (rollup), the next partition's are not",
    "drained": "a leaving node has answered everything; it still holds its lease",
}


class Point(NamedTuple):
    """A point, and at which pass of it the process is to end."""

    name: str
    passes: int

    @classmethod
    def parse(cls, text: str) -> Point:
        """`name:n`, or `name` for the first pass. ValueError names what there is."""
        name, _, passes = text.partition(":")
        passes = passes or "1"
        if name not in POINTS or not (passes.isascii() and passes.isdigit() and int(passes) > 0):
            raise ValueError(f"{text!r} is not point:n, n from 1 on, with a point of {', '.join(POINTS)}")
        return cls(name, int(passes))


_armed: Point | None = None


def arm(text: str) -> None:
    """Empty disarms. ValueError."""
    global _armed
    _armed = Point.parse(text) if text else None


def reach(name: str) -> None:
    """The process has come to this point; if it is armed for this pass, it goes no further."""
    if _armed is not None and _armed.name == name:
        _pass(_armed)


def _pass(point: Point) -> None:
    global _armed
    if point.passes > 1:
        _armed = Point(point.name, point.passes - 1)
        return
    log.error("kill point %s", point.name)
    os.kill(os.getpid(), signal.SIGKILL)
