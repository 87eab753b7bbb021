"""nginx in front of the nodes: its upstreams follow the view, and no client sees it happen.

A node that dies needs nothing of this at once: nginx passes its requests on to the next one. What is done
here takes it out for good, and lets new ones in. Both need a reload of nginx, and a reload closes idle client
connections: a client that sends a POST on one at that moment sees a reset. So a reload is announced first.
The file `closing-<generation>` makes nginx answer `Connection: close`; after `announce_ms` every connection
in use has been given up by its client. Then nginx is reloaded, and its new workers look for the next file.
nginx decides that when a request begins: one that began before, and hangs at a node that is paused, is answered
without it. So where a node is gone that did not say so, the announcement lasts longer by `HANGING_MS`.
With nobody behind it nginx keeps no connection at all: the reload for the first member is not announced.

A view is not always the truth: members that Redis may only have forgotten are kept for a while (`upstreams.py`).
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import resource
import shutil
import signal
import time
from pathlib import Path
from typing import Protocol

from cluster.errors import ClusterError
from cluster.subprocesses import communicate
from cluster.upstreams import NOBODY, Patience, addresses, gone, servers_of, text_of
from cluster.view import View

log = logging.getLogger(__name__)

CONF = Path(__file__).resolve().parent.parent / "nginx.conf"
MAX_OPEN_FILES = 32768  # twice nginx.conf's worker_connections: a client's and a node's
PATIENCE_MS = 2000  # twice as long as a member takes to beat again: a third of a lease, or a beat that timed out
HANGING_MS = 2500  # nginx.conf's proxy_read_timeout: so long a request may hang at a node that is paused
KEPT_GENERATIONS = 16  # longer than old workers live (worker_shutdown_timeout)
TEST_TIMEOUT_S = 10.0


class Views(Protocol):
    """Where the view comes from: cluster.registry.Registry, or a test's."""

    async def view(self) -> View:
        """The members whose lease holds now. Raises ClusterError when nobody can say."""
        ...


