"""The table of namespaces: queries_namespaces.sql, called."""

from __future__ import annotations

import asyncpg

from node.errors import StrategyFixed, TooManyNamespaces
from node.postgres import Postgres, queries
from node.terms import DEFAULT_STRATEGY, NAMESPACES_MAX, Namespace, StrategyName, Terms

SQL = queries("queries_namespaces.sql")
CHANGED = ("idempotency_window_s", "idempotency_key_required", "negative_allowed", "history", "keep_days")


class NamespaceTable:
    """`ports.NamespaceStore`. `window_s` is the idempotency window of namespaces that have none of their own."""

    def __init__(self, postgres: Postgres, window_s: int) -> None:
        self._postgres, self._window_s = postgres, window_s

    async def all(self) -> list[Namespace]:
        return [self._namespace(row) for row in await self._postgres.fetch(SQL["namespaces"])]

    async def get(self, name: str) -> Namespace | None:
        row = await self._postgres.fetchrow(SQL["namespace"], name)
        return None if row is None else self._namespace(row)

    async def found(self, name: str, strategy: StrategyName) -> Namespace:
        async with self._postgres.connection() as connection:
            await connection.execute(SQL["found"], name, strategy, NAMESPACES_MAX)
            row = await connection.fetchrow(SQL["namespace"], name)
        if row is None:
            raise TooManyNamespaces
        return self._namespace(row)

    async def change(self, name: str, terms: Terms) -> Namespace:
        async with self._postgres.transaction() as connection:
            await connection.execute(SQL["found"], name, terms.get("strategy", DEFAULT_STRATEGY), NAMESPACES_MAX)
            row = await connection.fetchrow(SQL["lock_namespace"], name)
            if row is None:
                raise TooManyNamespaces
            if terms.get("strategy", row["strategy"]) != row["strategy"]:
                raise StrategyFixed
            now = {**row, **terms}
            await connection.execute(SQL["change"], name, *(now[member] for member in CHANGED))
        return self._namespace(now)

    def _namespace(self, row: asyncpg.Record | dict[str, object]) -> Namespace:
        members = dict(row)
        members["idempotency_window_s"] = members["idempotency_window_s"] or self._window_s
        return Namespace(**members)
