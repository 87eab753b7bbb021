"""One request of bad input, or of odd input that is good: what is sent, which answers are right, what is counted.

Requests are bytes, sent as they are. @KEY@ becomes a key as long that nothing else uses; cases about the key itself say
in `key` under which name a 204 counts. `node` and `nginx` hold the right statuses (0: closed without an answer); where
nginx is not mentioned it answers as the node does. An answer other than 204 counts nothing, whatever the case.
"""

from __future__ import annotations

from dataclasses import dataclass

BAD_REQUEST = b'{"error":{"message":"Bad Request."}}'
HOST = b"Host: tally\r\n"
TYPE = b"Content-Type: application/json\r\n"
CHUNKED = b"Transfer-Encoding: chunked\r\n"
POST = b"POST /increment HTTP/1.1\r\n" + HOST + TYPE
GOOD = b'{"key":"@KEY@","value":1}'


@dataclass(frozen=True)
class Case:
    """One request on a connection of its own."""

    name: str
    request: bytes
    node: frozenset[int]
    nginx: frozenset[int]
    key: str | None = None  # None: the key that @KEY@ became
    value: int = 1  # what a 204 counts


def case(
    name: str,
    data: bytes,
    *node: int,
    nginx: tuple[int, ...] = (),
    key: str | None = None,
    value: int = 1,
) -> Case:
    return Case(name, data, frozenset(node), frozenset(nginx or node), key, value)


def sized(data: bytes, body: bytes, length: int | None = None) -> bytes:
    return data + b"Content-Length: %d\r\n\r\n" % (len(body) if length is None else length) + body
