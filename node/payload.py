"""What a call carries to Redis, as JSON, and what is kept of it once it is answered. Pure.

    {"sums": [{"p": "<partition>", "c": ["<counter>", ...], "s": ["<sum>", ...]}, ...],
     "ids": ["<partition>", "<counter>", "<value>", "<digest>", <window in s>, "<partition>", ...],
     "decided": ["<partition>", "<counter>", "<value>", "<stored>", <settled>, "<min>", "<max>", "<digest>",
                 <window in s>, "<partition>", ...]}

`decided` is there only when it has something in it; empty texts in it say: a reset (value), no row (stored), no bound,
no idempotency key (digest). The window of a proxy's request id is negative (see `call.Windows`). Numbers travel as
text, for Lua's are doubles and lose integers above 2^53.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import msgspec

RememberedId = tuple[int, str, str]  # (window in seconds, digest, value)

ITEM = 5  # fields of an item with an id
DECIDED = 9  # fields of a decided operation
TAKEN = "t"  # before what a reset took off, where that is the value of an id
HEARSAY = "h"  # before the value of an id that is put back by another writer than the one whose call counted it


class SumsOfPartition(msgspec.Struct, gc=False):
    p: str
    c: list[str]
    s: list[str]


class Content(msgspec.Struct, omit_defaults=True):
    sums: list[SumsOfPartition]
    ids: list[Any]
    decided: list[Any] = []  # msgspec copies it
    known: list[RememberedId] = []  # ids of this call that other calls had counted; not for Redis


class Ruling(NamedTuple):
    """What Redis answered to a decided operation: a letter of call.py, and the total or what was taken, if any."""

    kind: str
    number: str


NOT_DECIDED = Ruling("a", "")


class Told(NamedTuple):
    """A call's answer, or what Postgres has of it, taken apart."""

    decided: dict[int, Ruling]  # by position among the decided operations
    items: dict[int, str]  # likewise among the ids: m a mismatch, x refused, r a replay; the others were counted
    sums: frozenset[int]  # positions of the sums that were refused


_CONTENT = msgspec.json.Decoder(Content)
NOT_COUNTED = "mx"


def encode(content: Content) -> bytes:
    return msgspec.json.encode(content)


def told(tokens: Iterable[str]) -> Told:
    """Of several tokens for one operation, the last holds."""
    decided: dict[int, Ruling] = {}
    items: dict[int, str] = {}
    sums: set[int] = set()
    for token in tokens:
        if token[0] == "d":
            position, _, ruling = token[1:].partition(":")
            decided[int(position)] = Ruling(ruling[0], ruling[1:])
        elif token[0] == "s":
            sums.add(int(token[1:]))
        else:
            items[int(token[1:])] = token[0]
    return Told(decided, items, frozenset(sums))


def effective(payload: bytes, told: Told) -> tuple[bytes, frozenset[int]]:
    """What is to be repeated should Redis forget this call, and the partitions it touches.

    An operation was decided once and answered: it is repeated as what it came to, a plain addition, whatever the total
    is by then. What was not counted is left out, and what another call had counted is known only.
    """
    content = _CONTENT.decode(payload)
    sums: dict[str, dict[str, int]] = {}
    for p, counter, amount in _counted_sums(content, told.sums):
        sums.setdefault(p, {})[counter] = amount
    ids: list[Any] = []
    known = content.known
    for item, letter, without_id in _items(content, told):
        p, counter, value, digest, window_s = item
        if letter == "r":
            known.append((window_s, digest, value))
        elif without_id:
            of_partition = sums.setdefault(p, {})
            of_partition[counter] = of_partition.get(counter, 0) + amount_of(value)
        else:
            ids += item
    groups = [SumsOfPartition(p, list(of), [str(amount) for amount in of.values()]) for p, of in sums.items()]
    return encode(Content(groups, ids, known=known)), frozenset(map(int, [*sums, *ids[::ITEM]]))


def ids_of(payload: bytes, partitions: Collection[int], told: Told) -> list[RememberedId]:
    """What a call's increments in these partitions are remembered by, and by hearsay what other calls had counted.

    `told` of what it came to, as far as the payload does not say so already.
    """
    content = _CONTENT.decode(payload)
    ids = [(window_s, digest, HEARSAY + value) for window_s, digest, value in content.known]
    for (p, _, value, digest, window_s), _, without_id in _items(content, told):
        if int(p) in partitions and not without_id:
            ids.append((int(window_s), str(digest), str(value)))
    return ids


def amount_of(value: str) -> int:
    """What an item adds: its value, or what a reset took off, less."""
    return -int(value[1:]) if value.startswith(TAKEN) else int(value)


def _counted_sums(content: Content, refused: Collection[int]) -> Iterator[tuple[str, str, int]]:
    triples = [(group.p, *pair) for group in content.sums for pair in zip(group.c, group.s, strict=True)]
    return ((p, c, int(s)) for position, (p, c, s) in enumerate(triples) if position not in refused)


def _items(content: Content, told: Told) -> Iterator[tuple[Sequence[Any], str, bool]]:
    """What was counted, c, or had been, r: (an item as among the ids, c or r, whether it has no id)."""
    for position, item in enumerate(_batched(content.ids, ITEM)):
        letter = told.items.get(position, "c")
        if letter not in NOT_COUNTED:
            yield item, letter, False
    for position, (p, counter, value, *_, digest, window_s) in enumerate(_batched(content.decided, DECIDED)):
        ruling = told.decided.get(position, NOT_DECIDED)
        if ruling.kind == "c" or (ruling.kind == "r" and digest):
            taken = value or TAKEN + ruling.number
            yield (p, counter, taken, digest, window_s), ruling.kind, not digest


def _batched(flat: Sequence[Any], size: int) -> list[Sequence[Any]]:
    return [flat[start : start + size] for start in range(0, len(flat), size)]
