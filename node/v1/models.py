"""What requests look like, for `/openapi.json`. They are parsed elsewhere, as strictly as this says. Pure."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

from node.batch import ITEMS_MAX
from node.counters import HistoryStep
from node.increment import ID_CHARS_MAX, KEY_BYTES_MAX, VALUE_MAX
from node.v1.bodies import BOUND_MAX, KEYS_MAX
from node.v1.query import PAGE_DEFAULT, PAGE_MAX, Consistency

NO_NUL = r"^[^\x00]*$"
TIME = r"^[0-9]{4}-[0-9]{2}-[0-9]{2}[Tt][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?([Zz]|[+-][0-9]{2}:[0-9]{2})$"

Key = Annotated[
    str,
    Meta(min_length=1, max_length=KEY_BYTES_MAX, pattern=NO_NUL, description="At most 512 bytes of UTF-8, no NUL."),
]
IdempotencyKey = Annotated[str, Meta(min_length=1, max_length=ID_CHARS_MAX, pattern=NO_NUL)]
Value = Annotated[
    int,
    Meta(ge=-VALUE_MAX, le=VALUE_MAX, description="Below 0 only where the namespace allows it."),
]
Bound = Annotated[int, Meta(ge=-BOUND_MAX, le=BOUND_MAX)]
Instant = Annotated[str, Meta(pattern=TIME, examples=["2026-01-31T12:00:00Z"])]


class AddBody(Struct, forbid_unknown_fields=True):
    """One increment. The total after it lies from `min` to `max`, or it is not counted."""

    key: Key
    value: Value
    idempotency_key: IdempotencyKey | None = None
    min: Bound | None = None
    max: Bound | None = None


class ResetBody(Struct, forbid_unknown_fields=True):
    """There need be none."""

    REQUIRED: ClassVar[bool] = False
    idempotency_key: IdempotencyKey | None = None


class KeysBody(Struct, forbid_unknown_fields=True):
    """The counters that are asked for."""

    keys: Annotated[list[Key], Meta(min_length=1, max_length=KEYS_MAX)]


class IncrementBody(Struct):
    """One increment of the default namespace; members it does not know are passed over."""

    KINDS: ClassVar[tuple[str, ...]] = ("application/json", "application/x-www-form-urlencoded")
    key: Key
    value: Annotated[int, Meta(ge=0, le=VALUE_MAX)]
    idempotency_key: IdempotencyKey | None = None


class Item(Struct, forbid_unknown_fields=True):
    """One increment of many. One that is wrong is refused by itself; the others count."""

    key: Key
    value: Value
    idempotency_key: IdempotencyKey | None = None


BatchBody = Annotated[
    list[Item],
    Meta(max_length=ITEMS_MAX, description="An array; as application/x-ndjson, an item a line."),
]


class ConsistencyQuery(Struct):
    """How new a value must be."""

    consistency: Consistency = "exact"


class PageQuery(Struct):
    """Which part of the list."""

    prefix: Annotated[str, Meta(max_length=KEY_BYTES_MAX, pattern=NO_NUL)] = ""
    limit: Annotated[int, Meta(ge=1, le=PAGE_MAX)] = PAGE_DEFAULT
    cursor: Annotated[str, Meta(description="As the page before gave it.")] | UnsetType = UNSET
    consistency: Consistency = "exact"


class SpanQuery(Struct, rename={"start": "from", "end": "to"}):
    """Which part of the history."""

    start: Instant | UnsetType = UNSET
    end: Instant | UnsetType = UNSET
    step: HistoryStep = "hour"


class ReceiptQuery(Struct):
    """What is asked about."""

    key: Key
    idempotency_key: IdempotencyKey


Counted = Annotated[
    bool | Literal["unknown"],
    Meta(
        description="Of what is answered 503, whether it was counted all the same.",
        extra_json_schema={"enum": [False, "unknown"]},
    ),
]
Total = Annotated[int | None, Meta(description="Of what would have passed a bound: the total; null: it is not known.")]


class Detail(Struct):
    """What is wrong."""

    message: str
    counted: Counted | UnsetType = UNSET
    value: Total | UnsetType = UNSET


class Error(Struct):
    """It was not done; the message says why, and what to do."""

    error: Detail


class SeedError(Error):
    """It was not done."""


class Rfc9457(Struct):
    """What every problem has."""

    type: Literal["about:blank"]
    title: str
    status: int
    detail: str


class Problem(Rfc9457):
    """An error as RFC 9457 has it."""

    counted: Counted | UnsetType = UNSET
    value: Total | UnsetType = UNSET


class ItemTold(Struct):
    """What became of an item: the message says why it was not counted."""

    status: Literal["counted", "replayed", "refused"]
    message: str | UnsetType = UNSET


class BatchTold(Struct):
    """How many were counted, and what became of each."""

    counted: int
    replayed: int
    refused: int
    results: list[ItemTold] | UnsetType = UNSET


class ItemInTrouble(Struct):
    """What became of an item where not all could be counted now."""

    status: Literal["counted", "replayed", "refused", "unavailable"]
    message: str | UnsetType = UNSET
    counted: Counted | UnsetType = UNSET


class BatchError(Error):
    """Not all could be counted now: what became of each. Those that are unavailable are among the `refused`."""

    counted: int
    replayed: int
    refused: int
    results: list[ItemInTrouble] | UnsetType = UNSET


class BatchProblem(Rfc9457):
    """The same, as RFC 9457 has it."""

    counted: int
    replayed: int
    refused: int
    results: list[ItemInTrouble] | UnsetType = UNSET


class KeyAndValue(Struct):
    """One member: the counter's key, with its value."""


class Nothing:
    """Counted, now or before."""


class NotModified(Nothing):
    """It is what it was."""


class Events:
    """Server-sent events: `value`, with `{"key", "value"}` as their data."""


class HowItIs(Struct):
    """How this node is."""

    status: str
    why: str | UnsetType | None = UNSET


PATH: dict[str, dict[str, Any]] = {
    "ns": {"schema": {"type": "string", "pattern": "^[a-z0-9][a-z0-9_-]{0,63}$"}, "description": "A namespace."},
    "key": {
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_BYTES_MAX, "pattern": NO_NUL},
        "description": "A counter's key, percent-encoded: a slash in it is %2F.",
    },
}
