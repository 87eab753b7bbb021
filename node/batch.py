"""Many increments in one request. Pure: what is asked for, and what is answered.

An ordinary body is decoded by msgspec in one pass; anything that could hide what msgspec does not look for (a member
given twice, a NUL, a long key) goes through the strict reader, item by item, which also says what is wrong with each.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Annotated, Any
from urllib.request import parse_http_list

import msgspec

from node.answers import refusal
from node.call import Outcome
from node.errors import BadRequest, CounterFull, Mismatch, TallyError, Unavailable
from node.increment import (
    PLACE,
    VALUE_MAX,
    Increment,
    counter_name,
    json_kind,
    json_value,
    valid_id,
    valid_key,
    valid_value,
)
from node.terms import Namespace, check_key

ITEMS_MAX = 10_000
BODY_BYTES_MAX = 4 * 1024 * 1024
SHORT = 128  # a text of so many characters has at most KEY_BYTES_MAX bytes
ITEM_BYTES_MAX = 16 * 1024  # twice what the longest key and id take, every character of them escaped
SHOWN = 64  # characters of what a client sent that it is shown again
MEMBERS = frozenset(("key", "value", "idempotency_key"))
KINDS = ("application/json", "application/x-ndjson")
NO_ARRAY = "The body must be one whole JSON array of items, in UTF-8: it is empty, cut short or something else."
TOO_MANY = f"A batch must have at most {ITEMS_MAX} items: send the others in another one."
TWICE = BadRequest("An item must have no member twice.")


class Item(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    """What msgspec reads: the same limits as `increment.py`, or stricter ones."""

    key: Annotated[str, msgspec.Meta(min_length=1, max_length=SHORT)]
    value: Annotated[int, msgspec.Meta(ge=0, le=VALUE_MAX)]
    idempotency_key: Annotated[str, msgspec.Meta(min_length=1, max_length=SHORT)] | None = None


class SignedItem(Item):
    """Where negative increments are allowed."""

    value: Annotated[int, msgspec.Meta(ge=-VALUE_MAX, le=VALUE_MAX)]


_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_ARRAY, _LINE = msgspec.json.Decoder(list[Item]), msgspec.json.Decoder(Item)
_SIGNED_ARRAY, _SIGNED_LINE = msgspec.json.Decoder(list[SignedItem]), msgspec.json.Decoder(SignedItem)

Given = Item | BadRequest  # what is wrong with it


def quick_batch(content_type: str | None, body: bytes, namespace: Namespace) -> list[Given] | None:
    """The items, in order, in a few milliseconds; None when the body needs the strict reader.

    Errors: BadRequest, for the request as a whole.
    """
    ndjson = _is_ndjson(content_type)
    if body.count(b"{") > ITEMS_MAX:  # too many items, most likely: they are counted before they are read
        return None
    items = _quick(ndjson, body, namespace)
    return None if items is None or len(items) > ITEMS_MAX else items


def strict_batch(content_type: str | None, body: bytes, namespace: Namespace) -> list[Given]:
    """Item by item, in Python: a body of 4 MB may take most of a second. Errors: likewise."""
    return list(_strict(_is_ndjson(content_type), body, namespace))


def _is_ndjson(content_type: str | None) -> bool:
    send = "Send Content-Type: application/json (an array) or application/x-ndjson (an item a line)."
    return json_kind(content_type, KINDS, send) == KINDS[1]


def _quick(ndjson: bool, body: bytes, namespace: Namespace) -> list[Given] | None:
    """None when the body needs the strict reader."""
    if b"\\u00" in body:  # an escaped letter of a member's name, or a NUL
        return None
    array, line = (_SIGNED_ARRAY, _SIGNED_LINE) if namespace.negative_allowed else (_ARRAY, _LINE)
    try:
        items: Sequence[Item] = line.decode_lines(body) if ndjson else array.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
    if body.count(b'"key"') != len(items) or body.count(b'"value"') != len(items):
        return None
    ids = body.count(b'"idempotency_key"')
    if namespace.idempotency_key_required and ids != len(items):
        return None
    if ids and ids != sum(item.idempotency_key is not None for item in items):
        return None
    return list[Given](items)


def _strict(ndjson: bool, body: bytes, namespace: Namespace) -> Iterator[Given]:
    pieces = _lines(body) if ndjson else _elements(body)
    if len(pieces) > ITEMS_MAX:
        raise BadRequest(TOO_MANY)
    for piece in pieces:
        if not isinstance(piece, bytes):
            yield _item(piece, namespace)
        elif len(piece) > ITEM_BYTES_MAX:
            yield BadRequest(f"An item must have at most {ITEM_BYTES_MAX} bytes.")
        elif ndjson:
            yield _line(piece, namespace)
        else:  # what is no JSON makes the array none
            yield _item(_array_value(piece) if piece.startswith(b"{") else None, namespace)


def _lines(body: bytes) -> Sequence[Any]:
    """Those that are not empty; no more empty ones than others are looked for."""
    if body.count(b"\n") > 2 * ITEMS_MAX:
        raise BadRequest(TOO_MANY)
    return [line for line in body.split(b"\n") if line.strip()]


def _elements(body: bytes) -> Sequence[Any]:
    """As they stand in the array. They are cut apart without being read, so that there may be millions; only where that
    fails, as it does for a lone surrogate, they are read.
    """
    try:
        return [bytes(element) for element in _ELEMENTS.decode(body)[: ITEMS_MAX + 1]]
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        items = _array_value(body) if body.count(b"{") <= ITEMS_MAX else None
    if type(items) is not list:
        raise BadRequest(NO_ARRAY)
    return items


def _array_value(text: bytes) -> Any:
    """The array, or an element of it."""
    try:
        return json_value(text, _members)
    except BadRequest:
        raise BadRequest(NO_ARRAY) from None


def _members(pairs: list[tuple[str, Any]]) -> Any:
    """A member twice is one item's own trouble."""
    fields = dict(pairs)
    return fields if len(fields) == len(pairs) else TWICE


