"""A key has one partition; a partition has one owner.

The ring places *partitions*, not keys: it is asked once per view, never per request. `partition_of` is fixed
arithmetic and must never change for stored data: what it says is written into Postgres' `partitions` and into Redis'
batches.
"""

from __future__ import annotations

from collections.abc import Iterable
from zlib import crc32

from uhashring import HashRing


def partition_of(counter: str, partitions: int) -> int:
    """The partition, 0 <= p < partitions, of a counter's full name (crc32 of its UTF-8; never Python's salted hash)."""
    return crc32(counter.encode()) % partitions


class Ring:
    """Which member owns which partition, by consistent hashing: a leaver's partitions move, the others' stay."""

    def __init__(self, members: Iterable[str], partitions: int) -> None:
        names = sorted(set(members))
        ring = HashRing(nodes=names)
        self._owners: tuple[str | None, ...] = tuple(
            ring.get_node(f"partition-{p}") if names else None for p in range(partitions)
        )

    def owner_of(self, partition: int) -> str | None:
        """The owner's member id; None when there is no member."""
        return self._owners[partition]

    def owned_by(self, member: str) -> frozenset[int]:
        return frozenset(p for p, owner in enumerate(self._owners) if owner == member)
