"""An answer that a kill cannot cut in two."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.httptools_impl import RequestResponseCycle


class Joined(asyncio.Transport):
    """What a request is answered through: the head leaves together with the first of its body.

    uvicorn writes one after the other. A node killed in between has begun an answer, so that nginx cannot ask another
    node, and the client is left with half of it. An answer without a length, a stream, is written as it comes.
    """

    def __init__(self, transport: asyncio.Transport, cycle: RequestResponseCycle) -> None:
        super().__init__()
        self._transport = transport
        self._cycle: RequestResponseCycle | None = cycle  # until its head is written
        self._head = b""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        cycle = self._cycle
        if cycle is not None and cycle.response_started:  # `100 Continue` may have been before
            self._cycle = None
            if cycle.expected_content_length and cycle.scope["method"] != "HEAD":
                self._head = bytes(data)
                return
        if self._head:
            data, self._head = self._head + data, b""
        self._transport.write(data)

    def close(self) -> None:
        self._transport.close()

    def is_closing(self) -> bool:
        return self._transport.is_closing()
