"""The launcher's end of the guard: starts it, and lets it go when everything has been stopped in order."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import DEVNULL, Process
from pathlib import Path

from cluster.local import guard
from cluster.local.errors import LocalError

RELEASE_TIMEOUT_S = guard.GRACE_S + guard.KILL_S + 5.0


class Leash:
    """A running guard. `group` is the process group that every child has to be started in."""

    def __init__(self, process: Process, pipe: int) -> None:
        self._process = process
        self._pipe = pipe

    @classmethod
    async def start(cls, lock_fd: int) -> Leash:
        """Starts the guard and hands it the lock of the data folder."""
        read_end, write_end = os.pipe()
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *("-I", "-S", str(Path(guard.__file__))),
            *(str(read_end), str(lock_fd)),
            stdin=DEVNULL,
            stdout=DEVNULL,
            stderr=DEVNULL,
            cwd="/",
            pass_fds=(read_end, lock_fd),
            process_group=0,
        )
        os.close(read_end)
        return cls(process, write_end)

    @property
    def group(self) -> int:
        return self._process.pid

    async def watch(self) -> None:
        """Raises LocalError when the guard ends: without it, children could outlive the launcher."""
        await self._process.wait()
        raise LocalError("The guard process has ended, so children could be left behind: run `up` again.")

    async def release(self) -> None:
        """Lets the guard clear what is left, and end. The lock stays with this process until it ends."""
        os.close(self._pipe)
        async with asyncio.timeout(RELEASE_TIMEOUT_S):
            await self._process.wait()
