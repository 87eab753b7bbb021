"""HTTP/1.1 on the public listener: uvicorn's httptools protocol, with limits on what a client may send and how slowly.

uvicorn has none on heads: an endless header grows in memory for as long as its client likes. And it answers 400 to a
message that cannot be read at once, even when a request before it on the same connection has no answer yet, so that
an increment that counts would seem refused. Here what cannot be read is answered in its turn, as the contract has it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sized
from enum import Enum
from http import HTTPStatus

import httptools
import msgspec
from uvicorn.protocols.http.flow_control import FlowControl
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from node.joined import Joined

HEAD_BYTES_MAX = 32 * 1024  # request line and headers; trailers, too, and whatever else does not move a message on
URL_BYTES_MAX = 8 * 1024
HEADERS_MAX = 100
HEAD_TIMEOUT_S = 10.0  # from the connection, or a later request's first byte, to the end of the head
BODY_TIMEOUT_S = 10.0  # from the end of the head to the end of the body
UNREAD_TIMEOUT_S = 10.0  # an answer, or a watch, of which so little is read that nothing more of it can be written
LINGER_S = 2.0  # a client that has its answer and still sends is listened to so long, or a reset might take the answer
LINGER_BYTES_MAX = 256 * 1024  # ... from it; but no further than this
QUEUE_MAX = 1000  # requests that wait for those before them: several kilobytes each, and one read may bring thousands
VERSIONS = ("1.0", "1.1")


class Phase(Enum):
    """Where in a message the parser is."""

    BETWEEN = "no byte of the next message has come"
    HEAD = "in the request line or the headers"
    BODY = "in the body, the request is being answered"


class Refused(Exception):
    """The message will not be read. Ends the parsing of what came."""


class Flow(FlowControl):
    """Reading stays paused while requests queue: uvicorn resumes it at each one's turn, and its queue has no bound."""

    def __init__(self, transport: asyncio.Transport, queue: Sized) -> None:
        super().__init__(transport)
        self._queue = queue

    def resume_reading(self) -> None:
        if not self._queue:
            super().resume_reading()


