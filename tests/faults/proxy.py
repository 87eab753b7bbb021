"""A TCP proxy before a server, for what processes and signals cannot do to a network.

cut()       every connection is closed; `reset` them, and nobody gets a goodbye
freeze()    every connection there is stays open and carries nothing any more; new ones do (half-open)
silent      nothing gets through, on old connections or new ones (a black hole)
refusing    new connections are closed at once
delay_s     everything comes so much later, in order
lose(...)   the answers to some requests are lost after the server gave them
"""

from __future__ import annotations

import asyncio
import re
import socket
import struct
from collections.abc import Callable
from contextlib import suppress

CHUNK = 1 << 16
STATEMENT = re.compile(rb"P....(__asyncpg_stmt_[0-9a-f]+__)\x00([^\x00]*)\x00", re.DOTALL)
BIND = re.compile(rb"B....\x00(__asyncpg_stmt_[0-9a-f]+__)\x00", re.DOTALL)


class Link:
    """One connection, and the one to the server that stands for it."""

    def __init__(self, client: asyncio.StreamWriter, server: asyncio.StreamWriter) -> None:
        self.writers = (client, server)
        self.frozen = False
        self.doomed = False  # the next answer is lost, and the connection with it
        self.statements: dict[bytes, bytes] = {}  # of Postgres, by name

    def end(self, reset: bool = False) -> None:
        for writer in self.writers:
            if reset:
                with suppress(OSError):
                    linger = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                writer.transport.abort()
            else:
                writer.close()


class Proxy:
    """`host` and `port` are the server's, and may change; `self.port` is where it listens."""

    def __init__(self, host: str, port: int) -> None:
        self.host, self.upstream = host, port
        self.port = 0
        self.delay_s = 0.0
        self.silent = self.refusing = False
        self.lost = 0  # answers
        self._to_lose = 0
        self._asks: Callable[[Link, bytes], bool] = lambda link, chunk: False
        self._meanwhile: Callable[[], None] = lambda: None
        self._links: set[Link] = set()

    async def start(self) -> Proxy:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def stop(self) -> None:
        self._server.close()
        while self._links:
            self.cut(reset=True)
            await asyncio.sleep(0.01)

    def cut(self, reset: bool = False) -> None:
        for link in list(self._links):
            link.end(reset)

    def freeze(self) -> None:
        for link in self._links:
            link.frozen = True

    def lose(
        self, times: int, asks: Callable[[Link, bytes], bool], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """The answers to the next requests that `asks` knows are lost: see `appends`, `settles`, `commits`. `meanwhile`
        is called when such a request has been sent on.
        """
        self.lost, self._to_lose, self._asks, self._meanwhile = 0, times, asks, meanwhile

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self.refusing:
            writer.transport.abort()
            return
        try:
            from_server, to_server = await asyncio.open_connection(self.host, self.upstream)
        except OSError:
            writer.transport.abort()
            return
        link = Link(writer, to_server)
        self._links.add(link)
        try:
            async with asyncio.TaskGroup() as tasks:
                tasks.create_task(self._pump(link, reader, to_server, self._request))
                tasks.create_task(self._pump(link, from_server, writer, self._answer))
        finally:
            self._links.discard(link)
            link.end(reset=True)

    async def _pump(
        self,
        link: Link,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        look: Callable[[Link, bytes], bool],
    ) -> None:
        """Until either side is gone; then the other one goes, too."""
        with suppress(OSError):
            while chunk := await reader.read(CHUNK):
                if self.delay_s:
                    await asyncio.sleep(self.delay_s)
                if link.frozen or self.silent or not look(link, chunk):
                    continue
                writer.write(chunk)
                await writer.drain()
                if link.doomed and look == self._request:
                    self._meanwhile()
        if not link.frozen:  # who is cut off does not hear that the other side has hung up
            link.end()

    def _request(self, link: Link, chunk: bytes) -> bool:
        link.statements.update(STATEMENT.findall(chunk))
        if self._to_lose and not link.doomed and self._asks(link, chunk):
            self._to_lose -= 1
            link.doomed = True
        return True

    def _answer(self, link: Link, chunk: bytes) -> bool:
        if not link.doomed:
            return True
        self.lost += 1
        link.end(reset=True)
        return False


def appends(link: Link, chunk: bytes) -> bool:
    return b"tally_append_" in chunk


def settles(link: Link, chunk: bytes) -> bool:
    """Whether a settle is sent: asyncpg names a statement once, and later calls it by the name."""
    return any(b"UPDATE partitions SET settled" in link.statements.get(name, b"") for name in BIND.findall(chunk))


def commits(link: Link, chunk: bytes) -> bool:
    return b"COMMIT;" in chunk
