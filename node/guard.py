"""Who may use this node: the tokens of a setting and of a file, which may change while it runs."""

from __future__ import annotations

import asyncio
import logging
import signal
from pathlib import Path

from node.config import Config
from node.errors import Misconfigured
from node.tokens import Need, Tokens, parse_tokens

log = logging.getLogger(__name__)

LOOK_S = 1.0
FILE_BYTES_MAX = 1024 * 1024


class Guard:
    """Checks requests. A file that cannot be used leaves everything as it was: a slip of the pen locks nobody out."""

    def __init__(self, lines: str, file: str) -> None:
        """`lines` of the settings, and a path, or "". Errors: Misconfigured."""
        self._lines, self._file = lines, Path(file) if file else None
        self._seen: object = None  # of the file, when it was last looked at
        try:
            self._seen, self._tokens = self._stamp(), self._read()
        except (OSError, ValueError) as error:
            raise Misconfigured(f"TALLY_TOKENS_FILE={file} cannot be used: {error}") from error

    @classmethod
    def of(cls, config: Config) -> Guard | None:
        """None where there are no tokens: then nothing is checked. Errors: Misconfigured."""
        return cls(config.tokens, config.tokens_file) if config.tokens or config.tokens_file else None

    def check(self, authorization: str | None, need: Need) -> None:
        """Errors: Unauthorized, Forbidden."""
        self._tokens.check(authorization, need)

    def reload(self) -> None:
        try:
            self._tokens = self._read()
        except (OSError, ValueError) as error:
            log.error("the tokens stay as they were: %s cannot be used: %s", self._file, error)
        else:
            log.info("the tokens were read again")

    async def run(self) -> None:
        """Reloads on SIGHUP and when the file has changed, until cancelled."""
        asyncio.get_running_loop().add_signal_handler(signal.SIGHUP, self.reload)
        while True:
            await asyncio.sleep(LOOK_S)
            now = self._stamp()
            if now != self._seen:
                self._seen = now
                self.reload()

    def _stamp(self) -> object:
        try:
            found = self._file.stat() if self._file is not None else None
        except OSError:
            return "missing"
        return found and (found.st_mtime_ns, found.st_size, found.st_ino)

    def _read(self) -> Tokens:
        text = ""
        if self._file is not None:
            with self._file.open(encoding="utf-8") as file:
                text = file.read(FILE_BYTES_MAX)
        return Tokens(parse_tokens(f"{text}\n{self._lines}"))
