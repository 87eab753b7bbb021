"""What became of the increments: the values through the public port, and the rows in Postgres."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator, Sequence

import aiohttp
import asyncpg

from cluster.attack import bearer
from cluster.attack.route import Route
from cluster.postgres_errors import POSTGRES_ERRORS

READERS = 16
READ_DEADLINE_S = 30.0
POLL_S = 0.25
ROWS_AT_ONCE = 5000
MAX_ANSWER_BYTES = 65536
_ROWS = "SELECT key, value FROM key_counters WHERE namespace = $2 AND key = ANY($1::text[])"

Values = dict[str, int]


class ReadbackError(Exception):
    """The values could not be read back, so there is no audit. The message names the next step."""


async def counted(url: str, keys: Sequence[str], namespace: str | None = None) -> Values:
    """The value of every key by GET, without the unknown ones. Raises ReadbackError after a deadline."""
    deadline = time.monotonic() + READ_DEADLINE_S
    found: Values = {}
    route = Route(url, namespace)
    waiting = iter(keys)
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout, headers=bearer.headers()) as session:

        async def reader() -> None:
            for key in waiting:  # shared: each key is taken by one reader
                value = await _read(session, route, key, deadline)
                if value is not None:
                    found[key] = value

        readers = [asyncio.create_task(reader()) for _ in range(READERS)]
        try:
            await asyncio.gather(*readers)
        finally:
            for task in readers:
                task.cancel()
    return found


async def _read(session: aiohttp.ClientSession, route: Route, key: str, deadline: float) -> int | None:
    where = route.counter(key)
    while True:
        try:
            async with session.get(where) as answer:
                text = await answer.content.read(MAX_ANSWER_BYTES)
                said = f"{answer.status} {text[:200]!r}"
                if answer.status == 404:
                    return None
                if answer.status == 200:
                    return _value(route, text, key)
        except (aiohttp.ClientError, TimeoutError) as error:
            said = repr(error)
        if time.monotonic() > deadline:
            raise ReadbackError(f"GET {where} answers {said}; see `python3 -m cluster status`")
        await asyncio.sleep(POLL_S)


def _value(route: Route, text: bytes, key: str) -> int:
    try:
        value = route.value_in(json.loads(text), key)
    except (ValueError, KeyError, TypeError) as error:
        raise ReadbackError(f"GET of {key} answers {text[:200]!r}, not its value") from error
    if type(value) is not int:
        raise ReadbackError(f"GET of {key} answers {value!r}, not an integer")
    return value


async def settled(
    dsn: str, expected: Values, keys: Sequence[str], deadline_s: float, namespace: str = "default"
) -> Values:
    """The rows in Postgres, as soon as they say the same as `expected`, or as they are at the deadline."""
    deadline = time.monotonic() + deadline_s
    try:
        connection = await asyncpg.connect(dsn, timeout=10, command_timeout=30)
    except POSTGRES_ERRORS as error:
        raise ReadbackError(f"Postgres cannot be asked ({error}); see `python3 -m cluster status`") from error
    try:
        while True:
            rows = await _rows(connection, keys, namespace)
            if rows == expected or time.monotonic() > deadline:
                return rows
            await asyncio.sleep(POLL_S)
    except POSTGRES_ERRORS as error:
        raise ReadbackError(f"Postgres stopped answering ({error})") from error
    finally:
        await connection.close(timeout=5)


async def _rows(connection: asyncpg.Connection, keys: Sequence[str], namespace: str) -> Values:
    rows: Values = {}
    for some in _slices(keys):
        rows.update(await connection.fetch(_ROWS, some, namespace))
    return rows


def _slices(keys: Sequence[str]) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), ROWS_AT_ONCE):
        yield keys[start : start + ROWS_AT_ONCE]
