"""The registry of members in Redis. This module owns every membership key name.

A lease is a deadline by Redis' own clock. Whoever beats or looks reaps the lapsed ones, so no process has the duty to.
"""

from __future__ import annotations

from collections.abc import Awaitable
from dataclasses import asdict
from typing import Any

import msgspec
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff

from cluster.errors import RegistryUnavailable
from cluster.functions import UNREACHABLE, Library
from cluster.view import Member, View

KEYS = ["{tally}:members", "{tally}:leases", "{tally}:epoch"]
LEASE_MS = 3000
TIMEOUT_S = 1.0  # shorter than a lease: a beat that hangs must fail while there is time for another
LIBRARY = Library.of("cluster", "registry.lua")


class Registry:
    """The members, kept in Redis. Every call answers the view after it. Errors: RegistryUnavailable."""

    def __init__(self, redis: Redis, lease_ms: int = LEASE_MS) -> None:
        self._redis = redis
        self.lease_ms = lease_ms

    async def beat(self, member: Member) -> View:
        """Joins, renews the lease, and says what the member is now (its state, its addresses)."""
        return await self._call("beat", member.id, msgspec.json.encode(asdict(member)), self.lease_ms)

    async def leave(self, member_id: str) -> View:
        return await self._call("leave", member_id)

    async def view(self) -> View:
        return await self._call("look")

    async def close(self) -> None:
        await self._redis.aclose()

    async def _call(self, function: str, *args: str | bytes | int) -> View:
        return decode(await _translated(LIBRARY.call(self._redis, function, KEYS, list(args))))


def connect(redis_url: str, lease_ms: int = LEASE_MS) -> Registry:
    """A registry on a client of its own. Retries are the caller's: a beat is repeated soon anyway."""
    redis = Redis.from_url(
        redis_url,
        socket_timeout=TIMEOUT_S,
        socket_connect_timeout=TIMEOUT_S,
        retry=Retry(NoBackoff(), 0),
        protocol=2,
    )
    return Registry(redis, lease_ms)


def decode(answer: list[bytes]) -> View:
    """[epoch, id, JSON, id, JSON, ...] -> View"""
    epoch, *pairs = answer
    members = sorted(msgspec.json.decode(text, type=Member) for text in pairs[1::2])
    return View(int(epoch), tuple(members))


async def _translated(call: Awaitable[Any]) -> Any:
    try:
        return await call
    except UNREACHABLE as error:
        raise RegistryUnavailable(
            f"the registry cannot be reached ({error}); check that Redis is up and TALLY_REDIS_URL is right"
        ) from error