class LimitedProtocol(HttpToolsProtocol):
    """One connection.

    A subclass that takes a parser's callback to itself does what is done here in its place: keeps `phase`, sets
    `idle_bytes` to 0, `disarm`s, asks `check_head`.
    """

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self.flow = Flow(transport, self.pipeline)
        self.phase = Phase.BETWEEN
        self.idle_bytes = 0  # fed since something last moved a message on
        self.refusal: int | None = None  # status of the last answer on this connection: nothing after it is read
        self._refused = False  # whether that answer was given
        self._lingered_bytes = 0
        self._timer: asyncio.TimerHandle | None = None
        self._unread_timer: asyncio.TimerHandle | None = None
        self._arm(HEAD_TIMEOUT_S)

    def connection_lost(self, exc: Exception | None) -> None:
        self.disarm()
        self._disarm_unread()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        """The client does not read. It must not keep its answers in memory, nor a node that leaves, for ever."""
        super().pause_writing()
        self._disarm_unread()
        self._unread_timer = self.loop.call_later(UNREAD_TIMEOUT_S, self.transport.abort)

    def resume_writing(self) -> None:
        self._disarm_unread()
        super().resume_writing()

    def data_received(self, data: bytes) -> None:
        if self.refusal is not None:
            if self._refused:
                self._linger(len(data))
            return
        self._unset_keepalive_if_required()
        self.idle_bytes += len(data)
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade:  # to nothing that is spoken here: answered as if it had not been asked for,
            self.cycle.keep_alive = False  # and what follows on the connection may be no HTTP
        except httptools.HttpParserError:
            self.refuse(self.refusal or 400)
            return
        self._look(len(data))

    def _look(self, size: int) -> None:
        """How the client behaves, `size` bytes later."""
        if self.idle_bytes > HEAD_BYTES_MAX:
            self.refuse(431)
        elif self.phase is Phase.BODY:
            if self.is_answered():
                self._linger(size)
            elif self._timer is None:
                self._arm(BODY_TIMEOUT_S)
        elif self._timer is None and (self.phase is Phase.HEAD or self.idle_bytes):  # stray line breaks are idle, too
            self._arm(HEAD_TIMEOUT_S)

    # --- the parser's callbacks -----------------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        self.phase, self.idle_bytes = Phase.HEAD, 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        self.check_head()
        super().on_headers_complete()
        self.cycle.transport = Joined(self.transport, self.cycle)
        self.headers = []  # trailers would be added to the request's headers, which they are not
        self.phase, self.idle_bytes = Phase.BODY, 0
        self.disarm()

    def on_body(self, body: bytes) -> None:
        self.idle_bytes = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        self.phase, self.idle_bytes = Phase.BETWEEN, 0
        self.disarm()
        super().on_message_complete()
        if self.is_answered():  # before the end of its body: uvicorn's wait for the next request was over too soon
            self._lingered_bytes = 0
            self._unset_keepalive_if_required()
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def check_head(self) -> None:
        """The limits, and what RFC 9112 has a server refuse but the parser does not. Errors: Refused."""
        version, hosts, size = self.parser.get_http_version(), 0, 0
        for name, value in self.headers:
            size += len(name) + len(value)
            if name == b"host":
                hosts += 1
            elif name == b"expect" and value.lower() != b"100-continue":
                self._stop(417)
        if len(self.url) > URL_BYTES_MAX:
            self._stop(414)
        if size > HEAD_BYTES_MAX or len(self.headers) > HEADERS_MAX:
            self._stop(431)
        if len(self.pipeline) >= QUEUE_MAX:
            self._stop(400)
        if version not in VERSIONS or hosts > 1 or (hosts == 0 and version == "1.1"):
            self._stop(400)

    # --- refusals -------------------------------------------------------------------------------------------------

    def is_answered(self) -> bool:
        """Whether the last request that was begun, and so every one before it, has its answer."""
        return self.cycle is None or self.cycle.response_complete

    def abandon(self) -> None:
        """Gives up the request whose body is being read."""
        if self.pipeline and self.pipeline[0][0] is self.cycle:
            self.pipeline.popleft()  # it was not begun; when those before it are answered, the refusal is
            return
        self.cycle.disconnected = True  # ends its handler, which waits for the rest of the body
        self.cycle.waiting_for_100_continue = False
        self.cycle.message_event.set()
        if self.cycle.response_started:
            self.transport.close()
        else:
            self.answer_refusal()

    def refuse(self, status: int) -> None:
        """Nothing more is read. The message under way is answered with an error, after all those before it."""
        self.refusal = status
        self.disarm()
        answered = self.is_answered()
        if self.phase is Phase.BODY:
            self.transport.close() if answered else self.abandon()
        elif answered:
            self.answer_refusal()

    def answer_refusal(self) -> None:
        """The last answer of this connection. Whoever answers the last request asks for it, if there is a refusal."""
        assert self.refusal is not None
        self._refused = True
        body = msgspec.json.encode({"error": {"message": _message(self.refusal)}})
        headers = [
            *self.server_state.default_headers,
            (b"content-type", b"application/json"),
            (b"x-content-type-options", b"nosniff"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
        ]
        lines = [STATUS_LINE[self.refusal], *(b"%s: %s\r\n" % header for header in headers), b"\r\n", body]
        self._unset_keepalive_if_required()
        self.transport.write(b"".join(lines))
        if self.transport.can_write_eof():  # TLS cannot; `Connection: close` says it too
            self.transport.write_eof()
        self.flow.resume_reading()
        self._linger(0)

    def on_response_complete(self) -> None:
        last = not self.pipeline
        super().on_response_complete()
        if not last or self.transport.is_closing():
            return
        if self.refusal is not None:
            self.answer_refusal()
        elif self.phase is Phase.BODY:  # answered before the end of its body
            self.disarm()
            self._linger(0)

    def _stop(self, status: int) -> None:
        self.refusal = status
        raise Refused

    def _linger(self, size: int) -> None:
        """Reads on for a moment and throws away: closed with bytes unread, a connection is reset."""
        self._lingered_bytes += size
        if self._lingered_bytes > LINGER_BYTES_MAX:
            self.transport.close()
        elif self._timer is None:
            self._arm(LINGER_S)

    # --- time -----------------------------------------------------------------------------------------------------

    def _arm(self, timeout_s: float) -> None:
        self._timer = self.loop.call_later(timeout_s, self._late)

    def disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _disarm_unread(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None

    def _late(self) -> None:
        self._timer = None
        late = self.phase is Phase.HEAD or (self.phase is Phase.BODY and not self.is_answered())
        if late and self.refusal is None:
            self.refuse(408)
        else:
            self.transport.close()


def _message(status: int) -> str:
    return {400: "Bad Request.", 413: "Payload Too Large."}.get(status, f"{HTTPStatus(status).phrase}.")
