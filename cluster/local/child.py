"""One child process: in the guard's group, its output in a log file of bounded size."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from asyncio.subprocess import DEVNULL, STDOUT, Process
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from cluster.local.errors import LocalError
from cluster.local.user import User

LOG_BYTES_MAX = 50 * 1024 * 1024
TAIL_BYTES = 8192


@dataclass(frozen=True)
class Recipe:
    """How to start a process. `user` None keeps ours; `keep_fds` are inherited."""

    command: Sequence[str]
    log: Path
    cwd: Path
    env: Mapping[str, str] | None = None
    user: User | None = None
    keep_fds: tuple[int, ...] = ()


class Child:
    """A started process. Made by `start` only."""

    def __init__(self, process: Process, log: Path) -> None:
        self._process = process
        self._log = log

    @classmethod
    async def start(cls, recipe: Recipe, group: int) -> Child:
        """Starts it in process group `group`. LocalError when the program cannot be executed."""
        rotate(recipe.log)
        try:
            with recipe.log.open("ab") as output:
                process = await asyncio.create_subprocess_exec(
                    *recipe.command,
                    stdin=DEVNULL,
                    stdout=output,
                    stderr=STDOUT,
                    cwd=recipe.cwd,
                    env=recipe.env,
                    process_group=group,
                    pass_fds=recipe.keep_fds,
                    **(recipe.user.popen() if recipe.user else {}),
                )
        except OSError as error:
            raise LocalError(f"Cannot start {recipe.command[0]}: {error}. Check that it may be executed.") from error
        return cls(process, recipe.log)

    @property
    def pid(self) -> int:
        return self._process.pid

    @property
    def exit_code(self) -> int | None:
        """None while it runs; negative: the signal that ended it."""
        return self._process.returncode

    def has_ended(self) -> bool:
        return self._process.returncode is not None

    async def wait(self) -> int:
        return await self._process.wait()

    async def ended_within(self, timeout_s: float) -> bool:
        """Whether it has ended, waiting for that at most so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._process.wait()
        return self._process.returncode is not None

    def send(self, signum: signal.Signals) -> None:
        """Sends a signal; to a process that has ended, nothing."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(signum)

    async def stop(self, *steps: tuple[signal.Signals, float]) -> None:
        """Sends each signal in turn and gives each its seconds; at the end SIGKILL."""
        if self.has_ended():
            return
        for signum, timeout_s in steps:
            self.send(signum)
            if await self.ended_within(timeout_s):
                return
        self.send(signal.SIGKILL)
        await self._process.wait()

    def last_lines(self, count: int = 12) -> list[str]:
        """The end of its log, for an error message."""
        return tail(self._log, count)


def rotate(log: Path) -> None:
    """Sets a log aside that has grown too large; one older one is kept."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))


def tail(log: Path, count: int) -> list[str]:
    """The last `count` lines of a file, [] when there is none."""
    try:
        with log.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - TAIL_BYTES))
            text = file.read()
    except OSError:
        return []
    return text.decode(errors="replace").splitlines()[-count:]