def _line(line: bytes, namespace: Namespace) -> Given:
    try:
        return _item(json_value(line, _members), namespace)
    except BadRequest:
        return BadRequest("A line must be one JSON object, in UTF-8.")


def _item(fields: Any, namespace: Namespace) -> Given:
    try:
        if isinstance(fields, BadRequest):
            return fields
        if type(fields) is not dict:
            return BadRequest("An item must be an object with key, value and, if you like, idempotency_key.")
        if unknown := fields.keys() - MEMBERS:
            return BadRequest(f"Unknown member {min(unknown)[:SHOWN]!r}: an item has key, value and idempotency_key.")
        key = valid_key(fields.get("key"))
        value = valid_value(fields.get("value"), namespace.negative_allowed)
        idempotency_key = valid_id(fields.get("idempotency_key"))
        check_key(namespace, idempotency_key)
        return Item(key, value, idempotency_key)
    except BadRequest as error:
        return error.with_traceback(None)  # which would keep all that was looked at


Result = Outcome | TallyError


def terms_under(idempotency_key: str | None, namespace: Namespace) -> Namespace:
    """What the items must keep to. An idempotency key of the whole request is one for each of them."""
    return namespace if idempotency_key is None else replace(namespace, idempotency_key_required=False)


def increments_of(
    namespace: str, given: Sequence[Given], idempotency_key: str | None = None, request_id: str | None = None
) -> list[Increment]:
    """Of the items that are right. Those without an idempotency key of their own are guarded by that of the request, or
    else by the proxy's request id, each by its place in the request: so it counts once, whatever is sent again.
    """
    guard = f"{request_id}/" if request_id else ""
    if idempotency_key is not None:
        guard = idempotency_key + PLACE
    by_proxy = bool(guard) and idempotency_key is None
    return [
        Increment(
            counter_name(namespace, item.key),
            item.value,
            item.idempotency_key or (f"{guard}{position}" if guard else None),
            short_lived=by_proxy and item.idempotency_key is None,
        )
        for position, item in enumerate(given)
        if isinstance(item, Item)
    ]


def results(given: Sequence[Given], increments: Sequence[Increment], outcomes: Sequence[Result]) -> list[Result]:
    """What became of each item, in the order of the request. A proxy's own retry is none of its client's business."""
    told = (
        Outcome.COUNTED if outcome is Outcome.REPLAYED and increment.short_lived else outcome
        for increment, outcome in zip(increments, outcomes, strict=True)
    )
    return [item if isinstance(item, BadRequest) else next(told) for item in given]


DESCRIBED: dict[Outcome, dict[str, Any]] = {
    Outcome.COUNTED: {"status": "counted"},
    Outcome.REPLAYED: {"status": "replayed"},
    Outcome.MISMATCH: {"status": "refused", "message": str(Mismatch())},
    Outcome.FULL: {"status": "refused", "message": str(CounterFull())},
}


def all_replayed(found: Sequence[Result]) -> bool:
    return bool(found) and found.count(Outcome.REPLAYED) == len(found)


def prefers_minimal(headers: Iterable[str]) -> bool:
    """Whether `return=minimal` is among the preferences (RFC 7240), of which the first of a name holds."""
    preferences = (each.partition(";")[0].partition("=") for each in parse_http_list(",".join(headers)))
    returns = (value.strip().strip('"').lower() for name, _, value in preferences if name.strip().lower() == "return")
    return next(returns, None) == "minimal"


def describe(found: Sequence[Result], minimal: bool, passed_on: bool = False) -> dict[str, Any]:
    """The answer's body. `passed_on` as in `answers.of_error`."""
    counted, replayed = found.count(Outcome.COUNTED), found.count(Outcome.REPLAYED)
    body: dict[str, Any] = {"counted": counted, "replayed": replayed, "refused": len(found) - counted - replayed}
    if not minimal:
        body["results"] = [
            DESCRIBED[result] if isinstance(result, Outcome) else _described(result, passed_on) for result in found
        ]
    return body


def _described(error: TallyError, passed_on: bool) -> dict[str, Any]:
    if isinstance(error, Unavailable):
        return {"status": "unavailable", **refusal(error, passed_on)}
    return {"status": "refused", "message": error.message}


def worst(found: Sequence[Result]) -> Unavailable | None:
    """The error to answer the whole request with: an item in doubt, before one that was not counted."""
    errors = [result for result in found if isinstance(result, Unavailable)]
    return next((error for error in errors if error.counted == "unknown"), errors[0] if errors else None)
