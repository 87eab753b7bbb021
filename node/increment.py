"""One increment: what is accepted, and nothing else. Pure; both entrances call it.

The limits here are the schema's: nothing gets past this module that Postgres or a batch could not take.
The common body is recognised by one regular expression; every other goes through a strict JSON reader. (json.loads of
bytes would take UTF-16, and of text NaN, duplicate members and lone surrogates; int() takes `1_000` and Arabic digits.)
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Collection
from functools import lru_cache
from typing import Any, NoReturn
from urllib.parse import parse_qsl, unquote_to_bytes

import msgspec

from node.errors import BadRequest

VALUE_MAX = 2**53 - 1  # the largest integer that every JSON reader keeps exact
KEY_BYTES_MAX = 512  # of UTF-8; a Postgres btree row holds 2704
ID_CHARS_MAX = 255
BODY_BYTES_MAX = 16 * 1024
DEPTH_MAX = 64
FORM_FIELDS_MAX = 64
REMEMBERED_BODIES_MAX = 4096
REMEMBERED_BODY_BYTES_MAX = 256
DEFAULT_NAMESPACE = "default"
PLACE = "\0"  # between a batch's idempotency key and an item's place in it; no key that a client gives has it

_PLAIN_BODY = re.compile(
    rb'[ \t\r\n]*\{[ \t\r\n]*"key"[ \t\r\n]*:[ \t\r\n]*"([^"\\\x00-\x1f]+)"[ \t\r\n]*,'
    rb'[ \t\r\n]*"value"[ \t\r\n]*:[ \t\r\n]*(0|[1-9][0-9]{0,15})[ \t\r\n]*\}[ \t\r\n]*'
)
_FORM_VALUE = re.compile(r"0|[1-9][0-9]{0,15}", re.ASCII)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*+"?', re.DOTALL)  # an unclosed one too, or each of its quotes would be tried
_BRACKET = re.compile(r"[\[\]{}]")
_CHARSET = re.compile(r';\s*charset\s*=\s*"?([^";\s]*)"?', re.IGNORECASE)
_HEADER_TEXT = re.compile(r"[\x20-\x7e]+")
_QUOTED = re.compile(r'"((?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])*)"')
_NAMESPACE = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")
_ESCAPE = re.compile(r"%[0-9A-Fa-f]{2}")

Members = Callable[[list[tuple[str, Any]]], Any]  # makes an object of its members


class Increment(msgspec.Struct, frozen=True, gc=False):
    """Add `value` to `counter`; at most once when it carries an idempotency key."""

    counter: str  # "<namespace>:<key>", the full name: what a partition is computed from and a batch holds
    value: int  # |value| <= VALUE_MAX; below 0 only where its namespace allows it
    idempotency_key: str | None = None
    short_lived: bool = False  # the key is a proxy's request id: it guards that proxy's own retries only


def counter_name(namespace: str, key: str) -> str:
    """A namespace has no colon, so the name splits at its first one."""
    return f"{namespace}:{key}"


def split_counter(counter: str) -> tuple[str, str]:
    """-> (namespace, key)"""
    namespace, _, key = counter.partition(":")
    return namespace, key


def parse_increment(
    content_type: str | None, body: bytes, idempotency_key: str | None, request_id: str | None
) -> Increment:
    """What a POST asks for. `idempotency_key` is the header's raw value; `request_id` a trusted proxy's, or None.

    Errors: BadRequest, without detail: the wire contract fixes the answer's bytes.
    """
    try:
        return _parse(content_type, body, idempotency_key, request_id)
    except BadRequest:
        raise BadRequest from None


def _parse(content_type: str | None, body: bytes, idempotency_key: str | None, request_id: str | None) -> Increment:
    read = _read_before if len(body) <= REMEMBERED_BODY_BYTES_MAX else _read
    increment = read(content_type, body)
    if idempotency_key is not None:
        key = one_id(parse_idempotency_header(idempotency_key), increment.idempotency_key)
        return Increment(increment.counter, increment.value, key)
    if request_id and increment.idempotency_key is None:
        return Increment(increment.counter, increment.value, request_id[:ID_CHARS_MAX], short_lived=True)
    return increment


def _read(content_type: str | None, body: bytes) -> Increment:
    plain = _PLAIN_BODY.fullmatch(body) if content_type == "application/json" else None
    if plain is not None:
        fields: dict[str, Any] = {"key": _text(plain[1]), "value": int(plain[2])}
    else:
        fields = _fields(content_type, body)
    counter = counter_name(DEFAULT_NAMESPACE, valid_key(fields.get("key")))
    return Increment(counter, valid_value(fields.get("value")), valid_id(fields.get("idempotency_key")))


# The same bytes mean the same increment, and those that are sent at all are mostly sent often.
_read_before = lru_cache(maxsize=REMEMBERED_BODIES_MAX)(_read)


def valid_namespace(namespace: str) -> str:
    """Errors: BadRequest."""
    if not _NAMESPACE.fullmatch(namespace):
        raise BadRequest("A namespace must be 1 to 64 of a-z, 0-9, _ and -, beginning with a letter or digit.")
    return namespace


def valid_key(key: Any) -> str:
    """A non-empty text of at most KEY_BYTES_MAX bytes without NUL or lone surrogates. Errors: BadRequest."""
    if type(key) is not str or not key or "\0" in key:
        raise BadRequest("`key` must be a non-empty text without NUL.")
    if len(_utf8(key, "key")) > KEY_BYTES_MAX:
        raise BadRequest(f"`key` must have at most {KEY_BYTES_MAX} bytes of UTF-8.")
    return key


def valid_value(value: Any, negative_allowed: bool = False) -> int:
    """An integer, 0 <= value <= VALUE_MAX; never a bool, which Python takes for one. Errors: BadRequest."""
    least = -VALUE_MAX if negative_allowed else 0
    if type(value) is not int or not least <= value <= VALUE_MAX:
        raise BadRequest(f"`value` must be an integer from {least} to {VALUE_MAX}.")
    return value


@lru_cache(maxsize=REMEMBERED_BODIES_MAX)
def key_of_path(raw: bytes) -> str:
    """The key in a request's raw path, still percent-encoded: decoded once, strictly.

    Decoded by a server instead, %FF and %FE would become the same replacement character and so the same counter.
    """
    if not is_percent_encoded(raw.decode("latin-1")):
        raise BadRequest
    try:
        return valid_key(_text(unquote_to_bytes(raw)))
    except BadRequest:
        raise BadRequest from None  # without detail, likewise


def is_percent_encoded(text: str) -> bool:
    """Whether every % in it begins an escape."""
    return text.count("%") == len(_ESCAPE.findall(text))


def parse_idempotency_header(raw: str | None) -> str | None:
    """Quoted (a structured-field string, as the IETF draft has it) or bare; both forms of one key are the same key.

    Errors: BadRequest.
    """
    if raw is None:
        return None
    raw = raw.strip(" \t")
    if raw.startswith('"'):
        quoted = _QUOTED.fullmatch(raw)
        raw = re.sub(r"\\(.)", r"\1", quoted[1]) if quoted else ""
    if not _HEADER_TEXT.fullmatch(raw) or len(raw) > ID_CHARS_MAX:
        raise BadRequest(f"Idempotency-Key must be 1 to {ID_CHARS_MAX} printable ASCII characters, bare or quoted.")
    return raw


def one_id(header: str | None, field: str | None) -> str | None:
    """The idempotency key of a request that may name it in both places. Errors: BadRequest, when they differ."""
    if None not in (header, field) and header != field:
        raise BadRequest(
            "The header Idempotency-Key and the member `idempotency_key` must be the same, where both are given."
        )
    return header if field is None else field


def valid_id(field: Any) -> str | None:
    """An idempotency key in a body: 1 to ID_CHARS_MAX characters; None when there is none. Errors: BadRequest."""
    if field is None:
        return None
    if type(field) is not str or not 1 <= len(field) <= ID_CHARS_MAX or "\0" in field:
        raise BadRequest(f"`idempotency_key` must be a text of 1 to {ID_CHARS_MAX} characters without NUL.")
    _utf8(field, "idempotency_key")
    return field


def _utf8(text: str, name: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise BadRequest(f"`{name}` must not have a lone surrogate, which is no character.") from None


def _fields(content_type: str | None, body: bytes) -> dict[str, Any]:
    kind, _, parameters = (content_type or "").partition(";")
    charset = _CHARSET.search(";" + parameters)
    if charset is not None and charset[1].lower() not in ("utf-8", "utf8"):
        raise BadRequest
    match kind.strip().lower():
        case "application/json":
            return json_object(body)
        case "application/x-www-form-urlencoded":
            return _form(body)
        case _:
            raise BadRequest


def json_object(body: bytes) -> dict[str, Any]:
    """A JSON object, read strictly. Errors: BadRequest."""
    try:
        value = json_value(body)
    except BadRequest:
        value = None
    if type(value) is not dict:
        raise BadRequest("The body must be a JSON object in UTF-8, with no member twice.")
    return value


def json_value(body: bytes, members: Members | None = None) -> Any:
    """JSON, read strictly: UTF-8 only, no NaN, bounded depth; no duplicate member either, unless `members` makes the
    objects. Errors: BadRequest.
    """
    text = _text(body)
    if _is_deep(text):
        raise BadRequest
    try:
        return json.loads(text, object_pairs_hook=members or _without_duplicates, parse_constant=_refuse)
    except (ValueError, RecursionError):
        raise BadRequest from None


def json_kind(content_type: str | None, known: Collection[str], send: str) -> str:
    """The media type of a body, one of `known`, in UTF-8. Errors: BadRequest, which says what to `send`."""
    kind, _, parameters = (content_type or "").partition(";")
    kind = kind.strip().lower()
    if kind not in known:
        raise BadRequest(send)
    if parameters.strip().lower().replace('"', "") not in ("", "charset=utf-8"):
        raise BadRequest("Send the body as UTF-8.")
    return kind


def _form(body: bytes) -> dict[str, Any]:
    try:
        pairs = parse_qsl(_text(body), keep_blank_values=True, errors="strict", max_num_fields=FORM_FIELDS_MAX)
    except ValueError:
        raise BadRequest from None
    fields: dict[str, Any] = _without_duplicates(pairs)
    if "value" in fields:
        if not _FORM_VALUE.fullmatch(fields["value"]):
            raise BadRequest
        fields["value"] = int(fields["value"])
    return fields


def _without_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    fields = dict(pairs)
    if len(fields) != len(pairs):
        raise BadRequest
    return fields


def _refuse(constant: str) -> NoReturn:
    raise BadRequest


def _text(raw: bytes) -> str:
    try:
        return raw.decode()
    except UnicodeDecodeError:
        raise BadRequest from None


def _is_deep(text: str) -> bool:
    """Whether brackets nest deeper than DEPTH_MAX, strings left out: json.loads fails somewhere, by the stack."""
    depth = 0
    for bracket in _BRACKET.finditer(_STRING.sub("", text)):
        depth += 1 if bracket[0] in "[{" else -1
        if depth > DEPTH_MAX:
            return True
    return False
