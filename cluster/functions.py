"""Redis functions under names of their own version.

A library's name carries a digest of its text, so that an old and a new version of the program run side by side on one
Redis and neither ever replaces the other's. Functions and not EVALSHA: they survive a restart and cluster clients run
them.
"""

from __future__ import annotations

from hashlib import blake2b
from importlib.resources import files
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError, ResponseError

PLACEHOLDER = "VERSION"
# What a client raises when Redis cannot be reached. uvloop says RuntimeError of a connection that broke just now, and
# redis-py passes it on.
UNREACHABLE = (RedisError, OSError, RuntimeError)


class Library:
    """One .lua file of functions; `VERSION` in its text stands for the digest of that text."""

    def __init__(self, text: str) -> None:
        self.version = blake2b(text.encode(), digest_size=5).hexdigest()
        self.code = text.replace(PLACEHOLDER, self.version)

    @classmethod
    def of(cls, package: str, name: str) -> Library:
        return cls(files(package).joinpath(name).read_text(encoding="utf-8"))

    def function(self, name: str) -> str:
        """The name under which Redis knows the function."""
        return f"tally_{name}_{self.version}"

    async def load(self, redis: Redis) -> None:
        """Loads the library unless Redis has it; two nodes may do so at once."""
        try:
            await redis.function_load(self.code)
        except ResponseError as error:
            if "already exists" not in str(error):
                raise

    async def call(self, redis: Redis, name: str, keys: list[str], args: list[Any]) -> Any:
        """Calls the function; a server that does not know it (a new, empty one) gets the library first."""
        try:
            return await redis.fcall(self.function(name), len(keys), *keys, *args)
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise
        await self.load(redis)
        return await redis.fcall(self.function(name), len(keys), *keys, *args)