class Balancer:
    """One nginx with its own folder. Whoever calls `command` starts and ends it; here it is configured."""

    def __init__(
        self,
        directory: Path,
        port: int,
        nginx: Path,
        *,
        host: str = "",
        announce_ms: int = 1000,
        min_reload_ms: int = 1000,
        patience_ms: int = PATIENCE_MS,
        hanging_ms: int = HANGING_MS,
        conf: Path = CONF,
    ) -> None:
        """`host` empty listens on every IPv4 address; `announce_ms` 0 reloads without announcing it."""
        self.directory = directory.resolve()
        self.port = port
        self._nginx = nginx
        self._listen = f"{host}:{port}" if host else str(port)
        self._announce_s, self._hanging_s = announce_ms / 1000, hanging_ms / 1000
        self._min_reload_s = min_reload_ms / 1000
        self._patience = Patience(patience_ms / 1000)
        self._conf = conf
        self._generation = 0
        self._written = NOBODY  # what upstreams.conf says
        self._serving = False  # whether clients may be served by what nginx runs with
        self._untold = False  # whether there is something on disk that nginx may not have read
        self._hangs = False  # whether requests may hang at a node that is taken out by that
        self._reloaded_at = float("-inf")
        self._complained: str | None = None

    def prepare(self) -> None:
        """Make the folder: nginx.conf and what it includes, with no member yet. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        for stale in (*self.directory.glob("closing-*"), self.directory / "nginx.pid"):
            stale.unlink(missing_ok=True)  # an old pid may be another program's by now
        shutil.copyfile(self._conf, self.directory / "nginx.conf")
        self._write("listen.conf", f"listen {self._listen} backlog=4096;\n")
        self._write("upstreams.conf", NOBODY)
        self._written, self._serving, self._untold = NOBODY, False, False
        self._begin_generation()

    def command(self) -> list[str]:
        """How to start this nginx in the foreground. Root's workers stay root: they must enter the folder."""
        return self._base("daemon off;")

    @property
    def pid(self) -> int | None:
        """The running nginx master, by its pid file; None when there is none."""
        try:
            pid = int((self.directory / "nginx.pid").read_text())
            os.kill(pid, 0)
        except (OSError, ValueError):
            return None
        return pid

    async def follow(self, registry: Views, interval_ms: int = 250) -> None:
        """Keep nginx's upstreams equal to the ready members, for ever (until cancelled).

        A registry that cannot be asked changes nothing: the last upstreams stay, for nodes may well still
        be serving. Whatever fails is tried again at the next look.
        """
        while True:
            try:
                await self._look(registry)
            except (ClusterError, OSError, TimeoutError) as error:
                self._patience.look_failed()
                self._complain(f"upstreams stay as they are: {error}")
            else:
                self._complained = None
            await asyncio.sleep(interval_ms / 1000)

    async def _look(self, registry: Views) -> None:
        """One look at the view; writes and reloads when nginx is to have others than it was told.

        nginx without a pid may be reading its files this very moment: it is told as soon as it has one.
        """
        await asyncio.sleep(self._pause_s())  # first, so that what is written is what was just seen
        view = await registry.view()
        told = servers_of(self._written)
        servers = self._patience.servers(told, view, time.monotonic())
        if text_of(servers) != self._written:
            self._hangs = self._hangs or not gone(told, view).issubset(servers)
            await self._rewrite(text_of(servers))
        pid = self.pid
        if self._untold and pid is not None:
            await self._reload(pid)
        if servers and servers == addresses(view) and not self._untold:
            self._in_step()

    def _in_step(self) -> None:
        """Called after each look at which nginx has the ready members, at least one, and nobody else."""

    def _pause_s(self) -> float:
        """Seconds until the next reload may be: a member that comes and goes must not pile up old workers."""
        return max(0.0, self._reloaded_at + self._min_reload_s - time.monotonic())

    async def _rewrite(self, text: str) -> None:
        """New upstreams on disk, checked by nginx. What it refuses is undone: it goes on with what it has."""
        before, started, self._reloaded_at = self._written, self.pid is not None, time.monotonic()
        self._write("upstreams.conf", text)
        try:
            refusal = await self._refusal()
            if refusal is not None:
                raise ClusterError(f"nginx refuses the new upstreams: {refusal}. Files: {self.directory}")
        except BaseException:  # cancelled in the middle, too: nothing unchecked may stay on disk
            self._write("upstreams.conf", before)
            raise
        self._serving = self._serving or not started  # not started: it may read, and serve, the new ones
        self._written, self._untold = text, True
        log.info("upstreams: %s", ", ".join(servers_of(text)) or "nobody")

    async def _reload(self, pid: int) -> None:
        """Announce, wait, tell nginx. Where clients only got 503 there is nothing to announce."""
        if self._serving and self._announce_s > 0:
            self._closing(self._generation).touch()
            await asyncio.sleep(self._announce_s + (self._hanging_s if self._hangs else 0.0))
        self._begin_generation()
        self._tell(pid)
        self._serving = self._written != NOBODY
        self._untold, self._hangs, self._reloaded_at = False, False, time.monotonic()

    def _tell(self, pid: int) -> None:
        """Have nginx read its files again."""
        with contextlib.suppress(ProcessLookupError):  # it ended meanwhile: its successor reads the files
            os.kill(pid, signal.SIGHUP)

    async def _refusal(self) -> str | None:
        """What `nginx -t` has against the folder, or None. Raises OSError, TimeoutError."""
        process = await asyncio.create_subprocess_exec(
            *self._base(""), "-t", stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.PIPE
        )
        _, said = await communicate(process, TEST_TIMEOUT_S)
        if process.returncode == 0:
            return None
        lines = said.decode("utf-8", "replace").strip().splitlines()
        return next((line for line in lines if "[emerg]" in line), lines[-1] if lines else "no reason given")

    def _base(self, directives: str) -> list[str]:
        root = "user root; " if os.geteuid() == 0 else ""
        files = f"worker_rlimit_nofile {_open_files()}; "
        given = (root + files + directives).strip()
        folder = str(self.directory)
        return [str(self._nginx), "-p", folder, "-c", f"{folder}/nginx.conf", "-g", given]

    def _begin_generation(self) -> None:
        """Name the closing file of the workers to come. Old workers keep theirs, a few reloads back."""
        self._generation += 1
        self._write("closing.conf", f'"" "{_quoted(self._closing(self._generation))}";\n')
        self._closing(self._generation - KEPT_GENERATIONS).unlink(missing_ok=True)

    def _closing(self, generation: int) -> Path:
        return self.directory / f"closing-{generation}"

    def _write(self, name: str, text: str) -> None:
        """Whole or not at all: nginx may read at any moment."""
        temporary = self.directory / f".{name}.new"
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(self.directory / name)

    def _complain(self, what: str) -> None:
        """Once per trouble, not four times a second."""
        if what != self._complained:
            log.warning("%s", what)
        self._complained = what


def _open_files() -> int:
    """As many as a worker may open without special rights: asking for more is an alert at every reload."""
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)


def _quoted(path: Path) -> str:
    """A path inside double quotes of nginx.conf. Raises ClusterError for one that nginx would interpret."""
    text = str(path)
    if "$" in text or "\n" in text:
        raise ClusterError(f"nginx cannot use the folder {text!r}: choose one without '$' and line breaks")
    return text.replace("\\", "\\\\").replace('"', '\\"')
