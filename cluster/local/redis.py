"""The local Redis (or Valkey): every acknowledged write is on disk, and nothing is ever evicted."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from pathlib import Path

from cluster.local.child import Recipe
from cluster.local.programs import Program
from cluster.local.service import Service

HOST = "127.0.0.1"
DURABILITY = "appendfsync always"
SETTINGS = {
    "bind": HOST,
    "daemonize": "no",
    "dir": ".",
    "logfile": "",
    "save": "",
    "appendonly": "yes",
    "appendfsync": "always",
    "maxmemory-policy": "noeviction",
}
ASK_TIMEOUT_S = 1.0


class RedisServer(Service):
    """Redis on a port of its own, data in `folder`, which keeps the lock of the data folder as well.

    It holds the lock so that two servers can never write to one append-only file, even when the launcher and
    the guard are both killed.
    """

    name = "redis"
    stop_steps = ((signal.SIGTERM, 15.0),)

    def __init__(self, program: Program, folder: Path, log: Path, port: int, group: int, lock_fd: int) -> None:
        super().__init__(group)
        self.program = program
        self._folder = folder
        self._log = log
        self._port = port
        self._lock_fd = lock_fd

    @property
    def url(self) -> str:
        return f"redis://{HOST}:{self._port}/0"

    def prepare(self) -> None:
        self._folder.mkdir(exist_ok=True)
        (self._folder / "made-by").write_text(self.program.kind)

    def recipe(self) -> Recipe:
        # No configuration file: Redis takes its path for a pattern, and one with brackets in it would not be found.
        settings = SETTINGS | {"port": str(self._port)}
        options = [part for name, value in settings.items() for part in (f"--{name}", value)]
        return Recipe([str(self.program.path), *options], self._log, self._folder, keep_fds=(self._lock_fd,))

    async def is_ready(self) -> bool:
        return await _ping(HOST, self._port) == b"+PONG\r\n"  # -LOADING while it reads its file


def made_by(folder: Path) -> str | None:
    """The kind of server whose data is in the folder: "redis", "valkey"; None when there is none yet."""
    with contextlib.suppress(OSError):
        return (folder / "made-by").read_text().strip()
    return None


async def _ping(host: str, port: int) -> bytes:
    """What the server answers to PING; empty when it does not."""
    with contextlib.suppress(OSError, TimeoutError):
        async with asyncio.timeout(ASK_TIMEOUT_S):
            reader, writer = await asyncio.open_connection(host, port)
            try:
                writer.write(b"PING\r\n")
                return await reader.readline()
            finally:
                writer.close()
    return b""
