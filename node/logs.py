"""The log on stderr: a line an event, as text or as JSON."""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from typing import Any

import structlog


class Redacting(structlog.stdlib.ProcessorFormatter):
    """Writes lines without the secrets that what is told may have in it."""

    def __init__(self, secrets: Sequence[str], **rest: Any) -> None:
        super().__init__(**rest)
        self._secrets = secrets

    def format(self, record: logging.LogRecord) -> str:
        line = super().format(record)
        for secret in self._secrets:
            line = line.replace(secret, "***")
        return line


def set_up(log_format: str, level: str, secrets: Sequence[str] = ()) -> None:
    """Routes the standard library's loggers, ours and the servers', through structlog. `secrets` are left out of it:
    what a driver says of its trouble may have them.
    """
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    renderer: structlog.typing.Processor
    if log_format == "json":
        renderer = structlog.processors.JSONRenderer()
    else:
        renderer = structlog.dev.ConsoleRenderer(colors=sys.stderr.isatty())
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        Redacting(
            secrets,
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, renderer],
        )
    )
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level.upper())
    for noisy in ("uvicorn", "hypercorn", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)
    logging.getLogger("asyncpg.pool").setLevel(logging.ERROR)  # that Postgres is away is said by those who need it
