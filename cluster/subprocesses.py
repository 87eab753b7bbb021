"""Programs that are run to their end, for what they say."""

from __future__ import annotations

import asyncio
from asyncio.subprocess import Process
from contextlib import suppress


async def communicate(process: Process, timeout_s: float) -> tuple[bytes, bytes]:
    """What it wrote to its pipes, once it has ended; whatever happens here, it does not outlive this.

    Errors: TimeoutError.
    """
    try:
        async with asyncio.timeout(timeout_s):
            return await process.communicate()
    finally:
        if process.returncode is None:
            with suppress(ProcessLookupError):  # it ended just now
                process.kill()
            await process.wait()
