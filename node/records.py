"""What is on record of a namespace: queries_records.sql, called."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from node.counters import HistoryStep, Listed
from node.increment import DEFAULT_NAMESPACE, KEY_BYTES_MAX
from node.postgres import Postgres, queries

SQL = queries("queries_records.sql")

MINUTES_KEPT_DAYS = 35
HOURS_KEPT_DAYS = 400  # days and months are kept for ever
FORGET_MAX = 10_000
LAST = chr(0x10FFFF)


class PostgresRecords:
    """`counters.Records`"""

    def __init__(self, postgres: Postgres) -> None:
        self._postgres = postgres

    async def counters(self, namespace: str, prefix: str, after: str, limit: int) -> list[Listed]:
        span = prefix, end_of(prefix), after, limit
        if namespace == DEFAULT_NAMESPACE:
            rows = await self._postgres.fetch(SQL["default_counters"], *span)
        else:
            rows = await self._postgres.fetch(SQL["counters"], namespace, *span)
        return [Listed(row["key"], row["value"], row["updated_at"]) for row in rows]

    async def stored(self, namespace: str, keys: Sequence[str]) -> list[Listed | None]:
        rows = await self._postgres.fetch(SQL["stored"], namespace, keys)
        found = {row["key"]: Listed(row["key"], row["value"], row["updated_at"]) for row in rows}
        return [found.get(key) for key in keys]

    async def history(
        self, namespace: str, key: str, step: HistoryStep, start: datetime, end: datetime, limit: int
    ) -> list[tuple[datetime, int]]:
        rows = await self._postgres.fetch(SQL["history"], namespace, key, step, start, end, limit)
        return [(row["at"].astimezone(UTC), int(row["sum"])) for row in rows]

    async def forget_history(self) -> int:
        kept = MINUTES_KEPT_DAYS, HOURS_KEPT_DAYS
        return len(await self._postgres.fetch(SQL["forget_history"], FORGET_MAX, *kept))


def end_of(prefix: str) -> str:
    """What all texts that begin with `prefix` come before, and no other that comes after them: in the order of UTF-8,
    which is that of code points.
    """
    cut = prefix.rstrip(LAST)
    if not cut:
        return LAST * KEY_BYTES_MAX
    following = ord(cut[-1]) + 1
    return cut[:-1] + chr(0xE000 if following == 0xD800 else following)  # there are no characters between them
