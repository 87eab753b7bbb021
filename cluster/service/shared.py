"""The balancer of an nginx that runs in another container: they share a folder, and nothing else.

It cannot send that nginx a signal, nor ask it whether it likes its files. So it writes a number into the file
`reload` once everything else is written, and `deploy/nginx/run`, beside nginx, reloads when the number changes.
nginx keeps what it has when it refuses the new files. Either of the two may be stopped and started by itself:
a balancer that starts does not know whether nginx was told of what it finds there, and so tells it again.
"""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path

from cluster.balancer import CONF, Balancer
from cluster.upstreams import NOBODY

RELOAD = "reload"
ELSEWHERE = 1  # nginx has no pid that means anything here


class SharedFolder(Balancer):
    """Writes into `directory`, which nginx reads; what an earlier process wrote there is taken up."""

    def __init__(self, directory: Path, port: int, ready_file: Path | None = None, conf: Path = CONF) -> None:
        """`ready_file`, outside of `directory`, is made once nginx can start with what is there and reach nodes."""
        super().__init__(directory, port, Path("nginx"), conf=conf)
        self._ready_file = ready_file

    def prepare(self) -> None:
        """The files that nginx starts with. Upstreams that are there stay: nginx serves with them. Raises OSError."""
        self.directory.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self._conf, self.directory / "nginx.conf")
        self._write("listen.conf", f"listen {self._listen} backlog=4096;\n")
        self._written = self._text("upstreams.conf") or NOBODY
        self._write("upstreams.conf", self._written)
        self._generation = self._last()
        self._serving = self._untold = self._generation > 0
        if self._generation == 0:
            self._begin_generation()
            self._tell(ELSEWHERE)
        self._closing(self._generation).unlink(missing_ok=True)  # announced, but never come to
        if self._ready_file is not None:
            self._ready_file.unlink(missing_ok=True)

    @property
    def pid(self) -> int | None:
        return ELSEWHERE

    def _in_step(self) -> None:
        if self._ready_file is not None:
            self._ready_file.touch()

    def _tell(self, pid: int) -> None:
        self._write(RELOAD, f"{self._generation}\n")

    async def _refusal(self) -> str | None:
        return None  # nginx itself looks when it reloads

    def _last(self) -> int:
        """The generation nginx was last told of; 0 when there was none."""
        with contextlib.suppress(ValueError):
            return int(self._text(RELOAD))
        return 0

    def _text(self, name: str) -> str:
        try:
            return (self.directory / name).read_text(encoding="utf-8")
        except FileNotFoundError:
            return ""
