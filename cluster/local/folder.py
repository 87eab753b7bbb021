"""The data folder: what is in it, whose it is, who holds its lock.

A folder is ours when it carries the marker; nothing is ever written into, or wiped from, a folder that has
other things in it. Whether a cluster runs on it is decided by the lock alone, never by the state file.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from cluster.local.errors import LocalError
from cluster.local.guard import alive

MARKER = ".tally-data"
MARKER_TEXT = "This folder belongs to a local Tally cluster: python3 -m cluster up --data <this folder>\n"
CLEARING_TIMEOUT_S = 15.0
"""How long a dead launcher's guard may take to clear up: its own grace of 10 s, and some."""
OUTSIDE = Path("/var/lib/tally")
"""Where root keeps the Postgres data of a folder that the Postgres user cannot enter."""


@dataclass(frozen=True)
class Folder:
    """Paths inside one data folder."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def state(self) -> Path:
        return self.path / "cluster.json"

    @property
    def logs(self) -> Path:
        return self.path / "logs"

    @property
    def armed(self) -> Path:
        """Kill points for nodes' next starts, a file for each node."""
        return self.path / "armed"

    @property
    def redis(self) -> Path:
        return self.path / "redis"

    @property
    def postgres(self) -> Path:
        return self.path / "postgres"

    @property
    def nginx(self) -> Path:
        return self.path / "nginx"

    def claim(self) -> None:
        """Makes the folder and marks it ours; LocalError when it holds something else or cannot be
        written."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            if not self.is_ours():
                raise LocalError(f"{self.path} holds other files and is no Tally folder: name another with --data.")
            (self.path / MARKER).write_text(MARKER_TEXT)
        except OSError as error:
            raise LocalError(f"Cannot use {self.path} ({error}): name a folder you own with --data.") from error

    def is_ours(self) -> bool:
        """Whether the folder is empty or carries our marker."""
        entries = os.listdir(self.path)
        return not entries or MARKER in entries

    def wipe(self) -> None:
        """Removes the data but not the lock, which the caller holds, nor the marker."""
        assert (self.path / MARKER).exists(), "only a claimed folder is ever wiped"
        outside = self.postgres.resolve() if self.postgres.is_symlink() else None
        for entry in self.path.iterdir():
            if entry.name in (MARKER, self.lock.name):
                continue
            if entry.is_dir() and not entry.is_symlink():
                shutil.rmtree(entry)
            else:
                entry.unlink()
        if outside is not None and outside.parent == OUTSIDE:
            shutil.rmtree(outside, ignore_errors=True)

    def acquire(self) -> int:
        """Takes the lock and returns its descriptor; writes our pid into it.

        When another launcher runs, LocalError names its pid. When it was killed and its guard is still
        clearing up, waits for that.
        """
        descriptor = os.open(self.lock, os.O_RDWR | os.O_CREAT, 0o600)
        try:
            self._wait_for_lock(descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        return descriptor

    def _wait_for_lock(self, descriptor: int) -> None:
        deadline = time.monotonic() + CLEARING_TIMEOUT_S
        while not _try_lock(descriptor, fcntl.LOCK_EX):
            holder = self.holder()
            if holder is not None and alive(holder):
                raise LocalError(
                    f"A cluster already runs on {self.path} (pid {holder}): stop it, or use another --data."
                )
            if time.monotonic() > deadline:
                raise LocalError(f"Processes of an earlier cluster still hold {self.lock}: end them (see `fuser -v`).")
            time.sleep(0.05)

    def holder(self) -> int | None:
        """The launcher's pid as written in the lock file; None when there is none."""
        with contextlib.suppress(OSError, ValueError):
            return int(self.lock.read_text())
        return None

    def is_locked(self) -> bool:
        """Whether a cluster (or the guard of a dead one) holds the folder."""
        try:
            descriptor = os.open(self.lock, os.O_RDONLY)
        except OSError:
            return False
        try:
            # Shared, so that two who ask do not take each other for a cluster.
            return not _try_lock(descriptor, fcntl.LOCK_SH)
        finally:
            os.close(descriptor)

    def is_running(self) -> bool:
        """Whether a cluster runs here: the lock is held and the launcher lives."""
        holder = self.holder()
        return self.is_locked() and holder is not None and alive(holder)


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
