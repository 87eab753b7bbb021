"""What a call carries to Redis, as JSON, and what is kept of it once it is answered. Pure.

    {"sums": [{"p": "<partition>", "c": ["<counter>", ...], "s": ["<sum>", ...]}, ...],
     "ids": ["<partition>", "<counter>", "<value>", "<digest>", <window in s>, "<partition>", ...],
     "decided": ["<partition>", "<counter>", "<value>", "<stored>", <settled>, "<min>", "<max>", "<digest>",
                 <window in s>, "<partition>", ...]}

`decided` is there only when it has something in it; empty texts in it say: a reset (value), no row (stored), no bound,
no idempotency key (digest). Numbers travel as text, for Lua's are doubles and lose integers above 2^53.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from node.ports import RememberedId

ITEM = 5  # fields of an item with an id
DECIDED = 9  # fields of a decided operation
TAKEN = "t"  # before what a reset took off, where that is the value of an id


class SumsOfPartition(msgspec.Struct, gc=False):
    p: str
    c: list[str]
    s: list[str]


class Content(msgspec.Struct, omit_defaults=True):
    sums: list[SumsOfPartition]
    ids: list[Any]
    decided: list[Any] = []  # msgspec copies it


class Ruling(NamedTuple):
    """What Redis answered to a decided operation: a letter of call.py, and the total or what was taken, if any."""

    kind: str
    number: str


_CONTENT = msgspec.json.Decoder(Content)


def encode(content: Content) -> bytes:
    return msgspec.json.encode(content)


def rulings_of(tokens: Iterable[str]) -> dict[int, Ruling]:
    """By position among the call's decided operations; of several for one, the last."""
    rulings: dict[int, Ruling] = {}
    for token in tokens:
        if token[0] == "d":
            position, _, ruling = token[1:].partition(":")
            rulings[int(position)] = Ruling(ruling[0], ruling[1:])
    return rulings


def effective(payload: bytes, rulings: Mapping[int, Ruling]) -> tuple[bytes, frozenset[int]]:
    """What is to be repeated should Redis forget this call, and the partitions it touches.

    An operation was decided once and answered: it is repeated as what it came to, a plain addition, whatever the total
    is by then. What was not counted is left out.
    """
    content = _CONTENT.decode(payload)
    sums = {group.p: dict(zip(group.c, map(int, group.s), strict=True)) for group in content.sums}
    for position, operation in enumerate(_batched(content.decided, DECIDED)):
        p, counter, value, *_, digest, window_s = operation
        ruling = rulings[position]
        if ruling.kind != "c":
            continue
        if digest:
            content.ids += (p, counter, value or TAKEN + ruling.number, digest, window_s)
        else:
            of_partition = sums.setdefault(p, {})
            of_partition[counter] = of_partition.get(counter, 0) + (int(value) if value else -int(ruling.number))
    groups = [SumsOfPartition(p, list(of), [str(amount) for amount in of.values()]) for p, of in sums.items()]
    return encode(Content(groups, content.ids)), frozenset(map(int, [*sums, *content.ids[::ITEM]]))


def ids_of(payload: bytes, partitions: Collection[int], rulings: Mapping[int, Ruling]) -> list[RememberedId]:
    """The ids that a call's increments in these partitions are remembered by; `rulings` of its decided operations."""
    content = _CONTENT.decode(payload)
    items = [item for item in _batched(content.ids, ITEM) if int(item[0]) in partitions]
    ids = [(int(window_s), str(digest), str(value)) for _, _, value, digest, window_s in items]
    for position, (p, _, value, *_, digest, window_s) in enumerate(_batched(content.decided, DECIDED)):
        ruling = rulings.get(position)
        if ruling is not None and ruling.kind == "c" and digest and int(p) in partitions:
            ids.append((int(window_s), str(digest), value or TAKEN + ruling.number))
    return ids


def _batched(flat: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [flat[start : start + size] for start in range(0, len(flat), size)]
