"""Many increments in one request. Pure: what is asked for, how it is bundled into calls, and what is answered.

An ordinary body is decoded by msgspec in one pass; anything that could hide what msgspec does not look for (a member
given twice, a NUL, a long key) goes through the strict reader, item by item, which also says what is wrong with each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
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


Given = Item | BadRequest


def parse_batch(content_type: str | None, body: bytes) -> list[Given]:
    """The items, in order, or what is wrong with one. Errors: BadRequest, for the request as a whole."""
    kind = (content_type or "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "application/x-ndjson"):
        raise BadRequest("Send application/json (an array) or application/x-ndjson (an item a line).")
    ndjson = kind == "application/x-ndjson"
    items = _quick(ndjson, body)
    if items is None:
        items = list(_strict(ndjson, body))
    if len(items) > ITEMS_MAX:
        raise BadRequest(f"A batch has at most {ITEMS_MAX} items.")
    return items


def valid_namespace(namespace: str) -> str:
    """Errors: BadRequest."""
    if not NAMESPACE.fullmatch(namespace):
        raise BadRequest("A namespace is 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit.")
    return namespace


def _quick(ndjson: bool, body: bytes) -> list[Given] | None:
    """None when the body needs the strict reader."""
    if b"\\u00" in body:  # an escaped letter of a member's name, or a NUL
        return None
    try:
        items = _LINE.decode_lines(body) if ndjson else _ARRAY.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if body.count(b'"key"') != len(items) or body.count(b'"value"') != len(items):
        return None
    ids = body.count(b'"idempotency_key"')
    if ids and ids != sum(item.idempotency_key is not None for item in items):
        return None
    return list[Given](items)


def _strict(ndjson: bool, body: bytes) -> Iterator[Given]:
    if ndjson:
        for line in body.split(b"\n"):
            if line.strip():
                yield _item(line)
        return
    items = json_value(body)
    if type(items) is not list:
        raise BadRequest("The body is not a JSON array.")
    for item in items:
        yield _item(item)


def _item(item: Any) -> Given:
    """One item: a line that is still to be read, or a value."""
    try:
        fields = json_object(item) if isinstance(item, bytes) else item
        if type(fields) is not dict:
            return BadRequest("An item is an object with key, value and, if you like, idempotency_key.")
        if unknown := fields.keys() - MEMBERS:
            return BadRequest(f"Unknown member {min(unknown)!r}: an item has key, value and idempotency_key.")
        key = valid_key(fields.get("key"))
        value = valid_value(fields.get("value"))
        return Item(key, value, valid_id(fields.get("idempotency_key")))
    except BadRequest as error:
        return error


@dataclass(slots=True)
class Bundling:
    """The items from `start` to `end` of a request, as they go into one call.

    What has no idempotency key is summed by counter. Where a proxy may send the request a second time, each sum
    becomes an item under the proxy's request id, so that it counts once whatever the proxy does.
    """

    start: int
    end: int
    sums: dict[str, int]
    items: list[Increment]  # those with an idempotency key, then the guarded sums
    positions: list[int]  # of those with an idempotency key, in the request
    total: int

    def refused(self, full: frozenset[str], outcomes: Sequence[Outcome]) -> frozenset[str]:
        """The counters whose sum was refused."""
        guarded = zip(self.items[len(self.positions) :], outcomes[len(self.positions) :], strict=True)
        return full | {item.counter for item, outcome in guarded if outcome is Outcome.FULL}


def bundle(namespace: str, given: Sequence[Given], request_id: str | None = None) -> list[Bundling]:
    """At most BUNDLE_MAX items in each, nor more than one call may add. The same items make the same bundles."""
    bundlings: list[Bundling] = []
    start = 0
    while start < len(given):
        guard = f"{request_id}/{len(bundlings)}" if request_id else None
        bundlings.append(_one_bundle(counter_name(namespace, ""), given, start, guard))
        start = bundlings[-1].end
    return bundlings


def _one_bundle(prefix: str, given: Sequence[Given], start: int, guard: str | None) -> Bundling:
    sums: dict[str, int] = {}
    items: list[Increment] = []
    positions: list[int] = []
    total, end = 0, start
    for end, item in enumerate(islice(given, start, start + BUNDLE_MAX), start):
        if isinstance(item, BadRequest):
            continue
        total += item.value
        if total > CALL_SUM_MAX:
            total -= item.value
            break
        if item.idempotency_key is None:
            sums[item.key] = sums.get(item.key, 0) + item.value
        else:
            items.append(Increment(prefix + item.key, item.value, item.idempotency_key))
            positions.append(end)
    else:
        end += 1
    if guard is None:
        return Bundling(start, end, {prefix + key: n for key, n in sums.items()}, items, positions, total)
    items += [Increment(prefix + key, n, guard, short_lived=True) for key, n in sums.items()]
    return Bundling(start, end, {}, items, positions, total)


Result = Outcome | TallyError


def results(
    namespace: str,
    given: Sequence[Given],
    bundlings: Sequence[Bundling],
    answers: Sequence[tuple[frozenset[str], list[Outcome]] | TallyError],
) -> list[Result]:
    """What became of each item, in the order of the request."""
    found: list[Result] = [Outcome.COUNTED] * len(given)
    for bundling, answer in zip(bundlings, answers, strict=True):
        if isinstance(answer, TallyError):
            found[bundling.start : bundling.end] = [answer] * (bundling.end - bundling.start)
            continue
        full, outcomes = answer
        for position, outcome in zip(bundling.positions, outcomes, strict=False):  # guarded sums come after them
            found[position] = outcome
        if refused := bundling.refused(full, outcomes):
            _refuse(found, namespace, given, bundling, refused)
    for position, item in enumerate(given):
        if isinstance(item, BadRequest):
            found[position] = item
    return found


def _refuse(
    found: list[Result], namespace: str, given: Sequence[Given], bundling: Bundling, refused: frozenset[str]
) -> None:
    for position in range(bundling.start, bundling.end):
        item = given[position]
        if isinstance(item, Item) and item.idempotency_key is None and counter_name(namespace, item.key) in refused:
            found[position] = Outcome.FULL


DESCRIBED: dict[Outcome, dict[str, Any]] = {
    Outcome.COUNTED: {"status": "counted"},
    Outcome.REPLAYED: {"status": "replayed"},
    Outcome.MISMATCH: {"status": "refused", "message": str(Mismatch())},
    Outcome.FULL: {"status": "refused", "message": str(CounterFull())},
}


def describe(found: Sequence[Result], minimal: bool) -> dict[str, Any]:
    """The answer's body."""
    counted, replayed = found.count(Outcome.COUNTED), found.count(Outcome.REPLAYED)
    body: dict[str, Any] = {"counted": counted, "replayed": replayed, "refused": len(found) - counted - replayed}
    if not minimal:
        body["results"] = [DESCRIBED[result] if isinstance(result, Outcome) else _described(result) for result in found]
    return body


def _described(error: TallyError) -> dict[str, Any]:
    if isinstance(error, Unavailable):
        return {"status": "unavailable", "counted": error.counted, "message": str(error)}
    return {"status": "refused", "message": str(error)}


def worst(found: Sequence[Result]) -> Unavailable | None:
    """The error to answer the whole request with: an item in doubt, before one that was not counted."""
    errors = [result for result in found if isinstance(result, Unavailable)]
    return next((error for error in errors if error.counted == "unknown"), errors[0] if errors else None)
