"""The least rights that deploy/ gives to nodes, on the tests' servers."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from redis import Redis

from node.migrations import migrate

DEPLOY = Path(__file__).parents[1] / "deploy"
ROLES = DEPLOY / "postgres" / "roles.sql"
ACL = DEPLOY / "redis" / "users.acl"


def as_acl_user(redis_url: str) -> str:
    """The URL of the user of users.acl, made on this server as a file of users would make it."""
    (line,) = [line for line in ACL.read_text().splitlines() if line.startswith("user tally ")]
    _, name, *rules = line.replace("#SHA256", ">tally").split()
    with Redis.from_url(redis_url) as redis:
        redis.execute_command("ACL", "SETUSER", name, "reset", *rules)
    return redis_url.replace("://", f"://{name}:tally@")


async def as_node_role(postgres_dsn: str) -> str:
    """The DSN of roles.sql's role, in a database that its owner has brought up to date."""
    connection = await asyncpg.connect(postgres_dsn)
    try:
        await migrate(connection)
        await connection.execute(ROLES.read_text())
        await connection.execute("ALTER ROLE tally_node LOGIN PASSWORD 'tally'")
    finally:
        await connection.close()
    return (
        urlsplit(postgres_dsn)
        ._replace(netloc=f"tally_node:tally@{urlsplit(postgres_dsn).netloc.rpartition('@')[2]}")
        .geturl()
    )
