"""For tests: a client that sends bytes as they are, and a ledger of what must have been counted."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from ssl import SSLContext
from typing import Any
from urllib.parse import quote

TIMEOUT_S = 15.0
STRANGER = "127.0.0.2"  # an address on this machine that is no trusted proxy
PROXY = "127.0.0.1"
JSON = "application/json"
FORM = "application/x-www-form-urlencoded"


@dataclass
class Ledger:
    """What Postgres must hold in the end. `unsure` may have been counted or not; a read decides."""

    counts: Counter[str] = field(default_factory=Counter)

    def count(self, key: str, value: int) -> None:
        self.counts[key] += value

    def settled(self) -> dict[str, int]:
        return dict(self.counts)


@dataclass(frozen=True)
class Answer:
    """One answer as it came. `headers`: names in lower case, each once."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def error(self) -> Any:
        return json.loads(self.body)["error"]


CLOSED = Answer(0, {}, b"")  # the connection was closed without an answer


def request(method: str, target: str, body: bytes = b"", **headers: str) -> bytes:
    """A request; header names with _ for -. Content-Length is given where there is a body, or a POST."""
    lines = [f"{method} {target} HTTP/1.1", "Host: tally"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    if body or method == "POST":
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode("latin-1") + b"\r\n\r\n" + body


def post(body: bytes, content_type: str | None = JSON, **headers: str) -> bytes:
    given = {} if content_type is None else {"Content_Type": content_type}
    return request("POST", "/increment", body, **given, **headers)


def increment(key: str, value: int = 1, **fields: Any) -> bytes:
    return json.dumps({"key": key, "value": value, **fields}).encode()


@dataclass
class Connection:
    """One connection; answers come in the order of the requests."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    async def send(self, data: bytes) -> None:
        """Sends what the other side takes; a connection that it closed meanwhile is found out when reading."""
        try:
            self.writer.write(data)
            await self.writer.drain()
        except ConnectionError:
            pass

    async def answer(self, method: str = "POST") -> Answer:
        """The next answer; CLOSED when there is none. Answers "100 Continue" are passed over."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self._answer(method)
        except (asyncio.IncompleteReadError, ConnectionError):
            return CLOSED

    async def ask(self, data: bytes) -> Answer:
        await self.send(data)
        return await self.answer(data.split(b" ", 1)[0].decode("latin-1"))

    async def closed(self) -> bool:
        """Waits until the other side closes; whatever it sends before is a failure."""
        try:
            async with asyncio.timeout(TIMEOUT_S):
                return await self.reader.read() == b""
        except ConnectionError:
            return True

    async def _answer(self, method: str) -> Answer:
        status, headers = 100, {}
        while status == 100:
            first, *lines = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")[:-2]
            match = re.fullmatch(r"HTTP/1\.1 (\d{3}) [A-Za-z -]*", first)
            assert match is not None, first
            status = int(match[1])
            headers = {name.lower(): value for name, _, value in (line.partition(": ") for line in lines)}
            assert len(headers) == len(lines), f"a header came twice: {lines}"
        return Answer(status, headers, await self._body(method, status, headers))

    async def _body(self, method: str, status: int, headers: dict[str, str]) -> bytes:
        if method == "HEAD" or status in (204, 304):
            return b""
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(await self.reader.readline(), 16):
                body += (await self.reader.readexactly(size + 2))[:-2]
            await self.reader.readline()
            return body
        if "content-length" in headers:
            return await self.reader.readexactly(int(headers["content-length"]))
        return await self.reader.read()


@dataclass
class Front:
    """A public listener: a node's own ("node"), or nginx's ("nginx").

    "quart" is the node's own as well: `extra` is a header that the hot lane leaves to Quart, added to each request.
    """

    name: str
    port: int
    ledger: Ledger
    extra: bytes = b""
    tls: SSLContext | None = None

    @asynccontextmanager
    async def connect(self, source: str = STRANGER) -> AsyncIterator[Connection]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, local_addr=(source, 0), ssl=self.tls)
        try:
            yield Connection(reader, writer)
        finally:
            writer.transport.abort()

    async def ask(self, data: bytes, source: str = STRANGER) -> Answer:
        """The answer to one request on a connection of its own."""
        async with self.connect(source) as connection:
            return await connection.ask(self.dressed(data))

    def dressed(self, data: bytes) -> bytes:
        return data.replace(b" HTTP/1.1\r\n", b" HTTP/1.1\r\n" + self.extra, 1)

    async def value(self, key: str) -> int | None:
        """The value read back; None for 404."""
        target = "/increment/" + quote(key, safe="")
        async with self.connect() as connection:
            answer = await connection.ask(request("GET", target))
        if answer.status == 404:
            return None
        assert answer.status == 200, answer
        assert list(json.loads(answer.body)) == [key]
        return int(json.loads(answer.body)[key])

    async def add(self, key: str, value: int = 1, source: str = STRANGER, **headers: str) -> Answer:
        """POSTs an increment, and notes it in the ledger when it was counted for the first time."""
        answer = await self.ask(post(increment(key, value), **headers), source)
        if answer.status == 204 and "idempotent-replayed" not in answer.headers:
            self.ledger.count(key, value)
        return answer
