"""A TCP relay that can be cut: a store that is away, as a node sees it."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import urlsplit, urlunsplit

from tests.conftest import Servers


class Relay:
    """In front of the server that `url` names. It lives in the servers' loop."""

    def __init__(self, servers: Servers, url: str) -> None:
        self._servers, self._parts = servers, urlsplit(url)
        self._writers: set[asyncio.StreamWriter] = set()
        self._away = False
        self._server: asyncio.Server = servers.run(self._start())

    @property
    def url(self) -> str:
        port = self._server.sockets[0].getsockname()[1]
        user, at, _ = self._parts.netloc.rpartition("@")
        return urlunsplit(self._parts._replace(netloc=f"{user}{at}127.0.0.1:{port}"))

    def cut(self) -> None:
        """Every connection breaks, and no other is made."""
        self._servers.run(self._cut())

    def mend(self) -> None:
        self._away = False

    def close(self) -> None:
        self._servers.run(self._cut())
        self._server.close()

    async def _start(self) -> asyncio.Server:
        return await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def _cut(self) -> None:
        self._away = True
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._away:
            writer.transport.abort()
            return
        there, back = await asyncio.open_connection(self._parts.hostname, self._parts.port)
        self._writers |= {writer, back}
        try:
            await asyncio.gather(pump(reader, back), pump(there, writer))
        finally:
            self._writers -= {writer, back}


async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()
