"""The hot lane: the seed's two routes, answered from the HTTP parser's callbacks.

A request that has anything unusual about it (a query, chunks, an Expect, HTTP/1.0, a header given twice, a large
body, any other path) goes to Quart on the same connection, which has every route, these two included. Both entrances
call the same functions, and answer in the order of the requests: while Quart works on one, those that follow go to
Quart as well; and one that goes to Quart waits until the lane has answered those before it.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

from node.answers import Answer
from node.door import Door
from node.encoder import Encoder
from node.errors import NotFound, TallyError, Unavailable
from node.heads import Head, Heads, Whole, whole_request
from node.increment import BODY_BYTES_MAX, DEFAULT_NAMESPACE, Increment, counter_name, key_of_path, parse_increment
from node.protocol import LimitedProtocol, Phase
from node.slot import Slot
from node.strategy import Intake, Values

POST_TARGET = b"/increment"
GET_TARGET = b"/increment/"
UNANSWERED_MAX = 64  # pipelined requests of one connection; then it is not read on
HEADERS_MAX = 40  # a request with more, or with longer ones, is for Quart's entrance to judge
HEAD_BYTES_MAX = 4096
KNOWN = frozenset(
    (b"host", b"content-type", b"content-length", b"idempotency-key", b"x-real-ip", b"x-request-id", b"authorization")
)
UNUSUAL = frozenset((b"transfer-encoding", b"content-encoding", b"expect", b"upgrade"))

NOTHING = Increment("", 0)  # of a slot that only reads


class Lane(LimitedProtocol):
    """One connection."""

    split = staticmethod(whole_request)

    def __init__(
        self, door: Door, intake: Intake, values: Values, heads: Heads, encoder: Encoder, **server: Any
    ) -> None:
        super().__init__(**server)
        self.door, self.intake, self.values = door, intake, values
        self._heads, self._encoder = heads, encoder
        self._slots: deque[Slot] = deque()
        self._known: dict[bytes, bytes] = {}
        self._usual = True
        self._hot = False  # the request that is being parsed is the lane's
        self._body = b""
        self._whole: Whole | None = None  # what is being parsed, if it came in one piece
        self._heard = True  # something came since idleness was last looked at
        self._ending = False  # the server is shutting down: close once everything is answered

    # --- a head that is known, and so need not be parsed ----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        if self.phase is Phase.BETWEEN and not self.idle_bytes and self.refusal is None and not self._quart_is_busy():
            self._whole = self.split(data)
            if self._whole is not None and (head := self._heads.find(self._whole)) is not None:
                self._heard = True
                if self.timeout_keep_alive_task is not None:
                    self._unset_keepalive_if_required()
                if self._timer is not None:
                    self.disarm()
                self._take(head, self._whole.body, self._whole.idempotency_key, self._whole.request_id)
                return
        super().data_received(data)
        self._whole = None

    def _learn(self, head: Head) -> None:
        """Only where the ids that the parser found are those that were cut out: any other would be lost the next
        time.
        """
        whole, known = self._whole, self._known
        if (
            whole is not None
            and _text(known.get(b"idempotency-key")) == whole.idempotency_key
            and _text(known.get(b"x-request-id")) == whole.request_id
        ):
            self._heads.learn(whole, head)
        self._whole = None

    # --- the parser's callbacks -----------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._watch_idleness()

    def on_message_begin(self) -> None:
        self.phase, self.idle_bytes = Phase.HEAD, 0
        self._head_bytes = 0
        self.url = b""
        self.headers = []
        self.expect_100_continue = False
        self._known = {}
        self._usual = True
        self._hot = False

    def on_header(self, name: bytes, value: bytes) -> None:
        name = name.lower()
        self.headers.append((name, value))
        self._head_bytes += len(value)
        if name in KNOWN:
            self._usual = self._usual and name not in self._known
            self._known[name] = value
        elif name in UNUSUAL:
            self._usual = False

    def on_headers_complete(self) -> None:
        if self._usual and self._is_hot():
            self._hot = True
            self._body = b""
            self.phase, self.idle_bytes = Phase.BODY, 0
            self.disarm()
        else:
            self._to_quart()

    def on_body(self, body: bytes) -> None:
        if self._hot:
            self.idle_bytes = 0
            self._body = self._body + body if self._body else body
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        if not self._hot:
            super().on_message_complete()
            return
        self.phase, self.idle_bytes = Phase.BETWEEN, 0
        self.disarm()
        known = self._known
        head = Head(
            self.url,
            _text(known.get(b"content-type")),
            int(known.get(b"content-length", b"0")),
            _text(known.get(b"x-real-ip")),
        )
        self._learn(head)
        self._take(head, self._body, _text(known.get(b"idempotency-key")), _text(known.get(b"x-request-id")))

    # --- which entrance -------------------------------------------------------------------------------------------

    def _is_hot(self) -> bool:
        parser = self.parser
        if b"host" not in self._known or len(self.headers) > HEADERS_MAX or self._head_bytes > HEAD_BYTES_MAX:
            return False
        if not parser.should_keep_alive() or parser.get_http_version() != "1.1" or self._quart_is_busy():
            return False
        length = self._known.get(b"content-length")
        if self.url == POST_TARGET:
            return parser.get_method() == b"POST" and length is not None and int(length) <= BODY_BYTES_MAX
        if self.url.startswith(GET_TARGET) and parser.get_method() == b"GET":
            plain = length is None and b"?" not in self.url and b"#" not in self.url
            return plain and len(self.url) <= HEAD_BYTES_MAX
        return False

    def _quart_is_busy(self) -> bool:
        return bool(self.pipeline) or (self.cycle is not None and not self.cycle.response_complete)

    def _to_quart(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        if self._slots and not self._quart_is_busy():
            # What comes before it is not answered yet. So it is queued, and `flush` starts it.
            self.cycle = _Unanswered()  # type: ignore[assignment]
        super().on_headers_complete()

    # --- the two routes -------------------------------------------------------------------------------------------

    def _take(self, head: Head, body: bytes, idempotency_key: str | None, request_id: str | None) -> None:
        try:
            if head.target == POST_TARGET:
                self._post(head, body, idempotency_key, request_id)
            else:
                self._get(head)
        except TallyError as error:
            slot = Slot(self, NOTHING, 0.0)
            self._slots.append(slot)
            slot.write(self.door.failed(error))
        if len(self._slots) >= UNANSWERED_MAX:
            self.flow.pause_reading()

    def _post(self, head: Head, body: bytes, idempotency_key: str | None, request_id: str | None) -> None:
        by_proxy = self.door.admit(self._peer(), head.real_ip, "/increment")
        if not by_proxy:
            request_id = None
        increment = parse_increment(head.content_type, body, idempotency_key, request_id)
        if self.door.key_required:
            self.door.check(increment)
        slot = Slot(self, increment, self.intake.due(), passed_on=by_proxy)
        self._slots.append(slot)
        try:
            self.intake.submit(slot)
        except Unavailable as error:
            slot.reply(error)

    def _get(self, head: Head) -> None:
        self.door.admit(self._peer(), head.real_ip, head.target.decode("latin-1"))
        if head.target == GET_TARGET:
            raise NotFound
        key = key_of_path(head.target[len(GET_TARGET) :])
        slot = Slot(self, NOTHING, 0.0, key)
        self.values.ask(counter_name(DEFAULT_NAMESPACE, key), slot.read)
        self._slots.append(slot)

    def _peer(self) -> str:
        return self.client[0] if self.client else ""

    # --- answers --------------------------------------------------------------------------------------------------

    def encoded(self, answer: Answer) -> bytes:
        return self._encoder.encode(answer, self.server_state.default_headers)

    def flush(self) -> None:
        """Writes the answers that are there, in the order of their requests."""
        slots = self._slots
        ready = b""
        while slots and (encoded := slots[0].encoded) is not None:
            ready = ready + encoded if ready else encoded
            slots.popleft()
        if not ready or self.transport.is_closing():
            return
        self.transport.write(ready)
        if slots:
            return
        if self.pipeline:
            super().on_response_complete()
        elif self.refusal is not None:
            self.answer_refusal()
        elif self._ending:
            self.transport.close()
        elif self.flow.read_paused:
            self.flow.resume_reading()

    # --- what the protocol underneath asks ------------------------------------------------------------------------

    def is_answered(self) -> bool:
        reading = self._hot and self.phase is Phase.BODY
        return not (self._slots or reading) and super().is_answered()

    def abandon(self) -> None:
        if not self._hot:
            super().abandon()
            return
        self._hot = False
        if not self._slots:
            self.answer_refusal()

    def _unset_keepalive_if_required(self) -> None:
        self._heard = True
        super()._unset_keepalive_if_required()

    def _watch_idleness(self) -> None:
        """Closes the connection when nothing came for once to twice the server's keep-alive time.

        One timer a connection, instead of one that is set and cancelled with every request.
        """
        if not self._heard and self.is_answered():
            self.transport.close()
        if self.transport.is_closing():
            return
        self._heard = False
        self._idle_timer = self.loop.call_later(self.timeout_keep_alive, self._watch_idleness)

    def connection_lost(self, exc: Exception | None) -> None:
        self._idle_timer.cancel()
        super().connection_lost(exc)

    def pause_writing(self) -> None:
        super().pause_writing()
        self.flow.pause_reading()  # a client that does not read its answers gets no more of them

    def resume_writing(self) -> None:
        super().resume_writing()
        if not self._slots and not self.pipeline:
            self.flow.resume_reading()

    def shutdown(self) -> None:
        if self._slots:
            self._ending = True
        else:
            super().shutdown()


class _Unanswered:
    """Stands for the lane's requests where uvicorn looks for the one before. It stays when a head is refused."""

    response_complete = False

    def __init__(self) -> None:
        self.message_event = asyncio.Event()


def _text(value: bytes | None) -> str | None:
    return None if value is None else value.decode("latin-1")
