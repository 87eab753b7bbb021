"""How evenly keys share partitions and partitions share nodes. Pure arithmetic on the ring that the nodes use.

nginx spreads requests over all nodes whatever they own; what a node owns is what it settles. So an uneven ring makes
some nodes settle more than others, and nothing else.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from cluster.ring import Ring, partition_of

NODES = (1, 2, 3, 5, 10, 30, 100, 300, 1000)
PARTITIONS = (64, 256, 1024, 4096)
KEYS = 1_000_000


@dataclass(frozen=True)
class Shares:
    """How a number of things is shared out: the largest share as a multiple of the mean, and how many got none."""

    most: float
    none: int

    @classmethod
    def of(cls, owned: Iterable[int], shares: int) -> Shares:
        counts = Counter(owned)
        mean = counts.total() / shares
        return cls(max(counts.values()) / mean, shares - len(counts))


def members(count: int) -> list[str]:
    """Ids as nodes have them: a name and six hex digits."""
    return [f"n{number}-{(number * 2654435761) % 0xFFFFFF:06x}" for number in range(1, count + 1)]


def owners(nodes: int, partitions: int) -> list[str]:
    """The owner of each partition."""
    ring = Ring(members(nodes), partitions)
    return [owner for p in range(partitions) if (owner := ring.owner_of(p)) is not None]


def of_nodes(nodes: int, partitions: int) -> Shares:
    """Partitions over nodes."""
    place = {name: number for number, name in enumerate(members(nodes))}
    return Shares.of((place[owner] for owner in owners(nodes, partitions)), nodes)


def of_keys(keys: int, partitions: int) -> Shares:
    """Keys over partitions."""
    return Shares.of((partition_of(f"default:key-{number}", partitions) for number in range(keys)), partitions)


def moved(nodes: int, partitions: int) -> float:
    """The part of all partitions that has another owner after the last node has left. 1/nodes is the least."""
    before, after = owners(nodes, partitions), owners(nodes - 1, partitions)
    return sum(one != other for one, other in zip(before, after, strict=True)) / partitions


def table(node_counts: Iterable[int] = NODES, partition_counts: tuple[int, ...] = PARTITIONS, keys: int = KEYS) -> str:
    """Markdown: for each number of nodes the largest share over the mean, and the nodes without a partition."""
    lines = ["| nodes | " + " | ".join(f"{count} partitions" for count in partition_counts) + " | moved by a leaver |"]
    lines.append("|---|" + "---|" * (len(partition_counts) + 1))
    for nodes in node_counts:
        cells = [_cell(of_nodes(nodes, count)) for count in partition_counts]
        share = f"{moved(nodes, partition_counts[-1]):.2%}" if nodes > 1 else "-"
        lines.append(f"| {nodes} | " + " | ".join(cells) + f" | {share} |")
    spread = [f"{of_keys(keys, count).most:.2f}" for count in partition_counts]
    lines.append(f"| {keys:,} keys over partitions | " + " | ".join(spread) + " | |")
    return "\n".join(lines)


def _cell(shares: Shares) -> str:
    return f"{shares.most:.2f}" + (f", {shares.none} without" if shares.none else "")
