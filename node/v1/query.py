"""What the v1 routes take in a query string. Each error names the parameter it is about. Pure."""

from __future__ import annotations

import re
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Collection, Mapping
from datetime import UTC, datetime, timedelta
from typing import Literal, NamedTuple, cast, get_args
from urllib.parse import parse_qsl

from node.counters import HistoryStep
from node.errors import BadRequest
from node.increment import KEY_BYTES_MAX, is_percent_encoded, valid_id, valid_key

Consistency = Literal["exact", "stored"]
PAGE_MAX = 1000  # counters
PAGE_DEFAULT = 100
BUCKETS_MAX = 5000
QUERY_FIELDS_MAX = 16
_NUMBER = re.compile(r"[1-9][0-9]{0,8}", re.ASCII)
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d(:\d\d(\.\d{1,6})?)?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
BUCKET_S: Mapping[HistoryStep, int] = {"minute": 60, "hour": 3600, "day": 86_400, "month": 28 * 86_400}  # at least
SPAN: Mapping[HistoryStep, timedelta] = {  # what is told when no `from` is given
    "minute": timedelta(hours=1),
    "hour": timedelta(days=1),
    "day": timedelta(days=31),
    "month": timedelta(days=366),
}


class Page(NamedTuple):
    """A part of a namespace's counters, in the order of their keys."""

    prefix: str
    after: str
    limit: int
    consistency: Consistency


class Span(NamedTuple):
    """Buckets of a counter's history, from the one that `start` is in, to before `end`."""

    step: HistoryStep
    start: datetime
    end: datetime


def parse_consistency(query: bytes) -> Consistency:
    return _consistency(_fields(query, ("consistency",)))


def parse_page(query: bytes) -> Page:
    """Errors: BadRequest."""
    given = _fields(query, ("prefix", "limit", "cursor", "consistency"))
    limit = given.get("limit", str(PAGE_DEFAULT))
    if not _NUMBER.fullmatch(limit) or int(limit) > PAGE_MAX:
        raise BadRequest(f"`limit` must be an integer from 1 to {PAGE_MAX}.")
    prefix = given.get("prefix", "")
    if "\0" in prefix or len(prefix.encode()) > KEY_BYTES_MAX:
        raise BadRequest(f"`prefix` must have at most {KEY_BYTES_MAX} bytes of UTF-8, and no NUL.")
    after = _key_of_cursor(given["cursor"]) if given.get("cursor") else ""
    return Page(prefix, after, int(limit), _consistency(given))


def parse_span(query: bytes, now: datetime) -> Span:
    """Errors: BadRequest."""
    given = _fields(query, ("from", "to", "step"))
    step = given.get("step", "hour")
    if step not in get_args(HistoryStep):
        raise BadRequest(f"`step` must be one of {', '.join(get_args(HistoryStep))}.")
    step = cast(HistoryStep, step)
    end = _time("to", given["to"]) if "to" in given else now
    try:
        start = _time("from", given["from"]) if "from" in given else end - SPAN[step]
    except OverflowError:
        raise BadRequest("`to` is too early for a default `from`: give `from` as well.") from None
    if start >= end:
        raise BadRequest("`from` must be before `to`.")
    if (end - start).total_seconds() / BUCKET_S[step] > BUCKETS_MAX:
        raise BadRequest(f"From `from` to `to` there must be at most {BUCKETS_MAX} steps: choose a longer `step`.")
    return Span(step, bucket_of(start, step), end)


def parse_receipt(query: bytes) -> tuple[str, str]:
    """-> (key, idempotency key). Errors: BadRequest."""
    given = _fields(query, ("key", "idempotency_key"))
    key, idempotency_key = valid_key(given.get("key")), valid_id(given.get("idempotency_key"))
    if idempotency_key is None:
        raise BadRequest("`idempotency_key` is missing: name the one that is asked about.")
    return key, idempotency_key


def parse_nothing(query: bytes) -> None:
    """Errors: BadRequest, when there is a parameter."""
    _fields(query, ())


def cursor_of(key: str) -> str:
    """What a page after this key is asked for with."""
    return urlsafe_b64encode(key.encode()).decode().rstrip("=")


def bucket_of(at: datetime, step: HistoryStep) -> datetime:
    """The beginning of the bucket that a time (UTC) is in."""
    match step:
        case "minute":
            return at.replace(second=0, microsecond=0)
        case "hour":
            return at.replace(minute=0, second=0, microsecond=0)
        case "day":
            return at.replace(hour=0, minute=0, second=0, microsecond=0)
        case "month":
            return at.replace(day=1, hour=0, minute=0, second=0, microsecond=0)


def _fields(query: bytes, names: Collection[str]) -> dict[str, str]:
    text = query.decode("latin-1")
    if not text.isascii() or not is_percent_encoded(text):
        raise BadRequest("The query must be percent-encoded.")
    try:
        pairs = parse_qsl(text, keep_blank_values=True, errors="strict", max_num_fields=QUERY_FIELDS_MAX)
    except ValueError:
        raise BadRequest(f"The query must be UTF-8, of at most {QUERY_FIELDS_MAX} parameters.") from None
    given = dict(pairs)
    if unknown := given.keys() - set(names):
        known = f"there is {', '.join(names)}" if names else "there is none here"
        raise BadRequest(f"Unknown parameter {min(unknown)!r}: {known}.")
    if len(given) < len(pairs):
        raise BadRequest("A parameter was given twice: send each once.")
    return given


def _consistency(given: Mapping[str, str]) -> Consistency:
    consistency = given.get("consistency", "exact")
    if consistency not in get_args(Consistency):
        raise BadRequest(f"`consistency` must be one of {', '.join(get_args(Consistency))}.")
    return cast(Consistency, consistency)


def _key_of_cursor(cursor: str) -> str:
    try:
        key = valid_key(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode())
    except (ValueError, BadRequest):
        key = ""
    if not key or cursor_of(key) != cursor:
        raise BadRequest("`cursor` must be what the page before gave.")
    return key


def _time(name: str, text: str) -> datetime:
    try:
        if not _TIME.fullmatch(text):
            raise ValueError
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        raise BadRequest(f"`{name}` must be a time like 2026-01-31T12:00:00Z (RFC 3339).") from None
