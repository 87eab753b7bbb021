"""What leaves in one piece, and what does not wait for more. uvicorn's own cycle, a transport that notes each write."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import RequestResponseCycle

from node.joined import Joined

OK = b"HTTP/1.1 200 OK\r\n"


class Noting(asyncio.Transport):
    def __init__(self) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.closed = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if data:
            self.writes.append(bytes(data))

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed


@pytest.fixture
def transport() -> Noting:
    return Noting()


def cycle_of(transport: Noting, method: str = "GET", expect_100_continue: bool = False) -> RequestResponseCycle:
    logger = logging.getLogger("test")
    cycle = RequestResponseCycle(
        {"type": "http", "method": method},  # type: ignore[typeddict-item]
        transport,
        FlowControl(transport),
        logger,
        logger,
        False,
        [],
        asyncio.Event(),
        expect_100_continue,
        True,
        lambda: None,
    )
    cycle.transport = Joined(transport, cycle)
    return cycle


async def start(cycle: RequestResponseCycle, *headers: tuple[bytes, bytes], status: int = 200) -> None:
    await cycle.send({"type": "http.response.start", "status": status, "headers": list(headers)})


async def body(cycle: RequestResponseCycle, data: bytes, more_body: bool = False) -> None:
    await cycle.send({"type": "http.response.body", "body": data, "more_body": more_body})


async def test_the_head_leaves_with_the_first_of_the_body(transport: Noting) -> None:
    cycle = cycle_of(transport)
    await start(cycle, (b"content-length", b"8"))
    assert transport.writes == []
    await body(cycle, b"some", more_body=True)
    assert transport.writes == [OK + b"content-length: 8\r\n\r\nsome"]
    await body(cycle, b"more", more_body=True)
    await body(cycle, b"")
    assert transport.writes[1:] == [b"more"]


@pytest.mark.parametrize(
    ("method", "status", "headers"),
    [
        ("HEAD", 200, [(b"content-length", b"8")]),
        ("POST", 200, [(b"content-length", b"0")]),
        ("DELETE", 204, []),
        ("GET", 304, []),
    ],
)
async def test_an_answer_without_a_body_does_not_wait_for_one(
    transport: Noting, method: str, status: int, headers: list[tuple[bytes, bytes]]
) -> None:
    cycle = cycle_of(transport, method)
    await start(cycle, *headers, status=status)
    (head,) = transport.writes
    assert head.endswith(b"\r\n\r\n")
    await body(cycle, b"")
    assert transport.writes == [head]


async def test_a_stream_begins_before_there_is_anything_in_it(transport: Noting) -> None:
    cycle = cycle_of(transport)
    await start(cycle, (b"content-type", b"text/event-stream"))
    assert transport.writes == [
        OK + b"content-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    ]


async def test_the_word_to_go_on_is_no_head(transport: Noting) -> None:
    cycle = cycle_of(transport, "POST", expect_100_continue=True)
    cycle.disconnected = True  # nothing is to be waited for
    await cycle.receive()
    assert transport.writes == [b"HTTP/1.1 100 Continue\r\n\r\n"]
    cycle.disconnected = False
    await start(cycle, (b"content-length", b"2"))
    await body(cycle, b"{}")
    assert transport.writes[1:] == [OK + b"content-length: 2\r\n\r\n{}"]


async def test_of_an_answer_that_breaks_off_before_its_body_nothing_is_written(transport: Noting) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await start(cycle, (b"content-length", b"2"))
        raise RuntimeError("in between")

    cycle = cycle_of(transport)
    await cycle.run_asgi(app)
    assert transport.closed
    assert transport.writes == []
