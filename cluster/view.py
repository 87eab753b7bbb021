"""The members at one epoch, and what changes for a member between two views. Plain values."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from cluster.ring import Ring

State = Literal["starting", "ready", "draining"]


@dataclass(frozen=True, slots=True, order=True)
class Member:
    """One process of the cluster. `id` is new at every start ("n1-4f9c2a"), `name` is the operator's ("n1")."""

    id: str
    name: str
    url: str  # http://host:port of the public listener
    ops_url: str  # http://host:port of the operations listener
    pid: int
    state: State = "starting"
    willing: bool = True  # to own partitions; one that is not goes on taking requests

    def becoming(self, state: State) -> Member:
        return replace(self, state=state)


@dataclass(frozen=True, slots=True)
class View:
    """The members, sorted by id, at an epoch. The epoch moves at every change of membership or of a member's state."""

    epoch: int
    members: tuple[Member, ...] = ()

    @property
    def ready(self) -> tuple[Member, ...]:
        """The members that take requests."""
        return tuple(m for m in self.members if m.state == "ready")

    def ring(self, partitions: int) -> Ring:
        """Over the ready members that are willing. When none is, over all that are ready: what keeps them from it is
        then the same for all, and partitions would move for nothing.
        """
        willing = [m for m in self.ready if m.willing]
        return Ring((m.id for m in willing or self.ready), partitions)


@dataclass(frozen=True, slots=True)
class Change:
    """What a member gained and lost between two assignments."""

    gained: frozenset[int]
    lost: frozenset[int]

    def __bool__(self) -> bool:
        return bool(self.gained or self.lost)


def change(old: frozenset[int], new: frozenset[int]) -> Change:
    return Change(gained=new - old, lost=old - new)
