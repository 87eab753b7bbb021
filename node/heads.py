"""Requests whose head was parsed before: the same bytes mean the same again. Pure.

Clients repeat themselves: between two requests of one program at most an id in the head differs. A head that the HTTP
parser has read and the hot lane has taken is remembered, with the value of an id header cut out; the next one like it
is taken without being parsed. Nothing is guessed: only whole requests, only bytes that were parsed before, and an id
only if it consists of visible characters, between which no parser makes a difference.
"""

from __future__ import annotations

import re
from typing import NamedTuple

HEADS_MAX = 4096
HEAD_BYTES_MAX = 1024  # a longer one is parsed each time
END = b"\r\n\r\n"
REQUEST_ID = b"\r\nX-Request-ID: "
IDEMPOTENCY_KEY = b"\r\nIdempotency-Key: "
BEARER = "Bearer "
AUTHORIZATION = b"\r\nAuthorization: Bearer "
_VISIBLE = re.compile(rb"[\x21-\x7e]{1,255}")


class Head(NamedTuple):
    """What the hot lane needs to know of a head."""

    target: bytes
    content_type: str | None
    content_length: int  # 0 for a GET
    real_ip: str | None


class Whole(NamedTuple):
    """A whole request: the head's bytes without its id, the ids, and the body."""

    template: bytes
    idempotency_key: str | None
    request_id: str | None
    body: bytes
    authorization: str | None = None  # cut out of the head as well, where there are tokens


def whole_request(data: bytes) -> Whole | None:
    """What came, if it can be one whole request with a head of usual size. Whether it is one, only `Heads` can say."""
    end = data.find(END, 0, HEAD_BYTES_MAX)
    if end < 0:
        return None
    end += 4
    template, key, request_id = data[:end], None, None
    at = template.find(IDEMPOTENCY_KEY)
    if at >= 0:
        template, key = _cut(template, at + len(IDEMPOTENCY_KEY))
        if key is None:
            return None
    at = template.find(REQUEST_ID)
    if at >= 0:
        template, request_id = _cut(template, at + len(REQUEST_ID))
        if request_id is None:
            return None
    return Whole(template, key, request_id, data[end:])


def guarded_request(data: bytes) -> Whole | None:
    """`whole_request` where there are tokens: a head is remembered without the one that it came with."""
    whole = whole_request(data)
    if whole is None:
        return None
    at = whole.template.find(AUTHORIZATION)
    if at < 0:
        return whole
    template, token = _cut(whole.template, at + len(AUTHORIZATION))
    return None if token is None else whole._replace(template=template, authorization=BEARER + token)


def _cut(head: bytes, start: int) -> tuple[bytes, str | None]:
    stop = head.find(b"\r\n", start)
    value = head[start:stop]
    if not _VISIBLE.fullmatch(value):
        return head, None
    return head[:start] + head[stop:], value.decode("ascii")


class Heads:
    """The heads known to this process; a bounded number, forgotten all at once."""

    def __init__(self, heads_max: int = HEADS_MAX) -> None:
        self._heads_max = heads_max
        self._known: dict[bytes, Head] = {}

    def find(self, whole: Whole) -> Head | None:
        """What is known of it, if it is exactly one request and its head was parsed before."""
        head = self._known.get(whole.template)
        return head if head is not None and head.content_length == len(whole.body) else None

    def learn(self, whole: Whole, head: Head) -> None:
        """`head` is what the parser made of `whole`, which was one request and the lane's."""
        if head.content_length != len(whole.body):
            return
        if len(self._known) >= self._heads_max:
            self._known.clear()
        self._known[whole.template] = head
