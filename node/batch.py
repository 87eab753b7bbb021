"""Many increments in one request. Pure: what is asked for, how it is bundled into calls, and what is answered.

An ordinary body is decoded by msgspec in one pass; anything that could hide what msgspec does not look for (a member
given twice, a NUL, a long key) goes through the strict reader, item by item, which also says what is wrong with each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import msgspec

from node.call import Outcome
from node.errors import BadRequest, CounterFull, Mismatch, TallyError, Unavailable
from node.increment import (
    VALUE_MAX,
    Increment,
    counter_name,
    json_object,
    json_value,
    valid_id,
    valid_key,
    valid_value,
)
from node.settlement import CALL_SUM_MAX

ITEMS_MAX = 10_000
BODY_BYTES_MAX = 4 * 1024 * 1024
BUNDLE_MAX = 1000  # items counted in one call
NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
SHORT = 128  # a text of so many characters has at most KEY_BYTES_MAX bytes
MEMBERS = frozenset(("key", "value", "idempotency_key"))


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What msgspec reads: the same limits as `increment.py`, or stricter ones."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=SHORT)]
    value: Annotated[int, msgspec.Meta(ge=0, le=VALUE_MAX)]
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=SHORT)] | None = None


_ARRAY = msgspec.json.Decoder(list[Item])
_LINE = msgspec.json.Decoder(Item)


def parse_batch(namespace: str, content_type: str | None, body: bytes) -> list[Increment | BadRequest]:
    """The items, in order, each an increment or what is wrong with it. Errors: BadRequest, for the request as a
    whole.
    """
    if not NAMESPACE.fullmatch(namespace):
        raise BadRequest("A namespace is 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit.")
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/x-ndjson"):
        raise BadRequest("Send application/json (an array) or application/x-ndjson (an item a line).")
    ndjson = kind == "application/x-ndjson"
    items = _quick(namespace, ndjson, body)
    if items is None:
        items = list(_strict(namespace, ndjson, body))
    if len(items) > ITEMS_MAX:
        raise BadRequest(f"A batch has at most {ITEMS_MAX} items.")
    return items


def _quick(namespace: str, ndjson: bool, body: bytes) -> list[Increment | BadRequest] | None:
    """None when the body needs the strict reader."""
    if b"\\u00" in body:  # an escaped letter of a member's name, or a NUL
        return None
    try:
        items = _LINE.decode_lines(body) if ndjson else _ARRAY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if body.count(b'"key"') != len(items) or body.count(b'"value"') != len(items):
        return None
    if body.count(b'"idempotency_key"') > sum(item.idempotency_key is not None for item in items):
        return None
    prefix = counter_name(namespace, "")
    return [Increment(prefix + item.key, item.value, item.idempotency_key) for item in items]


def _strict(namespace: str, ndjson: bool, body: bytes) -> Iterator[Increment | BadRequest]:
    if ndjson:
        for line in body.split(b"\n"):
            if line.strip():
                yield _item(namespace, line)
        return
    items = json_value(body)
    if type(items) is not list:
        raise BadRequest("The body is not a JSON array.")
    for item in items:
        yield _item(namespace, item)


def _item(namespace: str, item: Any) -> Increment | BadRequest:
    """One item: a line that is still to be read, or a value."""
    try:
        fields = json_object(item) if isinstance(item, bytes) else item
        if type(fields) is not dict:
            return BadRequest("An item is an object with key, value and, if you like, idempotency_key.")
        if unknown := fields.keys() - MEMBERS:
            return BadRequest(f"Unknown member {min(unknown)!r}: an item has key, value and idempotency_key.")
        key = valid_key(fields.get("key"))
        value = valid_value(fields.get("value"))
        return Increment(counter_name(namespace, key), value, valid_id(fields.get("idempotency_key")))
    except BadRequest as error:
        return error


@dataclass(slots=True)
class Bundling:
    """Items that go into one call, and their positions in the request.

    What has no idempotency key is summed by counter. Where a proxy may send the request a second time, each sum
    becomes an item under the proxy's request id, so that it counts once whatever the proxy does.
    """

    sums: dict[str, int] = field(default_factory=dict)
    items: list[Increment] = field(default_factory=list)  # those with an idempotency key, then the guarded sums
    total: int = 0
    plain_positions: list[int] = field(default_factory=list)
    item_positions: list[int] = field(default_factory=list)

    def guard(self, request_id: str) -> None:
        self.items += [Increment(counter, total, request_id, short_lived=True) for counter, total in self.sums.items()]
        self.sums = {}

    def refused(self, full: frozenset[str], outcomes: Sequence[Outcome]) -> frozenset[str]:
        """The counters whose sum was refused."""
        guarded = zip(self.items[len(self.item_positions) :], outcomes[len(self.item_positions) :], strict=True)
        return full | {item.counter for item, outcome in guarded if outcome is Outcome.FULL}


def bundle(items: Sequence[Increment | BadRequest], request_id: str | None = None) -> Iterator[Bundling]:
    """At most BUNDLE_MAX items in each, nor more than one call may add. The same items make the same bundles."""
    bundling = Bundling()
    count = number = 0
    for position, item in enumerate(items):
        if isinstance(item, BadRequest):
            continue
        if count == BUNDLE_MAX or bundling.total + item.value > CALL_SUM_MAX:
            yield _finished(bundling, number, request_id)
            bundling, count, number = Bundling(), 0, number + 1
        count += 1
        bundling.total += item.value
        if item.idempotency_key is None:
            bundling.sums[item.counter] = bundling.sums.get(item.counter, 0) + item.value
            bundling.plain_positions.append(position)
        else:
            bundling.items.append(item)
            bundling.item_positions.append(position)
    if count:
        yield _finished(bundling, number, request_id)


def _finished(bundling: Bundling, number: int, request_id: str | None) -> Bundling:
    if request_id:
        bundling.guard(f"{request_id}/{number}")
    return bundling


Result = Outcome | TallyError


def results(
    items: Sequence[Increment | BadRequest],
    bundlings: Sequence[Bundling],
    answers: Sequence[tuple[frozenset[str], list[Outcome]] | TallyError],
) -> list[Result]:
    """What became of each item, in the order of the request."""
    found: list[Result] = [item if isinstance(item, BadRequest) else Outcome.COUNTED for item in items]
    for bundling, answer in zip(bundlings, answers, strict=True):
        if isinstance(answer, TallyError):
            for position in (*bundling.plain_positions, *bundling.item_positions):
                found[position] = answer
            continue
        full, outcomes = answer
        for position, outcome in zip(bundling.item_positions, outcomes, strict=False):  # guarded sums come after them
            found[position] = outcome
        for position in _of_counters(items, bundling.plain_positions, bundling.refused(full, outcomes)):
            found[position] = Outcome.FULL
    return found


def _of_counters(
    items: Sequence[Increment | BadRequest], positions: Sequence[int], counters: frozenset[str]
) -> Iterator[int]:
    if not counters:
        return
    for position in positions:
        item = items[position]
        if isinstance(item, Increment) and item.counter in counters:
            yield position


STATUS = {Outcome.COUNTED: "counted", Outcome.REPLAYED: "replayed"}
REFUSED: dict[Outcome, str] = {Outcome.MISMATCH: str(Mismatch()), Outcome.FULL: str(CounterFull())}


def describe(found: Sequence[Result], minimal: bool) -> dict[str, Any]:
    """The answer's body."""
    counted = sum(result is Outcome.COUNTED for result in found)
    replayed = sum(result is Outcome.REPLAYED for result in found)
    body: dict[str, Any] = {"counted": counted, "replayed": replayed, "refused": len(found) - counted - replayed}
    if not minimal:
        body["results"] = [_described(result) for result in found]
    return body


def _described(result: Result) -> dict[str, Any]:
    if isinstance(result, Unavailable):
        return {"status": "unavailable", "counted": result.counted, "message": str(result)}
    if isinstance(result, TallyError):
        return {"status": "refused", "message": str(result)}
    if result in REFUSED:
        return {"status": "refused", "message": REFUSED[result]}
    return {"status": STATUS[result]}


def worst(found: Sequence[Result]) -> Unavailable | None:
    """The error to answer the whole request with: an item in doubt, before one that was not counted."""
    errors = [result for result in found if isinstance(result, Unavailable)]
    return next((error for error in errors if error.counted == "unknown"), errors[0] if errors else None)
