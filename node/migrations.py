"""Brings a database's schema up to date: numbered .sql files, each in its transaction, one node at a time."""

from __future__ import annotations

import re
from importlib.resources import files

import asyncpg

from node.errors import Misconfigured
from node.postgres import LONG_S

LOCK = 0x7A11F  # of pg_advisory_lock: "tally", more or less
_NAME = re.compile(r"(\d{4})_(\w+)\.sql")


def migrations() -> list[tuple[int, str, str]]:
    """(version, name, SQL), in order."""
    found = [
        (int(match[1]), match[2], entry.read_text(encoding="utf-8"))
        for entry in files("node").joinpath("migrations").iterdir()
        if (match := _NAME.fullmatch(entry.name))
    ]
    return sorted(found)


async def migrate(connection: asyncpg.Connection) -> list[str]:
    """Applies what is missing; -> the names applied. Several nodes may call it at once: they wait for each other."""
    await connection.execute("SELECT pg_advisory_lock($1)", LOCK)
    try:
        if not await connection.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"):
            await connection.execute(
                "CREATE TABLE schema_migrations "
                "(version integer PRIMARY KEY, name text NOT NULL, applied_at timestamptz NOT NULL DEFAULT now())"
            )
        done = {row["version"] for row in await connection.fetch("SELECT version FROM schema_migrations")}
        return [name for version, name, sql in migrations() if await _apply(connection, done, version, name, sql)]
    except asyncpg.InsufficientPrivilegeError as error:  # a role that may only use what is there already
        raise Misconfigured(
            f"the schema is not what this version needs, and this role may not change it ({error}): "
            "run `python3 -m cluster migrate` and then deploy/postgres/roles.sql as the schema's owner"
        ) from error
    finally:
        await connection.execute("SELECT pg_advisory_unlock($1)", LOCK)


async def _apply(connection: asyncpg.Connection, done: set[int], version: int, name: str, sql: str) -> bool:
    if version in done:
        return False
    async with connection.transaction():
        await connection.execute(sql, timeout=LONG_S)
        await connection.execute("INSERT INTO schema_migrations (version, name) VALUES ($1, $2)", version, name)
    return True
