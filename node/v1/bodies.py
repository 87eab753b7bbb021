"""What the v1 routes take in a body. Each error names the member it is about. Pure."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, NamedTuple

from node.errors import BadRequest
from node.increment import (
    ID_CHARS_MAX,
    KEY_BYTES_MAX,
    Increment,
    counter_name,
    json_kind,
    json_object,
    key_of_path,
    one_id,
    parse_idempotency_header,
    valid_id,
    valid_key,
    valid_value,
)
from node.strategy import Bounds
from node.terms import Namespace, check_key

KEYS_MAX = 1000  # in one request
KEYS_BYTES_MAX = 4 * 1024 * 1024  # of such a body; a key's every byte may be escaped as six
BOUND_MAX = 2**63 - 1  # the end of a bigint
ADD_MEMBERS = ("key", "value", "idempotency_key", "min", "max")


class Add(NamedTuple):
    """One increment, and what its total must lie between."""

    key: str
    value: int
    idempotency_key: str | None
    bounds: Bounds

    def increment(self, namespace: Namespace, request_id: str | None) -> Increment:
        """`request_id` is a trusted proxy's: it guards what has no key of its own."""
        guarded = guard(self.idempotency_key, request_id)
        return Increment(counter_name(namespace.name, self.key), self.value, *guarded)


def guard(idempotency_key: str | None, request_id: str | None) -> tuple[str | None, bool]:
    """-> what an operation counts once under, and whether that is a proxy's request id."""
    if idempotency_key is None and request_id:
        return request_id[:ID_CHARS_MAX], True
    return idempotency_key, False


def parse_add(content_type: str | None, body: bytes, header: str | None, namespace: Namespace) -> Add:
    """`header` is Idempotency-Key's raw value. Errors: BadRequest."""
    given = _object(content_type, body, ADD_MEMBERS)
    key = valid_key(given.get("key"))
    value = valid_value(given.get("value"), namespace.negative_allowed)
    idempotency_key = _idempotency_key(header, given)
    check_key(namespace, idempotency_key)
    bounds = Bounds(_bound("min", given), _bound("max", given))
    if bounds.min is not None and bounds.max is not None and bounds.min > bounds.max:
        raise BadRequest("`min` must not be above `max`.")
    return Add(key, value, idempotency_key, bounds)


def parse_reset(content_type: str | None, body: bytes, header: str | None, namespace: Namespace) -> str | None:
    """-> the idempotency key; there need be no body. Errors: BadRequest."""
    given = _object(content_type, body, ("idempotency_key",)) if body else {}
    idempotency_key = _idempotency_key(header, given)
    check_key(namespace, idempotency_key)
    return idempotency_key


def parse_keys(content_type: str | None, body: bytes) -> list[str]:
    """Errors: BadRequest."""
    keys = _object(content_type, body, ("keys",)).get("keys")
    if type(keys) is not list or not 1 <= len(keys) <= KEYS_MAX:
        raise BadRequest(f"`keys` must be an array of 1 to {KEYS_MAX} keys.")
    return [valid_key(key) for key in keys]


def parse_path_key(raw: str) -> str:
    """A key as it stands in a path, percent-encoded. Errors: BadRequest."""
    try:
        return key_of_path(raw.encode("latin-1"))
    except (BadRequest, UnicodeEncodeError):
        raise BadRequest(
            f"The key in the path must be percent-encoded UTF-8: 1 to {KEY_BYTES_MAX} bytes, none of them NUL."
        ) from None


def _object(content_type: str | None, body: bytes, members: Collection[str]) -> dict[str, Any]:
    json_kind(content_type, ("application/json",), "Send Content-Type: application/json.")
    given = json_object(body)
    if unknown := given.keys() - set(members):
        raise BadRequest(f"Unknown member {min(unknown)!r}: there is {', '.join(members)}.")
    return given


def _idempotency_key(header: str | None, given: dict[str, Any]) -> str | None:
    member = valid_id(given.get("idempotency_key"))
    return one_id(parse_idempotency_header(header), member)


def _bound(name: str, given: dict[str, Any]) -> int | None:
    bound = given.get(name)
    if bound is None:
        return None
    if type(bound) is not int or abs(bound) > BOUND_MAX:
        raise BadRequest(f"`{name}` must be an integer from {-BOUND_MAX} to {BOUND_MAX}, or null.")
    return bound
