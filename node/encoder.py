"""Answers as bytes of HTTP/1.1, for the hot lane. Pure."""

from __future__ import annotations

from node.answers import Answer

REASONS = {
    200: b"OK",
    204: b"No Content",
    400: b"Bad Request",
    401: b"Unauthorized",
    403: b"Forbidden",
    404: b"Not Found",
    422: b"Unprocessable Entity",
    429: b"Too Many Requests",
    503: b"Service Unavailable",
}


class Encoder:
    """Answers as HTTP/1.1. What many have in common is put together once a second, when the server's Date changes."""

    def __init__(self) -> None:
        self._defaults: list[tuple[bytes, bytes]] | None = None
        self._heads: dict[tuple[int, tuple[tuple[str, str], ...]], bytes] = {}

    def encode(self, answer: Answer, defaults: list[tuple[bytes, bytes]]) -> bytes:
        """`defaults` are the server's own headers: another list when they are others."""
        if self._defaults is not defaults:
            self._defaults, self._heads = defaults, {}
        head = self._heads.get((answer.status, answer.headers))
        if head is None:
            head = self._heads[answer.status, answer.headers] = _head(answer, defaults)
        if not answer.body:
            return head + b"\r\n"
        return b"%scontent-type: application/json\r\ncontent-length: %d\r\n\r\n%s" % (
            head,
            len(answer.body),
            answer.body,
        )


def _head(answer: Answer, defaults: list[tuple[bytes, bytes]]) -> bytes:
    lines = [b"HTTP/1.1 %d %s" % (answer.status, REASONS[answer.status])]
    lines += [b"%s: %s" % header for header in defaults]
    lines += [f"{name.lower()}: {value}".encode("latin-1") for name, value in answer.headers]
    return b"\r\n".join(lines) + b"\r\n"
