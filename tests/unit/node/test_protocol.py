"""The limits of a connection: in time, in bytes, in requests that wait. Real sockets, small limits."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from node import protocol
from node.protocol import LimitedProtocol
from node.serve import Uvicorn, listen

GET = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
HEAD = b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 10\r\n\r\n"
OK = b"HTTP/1.1 200 OK"
DEADLINE_S = 10.0


class App:
    """Answers 200 with the size of the body; `open` lets it go on, `early` answers before it reads, `endless` never
    ends.
    """

    def __init__(self) -> None:
        self.open = asyncio.Event()
        self.open.set()
        self.early = False
        self.endless = False
        self.begun = self.cancelled = 0

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        self.begun += 1
        body, more = b"", not self.early
        while more:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.cancelled += 1
                return
            body, more = body + message["body"], message["more_body"]
        await self.open.wait()
        if self.endless:
            await self._go_on(receive, send)
            return
        text = b"%d" % len(body)
        headers = [(b"content-length", b"%d" % len(text))]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": text})

    async def _go_on(self, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})
        gone = asyncio.create_task(receive())
        while not gone.done():
            await send({"type": "http.response.body", "body": bytes(100_000), "more_body": True})
            await asyncio.sleep(0)
        self.cancelled += 1


class Client:
    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    async def line(self) -> bytes:
        """The first line of the next answer; the rest of it is read, too."""
        async with asyncio.timeout(DEADLINE_S):
            head = await self.reader.readuntil(b"\r\n\r\n")
            length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length: "))
            await self.reader.readexactly(int(length.split()[1]))
        return head.split(b"\r\n")[0]

    async def rest(self) -> bytes:
        """What comes until the server closes."""
        async with asyncio.timeout(DEADLINE_S):
            return await self.reader.read()


class Listener:
    def __init__(self, app: App) -> None:
        self.app = app
        self._socket = listen("127.0.0.1", 0)
        self.port = int(self._socket.getsockname()[1])
        self.server = Uvicorn(app, [self._socket], LimitedProtocol)
        self._clients: list[Client] = []

    async def __aenter__(self) -> Listener:
        self._running = asyncio.create_task(self.server.run())
        while not self.server.started:
            await asyncio.sleep(0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        self.app.open.set()
        for client in self._clients:
            client.writer.transport.abort()
        self.server.stop()
        async with asyncio.timeout(DEADLINE_S):
            await self._running

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.port))
        self._clients.append(client)
        return client

    @property
    def connection(self) -> LimitedProtocol:
        (connection,) = self.server.server_state.connections
        assert isinstance(connection, LimitedProtocol)
        return connection


@pytest.fixture
async def listener(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Listener]:
    for name in ("HEAD_TIMEOUT_S", "BODY_TIMEOUT_S", "UNREAD_TIMEOUT_S", "LINGER_S"):
        monkeypatch.setattr(protocol, name, 0.25)
    async with Listener(App()) as listener:
        yield listener


async def test_a_connection_on_which_nothing_comes_is_closed_without_a_word(listener: Listener) -> None:
    client = await listener.connect()
    assert await client.rest() == b""


@pytest.mark.parametrize("start", [b"G", GET[:-2], b"GET / HTTP/1.1\r\nHost: a\r\nX-Long: "])
async def test_a_head_that_does_not_end_in_time_is_answered_408(listener: Listener, start: bytes) -> None:
    client = await listener.connect()
    client.writer.write(start)
    answer = await client.rest()
    assert answer.startswith(b"HTTP/1.1 408 ")
    assert answer.endswith(b'{"error":{"message":"Request Timeout."}}')


async def test_bytes_that_trickle_do_not_extend_the_time_of_a_head(listener: Listener) -> None:
    client = await listener.connect()
    client.writer.write(GET + b"GET / HTTP/1.1\r\nX: ")
    assert await client.line() == OK
    closed = asyncio.create_task(client.rest())
    async with asyncio.timeout(2):
        while not closed.done():
            client.writer.write(b"x")
            await asyncio.sleep(0.02)
    assert closed.result().startswith(b"HTTP/1.1 408 ")


async def test_line_breaks_between_requests_do_not_keep_a_connection_for_ever(listener: Listener) -> None:
    client = await listener.connect()
    client.writer.write(GET)
    assert await client.line() == OK
    client.writer.write(b"\r\n")
    assert await client.rest() == b""


async def test_a_connection_that_waits_for_its_next_request_is_kept(listener: Listener) -> None:
    client = await listener.connect()
    for _ in range(2):
        client.writer.write(GET)
        assert await client.line() == OK
        await asyncio.sleep(0.4)
    client.writer.write(GET)
    assert await client.line() == OK


async def test_a_body_that_does_not_end_in_time_is_answered_408_and_its_handler_ends(listener: Listener) -> None:
    client = await listener.connect()
    client.writer.write(HEAD + b"abc")
    assert (await client.rest()).startswith(b"HTTP/1.1 408 ")
    assert listener.app.cancelled == 1


async def test_a_slow_answer_is_not_the_clients_fault(listener: Listener) -> None:
    listener.app.open.clear()
    client = await listener.connect()
    client.writer.write(HEAD + b"0123456789")
    await asyncio.sleep(0.5)
    listener.app.open.set()
    assert await client.line() == OK


async def test_a_body_that_comes_after_its_answer_is_thrown_away_and_the_connection_goes_on(listener: Listener) -> None:
    listener.app.early = True
    client = await listener.connect()
    for _ in range(3):
        client.writer.write(HEAD)
        assert await client.line() == OK
        client.writer.write(b"0123456789")
    client.writer.write(GET)
    assert await client.line() == OK
    await asyncio.sleep(0.4)
    client.writer.write(GET)
    assert await client.line() == OK, "the wait for the rest of the body has ended with the body"


async def test_a_body_that_never_comes_after_its_answer_ends_the_connection(listener: Listener) -> None:
    listener.app.early = True
    client = await listener.connect()
    client.writer.write(HEAD + b"x")
    assert await client.line() == OK
    assert await client.rest() == b""


async def test_a_refusal_waits_for_the_answers_before_it(listener: Listener) -> None:
    listener.app.open.clear()
    client = await listener.connect()
    client.writer.write(GET * 3 + b"nonsense\r\n\r\n" + GET)
    for _ in range(20):
        client.writer.write(b"more nonsense")
        await asyncio.sleep(0.02)  # longer than it would be listened to after the refusal
    listener.app.open.set()
    assert [await client.line() for _ in range(4)] == [OK, OK, OK, b"HTTP/1.1 400 Bad Request"]
    assert await client.rest() == b""
    assert listener.app.begun == 3


async def test_a_broken_body_behind_others_is_never_begun(listener: Listener) -> None:
    listener.app.open.clear()
    client = await listener.connect()
    client.writer.write(GET + b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n")
    await asyncio.sleep(0.05)
    listener.app.open.set()
    assert [await client.line() for _ in range(2)] == [OK, b"HTTP/1.1 400 Bad Request"]
    assert listener.app.begun == 1


async def test_a_client_that_sends_on_is_not_read_while_its_requests_wait(
    listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEAD_TIMEOUT_S", DEADLINE_S)  # half a head may lie unread for as long as they wait
    listener.app.open.clear()
    client = await listener.connect()
    padded = GET[:-2] + b"X: " + b"x" * 8000 + b"\r\n\r\n"
    sent = asyncio.create_task(send_many(client, padded, 2000))
    longest = 0
    for _ in range(20):
        await asyncio.sleep(0.01)
        longest = max(longest, len(listener.connection.pipeline))
    listener.app.open.set()
    for _ in range(2000):
        assert await client.line() == OK
        longest = max(longest, len(listener.connection.pipeline))
    await sent
    assert longest < 100, "what one read brings; uvicorn alone reads on at each one's turn"


async def test_the_queue_of_requests_is_bounded_and_all_in_it_are_answered(listener: Listener) -> None:
    listener.app.open.clear()
    client = await listener.connect()
    sent = asyncio.create_task(send_many(client, GET, 20_000))
    await asyncio.sleep(0.1)
    assert len(listener.connection.pipeline) == protocol.QUEUE_MAX
    listener.app.open.set()
    for _ in range(protocol.QUEUE_MAX + 1):
        assert await client.line() == OK
    assert await client.line() == b"HTTP/1.1 400 Bad Request"
    assert listener.app.begun == protocol.QUEUE_MAX + 1
    sent.cancel()


async def send_many(client: Client, request: bytes, count: int) -> None:
    for _ in range(0, count, 100):
        client.writer.write(request * 100)
        await client.writer.drain()


async def test_an_upgrade_is_answered_in_http_1_1_and_ends_the_connection(listener: Listener) -> None:
    client = await listener.connect()
    client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: h2c\r\n\r\n")
    answer = await client.rest()
    assert answer.startswith(OK)
    assert b"connection: close" in answer


async def test_many_headers_and_long_ones_are_431_and_a_long_url_414(listener: Listener) -> None:
    for head, status in (
        (b"".join(b"X%d: a\r\n" % i for i in range(99)), OK),
        (b"".join(b"X%d: a\r\n" % i for i in range(100)), b"HTTP/1.1 431 "),
        (b"X: " + b"a" * 32_000 + b"\r\n", OK),
        (b"X: " + b"a" * 33_000 + b"\r\n", b"HTTP/1.1 431 "),
        (b"X: " + b"a" * 500_000, b"HTTP/1.1 431 "),
    ):
        client = await listener.connect()
        client.writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n" + head + b"\r\n")
        assert (await client.line()).startswith(status)
    client = await listener.connect()
    client.writer.write(b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n")
    assert (await client.line()).startswith(b"HTTP/1.1 414 ")


async def test_a_client_that_does_not_read_its_answer_is_let_go(listener: Listener) -> None:
    listener.app.endless = True
    client = await listener.connect()
    client.writer.write(GET)
    async with asyncio.timeout(DEADLINE_S):
        while not listener.app.cancelled:
            await asyncio.sleep(0.01)
    assert not listener.server.server_state.connections


async def test_a_client_that_reads_slowly_is_served(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(protocol, "UNREAD_TIMEOUT_S", DEADLINE_S)
    listener.app.endless = True
    client = await listener.connect()
    client.writer.write(GET)
    connection = listener.connection
    async with asyncio.timeout(DEADLINE_S):
        for _ in range(3):  # its writing pauses, and goes on
            while connection.flow.write_paused is False:
                await asyncio.sleep(0.001)
            while connection.flow.write_paused:
                await client.reader.read(1_000_000)
    assert not listener.app.cancelled


async def test_an_answer_leaves_in_one_piece(listener: Listener) -> None:
    client = await listener.connect()
    client.writer.write(GET)
    assert (await client.line()).startswith(OK)
    pieces: list[bytes] = []

    class Noting:
        def __init__(self, transport: asyncio.Transport) -> None:
            self._transport = transport

        def write(self, data: bytes) -> None:
            pieces.append(data)
            self._transport.write(data)

        def __getattr__(self, name: str) -> Any:
            return getattr(self._transport, name)

    connection = listener.connection
    connection.transport = Noting(connection.transport)  # type: ignore[assignment]
    client.writer.write(GET + GET)
    assert [await client.line() for _ in range(2)] == [b"HTTP/1.1 200 OK"] * 2
    assert len(pieces) == 2
